"""Terminals as a reader has them: a shell that keeps its directory and variables, and windows where programs run."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

STEP_SECONDS: Final = 120.0


class WalkError(Exception):
    """A step did not do what the page says; the message has the command and the output."""


class Shell:
    """One bash for many steps."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._output = folder.parent / f"shell-{secrets.token_hex(4)}.log"
        self._output.touch()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._output.open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._type("set -m")  # job control, so that `kill %1` means what it means to a reader

    def run(self, command: str) -> str:
        """What it printed. Raises WalkError when it fails, or does not end."""
        start, mark = self._output.stat().st_size, f"end-{secrets.token_hex(8)}"
        self._type(f"{command}\necho {mark} $?")
        deadline = time.monotonic() + STEP_SECONDS
        while mark not in (text := self._output.read_bytes()[start:].decode(errors="replace")):
            if time.monotonic() > deadline or self._bash.poll() is not None:
                raise WalkError(f"{command}\ndid not end; it printed\n{text}")
            time.sleep(0.05)
        printed, _, rest = text.partition(mark)
        if rest.split()[:1] != ["0"]:
            raise WalkError(f"{command}\nfailed with {rest.strip()}; it printed\n{printed}")
        return printed

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text + "\n")
        self._bash.stdin.flush()

    def close(self) -> None:
        """End the shell; what it started in the background has groups of its own, and is ended first."""
        if self._bash.poll() is None:
            self._type("kill $(jobs -p) 2>/dev/null; wait; exit 0")
            try:
                self._bash.wait(20)
            except subprocess.TimeoutExpired:
                self._bash.kill()
                self._bash.wait()


class Window:
    """A program in a terminal of its own, until somebody types Ctrl-C there."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self.command: Final = command
        self._output = folder.parent / f"window-{secrets.token_hex(4)}.log"
        # bash execs the last command of -c only where it is the only one, so the whole group gets the signal.
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def printed(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ctrl-C, and kill what does not listen to it."""
        if not self.ended:
            os.killpg(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
