"""The resources of a simulated environment, how people change them, and what the contract says they select."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, TypeVar

import builders
from hookstead.config.compile import SecretObject
from hookstead.config.model import DeliveryConfig
from hookstead.config.times import format_time
from hookstead.delivery.ports import EndpointKey
from hookstead.resources.kinds import (
    ChannelState,
    CircuitBreaker,
    DeliverySpec,
    EndpointState,
    EnvironmentState,
    EventValidation,
    Ordering,
    PayloadFormat,
    ReplaySelect,
    RetentionSpec,
    RetrySpec,
    SecretKeyRef,
    SigningKey,
    SigningSpec,
)
from hookstead.resources.secret import Secret
from virtual_time import START_MS

Made = TypeVar("Made")

EVENT_TYPES: Final = ("order", "order.paid", "order.paid.late", "orders.paid", "user.new")
WIRE_CHANNELS: Final = ("client_1", "client_2", "agent_1", "client_nobody")
CHANNELS: Final = {"c1": "client_1", "c2": "client_2", "a1": "agent_1"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event as selection sees it; `n` is None where the data has no such member."""

    type: str
    channels: tuple[str, ...]
    n: int | None
    data: bytes


FILTERS: Final[dict[str, Callable[[Event], bool | None]]] = {
    "event.data.n > 3": lambda event: None if event.n is None else event.n > 3,
    "event.data.missing == 1": lambda event: None,
    '"client_1" in event.channels': lambda event: "client_1" in event.channels,
    'event.type.startsWith("order")': lambda event: event.type.startswith("order"),
}
"""Expressions and what they say; None: an error, which does not match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    id: str
    not_after_ms: int | None = None

    @property
    def secret(self) -> bytes:
        return hashlib.sha256(self.id.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlan:
    """One WebhookEndpoint. `readable`: whether its Secret may be read."""

    name: str
    uid: str
    state: EndpointState = EndpointState.ENABLED
    channels: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    filter: str | None = None
    keys: tuple[Key, ...] = (Key(id="main"),)
    readable: bool = True
    valid: bool = True
    ordered: bool = False
    in_flight: int = 20
    rate: int | None = None
    circuit: bool = True
    schedule: tuple[int, ...] = (5, 30)
    timeout: int = 15
    payload: PayloadFormat = PayloadFormat.STANDARD_WEBHOOKS
    resume: str | None = None

    @property
    def key(self) -> EndpointKey:
        return EndpointKey(self.name, self.uid)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:9/{self.name}" if self.valid else "http://169.254.169.254/"

    def resource(self) -> object:
        return builders.endpoint(
            self.name,
            uid=self.uid,
            url=self.url,
            channels=self.channels,
            types=self.types,
            filter=self.filter,
            state=self.state,
            payload_format=self.payload,
            annotations={} if self.resume is None else {"resume_requested_at": self.resume},
            signing=SigningSpec(
                keys=tuple(
                    SigningKey(
                        id=key.id,
                        secret_key_ref=SecretKeyRef(name=f"{self.name}-keys", key=key.id),
                        not_after_time=None if key.not_after_ms is None else format_time(key.not_after_ms),
                    )
                    for key in self.keys
                )
            ),
            delivery=DeliverySpec(
                timeout_seconds=self.timeout,
                retry=RetrySpec(schedule_seconds=self.schedule),
                requests_per_second=self.rate,
                max_in_flight=self.in_flight,
                ordering=Ordering.ORDERED if self.ordered else Ordering.UNORDERED,
                circuit_breaker=CircuitBreaker.AUTO if self.circuit else CircuitBreaker.NONE,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """One WebhookReplay of everything up to `until_ms`."""

    name: str
    endpoint: str
    select: ReplaySelect
    until_ms: int

    @property
    def uid(self) -> str:
        return f"uid-{self.name}"

    def resource(self) -> object:
        return builders.replay(
            self.name, self.endpoint, select=self.select, since_ms=START_MS - 86_400_000, until_ms=self.until_ms
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything in the namespace. Frozen: a configuration in force is known by the plan that it was compiled from."""

    endpoints: tuple[EndpointPlan, ...] = ()
    replays: tuple[ReplayPlan, ...] = ()
    enabled: bool = True
    channels_off: frozenset[str] = frozenset()
    suspend_after: int = 0
    payload_days: int = 30
    attempt_days: int = 30

    def of(self, key: EndpointKey) -> EndpointPlan | None:
        return next((plan for plan in self.endpoints if plan.key == key), None)

    def selects(self, plan: EndpointPlan, event: Event) -> bool:
        """Contract, section 2, first paragraph, word for word."""
        if not self.enabled or plan.state is EndpointState.DISABLED or not plan.valid:
            return False
        if plan.types is not None and not any(_covers(pattern, event.type) for pattern in plan.types):
            return False
        if plan.channels is not None:
            names = {CHANNELS[ref] for ref in plan.channels if ref in CHANNELS and ref not in self.channels_off}
            if not names & set(event.channels):
                return False
        return plan.filter is None or FILTERS[plan.filter](event) is True

    def selected(self, event: Event) -> list[EndpointKey]:
        return sorted(plan.key for plan in self.endpoints if self.selects(plan, event))

    def why_held(self, key: EndpointKey) -> str | None:
        """What forbids every attempt, as far as manifests say so."""
        plan = self.of(key)
        if plan is None:
            return "the endpoint was deleted"
        if not self.enabled:
            return "the environment is Disabled"
        if plan.state is not EndpointState.ENABLED:
            return f"the endpoint is {plan.state.value}"
        if not plan.valid:
            return "the endpoint is invalid"
        return None if plan.readable else "no key can be read"


@functools.lru_cache(maxsize=1024)
def compiled(plan: Plan) -> DeliveryConfig:
    """What the operator compiles. Remembered: every seed runs twice, and a compilation costs as much as ten events."""
    secrets = [_keys_of(item) for item in plan.endpoints]
    return builders.config(
        builders.environment(
            state=EnvironmentState.ENABLED if plan.enabled else EnvironmentState.DISABLED,
            validation=EventValidation.NONE,
            suspend_after_seconds=plan.suspend_after,
            retention=RetentionSpec(
                payload_days=plan.payload_days, attempt_days=plan.attempt_days, dead_letter_days=plan.attempt_days
            ),
        ),
        *(
            builders.channel(
                name, wire, state=ChannelState.DISABLED if name in plan.channels_off else ChannelState.ENABLED
            )
            for name, wire in CHANNELS.items()
        ),
        *(item.resource() for item in plan.endpoints),
        *(item.resource() for item in plan.replays),
        secrets=secrets,
        generate=False,
    )


def _keys_of(plan: EndpointPlan) -> SecretObject:
    values = {key.id: Secret(b"whsec_" + base64.b64encode(key.secret)) for key in plan.keys}
    return SecretObject(
        name=f"{plan.name}-keys", permitted=plan.readable, data=values if plan.readable else {}, owner_uid=None
    )


def _covers(pattern: str, event_type: str) -> bool:
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else event_type == pattern


# -------------------------------------------------------------------------------------------------------- making up

SCHEDULES: Final[tuple[tuple[int, ...], ...]] = ((5,), (5, 30), (2, 2, 2, 2, 2, 2, 2, 2), (1, 10, 60), (4,) * 14)
PATTERNS: Final = ("order", "order.*", "order.paid", "order.paid.*", "user.*")


def first_plan(chance: Random) -> Plan:
    return Plan(
        endpoints=tuple(new_endpoint(f"e{number}", "1", chance) for number in range(chance.choice((1, 1, 2, 2, 3)))),
        suspend_after=chance.choice((0, 0, 60, 120)),
        payload_days=chance.choice((1, 30)),
        attempt_days=chance.choice((1, 30)),
    )


def new_endpoint(name: str, uid: str, chance: Random) -> EndpointPlan:
    """An endpoint as somebody may write it; mostly it selects much."""
    return EndpointPlan(
        name=name,
        uid=f"{name}-{uid}",
        channels=_some(chance, 0.35, lambda: _subset(chance, (*CHANNELS, "dangling"))),
        types=_some(chance, 0.2, lambda: _subset(chance, PATTERNS)),
        filter=_some(chance, 0.25, lambda: chance.choice(list(FILTERS))),
        ordered=chance.random() < 0.3,
        in_flight=chance.choice((1, 2, 3, 20)),
        rate=_some(chance, 0.3, lambda: chance.choice((1, 3, 10, 25))),
        circuit=chance.random() < 0.6,
        schedule=chance.choice(SCHEDULES),
        timeout=chance.choice((1, 15)),
        payload=chance.choice((PayloadFormat.STANDARD_WEBHOOKS, PayloadFormat.DATA_ONLY)),
    )


def _some(chance: Random, probability: float, make: Callable[[], Made]) -> Made | None:
    return make() if chance.random() < probability else None


def _subset(chance: Random, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(chance.sample(names, chance.randint(1, min(2, len(names))))))


@dataclass(slots=True)
class Editor:
    """Somebody with commit rights. `plan` is what Git says now."""

    plan: Plan
    chance: Random
    count: int = 1
    deleted: dict[str, EndpointPlan] = field(default_factory=dict)

    def edit(self, now_ms: int) -> str:
        """One commit; says what it did."""
        self.count += 1
        chance = self.chance
        if chance.random() < 0.12:
            self.plan = replace(self.plan, enabled=not self.plan.enabled)
            return f"environment enabled={self.plan.enabled}"
        if chance.random() < 0.08:
            self.plan = replace(
                self.plan, channels_off=frozenset(chance.sample(sorted(CHANNELS), chance.randint(0, 2)))
            )
            return f"channels off {sorted(self.plan.channels_off)}"
        if not self.plan.endpoints or (len(self.plan.endpoints) < 3 and chance.random() < 0.15):
            free = next(name for name in ("e0", "e1", "e2", "e3") if all(name != e.name for e in self.plan.endpoints))
            added = new_endpoint(free, str(self.count), chance)
            if free in self.deleted and chance.random() < 0.5:
                added = self.deleted[free]  # in a folder an object that comes back is the same one
            self.plan = replace(self.plan, endpoints=(*self.plan.endpoints, added))
            return f"create {added.name} {added.uid}"
        before = chance.choice(self.plan.endpoints)
        after = chance.choice(EDITS)(before, self, now_ms)
        rest = tuple(plan for plan in self.plan.endpoints if plan is not before)
        if after is None:
            self.deleted[before.name] = before
        self.plan = replace(self.plan, endpoints=rest if after is None else (*rest, after))
        return f"edit {before.name} {_changes(before, after)}"

    def replay(self, now_ms: int) -> str:
        """Ask for something to be delivered again; replays that were asked for before may be deleted."""
        self.count += 1
        chance = self.chance
        name = chance.choice([plan.name for plan in self.plan.endpoints] or ["e9"])
        # The wire has whole milliseconds, and so has the window's end.
        asked = ReplayPlan(
            name=f"r{self.count}",
            endpoint=name,
            select=chance.choice((ReplaySelect.FAILED, *ReplaySelect)),
            until_ms=now_ms,
        )
        kept = self.plan.replays[-2:] if chance.random() < 0.8 else ()
        self.plan = replace(self.plan, replays=(*kept, asked))
        return f"{asked.select.value} for {name} as {asked.name}"

    def resume(self) -> str:
        """Ask for everything to be re-armed that stopped by itself."""
        self.count += 1
        self.plan = replace(
            self.plan, endpoints=tuple(replace(plan, resume=str(self.count)) for plan in self.plan.endpoints)
        )
        return f"resume {self.count}"

    def heal(self) -> None:
        """Everything enabled, valid and readable."""
        self.plan = replace(
            self.plan,
            enabled=True,
            endpoints=tuple(
                replace(plan, state=EndpointState.ENABLED, valid=True, readable=True) for plan in self.plan.endpoints
            ),
        )


def _changes(before: EndpointPlan, after: EndpointPlan | None) -> str:
    if after is None:
        return "deleted"
    names = [name for name in EndpointPlan.__dataclass_fields__ if getattr(before, name) != getattr(after, name)]
    return ", ".join(f"{name}={getattr(after, name)}" for name in names)


Edit = Callable[[EndpointPlan, Editor, int], EndpointPlan | None]


def _switch(plan: EndpointPlan, _editor: Editor, _now_ms: int) -> EndpointPlan:
    following = {
        EndpointState.ENABLED: EndpointState.PAUSED,
        EndpointState.PAUSED: EndpointState.ENABLED,
        EndpointState.DISABLED: EndpointState.ENABLED,
    }
    return replace(plan, state=following[plan.state])


def _disable(plan: EndpointPlan, _editor: Editor, _now_ms: int) -> EndpointPlan:
    back = plan.state is EndpointState.DISABLED
    return replace(plan, state=EndpointState.ENABLED if back else EndpointState.DISABLED)


def _delete(_plan: EndpointPlan, editor: Editor, _now_ms: int) -> EndpointPlan | None:
    return None


def _recreate(plan: EndpointPlan, editor: Editor, _now_ms: int) -> EndpointPlan:
    return new_endpoint(plan.name, str(editor.count), editor.chance)


def _rotate(plan: EndpointPlan, editor: Editor, now_ms: int) -> EndpointPlan:
    """The first commit of a rotation: a new key, and the old ones get an end."""
    end = now_ms + editor.chance.choice((1_000, 60_000, 3_600_000))
    old = tuple(replace(key, not_after_ms=key.not_after_ms or end) for key in plan.keys[:3])
    return replace(plan, keys=(Key(id=f"k{editor.count}"), *old))


def _readable(plan: EndpointPlan, _editor: Editor, _now_ms: int) -> EndpointPlan:
    return replace(plan, readable=not plan.readable)


def _valid(plan: EndpointPlan, _editor: Editor, _now_ms: int) -> EndpointPlan:
    return replace(plan, valid=not plan.valid)


def _policy(plan: EndpointPlan, editor: Editor, _now_ms: int) -> EndpointPlan:
    chance = editor.chance
    other = new_endpoint(plan.name, "x", chance)
    field_name = chance.choice(("ordered", "in_flight", "rate", "circuit", "schedule", "timeout"))
    return replace(plan, **{field_name: getattr(other, field_name)})


def _selection(plan: EndpointPlan, editor: Editor, _now_ms: int) -> EndpointPlan:
    other = new_endpoint(plan.name, "x", editor.chance)
    return replace(plan, channels=other.channels, types=other.types, filter=other.filter)


EDITS: Final[tuple[Edit, ...]] = (
    _switch,
    _switch,
    _disable,
    _delete,
    _recreate,
    _rotate,
    _rotate,
    _readable,
    _valid,
    _policy,
    _policy,
    _policy,
    _selection,
)
