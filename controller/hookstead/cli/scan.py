"""Which manifest files a path means, and whether any of them changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES: Final = (".yaml", ".yml")
_NO_MANIFESTS: Final = frozenset({"kustomization.yaml", "kustomization.yml"})
"""What stands among manifests and is none: it may have no kind, and is for another tool."""
SIZE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one manifest file."""


class Stamp(NamedTuple):
    """What changes when a file is written, replaced, or made readable."""

    modified_ns: int
    changed_ns: int
    size: int
    inode: int


Stamps: TypeAlias = dict[str, Stamp]
"""Every manifest file by its path relative to the folder, in the order of paths."""


def stamps(folder: Path, *, without: Path | None = None) -> Stamps:
    """The manifest files below `folder`, but for hidden ones and what lies below `without`. Raises OSError.

    A file or subfolder that vanishes while one looks is not there; it is an error only for `folder` itself.
    """
    excluded = frozenset() if without is None else frozenset({os.path.realpath(without)})
    found = {os.path.relpath(path, folder): stamp for path, stamp in _walk(os.fspath(folder), closed=excluded)}
    return dict(sorted(found.items(), key=lambda item: Path(item[0]).parts))


def _walk(folder: str, *, closed: frozenset[str]) -> Iterator[tuple[str, Stamp]]:
    """`closed`: real paths not to be entered, the folders that led here among them: links may go in circles."""
    within = closed | {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if os.path.realpath(entry.path) not in within:
                        yield from _walk(entry.path, closed=within)
                elif entry.name.endswith(SUFFIXES) and entry.name not in _NO_MANIFESTS:
                    status = entry.stat()
                    yield entry.path, Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            except FileNotFoundError:
                continue


def read(path: Path) -> str:
    """The text of a manifest file. Raises ValueError with a sentence that says why it cannot be read."""
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        if path.stat().st_size > SIZE_LIMIT:
            raise ValueError(f"it is larger than {SIZE_LIMIT >> 20} MiB")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise ValueError(f"it cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise ValueError(f"it is not UTF-8: byte {problem.start} is {problem.object[problem.start]:#04x}") from problem
