"""Signatures against the published vectors and the public verifiers."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
import standardwebhooks
import svix
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from hookstead.config.key_material import Ed25519Key, HmacKey, KeyMaterialError, parse_key_material
from hookstead.config.model import SigningKey
from hookstead.delivery.signing import Signer
from hookstead.resources.secret import Secret
from vectors import load

VECTORS: dict[str, Any] = load("standard-webhooks.json")
HMAC, ED25519 = VECTORS["hmac"], VECTORS["ed25519"]


def _signer(*keys: tuple[str, int | None]) -> Signer:
    return Signer(
        [
            SigningKey(id=f"k{index}", material=Secret(text.encode()), not_after_ms=not_after)
            for index, (text, not_after) in enumerate(keys)
        ]
    )


@pytest.mark.parametrize("vector", [*HMAC[:2], *ED25519], ids=lambda vector: vector["signature"][:8])
def test_a_signature_is_the_published_one(vector: dict[str, Any]) -> None:
    signature = _signer((vector["secret"], None)).signature(
        vector["id"], vector["timestamp"], vector["payload"].encode(), now_ms=0
    )
    assert signature == vector["signature"]
    assert signature != VECTORS["negative_hmac_of_first"]


def test_a_short_key_of_the_vectors_is_refused_as_configuration() -> None:
    with pytest.raises(KeyMaterialError, match="24 to 64 bytes, found 18"):
        parse_key_material(HMAC[2]["secret"].encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "begins with whsec_"),
        (b"secret", "begins with whsec_"),
        (b"whsec_", "24 to 64 bytes, found 0"),
        (b"whsec_" + base64.b64encode(bytes(65)), "found 65"),
        (b"whsec_" + base64.urlsafe_b64encode(b"\xff" * 32), "standard base64"),
        (b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "standard base64"),
        (b"whsec_MfKQ 9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "standard base64"),
        (b"whsk_" + base64.b64encode(bytes(31)), "32 or 64 bytes, found 31"),
        (b"whsk_" + base64.b64encode(bytes(64)), "public half"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: bytes, message: str) -> None:
    with pytest.raises(KeyMaterialError, match=message) as caught:
        parse_key_material(text)
    assert not text[6:] or text[6:].decode() not in str(caught.value)


@pytest.mark.parametrize("around", [b"\n", b"\r\n", b"  \t"])
def test_white_space_around_a_key_is_ignored(around: bytes) -> None:
    text = HMAC[0]["secret"].encode()
    assert parse_key_material(around + text + around) == parse_key_material(text)


def test_a_key_is_never_printed() -> None:
    hmac, ed25519 = parse_key_material(HMAC[0]["secret"].encode()), parse_key_material(ED25519[0]["secret"].encode())
    assert isinstance(hmac, HmacKey)
    assert isinstance(ed25519, Ed25519Key)
    assert (repr(hmac), repr(ed25519)) == ("HmacKey(***)", "Ed25519Key(***)")


def test_every_unexpired_key_signs_the_first_one_first() -> None:
    first, second = HMAC[0]["secret"], HMAC[1]["secret"]
    signer = _signer((second, 1000), (first, None))
    both = signer.signature("msg_1", 1, b"{}", now_ms=999)
    one = signer.signature("msg_1", 1, b"{}", now_ms=1000)
    assert both is not None
    assert both.split(" ")[1:] == [one]
    assert signer.active_key_ids(now_ms=999) == ("k0", "k1")
    assert signer.active_key_ids(now_ms=1000) == ("k1",)


def test_without_a_valid_key_there_is_no_signature() -> None:
    assert _signer((HMAC[0]["secret"], 1)).signature("msg_1", 1, b"{}", now_ms=1) is None
    assert _signer().signature("msg_1", 1, b"{}", now_ms=1) is None


@given(st.binary(min_size=24, max_size=64), st.dictionaries(st.text(), st.integers()))
def test_the_public_packages_verify_what_we_sign(key: bytes, data: dict[str, int]) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    body, now = json.dumps(data).encode(), int(time.time())
    signature = _signer((secret, None)).signature("msg_1", now, body, now_ms=0)
    assert signature is not None
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": signature}
    assert standardwebhooks.Webhook(secret).verify(body, headers) == data
    svix.Webhook(secret).verify(body, headers)  # raises where it does not verify


def test_an_ed25519_signature_verifies_under_its_public_key() -> None:
    vector = ED25519[0]
    signature = _signer((vector["secret"], None)).signature("msg_9", 5, b"body", now_ms=0)
    assert signature is not None
    version, _, encoded = signature.partition(",")
    assert version == "v1a"
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(vector["public"].removeprefix("whpk_")))
    public.verify(base64.b64decode(encoded), b"msg_9.5.body")
