"""Generated files that no longer match their generator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from toolchain import fresh

if TYPE_CHECKING:
    from pathlib import Path

FILE = "import sys; open(sys.argv[1], 'w').write('new\\n')"
FOLDER = "import sys, os; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/page.md', 'w').write('new\\n')"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose table has one file and one folder, both fresh."""
    entries = [("one.md", FILE), ("pages", FOLDER)]
    rows = [
        f'[[generated]]\npath = "{path}"\ncommand = ["python", "-c", {json.dumps(code)}, "{{out}}"]'
        for path, code in entries
    ]
    (tmp_path / "generated.toml").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setattr(fresh, "TOP", tmp_path)
    monkeypatch.setattr(fresh, "TABLE", tmp_path / "generated.toml")
    assert fresh.main(["--write"]) == 0
    return tmp_path


def test_what_is_fresh_passes_in_silence(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert (fresh.main([]), capsys.readouterr().out) == (0, "")


@pytest.mark.parametrize(
    ("path", "text", "entry"),
    [
        ("one.md", "old\n", "one.md"),
        ("one.md", "new", "one.md"),
        ("one.md", None, "one.md"),
        ("pages/page.md", "old\n", "pages"),
        ("pages/page.md", None, "pages"),
        ("pages/gone.md", "a page of a kind that no longer exists\n", "pages"),
    ],
)
def test_what_is_stale_fails_and_says_how_to_mend_it(
    path: str, text: str | None, entry: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh_files = fresh.contents(tree)
    if text is None:
        (tree / path).unlink()
    else:
        (tree / path).write_text(text, encoding="utf-8")
    assert fresh.main([]) == 1
    assert f"{entry} is stale: `make generate` rewrites it." in capsys.readouterr().out
    assert fresh.main(["--write"]) == 0
    assert fresh.main([]) == 0
    assert fresh.contents(tree) == fresh_files
