"""The event catalog at ingest: is the type known, is it archived, does the data fit its schema?"""

from __future__ import annotations

from collections import OrderedDict
from math import isfinite
from typing import Final

import msgspec

from hookstead.config.model import DeliveryConfig, EventTypeConfig
from hookstead.delivery.intake import IncomingEvent, RefusalKind, Refused
from hookstead.resources.json_schema import SchemaValidator, compile_schema
from hookstead.resources.kinds import EventValidation, Lifecycle
from hookstead.resources.suggestion import did_you_mean

VALIDATOR_LIMIT: Final = 4096
"""Compiled schemas that are kept across configurations, by digest."""

SUGGESTIONS: Final = 64
"""Unknown types that get a did-you-mean, for each configuration."""

BEYOND_DOUBLES: Final = 10**400
"""Stands for 1e400 and the like in validation, which takes large integers and no infinities."""


def _number(text: str) -> float | int:
    value = float(text)
    if isfinite(value):
        return value
    return BEYOND_DOUBLES if value > 0 else -BEYOND_DOUBLES


_DECODER: Final = msgspec.json.Decoder(float_hook=_number)


class ValidatorCache:
    """Schemas compiled once per digest, the least recently used dropped first."""

    def __init__(self) -> None:
        self._validators: OrderedDict[str, SchemaValidator] = OrderedDict()

    def of(self, entry: EventTypeConfig) -> SchemaValidator | None:
        """The validator of an entry; None where it has no schema."""
        if entry.schema is None or entry.schema_digest is None:
            return None
        found = self._validators.get(entry.schema_digest)
        if found is None:
            found = self._validators[entry.schema_digest] = compile_schema(dict(entry.schema))
            if len(self._validators) > VALIDATOR_LIMIT:
                self._validators.popitem(last=False)
        else:
            self._validators.move_to_end(entry.schema_digest)
        return found


class Catalog:
    """The accepted entries of one configuration, by wire name."""

    def __init__(self, config: DeliveryConfig, validators: ValidatorCache) -> None:
        environment = config.environment
        self.validation = EventValidation.WARN if environment is None else environment.event_validation
        self.entries = {entry.type: entry for entry in config.event_types if entry.verdict.is_accepted}
        self._validators = validators
        self._suggestions: dict[str, str] = {}

    def check(self, event: IncomingEvent) -> RefusalKind | None:
        """What is wrong first, or None; always None where validation is off. Under Warn it is only counted."""
        if self.validation is EventValidation.NONE:
            return None
        entry = self.entries.get(event.type)
        if entry is None:
            return RefusalKind.UNKNOWN_TYPE
        if entry.lifecycle is Lifecycle.ARCHIVED:
            return RefusalKind.ARCHIVED_TYPE
        return RefusalKind.SCHEMA_MISMATCH if self._mismatch(entry, event.data, explain=False) else None

    def enforced(self, event: IncomingEvent, kind: RefusalKind | None) -> Refused | None:
        """The refusal, in words, that a finding means under Enforce; None under Warn."""
        if kind is None or self.validation is not EventValidation.ENFORCE:
            return None
        return Refused(kind, self._explained(event, kind))

    def _explained(self, event: IncomingEvent, kind: RefusalKind) -> str:
        entry = self.entries.get(event.type)
        if entry is None:
            return (
                f"type: no WebhookEventType declares {event.type!r}{self._suggestion(event.type)}. Declare it, or "
                "correct the name."
            )
        if kind is RefusalKind.ARCHIVED_TYPE:
            instead = f" Use {entry.replaced_by!r}." if entry.replaced_by else ""
            return f"type: {event.type!r} is Archived and takes no new events.{instead}"
        return f"data: {self._mismatch(entry, event.data, explain=True)} (schema of {entry.type!r})."

    def _suggestion(self, unknown: str) -> str:
        """What was meant, for the first unknown types of a configuration: a millisecond each is a caller's to spend."""
        found = self._suggestions.get(unknown)
        if found is None and len(self._suggestions) < SUGGESTIONS:
            found = self._suggestions[unknown] = did_you_mean(unknown, self.entries)
        return found or ""

    def _mismatch(self, entry: EventTypeConfig, data: bytes, *, explain: bool) -> str | None:
        """How data does not fit a declared type; with `explain` in words, which costs more."""
        if not data.startswith(b"{"):
            return "expected an object, since the type is declared"
        validator = self._validators.of(entry)
        if validator is None:
            return None
        try:
            value = _DECODER.decode(data)
        except ValueError:  # an integer of more digits than Python reads
            return "holds a number that is too long to be validated: send it as a string"
        if explain:
            return validator.first_error(value)
        return None if validator.is_valid(value) else "does not fit"
