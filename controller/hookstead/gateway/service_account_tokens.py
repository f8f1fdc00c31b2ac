"""ServiceAccount tokens, verified without asking: signature by the API server's published keys, then the claims.

Pure: keys, time, issuer and audience are handed in. Formats: RFC 7515 (JWS), 7517 (JWK), 7519 (JWT); claims as
Kubernetes writes them (KEP-1205, bound tokens).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import jwt
import msgspec
from jwt.algorithms import AllowedPublicKeys

LEEWAY_SECONDS: Final = 10
"""How far the clocks of API server and gateway may differ."""

_ALGORITHMS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
}
"""By key type and curve: what a key may have signed with. Never a symmetric algorithm, never `none`."""
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_SUBJECT: Final = re.compile(rf"system:serviceaccount:({_LABEL}):({_LABEL}(?:\.{_LABEL})*)", re.ASCII)
_JWS: Final = jwt.PyJWS(options={"enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the algorithms that it may be used with."""

    key: AllowedPublicKeys
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Whose token it is, and until when (Unix seconds)."""

    namespace: str
    name: str
    uid: str
    expires: float

    @property
    def username(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the API server gives every ServiceAccount."""
        return ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated")


@dataclass(frozen=True, slots=True)
class BadToken:
    """Why a token is not taken, as a sentence for whoever sent it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a token is held to. `now` in Unix seconds."""

    issuer: str
    audience: str
    now: float


class _Header(msgspec.Struct):
    kid: str = ""


class _Reference(msgspec.Struct):
    name: str = ""
    uid: str = ""


class _Bound(msgspec.Struct):
    serviceaccount: _Reference = msgspec.field(default_factory=_Reference)


class Claims(msgspec.Struct, kw_only=True):
    """The claims that are looked at. Times in Unix seconds."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    nbf: float = -math.inf
    iat: float = -math.inf
    bound: _Bound = msgspec.field(name="kubernetes.io", default_factory=_Bound)


class KeySet(msgspec.Struct):
    """A JWK set (RFC 7517) as it is served."""

    keys: list[dict[str, Any]]


def read_keys(document: KeySet) -> dict[str, VerificationKey]:
    """The keys of a JWK set by `kid`; those that are not for signatures, or of a kind unknown here, are left out."""
    found: dict[str, VerificationKey] = {}
    for entry in document.keys:
        kid, key = entry.get("kid"), _read_key(entry)
        if isinstance(kid, str) and kid and key is not None:
            found[kid] = key
    return found


def _read_key(entry: Mapping[str, Any]) -> VerificationKey | None:
    algorithms = _ALGORITHMS.get((str(entry.get("kty", "")), str(entry.get("crv", ""))), ())
    if entry.get("use", "sig") != "sig":
        return None
    if "alg" in entry:
        algorithms = tuple(one for one in algorithms if one == entry["alg"])
    if not algorithms or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm=algorithms[0]).key
    except jwt.PyJWTError:
        return None
    return VerificationKey(cast("AllowedPublicKeys", key), algorithms)


def key_id(token: str) -> str | BadToken:
    """Which key the token says it was signed with. Nothing of it is verified yet."""
    if _COMPACT.fullmatch(token) is None:
        return BadToken("it is no JSON Web Token")
    try:
        header = msgspec.convert(_JWS.get_unverified_header(token), _Header)
    except (jwt.PyJWTError, msgspec.MsgspecError):
        return BadToken("it is no JSON Web Token")
    return header.kid or BadToken("it names no key (kid)")


def verify(token: str, key: VerificationKey, expected: Expectation) -> ServiceAccount | BadToken:
    """The account whose token this is, if everything about it is right."""
    try:
        payload = _JWS.decode(token, key.key, algorithms=list(key.algorithms))
        claims = msgspec.json.decode(payload, type=Claims)
    except jwt.PyJWTError:
        return BadToken("its signature is not the API server's")
    except msgspec.MsgspecError as error:
        return BadToken(f"its claims are not a ServiceAccount token's: {error}")
    for check in CHECKS:
        problem = check(claims, expected)
        if problem is not None:
            return BadToken(problem)
    subject = cast("re.Match[str]", _SUBJECT.fullmatch(claims.sub))
    return ServiceAccount(subject[1], subject[2], claims.bound.serviceaccount.uid, claims.exp)


def issued_by_the_api_server(claims: Claims, expected: Expectation) -> str | None:
    return None if claims.iss == expected.issuer else f"its issuer is not {expected.issuer}"


def not_expired(claims: Claims, expected: Expectation) -> str | None:
    return None if expected.now < claims.exp + LEEWAY_SECONDS else "it has expired"


def valid_already(claims: Claims, expected: Expectation) -> str | None:
    return None if max(claims.nbf, claims.iat) <= expected.now + LEEWAY_SECONDS else "it is not valid yet"


def for_this_audience(claims: Claims, expected: Expectation) -> str | None:
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    return None if expected.audience in audiences else f"it is not for the audience {expected.audience}"


def of_a_service_account(claims: Claims, expected: Expectation) -> str | None:
    return None if _SUBJECT.fullmatch(claims.sub) else "it is no ServiceAccount's"


CHECKS: Final[tuple[Callable[[Claims, Expectation], str | None], ...]] = (
    issued_by_the_api_server,
    not_expired,
    valid_already,
    for_this_audience,
    of_a_service_account,
)
"""In this order; the first that fails is the reason."""
