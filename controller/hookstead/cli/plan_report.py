"""A plan as a whole: what changes in every namespace, what is wrong with that, and what had to be assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.config.changes import Difference, EventTypeChange, Fate
from hookstead.config.lint import Severity
from hookstead.config.schema_changes import Effect
from hookstead.delivery.forecast import Forecast
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

BREAKING_SCHEMA: Final = "BreakingSchemaChange"
EVENT_REFUSED: Final = "EventsRefused"
EVENT_TYPE_CLOSED: Final = "EventTypeClosed"


_WHOM: Final = {
    Effect.NARROWED: "producers",
    Effect.WIDENED: "receivers",
    Effect.REPLACED: "producers and receivers",
}


class PlanFinding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that a person has to look at; an error fails the plan."""

    severity: Severity
    rule: str
    namespace: str = ""
    kind: str = ""
    name: str = ""
    message: str

    def __str__(self) -> str:
        subject = " ".join(part for part in (self.kind, self.name) if part)
        return f"{subject}: {self.message}" if subject else self.message


class EnvironmentPlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One namespace. `pending`: what waits for each endpoint whose deliveries are touched; None where unknown."""

    changes: Difference
    pending: dict[str, int | None] = {}
    traffic: Forecast | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`before` and `after`: how a person calls the two states."""

    before: str
    after: str
    environments: tuple[EnvironmentPlan, ...]
    findings: tuple[PlanFinding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def changes_something(self) -> bool:
        return any(one.changes.objects or one.changes.endpoints or one.changes.event_types for one in self.environments)

    def count(self, fate: Fate) -> int:
        """Endpoints of that fate, over all namespaces."""
        return sum(change.fate is fate for one in self.environments for change in one.changes.endpoints)

    @property
    def cancelled(self) -> int:
        """Deliveries that would be cancelled, as far as it is known."""
        return sum(
            one.pending.get(change.name) or 0
            for one in self.environments
            for change in one.changes.endpoints
            if change.pending == "Cancelled"
        )


def findings_of(difference: Difference, traffic: Forecast | None) -> Iterator[PlanFinding]:
    """What the changes of one namespace give reason to say."""
    for change in difference.objects:
        if change.problem:
            yield _problem(difference, change.kind, change.name, change.problem)
    for endpoint in difference.endpoints:
        if endpoint.problem:
            yield _problem(difference, Kind.ENDPOINT.value, endpoint.name, endpoint.problem)
    for entry in difference.event_types:
        if entry.problem:
            yield _problem(difference, Kind.EVENT_TYPE.value, entry.name, entry.problem)
        yield from _breaking(difference, entry)
        if entry.closes and not entry.problem:
            yield PlanFinding(
                severity=Severity.WARNING,
                rule=EVENT_TYPE_CLOSED,
                namespace=difference.namespace,
                kind=Kind.EVENT_TYPE.value,
                name=entry.name,
                message=f"{entry.type} {entry.closes}",
            )
    for name, count in (traffic.refused if traffic else {}).items():
        events = f"{count} event{'s' if count != 1 else ''}"
        yield PlanFinding(
            severity=Severity.WARNING,
            rule=EVENT_REFUSED,
            namespace=difference.namespace,
            message=f"{name}: {events} that the gateway took would be refused (422)",
        )


def _problem(difference: Difference, kind: str, name: str, text: str) -> PlanFinding:
    reason, _, message = text.partition(": ")
    return PlanFinding(
        severity=Severity.ERROR,
        rule=reason,
        namespace=difference.namespace,
        kind=kind,
        name=name,
        message=message,
    )


def _breaking(difference: Difference, entry: EventTypeChange) -> Iterator[PlanFinding]:
    for note in entry.schema:
        if not note.breaking:
            continue
        whom = _WHOM[Effect(note.effect)]
        yield PlanFinding(
            severity=Severity.WARNING if entry.allowed else Severity.ERROR,
            rule=BREAKING_SCHEMA,
            namespace=difference.namespace,
            kind=Kind.EVENT_TYPE.value,
            name=entry.name,
            message=f"{note.path}: {note.message} (breaks {whom} of {entry.type})"
            + (": allowed by its annotation" if entry.allowed else ""),
        )


def as_json(plan: Plan) -> str:
    """Stable names, for programs; every list is there, empty or not."""
    told: dict[str, Any] = {
        **msgspec.to_builtins(plan, enc_hook=str),
        "summary": {
            "endpointsGained": plan.count(Fate.GAINED),
            "endpointsLost": plan.count(Fate.LOST),
            "endpointsChanged": plan.count(Fate.CHANGED),
            "deliveriesCancelled": plan.cancelled,
            "errors": sum(one.severity is Severity.ERROR for one in plan.findings),
            "warnings": sum(one.severity is Severity.WARNING for one in plan.findings),
        },
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
