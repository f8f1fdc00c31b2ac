"""Who may do what: one protocol, one implementation per `--auth` mode.

A caller is identified once per request, before the body is read, and then asked for the route's permission; for
publishing, which depends on the event's type, once per type, after it. Decisions fail closed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import yaml

from hookstead.gateway.problems import Problem, ProblemKind
from hookstead.resources.kinds import Kind
from hookstead.resources.suggestion import did_you_mean

MAX_TOKEN: Final = 8192


class Scope(StrEnum):
    """What a key may be good for."""

    PUBLISH = "publish"
    READ = "read"
    EVENTS = "events"
    OPERATE = "operate"


class Permission(Enum):
    """What a kind of call needs: the scope of a static key, and what RBAC is asked (contract, section 3, "Who may")."""

    PUBLISH = (Scope.PUBLISH, "publish", Kind.EVENT_TYPE.plural, "")
    READ = (Scope.READ, "get", Kind.ENDPOINT.plural, "")
    READ_DELIVERIES = (Scope.READ, "get", Kind.ENDPOINT.plural, "deliveries")
    READ_PAYLOADS = (Scope.EVENTS, "get", Kind.ENDPOINT.plural, "payloads")
    ERASE_PAYLOADS = (Scope.OPERATE, "delete", Kind.ENDPOINT.plural, "payloads")
    REDELIVER = (Scope.OPERATE, "redeliver", Kind.ENDPOINT.plural, "deliveries")
    TEST = (Scope.OPERATE, "test", Kind.ENDPOINT.plural, "")

    def __init__(self, scope: Scope, verb: str, resource: str, subresource: str) -> None:
        self.scope: Final = scope
        self.verb: Final = verb
        self.resource: Final = resource
        self.subresource: Final = subresource

    @property
    def rbac_resource(self) -> str:
        """As a Role writes it: `webhookendpoints/deliveries`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Caller(Protocol):
    """Who asks, as far as the mode can tell."""

    @property
    def name(self) -> str:
        """For logs and messages."""

    def refusal(self, permission: Permission) -> Problem | None:
        """A 403 when the caller certainly has the permission for no object at all; known without waiting."""

    async def permit(self, permission: Permission, name: str = "") -> Problem | None:
        """None when the caller has the permission for the object `name` ("": for every one), else a 403.

        Never raises; what cannot be decided now is a 503.
        """


@dataclass(frozen=True, slots=True)
class ScopedCaller:
    """A caller whose scopes are all there is to know."""

    name: str
    scopes: frozenset[Scope]

    def refusal(self, permission: Permission) -> Problem | None:
        return None if permission.scope in self.scopes else forbidden(self, permission.scope)

    async def permit(self, permission: Permission, name: str = "") -> Problem | None:
        return self.refusal(permission)


ANYONE: Final = ScopedCaller("anyone", frozenset(Scope))
"""The caller of mode `none`, which only loopback can reach."""


class Authorizer(Protocol):
    """Knows callers by their credentials."""

    async def identify(self, authorization: str | None) -> Caller | Problem:
        """The caller behind an Authorization header, or 401. Never raises; what cannot be decided now is a 503."""

    async def close(self) -> None:
        """Let go of what it holds open."""


class OpenAuthorizer:
    """Mode `none`: whoever can reach the port, which is bound to loopback."""

    async def identify(self, authorization: str | None) -> Caller | Problem:
        return ANYONE

    async def close(self) -> None:
        """Holds nothing."""


class StaticAuthorizer:
    """Mode `static`: bearer keys, of which only SHA-256 digests are known here."""

    def __init__(self, keys: Iterable[StaticKey]) -> None:
        self._keys: Final = tuple(keys)

    async def identify(self, authorization: str | None) -> Caller | Problem:
        token = bearer_token(authorization)
        if token is None:
            return unauthenticated("This gateway wants a key: send 'Authorization: Bearer KEY'.")
        digest = token_digest(token)
        found: ScopedCaller | None = None
        # All keys are compared, in constant time each: the answer's delay tells nothing about the keys.
        for key in self._keys:
            if hmac.compare_digest(digest, key.sha256):
                found = key.caller
        if found is None:
            return unauthenticated("The key is unknown here: check it, or ask for a new one.", 'error="invalid_token"')
        return found

    async def close(self) -> None:
        """Holds nothing."""


@dataclass(frozen=True, slots=True)
class StaticKey:
    """One key: the digest of the text after `Bearer `, and whose it is."""

    sha256: bytes
    caller: ScopedCaller


class KeysUnreadable(ValueError):
    """The file of keys cannot be used; the message says which entry and why."""


def bearer_token(authorization: str | None) -> str | None:
    """The token of an Authorization header, None when it has none."""
    if authorization is None or len(authorization) > MAX_TOKEN or authorization[:7].lower() != "bearer ":
        return None
    return authorization[7:].strip(" ") or None


def token_digest(token: str) -> bytes:
    """SHA-256 of the token: what is kept of it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def forbidden(caller: ScopedCaller, scope: Scope) -> Problem:
    held = ", ".join(sorted(one.value for one in caller.scopes)) or "none"
    return Problem(
        kind=ProblemKind.FORBIDDEN,
        detail=f"This needs the scope {scope.value!r}; the key {caller.name!r} has: {held}.",
        extra={"missingScope": scope.value},
    )


def read_keys(path: Path) -> tuple[StaticKey, ...]:
    """The keys in a JSON or YAML file. Raises KeysUnreadable, OSError.

    `{"keys": [{"name": "shop", "sha256": "<64 hex digits of the key's SHA-256>", "scopes": ["publish"]}]}`
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KeysUnreadable(f"{path}: neither JSON nor YAML: {error}") from error
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise KeysUnreadable(f'{path}: expected {{"keys": [{{"name", "sha256", "scopes"}}, …]}} with at least one key')
    keys = tuple(_read_key(entry, f"{path}: keys[{index}]") for index, entry in enumerate(entries))
    if len({key.sha256 for key in keys}) != len(keys):
        raise KeysUnreadable(f"{path}: two entries have the same sha256: give every caller a key of its own")
    return keys


_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_MEMBERS: Final = ("name", "sha256", "scopes")


def _read_key(entry: Any, where: str) -> StaticKey:
    if not isinstance(entry, Mapping):
        raise KeysUnreadable(f"{where}: expected an object with {', '.join(_MEMBERS)}")
    for member in entry:
        if member not in _MEMBERS:
            raise KeysUnreadable(f"{where}.{member}: unknown{did_you_mean(str(member), _MEMBERS)}")
    name, digest, scopes = (entry.get(member) for member in _MEMBERS)
    if not isinstance(name, str) or not name:
        raise KeysUnreadable(f"{where}.name: expected a name for logs and messages")
    if not isinstance(digest, str) or _SHA256.fullmatch(digest) is None:
        raise KeysUnreadable(f"{where}.sha256: expected 64 hexadecimal digits: printf %s KEY | sha256sum")
    if not isinstance(scopes, list) or not scopes:
        raise KeysUnreadable(f"{where}.scopes: expected a list of {', '.join(Scope)}")
    return StaticKey(
        bytes.fromhex(digest), ScopedCaller(name, frozenset(_read_scope(scope, where) for scope in scopes))
    )


def _read_scope(scope: Any, where: str) -> Scope:
    try:
        return msgspec.convert(scope, Scope)
    except msgspec.ValidationError:
        known = [one.value for one in Scope]
        raise KeysUnreadable(
            f"{where}.scopes: {scope!r} is not one of {', '.join(known)}{did_you_mean(str(scope), known)}"
        ) from None


def unauthenticated(detail: str, parameters: str = "") -> Problem:
    """A 401 with its challenge (RFC 6750); `parameters` are further ones of it."""
    challenge = 'Bearer realm="hookstead"' + (f", {parameters}" if parameters else "")
    return Problem(kind=ProblemKind.UNAUTHENTICATED, detail=detail, headers=(("WWW-Authenticate", challenge),))
