"""CloudEvents 1.0 over HTTP: structured and binary content to an IncomingEvent.

Sources: CloudEvents 1.0.2, its JSON format and its HTTP protocol binding (section 3.1.3.2: header values are
percent-encoded UTF-8). Stricter than the SDKs where the specification is: a missing `id` is an error.
Pure; refusals are ProblemErrors.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec

from hookstead.delivery.intake import IncomingEvent
from hookstead.delivery.ports import CallerId
from hookstead.gateway.envelope import (
    MAX_ID,
    channel_names,
    check_timestamp,
    event_type,
    invalid,
    shown,
    string,
    valid_traceparent,
)
from hookstead.gateway.json_bytes import MalformedJson, check, kind_of, members
from hookstead.gateway.problems import ProblemKind, refuse

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
MAX_SOURCE: Final = 2048
PREFIX: Final = "ce-"

_NULL: Final = b"null"
_NO_DATA: Final = {True: (b"",), False: (_NULL,)}
"""Data that has no content type to be held to: an empty body, or a null member."""
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_SOURCE: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)')
_JSON_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.-]+/(?:[a-z0-9!#$&^_.-]+\+)?json", re.ASCII)


def is_binary(headers: Container[object]) -> bool:
    """Whether the request means to be a CloudEvent in binary mode: any one of the required attributes says so."""
    return "ce-specversion" in headers or "ce-id" in headers or "ce-type" in headers or "ce-source" in headers


def is_json_media(content_type: str) -> bool:
    """Whether a media type is JSON as CloudEvents has it (`*/json`, `*/*+json`), in UTF-8."""
    media = content_type.lower().partition(";")[0].strip()
    return _JSON_MEDIA.fullmatch(media) is not None and is_utf8(content_type)


def is_utf8(content_type: str) -> bool:
    """Whether a content type's charset, if it has one, is UTF-8 or a part of it."""
    charset = _CHARSET.search(content_type.lower())
    return charset is None or charset.group(1) in ("utf-8", "utf8", "us-ascii")


def parse_structured(document: bytes, *, traceparent: str | None = None, depth: int = 0) -> IncomingEvent:
    """The event in a JSON document of the CloudEvents JSON format. Raises ProblemError."""
    try:
        found = members(document, depth=depth)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The CloudEvent is not acceptable JSON: {error}.") from None
    if "data_base64" in found:
        raise _not_json("data_base64 holds binary data")
    data = found.pop("data", _NULL)
    attributes = {name: text for name, value in found.items() if (text := _attribute(name, value)) is not None}
    timestamp = found["time"] if "time" in attributes else None
    return _event(attributes, data=data, timestamp=timestamp, traceparent=traceparent)


def parse_binary(
    headers: Iterable[tuple[str, str]], body: bytes, *, content_type: str, traceparent: str | None = None
) -> IncomingEvent:
    """The event of a request in binary mode: attributes from `ce-` headers, data from the body. Raises ProblemError."""
    attributes: dict[str, str] = {}
    for header, value in headers:
        name = header = header.lower()
        if not name.startswith(PREFIX):
            continue
        name = name.removeprefix(PREFIX)
        if _ATTRIBUTE.fullmatch(name) is None:
            raise invalid(header, "is no attribute's name: lower-case letters and digits follow ce-")
        if name in attributes:
            raise invalid(header, "occurs twice: send it once")
        attributes[name] = _clean(header, decode_header(header, value.strip(" \t")))
    if content_type:
        attributes["datacontenttype"] = content_type
    time = attributes.get("time")
    timestamp = None if time is None else msgspec.json.encode(time)
    return _event(attributes, data=body, timestamp=timestamp, traceparent=traceparent, body=True)


def decode_header(header: str, value: str) -> str:
    """The attribute in a header's value: unquoted, then percent-decoded once, as UTF-8. Raises ProblemError."""
    if len(value) >= 2 and value[0] == '"' and value[-1] == '"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    try:
        encoded = value.encode("utf-8", "surrogateescape")
        return _ESCAPE.sub(_byte, encoded).decode("utf-8")
    except ValueError:
        raise invalid(
            header,
            "is not percent-encoded UTF-8: write a literal percent sign as %25, other characters as their UTF-8 bytes",
        ) from None


def _byte(escape: re.Match[bytes]) -> bytes:
    digits = escape.group(1)
    if digits is None:
        raise ValueError("a percent sign without two hexadecimal digits")
    return bytes.fromhex(digits.decode("ascii"))


def _event(
    attributes: dict[str, str], *, data: bytes, timestamp: bytes | None, traceparent: str | None, body: bool = False
) -> IncomingEvent:
    if attributes.get("specversion") != "1.0":
        raise invalid("specversion", f'must be "1.0", found {_found(attributes, "specversion")}')
    for required in ("id", "source", "type"):
        if not attributes.get(required):
            raise invalid(required, "is required by CloudEvents and must not be empty")
    if len(attributes["id"]) > MAX_ID:
        raise invalid("id", f"must be at most {MAX_ID} characters, found {len(attributes['id'])}")
    source = attributes["source"]
    if len(source) > MAX_SOURCE or _SOURCE.fullmatch(source) is None:
        raise invalid("source", f"must be a URI reference of at most {MAX_SOURCE} characters, found {shown(source)}")
    if "time" in attributes:
        check_timestamp(attributes["time"], "time")
    media = attributes.get("datacontenttype")
    if media is not None and data not in _NO_DATA[body] and not is_json_media(media):
        raise _not_json(f"the data's content type is {shown(media)}")
    return IncomingEvent(
        type=event_type(attributes["type"]),
        data=_checked(data) if body else data,
        channels=_channels(attributes.get("channels")),
        timestamp=timestamp,
        caller_id=CallerId(source, attributes["id"]),
        source=source,
        traceparent=valid_traceparent(attributes.get("traceparent")) or traceparent,
    )


def _attribute(name: str, value: bytes) -> str | None:
    """The attribute's text; None for null, which the JSON format reads as absent."""
    if _ATTRIBUTE.fullmatch(name) is None:
        raise invalid(shown(name), "is no CloudEvents attribute: names are lower-case letters and digits")
    match value[:1]:
        case b"n":
            return None
        case b'"':
            return _clean(name, string(name, value))
        case b"{" | b"[":
            hint = ': write "client_1,client_2"' if name == "channels" else ""
            raise invalid(name, f"must be a string, a number or a boolean, found {kind_of(value)}{hint}")
        case _ if name in _STRINGS_ONLY:
            raise invalid(name, f"must be a string, found {kind_of(value)}")
        case _:
            return value.decode("ascii")


_STRINGS_ONLY: Final = frozenset(
    {"specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "subject", "channels"}
)


def _clean(name: str, text: str) -> str:
    if _CONTROL.search(text) is not None:
        raise invalid(name, "must not contain control characters")
    return text


def _channels(text: str | None) -> tuple[str, ...]:
    return () if text is None else channel_names([name.strip(" \t") for name in text.split(",")])


def _checked(body: bytes) -> bytes:
    """The body as data: JSON text without the white space around it; nothing is null."""
    if not body:
        return _NULL
    try:
        check(body)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The body is not acceptable JSON: {error}.") from None
    return body.strip(b" \t\r\n")


def _not_json(found: str) -> Exception:
    return refuse(
        ProblemKind.UNSUPPORTED_MEDIA_TYPE,
        f"Webhooks carry JSON, and {found}. Send JSON data with datacontenttype application/json, or put a reference "
        "to the data into it.",
    )


def _found(attributes: Mapping[str, str], name: str) -> str:
    return shown(attributes[name]) if name in attributes else "none"
