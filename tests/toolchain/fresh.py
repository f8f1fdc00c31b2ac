"""Compares every generated file of the tree with what its generator prints now.

    python tests/toolchain/fresh.py              fails where one is stale
    python tests/toolchain/fresh.py --write      rewrites the stale ones

The table of files stands in generated.toml beside this module.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOP: Final = Path(__file__).resolve().parents[2]
TABLE: Final = Path(__file__).with_name("generated.toml")
SHOWN_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated file and the command that prints its content."""

    path: Path
    command: tuple[str, ...]

    def now(self) -> str:
        """What the generator prints now. Raises CalledProcessError; its message went to stderr."""
        program, *arguments = self.command
        command = [sys.executable if program == "python" else program, *arguments]
        return subprocess.run(
            command, cwd=TOP, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8"
        ).stdout


def table(text: str) -> Iterator[Generated]:
    """The entries of generated.toml."""
    for entry in tomllib.loads(text).get("file", []):
        yield Generated(path=TOP / entry["path"], command=tuple(entry["command"]))


def stale_lines(generated: Generated, *, write: bool) -> list[str]:
    """The difference between the file and its generator, none if there is none; `write` mends the file."""
    wanted = generated.now()
    present = generated.path.read_text(encoding="utf-8") if generated.path.exists() else ""
    if wanted == present:
        return []
    if write:
        generated.path.parent.mkdir(parents=True, exist_ok=True)
        generated.path.write_text(wanted, encoding="utf-8")
    name = str(generated.path.relative_to(TOP))
    return list(
        difflib.unified_diff(
            present.splitlines(),
            wanted.splitlines(),
            f"{name} (in the tree)",
            f"{name} (generated)",
            lineterm="",
        )
    ) or [f"{name}: only line endings differ"]


def main(arguments: Sequence[str]) -> int:
    """1 if a file was stale and has not been rewritten."""
    parser = argparse.ArgumentParser(description="Check, or rewrite, the generated files.")
    parser.add_argument("--write", action="store_true", help="rewrite what is stale")
    write = parser.parse_args(arguments).write
    stale = False
    for generated in table(TABLE.read_text(encoding="utf-8")):
        if lines := stale_lines(generated, write=write):
            stale = True
            name = generated.path.relative_to(TOP)
            print(f"{name} is stale: `make generate` rewrites it." if not write else f"{name} rewritten.")
            if not write:
                print("\n".join(lines[:SHOWN_LINES]))
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
