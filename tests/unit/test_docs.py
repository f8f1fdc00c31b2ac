"""The pages for users: what they show as manifests is valid, and what they list is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from hookstead.cli.validate import check
from hookstead.config.lint import Severity
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(`{3,})ya?ml\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def manifests() -> Iterator[tuple[str, str]]:
    """Each YAML block that is whole objects of ours, with its page."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            text = found[2]
            if f"apiVersion: {GROUP}/" in text and "\n…" not in text:
                line = page.read_text(encoding="utf-8")[: found.start()].count("\n") + 1
                yield f"{page.relative_to(TOP)}:{line}", text


@pytest.mark.parametrize(("place", "text"), list(manifests()), ids=lambda value: value if len(value) < 60 else "")
def test_a_manifest_in_the_docs_is_valid(place: str, text: str) -> None:
    whole = [document for document in yaml.safe_load_all(text) if document]
    assert whole
    found = [
        f"{place}: {finding.field}: {finding.message}"
        for finding in check([(place, text)]).findings
        if finding.severity is Severity.ERROR and finding.rule not in ("ChannelNotFound", "EndpointNotFound")
    ]
    assert found == []


def test_every_reason_is_explained_under_troubleshooting() -> None:
    page = (TOP / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(set(explained)) == sorted(reason.value for reason in Reason)
    assert len(set(explained)) == len(explained)
