"""One POST as bytes. Headers are checked once more here, behind whatever admitted them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")
_VALUE: Final = re.compile(r"[\t -~]*")
_OURS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Framing, hop-by-hop and state: never taken from a caller."""
_OUR_PREFIXES: Final = ("proxy-", "x-forwarded-")
_KNOWN_LIMIT: Final = 4096
_known_names: set[str] = set()
"""Names that passed before. Names come from configuration, so they are few; the bound is for safety."""


@dataclass(frozen=True, slots=True)
class UnsendableHeader:
    """A header that must not go out; `message` names it and not its value."""

    message: str


def render(start: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes | UnsendableHeader:
    """The whole request. `start` is the request line and the Host header, each with its line end."""
    names = {name for name, _ in headers}
    if not names <= _known_names:
        problem = _learn(names)
        if problem is not None:
            return problem
    if len(names) != len(headers):
        return UnsendableHeader("a header is given twice; nothing was sent")
    lines = [start]
    for name, value in headers:
        if not (value.isascii() and value.isprintable()) and not _VALUE.fullmatch(value):
            return UnsendableHeader(f"header {name!r} has a value with forbidden characters; nothing was sent")
        lines.append(f"{name}: {value}\r\n")
    if "accept" not in names:
        lines.append("accept: */*\r\n")
    if "accept-encoding" not in names:
        lines.append("accept-encoding: identity\r\n")
    lines.append(f"content-length: {len(body)}\r\n\r\n")
    return "".join(lines).encode("ascii") + body


def request_start(path_and_query: str, authority: str) -> str:
    """Both parts are checked by `addresses.parse_url`: printable ASCII without spaces."""
    return f"POST {path_and_query} HTTP/1.1\r\nhost: {authority}\r\n"


def _learn(names: set[str]) -> UnsendableHeader | None:
    for name in sorted(names):
        if not _NAME.fullmatch(name):
            return UnsendableHeader(f"header name {name[:64]!r} is not a lower-case token; nothing was sent")
        if name in _OURS or name.startswith(_OUR_PREFIXES):
            return UnsendableHeader(f"header {name!r} is not the caller's to set; nothing was sent")
    if len(_known_names) + len(names) > _KNOWN_LIMIT:
        _known_names.clear()
    _known_names.update(names)
    return None
