"""What a plan tells: the changes between two states of one environment, and how two states are laid side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from hookstead.config.model import ChannelConfig, DeliveryConfig, EndpointConfig, EventTypeConfig, ReplayConfig
from hookstead.config.receiving import NO_CHANGE, NameChanges
from hookstead.resources.kinds import EndpointSpec

Object = TypeVar("Object", ChannelConfig, EndpointConfig, EventTypeConfig, ReplayConfig)


class Fate(StrEnum):
    """What became of an object."""

    GAINED = "Gained"
    LOST = "Lost"
    CHANGED = "Changed"


class PendingFate(StrEnum):
    """What becomes of the deliveries that an endpoint has pending."""

    CANCELLED = "Cancelled"
    HELD = "Held"
    RELEASED = "Released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One state of one environment. `endpoints` are the specs by `metadata.name`, of those that parse.

    `assumed`: names of the Secrets whose content is not known. `annotations`: of event types, by `metadata.name`.
    """

    config: DeliveryConfig
    endpoints: Mapping[str, EndpointSpec] = field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    assumed: frozenset[str] = frozenset()


class Told(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of everything that a plan tells; its serial form is the JSON of `hookstead plan -o json`."""


class FieldChange(Told, frozen=True):
    """One value that changed; None is absent. Secret values are told by what they are, never by content."""

    field: str
    before: Any
    after: Any


class KeyChange(Told, frozen=True):
    """One signing key: its id, and where it comes from."""

    id: str
    secret: str
    note: str = ""


class EndpointChange(Told, frozen=True):
    """What happens to one endpoint. `receives_nothing` is why it gets no new events afterwards; empty if it does."""

    name: str
    fate: Fate
    received_nothing: str = ""
    receives_nothing: str = ""
    event_types: NameChanges = NO_CHANGE
    channels: NameChanges = NO_CHANGE
    keys_started: tuple[KeyChange, ...] = ()
    keys_stopped: tuple[KeyChange, ...] = ()
    fields: tuple[FieldChange, ...] = ()
    pending: PendingFate | None = None
    problem: str = ""
    """Why it is not accepted, or what it refers to in vain, if that was not so before."""


class SchemaNote(Told, frozen=True):
    """One change of a schema."""

    effect: str
    breaking: bool
    path: str
    message: str


class EventTypeChange(Told, frozen=True):
    """What happens to one entry of the catalog. `allowed`: its breaking changes are marked as meant.

    `closes`: what producers of the type meet afterwards and did not before; empty if nothing.
    """

    name: str
    type: str
    fate: Fate
    fields: tuple[FieldChange, ...] = ()
    schema: tuple[SchemaNote, ...] = ()
    schema_digest: str | None = None
    allowed: bool = False
    closes: str = ""
    problem: str = ""

    @property
    def breaks(self) -> bool:
        """Whether somebody breaks who was not told that this may happen."""
        return not self.allowed and any(note.breaking for note in self.schema)


class ObjectChange(Told, frozen=True):
    """What happens to the environment, a channel or a replay."""

    kind: str
    name: str
    fate: Fate
    fields: tuple[FieldChange, ...] = ()
    problem: str = ""


class Difference(Told, frozen=True):
    """Everything that changes in one namespace. Objects that stay as they are are not in it."""

    namespace: str
    objects: tuple[ObjectChange, ...] = ()
    endpoints: tuple[EndpointChange, ...] = ()
    event_types: tuple[EventTypeChange, ...] = ()


# -------------------------------------------------------------------------------------------------------------- shared


def paired(old: Sequence[Object], new: Sequence[Object]) -> Iterator[tuple[str, Object | None, Object | None]]:
    """Both states of every object, by name; None where it is not."""
    before = {one.identity.name: one for one in old}
    after = {one.identity.name: one for one in new}
    for name in sorted(before.keys() | after.keys()):
        yield name, before.get(name), after.get(name)


def fate_of(old: object, new: object) -> Fate:
    """Of an object that is None where it does not exist."""
    return Fate.GAINED if old is None else Fate.LOST if new is None else Fate.CHANGED


def new_problem(old: Any, new: Any) -> str:
    """The first thing that is wrong with the new form and was not with the old."""
    if new is None or (new.verdict.is_accepted and new.verdict.is_resolved):
        return ""
    told = new.verdict.accepted if not new.verdict.is_accepted else new.verdict.resolved
    before = None if old is None else old.verdict.accepted if not old.verdict.is_accepted else old.verdict.resolved
    return "" if before is not None and before.reason is told.reason else f"{told.reason.value}: {told.message}"


def fields_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[FieldChange]:
    """The values that differ, in the order in which they are first named."""
    return [
        FieldChange(field=name, before=old.get(name), after=new.get(name))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested mappings as one, by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}.{name}")
        else:
            found[f"{prefix}.{name}"] = value
    return found
