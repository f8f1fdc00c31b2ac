"""What an API server would remember of each object, for a folder of manifests: uid, generation, creation.

Pure: `observe` takes the objects that are there now and gives the next ledger. It is saved in the state
folder, so that an object keeps its identity (and with it its deliveries and its key) over a restart.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from hookstead.resources.kinds import Kind

_NAMESPACE: Final = uuid.UUID("6f1d8a34-94b0-5d0f-8d5e-6b1f0c2a7e11")
"""The name space of our uids (RFC 9562, version 5); any constant would do."""


class Key(NamedTuple):
    """Which object: a name occurs once per kind and namespace."""

    kind: Kind
    namespace: str
    name: str


class Sighting(NamedTuple):
    """An object as its manifest has it now; `digest` is that of its effective spec."""

    key: Key
    digest: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one object. `created_ms` is when it was first seen since it was last absent."""

    uid: str
    generation: int
    created_ms: int
    digest: str


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """Every object that was there at the last look, by `kind/namespace/name`."""

    entries: Mapping[str, Entry] = {}

    def of(self, key: Key) -> Entry | None:
        """What is remembered of the object; None when it was not there."""
        return self.entries.get(_text(key))

    def observe(self, sightings: tuple[Sighting, ...], *, now_ms: int) -> Ledger:
        """The next ledger. What is not in `sightings` is deleted: seen again, it is another object."""
        return Ledger(
            entries={_text(sighting.key): _next(self.of(sighting.key), sighting, now_ms) for sighting in sightings}
        )


def _next(before: Entry | None, sighting: Sighting, now_ms: int) -> Entry:
    if before is None:
        return Entry(uid=_uid(sighting, now_ms), generation=1, created_ms=now_ms, digest=sighting.digest)
    if before.digest == sighting.digest:
        return before
    if sighting.key.kind is Kind.REPLAY:
        # A replay is immutable: another spec is another replay, and the old one is never run again.
        return Entry(uid=_uid(sighting, now_ms), generation=1, created_ms=now_ms, digest=sighting.digest)
    return msgspec.structs.replace(before, generation=before.generation + 1, digest=sighting.digest)


def _uid(sighting: Sighting, now_ms: int) -> str:
    told = sighting.digest if sighting.key.kind is Kind.REPLAY else str(now_ms)
    return str(uuid.uuid5(_NAMESPACE, f"{_text(sighting.key)}#{told}"))


def _text(key: Key) -> str:
    return "/".join(key)


def encode(ledger: Ledger) -> bytes:
    """The serial form."""
    return msgspec.json.format(msgspec.json.encode(ledger), indent=1)


def decode(text: bytes) -> Ledger:
    """From the serial form; raises msgspec.ValidationError or DecodeError."""
    return msgspec.json.decode(text, type=Ledger)
