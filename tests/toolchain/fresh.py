"""Compares what programs have written into the tree with what they would write now.

    python tests/toolchain/fresh.py              fails where something is stale
    python tests/toolchain/fresh.py --write      rewrites what is stale

The table of generated files and folders stands in generated.toml beside this module.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOP: Final = Path(__file__).resolve().parents[2]
TABLE: Final = Path(__file__).with_name("generated.toml")
SHOWN_LINES: Final = 20

Contents = dict[str, str]
"""Path within the generated folder (empty for a file): text."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated file or folder, from the top of the tree, and the command that writes it to `{out}`."""

    path: str
    command: tuple[str, ...]

    def present(self) -> Contents:
        """What is in the tree."""
        return contents(TOP / self.path)

    def wanted(self) -> Contents:
        """What the generator writes now. Raises CalledProcessError; its own message went to stderr."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / Path(self.path).name
            program, *arguments = [word.replace("{out}", str(out)) for word in self.command]
            command = [sys.executable if program == "python" else program, *arguments]
            subprocess.run(command, cwd=TOP, check=True, stdin=subprocess.DEVNULL)
            return contents(out)

    def write(self, wanted: Contents) -> None:
        """Make the tree hold exactly that: a page that is no longer generated goes."""
        target = TOP / self.path
        if target.is_dir():
            shutil.rmtree(target)
        for name, text in wanted.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def table(text: str) -> Iterator[Generated]:
    """The entries of generated.toml."""
    for entry in tomllib.loads(text).get("generated", []):
        yield Generated(path=entry["path"], command=tuple(entry["command"]))


def contents(path: Path) -> Contents:
    """The files at `path`: a file, a folder, or nothing."""
    if path.is_file():
        return {"": path.read_text(encoding="utf-8")}
    return {
        str(file.relative_to(path)): file.read_text(encoding="utf-8")
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def difference(present: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """A unified diff from the tree to the generator; no lines where they agree."""
    return [
        line
        for name in sorted(present.keys() | wanted.keys())
        for line in difflib.unified_diff(
            present.get(name, "").splitlines(keepends=True),
            wanted.get(name, "").splitlines(keepends=True),
            f"in the tree {name}",
            f"generated {name}",
        )
    ]


def main(arguments: Sequence[str]) -> int:
    """1 if something was stale and has not been rewritten."""
    parser = argparse.ArgumentParser(description="Check, or rewrite, what programs have written into the tree.")
    parser.add_argument("--write", action="store_true", help="rewrite what is stale")
    write = parser.parse_args(arguments).write
    stale = False
    for generated in table(TABLE.read_text(encoding="utf-8")):
        wanted = generated.wanted()
        lines = difference(generated.present(), wanted)
        if lines and write:
            generated.write(wanted)
            print(f"{generated.path}: rewritten")
        elif lines:
            stale = True
            print(f"{generated.path} is stale: `make generate` rewrites it.")
            print("".join(lines[:SHOWN_LINES]))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
