"""The event catalog at ingest: is the type known, is it archived, does the data fit its schema?"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
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


BEYOND_DOUBLES: Final = 10**400
"""Stands for 1e400 and the like in validation, which takes large integers and no infinities."""


def _number(text: str) -> float | int:
    value = float(text)
    if isfinite(value):
        return value
    return BEYOND_DOUBLES if value > 0 else -BEYOND_DOUBLES


_DECODER: Final = msgspec.json.Decoder(float_hook=_number)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What is wrong with an event by the catalog; under Warn it is counted and delivered all the same."""

    kind: RefusalKind
    message: str


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

    def check(self, event: IncomingEvent) -> Mismatch | None:
        """The first thing that is wrong, or None; always None where validation is off."""
        if self.validation is EventValidation.NONE:
            return None
        entry = self.entries.get(event.type)
        if entry is None:
            return Mismatch(
                RefusalKind.UNKNOWN_TYPE,
                f"type: no WebhookEventType declares {event.type!r}{did_you_mean(event.type, self.entries)}. Declare "
                "it, or correct the name.",
            )
        if entry.lifecycle is Lifecycle.ARCHIVED:
            instead = f" Use {entry.replaced_by!r}." if entry.replaced_by else ""
            return Mismatch(
                RefusalKind.ARCHIVED_TYPE,
                f"type: {event.type!r} is Archived and takes no new events.{instead}",
            )
        return self._data(entry, event.data)

    def _data(self, entry: EventTypeConfig, data: bytes) -> Mismatch | None:
        if not data.startswith(b"{"):
            return Mismatch(
                RefusalKind.SCHEMA_MISMATCH,
                f"data: expected an object, since {entry.type!r} is a declared type.",
            )
        validator = self._validators.of(entry)
        if validator is None:
            return None
        try:
            error = validator.first_error(_DECODER.decode(data))
        except ValueError:  # an integer of more digits than Python reads
            error = "holds a number that is too long to be validated: send it as a string"
        if error is None:
            return None
        return Mismatch(RefusalKind.SCHEMA_MISMATCH, f"data: {error} (schema of {entry.type!r}).")

    def enforced(self, mismatch: Mismatch | None) -> Refused | None:
        """The refusal that a mismatch means under Enforce; None under Warn."""
        if mismatch is None or self.validation is not EventValidation.ENFORCE:
            return None
        return Refused(mismatch.kind, mismatch.message)
