"""Installs a Debian package where that is possible, and says what to do where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess


class NotInstallableError(Exception):
    """The package can not be installed from here; the message says what a person should do."""


def install(package: str, *, purpose: str) -> None:
    """Install `package` with apt-get, as root only.

    `purpose` completes the sentence "it is needed for …" in the message of `NotInstallableError`.
    """
    remedy = f"Install the package {package!r}, which is needed for {purpose} (Debian: apt-get install {package})."
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotInstallableError(remedy)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        result = subprocess.run(
            ["apt-get", "--quiet", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # A stale or partly broken list of packages often still has the one that is wanted.
        if result.returncode and arguments[0] == "install":
            raise NotInstallableError(f"{remedy}\napt-get says:\n{result.stdout[-2000:]}")
