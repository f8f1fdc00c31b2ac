"""Gets the files of a published npm package, which some specifications ship their official schemas in."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from toolchain import debian
from toolchain.cache import arriving, cache_home, exclusive


def unpacked(package: str, version: str, *, purpose: str) -> Path:
    """The folder with the package's files, from the cache or fetched now; nothing of it is run.

    Raises debian.NotInstallableError where there is no npm and none can be installed, CalledProcessError where the
    package cannot be fetched.
    """
    target = cache_home() / "npm" / f"{package.replace('/', '-').lstrip('@')}-{version}"
    with exclusive("npm"):
        if target.is_dir():
            return target
        if shutil.which("npm") is None:
            debian.install("npm", purpose=purpose)
        with arriving(target) as draft:
            draft.mkdir()
            packing = ("npm", "pack", "--silent", "--ignore-scripts", f"{package}@{version}")
            named = subprocess.run(
                packing, cwd=draft, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
            archive = draft / named.stdout.strip().splitlines()[-1]
            with tarfile.open(archive) as opened:
                opened.extractall(draft, filter="data")
            archive.unlink()
    return target
