"""The pages about validate, plan and GitOps: their commands are run, and print what the pages say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from integration.gitops.pipeline import TOP, Pipeline

if TYPE_CHECKING:
    from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("validate.md", "plan.md", "gitops.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of every block, in order."""
    return FENCE.findall((TOP / "docs" / page).read_text(encoding="utf-8"))


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a console block, with what it prints."""
    found = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (one.partition("\n") for one in found)]


def plain(text: str) -> str:
    """Without the commit's id, which is another one in every repository."""
    return re.sub(r"\([0-9a-f]{8}\)", "(COMMIT)", text).strip()


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_print_what_it_says(page: str, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    run = 0
    for language, content in blocks(page):
        if language == "diff":
            pipeline.apply(content)
        elif language == "text" and content.startswith("apiVersion:"):
            (pipeline.folder / "hooks.yaml").write_text(content, encoding="utf-8")
        for command, output in commands(content) if language == "console" else ():
            if "--server" in command:  # what the gateway saw is told by test_plan_traffic.py
                continue
            done = pipeline.run(command)
            assert (plain(done.stdout), done.stderr) == (plain(output), "")
            run += 1
    assert run >= 1


def test_the_digest_that_the_page_marks_is_the_one_that_the_plan_prints() -> None:
    text = (TOP / "docs" / "plan.md").read_text(encoding="utf-8")
    assert len(set(re.findall(r"sha256:[0-9a-f]{64}", text))) == 1


def test_the_table_of_counts_is_what_the_test_of_traffic_counts() -> None:
    page = (TOP / "docs" / "plan.md").read_text(encoding="utf-8")
    assert re.search(r"^  acme +4 +2 +0 +2$", page, re.MULTILINE)
    assert "(4, 2, 0, 2)" in (TOP / "tests/integration/cli/test_plan_traffic.py").read_text(encoding="utf-8")
