"""The folder outside the tree where built and downloaded things are kept between runs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_home() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/hookstead`, which need not exist yet.

    The XDG Base Directory specification tells programs to ignore a relative XDG_CACHE_HOME.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "hookstead"


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache, so that runs side by side do the work once.

    The lock belongs to the open file: the kernel drops it even when the holder is killed.
    """
    folder = cache_home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def arriving(target: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `target` in one step if the block ends well.

    Nobody ever sees half a file under the final name, and nothing is left behind after an error.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        draft = Path(folder) / target.name
        yield draft
        draft.rename(target)
