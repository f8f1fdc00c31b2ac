"""Whose a token is: by the API server's published keys, or by asking it about each token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from hookstead.gateway.access_reviews import User
from hookstead.gateway.kubernetes_api import ApiServer
from hookstead.gateway.published_keys import PublishedKeys
from hookstead.gateway.service_account_tokens import LEEWAY_SECONDS, BadToken, Expectation, key_id, verify

VERIFIED_SECONDS: Final = 45.0
"""How long a verified token is relied on without looking at it again: with the age that the keys may have, the
contract's bound of 60 s after a key was withdrawn."""
REVIEWED_SECONDS: Final = 10.0
"""The same under TokenReview, which is there so that revocation shows soon."""
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Identity:
    """A token's user, and for how many seconds the token may be relied on."""

    user: User
    seconds: float


class TokenJudge(Protocol):
    """Says whose a token is."""

    async def judge(self, token: str) -> Identity | BadToken:
        """Raises Undecided."""


class KeyJudge:
    """Verifies ServiceAccount tokens by the published keys. `wall` in Unix seconds, `now` monotonic."""

    def __init__(self, api: ApiServer, *, audience: str, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._keys: Final = PublishedKeys(api, now=now)
        self._audience: Final = audience
        self._wall: Final = wall

    async def judge(self, token: str) -> Identity | BadToken:
        kid = key_id(token)
        if isinstance(kid, BadToken):
            return kid
        published = await self._keys.for_key(kid)
        key = published.keys.get(kid)
        if key is None:
            return BadToken("its key (kid) is none of the API server's")
        now = self._wall()
        account = verify(token, key, Expectation(issuer=published.issuer, audience=self._audience, now=now))
        if isinstance(account, BadToken):
            return account
        user = User(account.username, account.groups, account.uid)
        return Identity(user, min(VERIFIED_SECONDS, account.expires + LEEWAY_SECONDS - now))


class _ReviewedUser(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: _ReviewedUser = msgspec.field(default_factory=_ReviewedUser)
    audiences: list[str] = []


class _TokenReview(msgspec.Struct):
    status: _TokenStatus


class ReviewJudge:
    """Asks the API server about each token. Needs `create` on `tokenreviews`, which is cluster-scoped."""

    def __init__(self, api: ApiServer, *, audience: str) -> None:
        self._api: Final = api
        self._audience: Final = audience

    async def judge(self, token: str) -> Identity | BadToken:
        """The user of a token of our audience; or of the API server's own, if it is no ServiceAccount's.

        Tokens of people (OIDC, client files) know no audience but the API server's. ServiceAccounts can have one made
        for us, and so must.
        """
        status = await self._review({"token": token, "audiences": [self._audience]})
        if status.authenticated and self._audience in status.audiences:
            return _identity(status.user)
        status = await self._review({"token": token})
        if not status.authenticated or not status.user.username:
            return BadToken("the API server does not take it")
        if status.user.username.startswith(_SERVICE_ACCOUNT):
            return BadToken(f"it is not for the audience {self._audience}")
        return _identity(status.user)

    async def _review(self, spec: dict[str, Any]) -> _TokenStatus:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        return (await self._api.post("/apis/authentication.k8s.io/v1/tokenreviews", body, _TokenReview)).status


def _identity(user: _ReviewedUser) -> Identity:
    extra = tuple(sorted((key, tuple(values)) for key, values in user.extra.items()))
    return Identity(User(user.username, tuple(user.groups), user.uid, extra), REVIEWED_SECONDS)
