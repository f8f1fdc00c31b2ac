"""Signatures of Standard Webhooks 1.0.0: every unexpired key signs, the first one first."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hookstead.config.key_material import HmacKey, parse_key_material
from hookstead.config.model import SigningKey


class Signer:
    """Signs for one endpoint. Built once per configuration, since parsing a key costs more than signing."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        """Raises KeyMaterialError; compile() refuses such keys, so here it would be a damaged configuration."""
        self._keys = tuple((key.id, key.not_after_ms, _signature_of(key)) for key in keys)

    def signature(self, message_id: str, timestamp: int, body: bytes, *, now_ms: int) -> str | None:
        """The `webhook-signature` value, or None when no key may sign: such a delivery is held, never sent.

        `timestamp` is in whole seconds since the Unix epoch, as in `webhook-timestamp`.
        """
        content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
        return " ".join(sign(content) for _, not_after, sign in self._keys if _valid(not_after, now_ms)) or None

    def active_key_ids(self, *, now_ms: int) -> tuple[str, ...]:
        """Ids of the keys that sign now, in order."""
        return tuple(key_id for key_id, not_after, _ in self._keys if _valid(not_after, now_ms))


def _valid(not_after_ms: int | None, now_ms: int) -> bool:
    return not_after_ms is None or now_ms < not_after_ms


class _HmacSignature:
    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, content: bytes) -> str:
        return "v1," + base64.b64encode(hmac.digest(self._key, content, "sha256")).decode("ascii")


class _Ed25519Signature:
    __slots__ = ("_key",)

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def __call__(self, content: bytes) -> str:
        return "v1a," + base64.b64encode(self._key.sign(content)).decode("ascii")


def _signature_of(key: SigningKey) -> _HmacSignature | _Ed25519Signature:
    material = parse_key_material(key.material.reveal())
    return _HmacSignature(material.key) if isinstance(material, HmacKey) else _Ed25519Signature(material.seed)
