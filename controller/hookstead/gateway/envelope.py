"""The native envelope: `{"type", "channels", "id", "timestamp", "data"}` as bytes to an IncomingEvent.

Pure. Every refusal is a ProblemError whose detail names the member, what was expected and what to do; the names of
members are checked strictly, because a misspelt `channels` must not turn into "everybody".
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from hookstead.config.times import parse_time
from hookstead.delivery.intake import IncomingEvent
from hookstead.delivery.ports import CallerId
from hookstead.gateway.json_bytes import MalformedJson, kind_of, members
from hookstead.gateway.problems import ProblemKind, refuse
from hookstead.resources.suggestion import did_you_mean

MEMBERS: Final = ("type", "channels", "id", "timestamp", "data")
MAX_CHANNELS: Final = 64
MAX_NAME: Final = 128
MAX_ID: Final = 256
MAX_TIMESTAMP: Final = 64
"""Characters; RFC 3339 sets no bound on the fraction."""
NATIVE_SPACE: Final = ""
"""The space of native ids; CloudEvents live in the space of their source, which is never empty."""

TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
CHANNEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_ID: Final = re.compile(r"[ -~]{1,256}", re.ASCII)
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

_STRING: Final = msgspec.json.Decoder(str)
_STRINGS: Final = msgspec.json.Decoder(list[str])


def parse(document: bytes, *, traceparent: str | None = None, depth: int = 0) -> IncomingEvent:
    """The event in `document`. `depth` levels stand around it already (1 in a batch array). Raises ProblemError."""
    try:
        found = members(document, depth=depth)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The event is not acceptable JSON: {error}.") from None
    _refuse_unknown(found)
    if "type" not in found:
        raise invalid("type", "is required: the event's type, such as order.created")
    if "data" not in found:
        raise invalid("data", "is required: any JSON value, null for none")
    timestamp = found.get("timestamp")
    if timestamp is not None:
        check_timestamp(string("timestamp", timestamp))
    caller = found.get("id")
    return IncomingEvent(
        type=event_type(string("type", found["type"])),
        data=found["data"],
        channels=_channels(found["channels"]) if "channels" in found else (),
        timestamp=timestamp,
        caller_id=None if caller is None else CallerId(NATIVE_SPACE, _caller_id(string("id", caller))),
        traceparent=traceparent,
    )


def invalid(member: str, expectation: str, **extra: Any) -> Exception:
    """A ProblemError about one member of the envelope."""
    return refuse(ProblemKind.INVALID_EVENT, f"{member} {expectation}.", member=member, **extra)


def string(member: str, value: bytes) -> str:
    """The text of a JSON string."""
    try:
        return _STRING.decode(value)
    except msgspec.ValidationError:
        raise invalid(member, f"must be a string, found {kind_of(value)}") from None


def event_type(text: str, member: str = "type") -> str:
    """`text`, when it is a well-formed event type."""
    if len(text) > MAX_NAME or TYPE.fullmatch(text) is None:
        raise invalid(
            member,
            f"must be 1–{MAX_NAME} letters, digits, _ or - in parts separated by dots, such as order.created; "
            f"found {shown(text)}",
        )
    return text


def channel_names(names: list[str]) -> tuple[str, ...]:
    """`names` in order, each once, when they are well-formed and at most 64."""
    if len(names) > MAX_CHANNELS:
        raise invalid("channels", f"must hold at most {MAX_CHANNELS} names, found {len(names)}")
    for index, name in enumerate(names):
        if len(name) > MAX_NAME or CHANNEL.fullmatch(name) is None:
            raise invalid(
                f"channels[{index}]",
                f"must be 1–{MAX_NAME} letters, digits, dots, _ or -, starting with a letter or digit, such as "
                f"client_42; found {shown(name)}",
            )
    return tuple(dict.fromkeys(names))


def check_timestamp(text: str, member: str = "timestamp") -> None:
    """Return if `text` is an RFC 3339 date-time."""
    try:
        if len(text) > MAX_TIMESTAMP or text[10:11] not in ("T", "t"):
            raise ValueError
        parse_time(_DIGITS_BEYOND_NANO.sub(r"\1", text))
    except ValueError:
        raise invalid(
            member, f"must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z, found {shown(text)}"
        ) from None


_DIGITS_BEYOND_NANO: Final = re.compile(r"(\.\d{9})\d+", re.ASCII)


def valid_traceparent(header: str | None) -> str | None:
    """The header when it is a W3C trace context of version 00's form, else None: a broken trace stops no event."""
    return header if header is not None and _TRACEPARENT.fullmatch(header) is not None else None


def shown(text: str) -> str:
    """`text` as a message quotes it: short, on one line."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def _refuse_unknown(found: dict[str, bytes]) -> None:
    for name in found:
        if name not in MEMBERS:
            raise invalid(
                shown(name),
                f"is not a member of an event{did_you_mean(name[:MAX_NAME], MEMBERS)}. "
                f"An event has {', '.join(MEMBERS)}; everything of your own belongs in data",
            )


def _channels(value: bytes) -> tuple[str, ...]:
    try:
        names = _STRINGS.decode(value)
    except msgspec.ValidationError:
        raise invalid("channels", f"must be an array of strings, found {kind_of(value)}") from None
    return channel_names(names)


def _caller_id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise invalid("id", f"must be 1–{MAX_ID} printable ASCII characters, found {shown(text)}")
    return text
