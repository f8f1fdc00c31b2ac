"""Generated files that no longer match their generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolchain import fresh

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = '[[file]]\npath = "page.md"\ncommand = ["python", "-c", "print(\'new\')"]\n'


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose table has one file."""
    (tmp_path / "generated.toml").write_text(ENTRY, encoding="utf-8")
    monkeypatch.setattr(fresh, "TOP", tmp_path)
    monkeypatch.setattr(fresh, "TABLE", tmp_path / "generated.toml")
    return tmp_path


def test_a_fresh_file_passes_in_silence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "page.md").write_text("new\n", encoding="utf-8")
    assert (fresh.main([]), capsys.readouterr().out) == (0, "")


@pytest.mark.parametrize("present", [None, "old\n", "new"])
def test_a_stale_or_missing_file_fails_and_says_how_to_mend_it(
    present: str | None, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if present is not None:
        (tree / "page.md").write_text(present, encoding="utf-8")
    assert fresh.main([]) == 1
    assert "page.md is stale: `make generate` rewrites it." in capsys.readouterr().out
    assert fresh.main(["--write"]) == 0
    assert (tree / "page.md").read_text(encoding="utf-8") == "new\n"
    assert fresh.main([]) == 0
