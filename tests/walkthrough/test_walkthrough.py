"""Every command of README and quickstart works, in their order, and prints what the pages show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from walkthrough.pages import Step, differences, steps

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that Git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (TOP / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def install(folder: Path) -> None:
    """The page's first block, as it stands. `python3` is an interpreter that is new enough."""
    (folder.parent / "bin").mkdir()
    (folder.parent / "bin/python3").symlink_to(Path(sys.base_prefix) / "bin/python3")
    block = next(steps((folder / "docs/quickstart.md").read_text()))
    assert "pip install" in block.command
    environment = {**os.environ, "PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    ended = subprocess.run(
        ["bash", "-euc", block.command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.timeout(600)
def test_a_newcomer_who_types_what_the_pages_say_sees_what_they_show(clone: Path) -> None:
    install(clone)
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    walk = f"ip link set lo up && exec {sys.executable} -m walkthrough.walk {clone}"
    ended = subprocess.run(
        [*alone, "sh", "-c", walk],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(TOP / "tests")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout


PAGE = """\
# One
```sh
a b
c
```
## Two
```yaml
no: command
```
```console
$ first \\
    --flag
$ second
shown msg_… 1

last
```
"""


def test_a_page_is_read_into_steps() -> None:
    assert list(steps(PAGE)) == [
        Step("One", "a b\nc"),
        Step("Two", "first \\\n    --flag"),
        Step("Two", "second", ("shown msg_… 1", "last")),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("NAME   AGE\na      2s", "NAME AGE\na      1m12s", []),
        ("dlv_01a2130977ef71a8bc27dc7c4ee3b284", "dlv_" + "0" * 32, []),
        ("dlv_01a2130977ef71a8bc27dc7c4ee3b284", "dlv_1", ["dlv_01a2130977ef71a8bc27dc7c4ee3b284"]),
        ("a True", "a False", ["a True"]),
        ("a\n…\nb", "a\nx\ny\nb", []),
        ("a\nb", "b\na", ["b"]),
        ("error: f:7:1: … Its end", "error: f:8:12: what ever. Its end", []),
        ("at 2026-11-25T14:16:40.784Z", "at 2027-01-02T03:04:05Z", []),
    ],
)
def test_only_what_varies_may_differ(shown: str, printed: str, missing: list[str]) -> None:
    assert differences(tuple(shown.splitlines()), printed) == missing
