"""Answers as bytes: status line and headers, each cached as far as it repeats."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from hookstead import __version__
from hookstead.gateway.exchange import problem_response
from hookstead.gateway.problems import Problem

KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
STREAM_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nServer: Hookstead/{__version__}\r\n".encode("ascii")
    for status in HTTPStatus
}
_date: tuple[int, bytes] = (0, b"")


def head(status: int, content_type: str | None, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Status line and headers but for framing and connection; each line ended."""
    lines = _STATUS_LINES[status] + _date_line()
    if content_type is not None:
        lines += _CONTENT_TYPES.get(content_type) or f"Content-Type: {content_type}\r\n".encode("latin-1")
    for name, value in headers:
        lines += f"{name}: {value}\r\n".encode("latin-1")
    return lines


_CONTENT_TYPES: Final = {
    media: f"Content-Type: {media}\r\n".encode("ascii") for media in ("application/json", "application/problem+json")
}


def _date_line() -> bytes:
    global _date  # noqa: PLW0603  (the line of the present second, for every connection of the process)
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]


def whole(refusal: Problem) -> bytes:
    """An answer that closes the connection, for where no exchange exists."""
    response = problem_response(refusal)
    lines = head(response.status, response.content_type, response.headers)
    return b"%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (lines, len(response.body), response.body)
