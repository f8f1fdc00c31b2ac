"""Does every live gateway run this object's generation? The truth behind the condition Programmed.

A gateway may lag behind by several configurations and still run the present form of an object that was not in
those changes. So the recent configurations are remembered, and the question is asked per object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from hookstead.config.model import ChannelConfig, EndpointConfig, EventTypeConfig, ReplayConfig
from hookstead.config.status import PROGRAMMED, Programming, gateway_unavailable, pending
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hookstead.config.model import DeliveryConfig

Place: TypeAlias = tuple[Kind, str]
Item = TypeVar("Item", EndpointConfig, ChannelConfig, EventTypeConfig, ReplayConfig)

REMEMBERED: Final = 8
"""Published configurations that are kept at most; unchanged objects are shared between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One live gateway as the operator sees it.

    `hash` is what it runs, empty before its first answer. `problem` says why it does not answer, empty while it does.
    """

    address: str
    hash: str = ""
    version: str = ""
    problem: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """The objects of one configuration by kind and name."""

    objects: Mapping[tuple[Kind, str], msgspec.Struct]


def index(config: DeliveryConfig) -> Index:
    """By kind and name."""
    found: dict[tuple[Kind, str], msgspec.Struct] = {}
    if config.environment is not None:
        found[Kind.ENVIRONMENT, config.environment.identity.name] = config.environment
    for kind, objects in (
        (Kind.ENDPOINT, config.endpoints),
        (Kind.CHANNEL, config.channels),
        (Kind.EVENT_TYPE, config.event_types),
        (Kind.REPLAY, config.replays),
    ):
        found.update({(kind, item.identity.name): item for item in objects})
    return Index(found)


def differing(entries: Iterable[Index]) -> set[Place]:
    """What is not the very same object in all of them. Objects that are shared are equal; others may be."""
    first, *others = entries
    found: set[Place] = set()
    for other in others:
        if other is first:
            continue
        ours, theirs = first.objects, other.objects
        found.update(place for place, item in ours.items() if theirs.get(place) is not item)
        found.update(place for place in theirs if place not in ours)
    return found


def shared(config: DeliveryConfig, before: DeliveryConfig | None) -> DeliveryConfig:
    """`config`, with the very objects of `before` wherever they are equal: memory for one, and `is` is enough."""
    if before is None:
        return config
    same = config.environment == before.environment
    return msgspec.structs.replace(
        config,
        environment=before.environment if same else config.environment,
        endpoints=_shared(config.endpoints, before.endpoints),
        channels=_shared(config.channels, before.channels),
        event_types=_shared(config.event_types, before.event_types),
        replays=_shared(config.replays, before.replays),
    )


def _shared(items: Sequence[Item], before: Sequence[Item]) -> tuple[Item, ...]:
    known = {item.identity.name: item for item in before}
    return tuple(old if (old := known.get(item.identity.name)) == item else item for item in items)


@dataclass(slots=True)
class History:
    """The latest published configurations by hash, newest last."""

    by_hash: dict[str, Index] = field(default_factory=dict)

    def remember(self, digest: str, entry: Index) -> None:
        self.by_hash.pop(digest, None)
        self.by_hash[digest] = entry
        for old in list(self.by_hash)[:-REMEMBERED]:
            del self.by_hash[old]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The live gateways against the present configuration; answers per object."""

    members: Sequence[Member]
    digest: str
    history: Mapping[str, Index]
    unstored: str = ""
    """Why the configuration cannot be kept in Secrets; empty where it is, or will be."""

    @property
    def hashes(self) -> frozenset[str]:
        """What the live gateways run, each once; "" for one that has not said it."""
        return frozenset(member.hash for member in self.members)

    @property
    def general(self) -> Programming | None:
        """The one answer for every object, where there is one."""
        if not self.members:
            return gateway_unavailable("No gateway is live: nothing runs this configuration.")
        silent = [member for member in self.members if member.problem]
        if silent:
            first = silent[0]
            return gateway_unavailable(f"The gateway at {first.address} does not answer: {first.problem}")
        if all(member.hash == self.digest for member in self.members):
            return PROGRAMMED
        if any(member.hash not in self.history for member in self.members):
            return self._pending()
        return None

    def of(self, kind: Kind, item: msgspec.Struct, name: str) -> Programming:
        """For one object in its present form. The environment answers for the whole configuration."""
        answer = self._of(kind, item, name)
        if kind is Kind.ENVIRONMENT and answer.holds and self.unstored:
            return pending(
                f"Every live gateway runs the configuration, but one that starts would not find it: {self.unstored}"
            )
        return answer

    def _of(self, kind: Kind, item: msgspec.Struct, name: str) -> Programming:
        general = self.general
        if general is not None:
            return general
        for digest in self.hashes:
            if self.history[digest].objects.get((kind, name)) != item:
                return self._pending()
        return PROGRAMMED

    def _pending(self) -> Programming:
        behind = [member for member in self.members if member.hash != self.digest]
        reason = behind[0].refusal or "it has not answered yet that it runs this configuration."
        return pending(f"The gateway at {behind[0].address} is behind: {reason}")

    @property
    def programmed(self) -> int:
        """How many run the present configuration."""
        return sum(1 for member in self.members if not member.problem and member.hash == self.digest)

    @property
    def version(self) -> str:
        """The release that they run; the oldest, where they differ."""
        return min((member.version for member in self.members if member.version), key=_age, default="")


def _age(version: str) -> tuple[tuple[int, str], ...]:
    """Orders releases by their numbers: 0.9.0 is older than 0.10.0. A pre-release is older than its release."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    return (*((int(part), "") if part.isdigit() else (-1, part) for part in parts), (0, ""))
