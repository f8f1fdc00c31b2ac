"""How a program ends: exit codes, and errors that a person reads on stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

OK: Final = 0
FINDINGS: Final = 1
"""Something is wrong with what was looked at, or it could not be done."""
USAGE: Final = 2


class CommandError(Exception):
    """It could not be done; the message names what, and what to do. Exit 1."""


def run(program: Callable[[], int]) -> int:
    """The exit code of `program`, its errors said on stderr instead of a traceback."""
    try:
        return program()
    except UsageError as problem:
        say(str(problem))
        return USAGE
    except CommandError as problem:
        say(f"error: {problem}")
        return FINDINGS
    except BrokenPipeError:
        # The reader (head, less) has gone: no error. The interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return 130


def say(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)
