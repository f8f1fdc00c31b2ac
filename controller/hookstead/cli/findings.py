"""Findings with their place in a file: as text, JSON, SARIF, and as the annotations of code hosts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from hookstead import __version__
from hookstead.cli.table import counted, printable
from hookstead.config.lint import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    excerpt: str = ""
    """The line as it stands in the file; empty where it is not known, may hold a secret, or is too long to help."""

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
    """What was looked at, and what was found. `objects` are ours and Secrets; `manifests` of whatever kind."""

    files: int
    objects: int
    manifests: int = 0
    findings: tuple[LocatedFinding, ...]

    def count(self, severity: Severity) -> int:
        """Findings of one severity."""
        return Counter(finding.severity for finding in self.findings)[severity]


def in_order(findings: Iterable[LocatedFinding]) -> tuple[LocatedFinding, ...]:
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
    """One line per finding with the offending line and a caret below it, and a last one with the sum."""
    lines = []
    for finding in checked.findings:
        told = f"{finding.place}: {finding.severity.value}: {finding.sentence} [{finding.rule}]"
        lines.append(printable(told.replace("\n", " ")))
        lines += _excerpt(finding)
    return "\n".join([*lines, _sum(checked)])


def _sum(checked: Checked) -> str:
    looked = f"{counted(checked.objects, 'object')} in {counted(checked.files, 'file')}"
    errors, warnings = checked.count(Severity.ERROR), checked.count(Severity.WARNING)
    found = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}" if checked.findings else "no findings"
    return f"{looked}: {found}"


def _excerpt(finding: LocatedFinding) -> list[str]:
    """`  12 |   state: Paued`, and a caret under the column; nothing of it can steer a terminal."""
    if not finding.excerpt:
        return []
    number = f"{finding.line:>4}"
    line = printable(finding.excerpt.expandtabs(1))
    return [f"{number} | {line}", f"{' ' * len(number)} | {' ' * (finding.column - 1)}^"]


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


def as_github(checked: Checked) -> str:
    """Workflow commands, which GitHub Actions shows at the lines of the change, and the sum as a last line."""
    lines = []
    for finding in checked.findings:
        places = {"file": finding.file, "line": finding.line or None, "col": finding.column or None}
        told = {**{key: value for key, value in places.items() if value is not None}, "title": finding.rule}
        properties = ",".join(f"{key}={_property(str(value))}" for key, value in told.items())
        lines.append(f"::{finding.severity.value} {properties}::{_data(finding.sentence)}")
    return "\n".join([*lines, _sum(checked)])


def _data(text: str) -> str:
    """As GitHub's toolkit escapes the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def as_gitlab(checked: Checked) -> str:
    """GitLab's Code Quality report: a list, `[]` where nothing was found. Equal findings keep their fingerprint."""
    return json.dumps([_issue(finding) for finding in checked.findings], indent=2, ensure_ascii=False)


def _issue(finding: LocatedFinding) -> dict[str, Any]:
    identity = [finding.file, finding.rule, finding.namespace, finding.subject, finding.field, finding.message]
    return {
        "description": finding.sentence,
        "check_name": finding.rule,
        "fingerprint": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        "severity": "major" if finding.severity is Severity.ERROR else "minor",
        "location": {"path": finding.file, "lines": {"begin": max(1, finding.line)}},
    }


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
