"""ServiceAccount tokens: only one that is right in every respect is anybody's."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from hookstead.gateway.service_account_tokens import (
    LEEWAY_SECONDS,
    BadToken,
    Expectation,
    KeySet,
    ServiceAccount,
    VerificationKey,
    key_id,
    read_keys,
    verify,
)

NOW: Final = 1_800_000_000
EXPECTED: Final = Expectation(issuer="https://issuer.test", audience="hookstead.dev", now=NOW)
RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVES: Final[dict[str, ec.EllipticCurve]] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": "k1", "use": "sig", **members}


def keys(*entries: dict[str, Any]) -> dict[str, VerificationKey]:
    return read_keys(KeySet(keys=list(entries)))


KEY: Final = keys(jwk(RSA))["k1"]


def claims(**changes: Any) -> dict[str, Any]:
    """As Kubernetes writes them; a change to None takes a claim away."""
    whole = {
        "aud": ["hookstead.dev"],
        "exp": NOW + 600,
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "iss": "https://issuer.test",
        "jti": "29c5e2f5",
        "kubernetes.io": {
            "namespace": "shop",
            "pod": {"name": "checkout-1", "uid": "p-1"},
            "serviceaccount": {"name": "checkout", "uid": "u-1"},
        },
        "sub": "system:serviceaccount:shop:checkout",
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", *, kid: str | None = "k1", **changes: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), key, algorithm=algorithm, headers=headers)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_in_order_names_its_account_with_the_groups_that_the_api_server_would_give_it() -> None:
    account = verify(token(), KEY, EXPECTED)
    assert account == ServiceAccount("shop", "checkout", "u-1", NOW + 600)
    assert account.username == "system:serviceaccount:shop:checkout"
    assert account.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512"])
def test_an_rsa_key_verifies_its_three_algorithms(algorithm: str) -> None:
    assert isinstance(verify(token(RSA, algorithm), KEY, EXPECTED), ServiceAccount)


@pytest.mark.parametrize("algorithm", CURVES)
def test_an_elliptic_key_verifies_the_algorithm_of_its_curve(algorithm: str) -> None:
    private = ec.generate_private_key(CURVES[algorithm])
    key = keys(jwk(private, alg=algorithm))["k1"]
    assert key.algorithms == (algorithm,)
    assert isinstance(verify(token(private, algorithm), key, EXPECTED), ServiceAccount)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://elsewhere.test"}, "issuer"),
        ({"iss": "https://issuer.test/"}, "issuer"),
        ({"exp": NOW - LEEWAY_SECONDS}, "expired"),
        ({"nbf": NOW + LEEWAY_SECONDS + 1}, "not valid yet"),
        ({"iat": NOW + LEEWAY_SECONDS + 1}, "not valid yet"),
        ({"aud": ["https://kubernetes.default.svc"]}, "audience hookstead.dev"),
        ({"aud": "hookstead.dev.elsewhere"}, "audience"),
        ({"aud": []}, "audience"),
        ({"sub": "alice"}, "ServiceAccount"),
        ({"sub": "system:serviceaccount:shop"}, "ServiceAccount"),
        ({"sub": "system:serviceaccount:shop:checkout:x"}, "ServiceAccount"),
        ({"sub": "system:serviceaccount:shop:checkout\n"}, "ServiceAccount"),
        ({"sub": "system:serviceaccount:Shop:checkout"}, "ServiceAccount"),
        ({"exp": None}, "exp"),
        ({"iss": None}, "iss"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": True}, "exp"),
        ({"aud": {"hookstead.dev": 1}}, "aud"),
        ({"kubernetes.io": "x"}, "kubernetes.io"),
    ],
)
def test_one_wrong_claim_is_enough_and_is_named(changes: dict[str, Any], reason: str) -> None:
    refused = verify(token(**changes), KEY, EXPECTED)
    assert isinstance(refused, BadToken)
    assert reason in refused.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "hookstead.dev"},
        {"aud": ["a", "hookstead.dev"]},
        {"exp": NOW - LEEWAY_SECONDS + 1},
        {"exp": NOW + 0.5},
        {"nbf": NOW + LEEWAY_SECONDS},
        {"nbf": None},
        {"iat": None},
        {"kubernetes.io": None},
        {"sub": "system:serviceaccount:a:b.c-d.e"},
    ],
)
def test_what_other_servers_may_write_differently_is_taken(changes: dict[str, Any]) -> None:
    assert isinstance(verify(token(**changes), KEY, EXPECTED), ServiceAccount)


def hs256_with_the_public_key() -> str:
    """The classic: the public key, which everybody has, as the secret of an HMAC."""
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    import hashlib
    import hmac

    signed = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(claims())}"
    mac = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def other_claims_under_the_same_signature() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{part(claims(sub='system:serviceaccount:shop:admin'))}.{signature}"


@pytest.mark.parametrize(
    "forge",
    [
        lambda: token(OTHER),
        lambda: token(RSA, "PS256"),
        lambda: f"{part({'alg': 'none', 'kid': 'k1'})}.{part(claims())}.AA",
        lambda: f"{part({'kid': 'k1'})}.{part(claims())}.AA",
        lambda: token()[:-4] + "AAAA",
        hs256_with_the_public_key,
        other_claims_under_the_same_signature,
    ],
)
def test_what_the_key_did_not_sign_is_nobodys(forge: Callable[[], str]) -> None:
    forged = forge()
    assert key_id(forged) == "k1"
    assert verify(forged, KEY, EXPECTED) == BadToken("its signature is not the API server's")


def test_an_algorithm_that_the_key_set_does_not_name_is_refused() -> None:
    pinned = keys(jwk(RSA, alg="RS256"))["k1"]
    assert isinstance(verify(token(RSA, "RS256"), pinned, EXPECTED), ServiceAccount)
    assert isinstance(verify(token(RSA, "RS512"), pinned, EXPECTED), BadToken)


@pytest.mark.parametrize(
    "entry",
    [
        jwk(RSA, use="enc"),
        jwk(RSA, kid=""),
        jwk(RSA, kid=7),
        jwk(RSA, alg="HS256"),
        jwk(RSA, alg="PS256"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "k1"},
        {"kty": "RSA", "kid": "k1"},
        {"kty": "RSA", "n": "!", "e": [], "kid": "k1"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k1"},
        {"kid": "k1"},
        {"kty": ["RSA"], "kid": "k1"},
    ],
)
def test_keys_that_are_none_of_ours_are_left_out_and_the_others_still_count(entry: dict[str, Any]) -> None:
    assert list(keys(entry, jwk(OTHER, kid="k2"))) == ["k2"]


def test_a_weak_key_verifies_nothing() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        signed = token(weak)
    assert isinstance(verify(signed, keys(jwk(weak))["k1"], EXPECTED), BadToken)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "a.b",
        "a.b.c.d",
        "..",
        f"{part({'alg': 'RS256'})}.{part({})}.AA",
        f"{part(['k1'])}.{part({})}.AA",
        f"{part({'kid': 5})}.{part({})}.AA",
        f"{base64.urlsafe_b64encode(b'[' * 6000).decode().rstrip('=')}.e30.AA",
        "é.é.é",
        "\udcff.a.b",
        token() + "\n",
        token().replace(".", "=.", 1),
    ],
)
def test_what_is_no_token_names_no_key(text: str) -> None:
    assert isinstance(key_id(text), BadToken)


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}"))
def test_no_text_makes_it_raise(text: str) -> None:
    if not isinstance(key_id(text), BadToken):
        assert isinstance(verify(text, KEY, EXPECTED), BadToken)


@given(st.binary(max_size=200))
def test_a_signed_payload_of_any_bytes_is_refused_not_raised(payload: bytes) -> None:
    signed = jwt.PyJWS().encode(payload, RSA, algorithm="RS256", headers={"kid": "k1"})
    assert isinstance(verify(signed, KEY, EXPECTED), BadToken)


def test_a_key_set_is_read_as_it_is_served() -> None:
    document = json.dumps({"keys": [jwk(RSA, alg="RS256")], "further": 1}).encode()
    assert list(read_keys(msgspec.json.decode(document, type=KeySet))) == ["k1"]
