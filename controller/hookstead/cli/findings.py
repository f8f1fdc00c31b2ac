"""Findings with their place in a file, as text, JSON and SARIF."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hookstead import __version__
from hookstead.cli.table import counted
from hookstead.config.lint import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

STDIN: Final = "<stdin>"
"""How standard input is called in findings."""

_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedFinding:
    """One finding. Lines and columns count from 1; 0 is a file as a whole."""

    severity: Severity
    rule: str
    message: str
    file: str
    line: int = 0
    column: int = 0
    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""

    @property
    def subject(self) -> str:
        """`WebhookEndpoint acme-orders`, as far as it is known."""
        return " ".join(part for part in (self.kind, self.name) if part)

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def sentence(self) -> str:
        """Object, field and message."""
        return ": ".join(part for part in (self.subject, self.field, self.message) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was looked at, and what was found."""

    files: int
    objects: int
    findings: tuple[LocatedFinding, ...]

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return Counter(finding.severity for finding in self.findings)[severity]


def in_order(findings: Sequence[LocatedFinding]) -> tuple[LocatedFinding, ...]:
    """By place, errors before warnings at one place."""
    return tuple(
        sorted(
            findings,
            key=lambda finding: (
                finding.file,
                finding.line,
                finding.column,
                finding.severity is not Severity.ERROR,
                finding.field,
                finding.message,
            ),
        )
    )


def as_text(checked: Checked) -> str:
    """One line per finding, and a last one with the sum."""
    lines = [
        f"{finding.place}: {finding.severity.value}: {finding.sentence} [{finding.rule}]"
        for finding in checked.findings
    ]
    looked = f"{counted(checked.objects, 'object')} in {counted(checked.files, 'file')}"
    errors, warnings = checked.count(Severity.ERROR), checked.count(Severity.WARNING)
    found = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}" if checked.findings else "no findings"
    return "\n".join([*lines, f"{looked}: {found}"])


def as_json(checked: Checked) -> str:
    """`{"findings": […], "summary": {…}}`; stable names, for programs."""
    document = {
        "findings": [
            {
                "severity": finding.severity.value,
                "rule": finding.rule,
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "kind": finding.kind,
                "namespace": finding.namespace,
                "name": finding.name,
                "field": finding.field,
                "message": finding.message,
            }
            for finding in checked.findings
        ],
        "summary": {
            "files": checked.files,
            "objects": checked.objects,
            "errors": checked.count(Severity.ERROR),
            "warnings": checked.count(Severity.WARNING),
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_sarif(checked: Checked) -> str:
    """SARIF 2.1.0 (OASIS), which code hosts show at the lines of a change."""
    rules = sorted({finding.rule for finding in checked.findings})
    document = {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "hookstead validate",
                        "semanticVersion": __version__,
                        "rules": [{"id": rule} for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, rules.index(finding.rule)) for finding in checked.findings],
            }
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _result(finding: LocatedFinding, rule_index: int) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(1, finding.column)}
    place: dict[str, Any] = {"physicalLocation": location}
    if finding.subject:
        parts = (finding.namespace, finding.kind, finding.name, finding.field)
        name = "/".join(part for part in parts if part)
        place["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "resource"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": finding.severity.value,
        "message": {"text": finding.sentence},
        "locations": [place],
    }


def _uri(file: str) -> str:
    if file == STDIN:
        return "stdin"
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
