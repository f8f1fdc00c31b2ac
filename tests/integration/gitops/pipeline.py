"""The example in a repository of its own, as a pipeline finds it, and the shell that a runner uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.binaries import ProgramMissingError, locate

TOP = Path(__file__).resolve().parents[3]
GITOPS = TOP / "examples" / "gitops"


def program(name: str) -> str:
    try:
        return str(locate(name))
    except ProgramMissingError as error:
        pytest.skip(str(error))


class Pipeline:
    """A repository with the example, a remote that has its main branch, and a branch with a change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        origin = folder / "origin.git"
        self._git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(origin))
        self.folder.mkdir()
        self._git(self.folder, "init", "--quiet", "--initial-branch=main")
        shutil.copytree(GITOPS, self.folder / "examples" / "gitops")
        self.commit()
        self._git(self.folder, "remote", "add", "origin", str(origin))
        self._git(self.folder, "push", "--quiet", "origin", "main")
        self._git(self.folder, "fetch", "--quiet", "origin")
        self._git(self.folder, "switch", "--quiet", "--create", "change")

    def commit(self) -> None:
        self._git(self.folder, "add", "--all")
        self._git(self.folder, "commit", "--quiet", "-m", "x")

    def change(self, name: str, old: str, new: str) -> None:
        file = self.folder / "examples" / "gitops" / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")
        self.commit()

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """As the runner's shell does it, with the `hookstead` of this environment and the kubectl of the tests."""
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), str(Path(program("kubectl")).parent), os.environ["PATH"]]
        )
        environment = {"PATH": path, "HOME": str(self.folder.parent), **variables}
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def _git(self, folder: Path, *arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)

    def apply(self, diff: str) -> None:
        """A change as a diff of the documentation."""
        command = ["git", "-C", str(self.folder), "apply", "-"]
        subprocess.run(command, input=diff, text=True, check=True, capture_output=True)
