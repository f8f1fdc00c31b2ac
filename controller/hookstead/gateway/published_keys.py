"""The API server's signing keys and issuer, as it publishes them, fetched when they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from hookstead.gateway.kubernetes_api import ApiServer
from hookstead.gateway.service_account_tokens import KeySet, VerificationKey, read_keys

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
KEYS_PATH: Final = "/openid/v1/jwks"
"""On the address that is used anyway: the `jwks_uri` of the discovery document may be unreachable from here."""
KEEP_SECONDS: Final = 15.0
"""So a key that was withdrawn is soon refused; `token_judges.VERIFIED_SECONDS` comes on top."""
LOOK_SECONDS: Final = 2.0
"""How soon after the last fetch an unknown key may cause another one: anybody can make up key ids."""


@dataclass(frozen=True, slots=True)
class Published:
    """What tokens are verified with."""

    issuer: str
    keys: Mapping[str, VerificationKey]


class _Discovery(msgspec.Struct):
    issuer: str


class PublishedKeys:
    """`now` is monotonic, in seconds."""

    def __init__(self, api: ApiServer, *, now: Callable[[], float]) -> None:
        self._api: Final = api
        self._now: Final = now
        self._fetching: Final = asyncio.Lock()
        self._fetched = 0.0
        self._published: Published | None = None

    async def for_key(self, kid: str) -> Published:
        """What is published: at most KEEP_SECONDS old, and looked up again where `kid` is not among it.

        Raises Undecided.
        """
        async with self._fetching:
            published = self._published
            if published is None or self._is_old(published, kid):
                published = await self._fetch()
            return published

    def _is_old(self, published: Published, kid: str) -> bool:
        age = self._now() - self._fetched
        return age >= (KEEP_SECONDS if kid in published.keys else LOOK_SECONDS)

    async def _fetch(self) -> Published:
        asked = self._now()
        discovery = await self._api.get(DISCOVERY_PATH, _Discovery)
        keys = await self._api.get(KEYS_PATH, KeySet)
        self._published, self._fetched = Published(discovery.issuer, read_keys(keys)), asked
        return self._published
