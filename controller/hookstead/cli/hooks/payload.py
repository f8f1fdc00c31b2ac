"""The data of an event from the command line: as given, byte for byte."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

from hookstead.cli.outcome import CommandError


def read_payload(given: str) -> bytes:
    """The bytes of one JSON value: `--data JSON`, `--data @FILE`, or `-` for stdin. Raises CommandError."""
    raw = _read(given)
    try:
        json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise CommandError(f"--data: not valid JSON: {problem}") from problem
    return raw.strip()


def _read(given: str) -> bytes:
    try:
        if given == "-":
            return sys.stdin.buffer.read()
        if given.startswith("@"):
            return Path(given[1:]).read_bytes()
    except OSError as problem:
        raise CommandError(f"--data {given}: cannot be read: {problem.strerror}") from problem
    return given.encode(errors="surrogateescape")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
