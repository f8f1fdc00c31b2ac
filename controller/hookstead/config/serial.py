"""The serial form of the configuration: canonical JSON, its digest, and gzip shards that fit a Secret.

Equal configurations give equal bytes, so the digest says whether anything changed. Secrets are in it as base64:
these bytes are themselves a secret and travel only in Secrets and over the internal port.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    Frozen,
    ReplayConfig,
)
from hookstead.resources.secret import Secret

SHARD_LIMIT: Final = 896 * 1024
"""Bytes of one compressed shard; a Secret may hold 1 MiB of base64-decoded data, and needs room for the rest."""

DECODED_LIMIT: Final = 256 * 1024 * 1024
"""Bytes of a configuration after decompression: a bomb is refused, 10,000 endpoints are a few megabytes."""


COMPRESSION: Final = 4
"""Of 1 to 9. Ten thousand endpoints take 105 ms, and 380 kB; at 6 it would be 180 ms, and 2 % less."""


class ConfigUnreadable(ValueError):
    """The bytes are not a configuration that this version can read."""


def encode(config: DeliveryConfig) -> bytes:
    """Canonical JSON of the configuration."""
    return _ENCODER.encode(config)


def decode(document: bytes) -> DeliveryConfig:
    """The configuration again. Unknown fields are ignored, so that an older gateway reads a newer operator's.

    Raises ConfigUnreadable.
    """
    return Decoder().decode(document)


class Decoder:
    """Decodes one configuration after another: what is written as it was before is the very same object again.

    Endpoints and event types are told apart by the digest of their bytes. So one change of ten thousand endpoints
    costs a hundredth of the whole, in time and in memory, and whoever compares finds the rest by `is`.
    """

    def __init__(self) -> None:
        self._endpoints: Mapping[bytes, EndpointConfig] = {}
        self._event_types: Mapping[bytes, EventTypeConfig] = {}

    def decode(self, document: bytes) -> DeliveryConfig:
        """As `decode`. Raises ConfigUnreadable, and then knows what it knew before."""
        try:
            outer = _OUTER.decode(document)
            endpoints = _decoded(outer.endpoints, _ENDPOINT, self._endpoints)
            event_types = _decoded(outer.event_types, _EVENT_TYPE, self._event_types)
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigUnreadable(f"not a delivery configuration: {error}") from error
        self._endpoints, self._event_types = dict(endpoints), dict(event_types)
        return DeliveryConfig(
            namespace=outer.namespace,
            environment=outer.environment,
            endpoints=tuple(item for _, item in endpoints),
            channels=outer.channels,
            event_types=tuple(item for _, item in event_types),
            replays=outer.replays,
        )


Item = TypeVar("Item", EndpointConfig, EventTypeConfig)


def _decoded(
    raws: Sequence[msgspec.Raw], decoder: msgspec.json.Decoder[Item], known: Mapping[bytes, Item]
) -> list[tuple[bytes, Item]]:
    found: list[tuple[bytes, Item]] = []
    for raw in raws:
        key = hashlib.blake2b(raw, digest_size=16).digest()
        item = known.get(key)
        found.append((key, decoder.decode(raw) if item is None else item))
    return found


def digest(document: bytes) -> str:
    """`sha256:` and the hex digest of the encoded configuration."""
    return "sha256:" + hashlib.sha256(document).hexdigest()


def compress(document: bytes) -> bytes:
    """gzip without a time stamp: equal input gives equal output."""
    return gzip.compress(document, compresslevel=COMPRESSION, mtime=0)


def decompress(packed: bytes) -> bytes:
    """The reverse of `compress`, bounded. Raises ConfigUnreadable."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        document = inflater.decompress(packed, DECODED_LIMIT)
    except zlib.error as error:
        raise ConfigUnreadable(f"not gzip: {error}") from error
    if not inflater.eof:
        raise ConfigUnreadable(f"the gzip stream is cut off or larger than {DECODED_LIMIT} bytes")
    return document


def to_shards(document: bytes) -> list[bytes]:
    """The compressed document, cut into pieces of at most SHARD_LIMIT bytes; at least one."""
    packed = compress(document)
    return [packed[start : start + SHARD_LIMIT] for start in range(0, len(packed), SHARD_LIMIT)]


def from_shards(shards: list[bytes]) -> bytes:
    """The document that `to_shards` cut. Raises ConfigUnreadable."""
    return decompress(b"".join(shards))


def _encode_secret(value: Any) -> str:
    if isinstance(value, Secret):
        return base64.b64encode(value.reveal()).decode("ascii")
    raise NotImplementedError(f"{type(value).__name__} has no serial form")


def _decode_secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(base64.b64decode(value, validate=True))
    raise NotImplementedError(f"{kind.__name__} has no serial form")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_encode_secret, order="deterministic")


class _Outer(Frozen, frozen=True):
    """A DeliveryConfig whose endpoints and event types are still to be decoded."""

    namespace: str
    environment: EnvironmentConfig | None = None
    endpoints: tuple[msgspec.Raw, ...] = ()
    channels: tuple[ChannelConfig, ...] = ()
    event_types: tuple[msgspec.Raw, ...] = ()
    replays: tuple[ReplayConfig, ...] = ()


_OUTER: Final = msgspec.json.Decoder(_Outer, dec_hook=_decode_secret)
_ENDPOINT: Final = msgspec.json.Decoder(EndpointConfig, dec_hook=_decode_secret)
_EVENT_TYPE: Final = msgspec.json.Decoder(EventTypeConfig, dec_hook=_decode_secret)
