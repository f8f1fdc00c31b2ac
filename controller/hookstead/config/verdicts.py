"""Verdicts that several kinds share, and the order in which two claims of one wire name are settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from hookstead.config.model import Finding, Identity, Verdict
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import Kind, Meta, Resource, kind_of
from hookstead.resources.problem import Problem

ACCEPTED: Final = Finding(reason=Reason.ACCEPTED, message="The spec is valid and conflicts with nothing.")
RESOLVED: Final = Finding(reason=Reason.RESOLVED_REFS, message="Every reference exists and is permitted.")
GOOD: Final = Verdict(accepted=ACCEPTED, resolved=RESOLVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An object that `resources.parse` refused, with why."""

    kind: Kind
    meta: Meta
    problems: tuple[Problem, ...]


Item: TypeAlias = Resource | Rejected
AnyItem = TypeVar("AnyItem", bound=Item)


def identity_of(item: Item) -> Identity:
    """Which object, in which generation."""
    meta = item.meta
    return Identity(name=meta.name, uid=meta.uid, generation=meta.generation, creation_time=meta.creation_time)


def missing_environment() -> Verdict:
    """Without an environment nothing is accepted, however valid."""
    finding = Finding(
        reason=Reason.ENVIRONMENT_MISSING,
        message='No WebhookEnvironment "default" in this namespace. Apply one to switch webhooks on here.',
    )
    return Verdict(accepted=finding, resolved=RESOLVED)


def refusal(item: Rejected) -> Verdict:
    """The verdict on an object that does not parse: its first problem decides, all are told."""
    text = " ".join(f"{problem.field}: {problem.message}".removeprefix(": ") for problem in item.problems)
    reason = item.problems[0].reason if item.problems else Reason.INVALID_SPEC
    return Verdict(accepted=Finding(reason=reason, message=text), resolved=RESOLVED)


def refused(reason: Reason, message: str) -> Verdict:
    """Not accepted, for one reason."""
    return Verdict(accepted=Finding(reason=reason, message=message), resolved=RESOLVED)


def oldest_first(items: Iterable[AnyItem], precedence: Mapping[tuple[Kind, str], int]) -> list[AnyItem]:
    """By stated precedence, else creation time, then name: who comes first keeps a contested wire name.

    Kubernetes' creation times have whole seconds, so the name decides between twins, the same way every time.
    """

    def age(item: AnyItem) -> tuple[int, str, str]:
        kind = item.kind if isinstance(item, Rejected) else kind_of(item)
        return (precedence.get((kind, item.meta.name), 0), item.meta.creation_time or "", item.meta.name)

    return sorted(items, key=age)
