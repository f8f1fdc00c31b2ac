"""Keeps the virtual environment of this clone, outside the tree.

    python3.11 tests/toolchain/venv.py           makes it if need be and prints its path
    python3.11 tests/toolchain/venv.py --path    prints the path only

One environment per clone, interpreter and pyproject.toml. Per clone, because the editable install points at
one tree: with an environment shared by two clones the second would silently test the first one's code.
Standard library only: it runs before the environment exists.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script: `toolchain` is our parent

from toolchain import debian
from toolchain.cache import cache_home, exclusive

if TYPE_CHECKING:
    from collections.abc import Sequence

CLONE: Final = Path(__file__).resolve().parents[2]
READY: Final = ".ready"
"""Written last, so that an interrupted install is not taken for a whole one; holds the clone's path."""
KEPT_SECONDS: Final = 7 * 24 * 3600
"""An environment that this clone no longer uses (another pyproject.toml) goes after a week."""


def location(clone: Path) -> Path:
    """The folder of the clone's environment, existing or not."""
    interpreter = f"{sys.implementation.cache_tag}-{sys.version_info.micro}"
    digest = hashlib.sha256()
    for part in (os.fsencode(clone), os.fsencode(sys.base_prefix), (clone / "pyproject.toml").read_bytes()):
        digest.update(hashlib.sha256(part).digest())
    return cache_home() / "venv" / f"{interpreter}-{digest.hexdigest()[:16]}"


def provide(clone: Path) -> Path:
    """The clone's environment with the package (editable) and the extras `test` and `dev` in it.

    Raises `debian.NotInstallableError` where Python lacks `venv`, and CalledProcessError when pip fails.
    """
    folder = location(clone)
    with exclusive(folder.name):
        if (folder / READY).exists():
            os.utime(folder / READY)
            return folder
        prune(clone)
        shutil.rmtree(folder, ignore_errors=True)
        say(f"installing the dependencies into {folder} (once per clone and pyproject.toml) …")
        _create(folder)
        _run([folder / "bin" / "python", "-m", "pip", *PIP, "install", "--editable", f"{clone}[test,dev]"])
        (folder / READY).write_text(str(clone), encoding="utf-8")
    return folder


PIP: Final = ("--quiet", "--disable-pip-version-check", "--no-input")


def prune(clone: Path) -> None:
    """Remove the environments of clones that are gone, and those that `clone` has not used for a week."""
    for stamp in (cache_home() / "venv").glob(f"*/{READY}"):
        owner = Path(stamp.read_text(encoding="utf-8"))
        unused = time.time() - stamp.stat().st_mtime > KEPT_SECONDS
        if not owner.exists() or (owner == clone and unused):
            shutil.rmtree(stamp.parent, ignore_errors=True)


def _create(folder: Path) -> None:
    try:
        import ensurepip  # noqa: F401  (Debian ships `venv` without it)
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        debian.install(package, purpose="making virtual environments")
    _run([sys.executable, "-m", "venv", folder])


def _run(command: Sequence[str | Path]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment)


def say(text: str) -> None:
    """Progress goes to stderr: stdout is for the path."""
    print(f"toolchain: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Print the environment's path, having made it; 1 with a message when that fails."""
    parser = argparse.ArgumentParser(description="Keep the virtual environment of this clone.")
    parser.add_argument("--path", action="store_true", help="print where it is or would be, make nothing")
    if parser.parse_args(arguments).path:
        print(location(CLONE))
        return 0
    try:
        print(provide(CLONE))
    except debian.NotInstallableError as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"{error.cmd[0]} failed (exit code {error.returncode}); its own message stands above.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
