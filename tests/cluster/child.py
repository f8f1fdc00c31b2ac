"""A server process that logs to a file and never outlives the process that started it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Runs in the child, becomes the program, keeps the process id. Not a preexec_fn: that forks a process which
# may have threads, against which Python 3.12 warns. 1 is PR_SET_PDEATHSIG; the parent may be dead already.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("parent gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def free_port() -> int:
    """A loopback TCP port that was free a moment ago; somebody may take it first, so be ready to retry."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """One running program.

    It is killed when the *thread* that started it ends, however that comes about (prctl(2),
    PR_SET_PDEATHSIG); so start it from a thread that lives as long as it is needed, as the main one does.
    """

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command: Final = tuple(str(part) for part in command)
        self.log: Final = log
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        with log.open("ab") as output:
            self._process: Final = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; harmless when it already is."""
        self._process.kill()
        self._process.wait()

    def terminate(self, *, grace_seconds: float) -> int:
        """SIGTERM, SIGKILL after the grace; the exit code (negative: the signal's number)."""
        self._process.terminate()
        try:
            return self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def last_words(self, *, lines: int = 25) -> str:
        """The end of its log, for the message of a failure."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
