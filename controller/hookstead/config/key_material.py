"""Signing keys as text: what `whsec_…` and `whsk_…` hold, judged strictly.

The public verifiers are laxer (a one-byte HMAC secret passes there), so a key that we accept always works for them.
Source: Standard Webhooks 1.0.0, "Signature scheme"; lengths from the contract.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HMAC_PREFIX: Final = b"whsec_"
ED25519_PREFIX: Final = b"whsk_"
_HMAC_BYTES: Final = range(24, 65)
_SEED_BYTES: Final = 32


class KeyMaterialError(ValueError):
    """The text is no signing key. The message says what was expected and never shows the text."""


@dataclass(frozen=True, slots=True)
class HmacKey:
    """Signs as `v1`."""

    key: bytes

    def __repr__(self) -> str:
        return "HmacKey(***)"


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """Signs as `v1a`. `seed` is the 32-byte private key of RFC 8032."""

    seed: bytes

    @property
    def public(self) -> bytes:
        """The 32-byte public key, which receivers verify with."""
        return _public_of(self.seed)

    def __repr__(self) -> str:
        return "Ed25519Key(***)"


KeyMaterial: TypeAlias = HmacKey | Ed25519Key


def parse_key_material(text: bytes) -> KeyMaterial:
    """Read one key; surrounding white space is ignored, since files end in a newline.

    Raises KeyMaterialError.
    """
    trimmed = text.strip()
    if trimmed.startswith(HMAC_PREFIX):
        return _hmac_key(_decoded(trimmed.removeprefix(HMAC_PREFIX), "whsec_"))
    if trimmed.startswith(ED25519_PREFIX):
        return _ed25519_key(_decoded(trimmed.removeprefix(ED25519_PREFIX), "whsk_"))
    raise KeyMaterialError("expected text that begins with whsec_ (HMAC) or whsk_ (ed25519)")


def _decoded(encoded: bytes, prefix: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise KeyMaterialError(f"expected {prefix} followed by standard base64 with padding") from None


def _hmac_key(key: bytes) -> HmacKey:
    if len(key) not in _HMAC_BYTES:
        raise KeyMaterialError(f"expected whsec_ and base64 of 24 to 64 bytes, found {len(key)}")
    return HmacKey(key)


def _ed25519_key(key: bytes) -> Ed25519Key:
    if len(key) not in (_SEED_BYTES, 2 * _SEED_BYTES):
        raise KeyMaterialError(f"expected whsk_ and base64 of 32 or 64 bytes, found {len(key)}")
    seed, public = key[:_SEED_BYTES], key[_SEED_BYTES:]
    if public and public != _public_of(seed):
        raise KeyMaterialError("the public half of the whsk_ key does not belong to its private half")
    return Ed25519Key(seed)


def _public_of(seed: bytes) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
