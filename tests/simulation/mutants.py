"""Known bugs, put into the production code from outside and taken out again: does the simulator notice each?

python -m simulation.mutants             tries them all; the last line is `mutants killed: n/n`
python -m simulation.mutants gone        those with the word in their name
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest.mock import patch

from hookstead.config import endpoint as endpoint_module
from hookstead.delivery import attempt, pacing, retry, signing
from hookstead.delivery.claims import Claims
from hookstead.delivery.conclusion import Timing
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.lane import Lane, Wait
from hookstead.delivery.pacing import Rate
from hookstead.delivery.ports import (
    Accepted,
    CancelReason,
    DeliveryStatus,
    EndpointCounts,
    NewEvent,
    SendResult,
    Settlement,
    StoreError,
    Trigger,
)
from hookstead.delivery.recorder import Recorder
from hookstead.delivery.replayer import Replayer
from hookstead.delivery.roster import Roster
from hookstead.resources.conditions import Reason
from hookstead.resources.event_filter import EventFilter
from hookstead.store.codec import DELIVERY, pack_id
from hookstead.store.sqlite import booting, recording, replays, retention
from hookstead.store.sqlite.rollups import Deltas
from hookstead.store.sqlite.store import SQLiteStore
from simulation import run
from simulation.manifests import compiled
from simulation.run import PRODUCTION, Parts, WatchedStore, run_seed

SEEDS: Final = 600
"""How many seeds a mutant may survive before it counts as not noticed."""

Patch = AbstractContextManager[Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: `patches` makes what puts it in, `parts` what it exchanges. `hint`: a seed that noticed it once."""

    name: str
    hint: int
    patches: Callable[[], Sequence[Patch]] = tuple
    parts: Parts = PRODUCTION


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant; `seed` is None where it survived."""

    name: str
    seed: int | None
    violation: str = ""


MUTANTS: Final[list[Mutant]] = []


def bug(name: str, hint: int) -> Callable[[Callable[[], Sequence[Patch]]], Callable[[], Sequence[Patch]]]:
    def add(patches: Callable[[], Sequence[Patch]]) -> Callable[[], Sequence[Patch]]:
        MUTANTS.append(Mutant(name, hint, patches))
        return patches

    return add


def judge(mutant: Mutant, *, seeds: int = SEEDS) -> Verdict:
    """Run seeds until one notices."""
    with contextlib.ExitStack() as stack:
        for one in mutant.patches():
            stack.enter_context(one)
        stack.callback(compiled.cache_clear)
        compiled.cache_clear()
        for seed in dict.fromkeys([mutant.hint, *range(seeds)]):
            outcome = run_seed(seed, parts=mutant.parts)
            if outcome.violation is not None:
                return Verdict(mutant.name, seed, outcome.violation)
    return Verdict(mutant.name, None)


def swap(owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """Replace a function or method by one that is made from it."""
    return patch.object(owner, name, make(getattr(owner, name)))


# ----------------------------------------------------------------------------------------------------- durability


@bug("202 before the commit", 0)
def _() -> Sequence[Patch]:
    def make(accept: Any) -> Any:
        async def hasty(self: SQLiteStore, events: Sequence[NewEvent]) -> Sequence[Accepted]:
            committing = asyncio.ensure_future(accept(self, events))
            committing.add_done_callback(lambda done: done.exception())
            return [Accepted(event.id, len(event.deliveries)) for event in events]

        return hasty

    return [swap(SQLiteStore, "accept", make)]


def _lazy_store(path: Any, *, settings: Any, **rest: Any) -> WatchedStore:
    return run.production_store(path, settings=replace(settings, synchronous="NORMAL"), **rest)


MUTANTS.append(Mutant("synchronous=NORMAL instead of FULL", 2, parts=Parts(store=_lazy_store)))


@bug("the retry's time is not persisted", 8)
def _() -> Sequence[Patch]:
    def make(settled: Any) -> Any:
        def forgetful(state: Any, settlement: Any, ended_ms: int) -> Any:
            following = settled(state, settlement, ended_ms)
            if following.next_attempt_ms is not None:
                following.next_attempt_ms = state.next_attempt_ms
            return following

        return forgetful

    return [swap(recording, "_settled", make)]


@bug("an attempt is recorded before it is sent", 0)
def _() -> Sequence[Patch]:
    async def eager(self: Dispatcher, lane: Lane, job: Any) -> None:
        now_ms = self._clock.now_ms()
        assert lane.sealed is not None
        request = lane.sealed.request(job, namespace=self._roster.namespace, now_ms=now_ms)
        assert request is not None
        outcome = attempt.judge(SendResult(status_code=200), now_ms=now_ms)
        self.recorder.add(
            self._conclude(lane, job, outcome, b"", Timing(started_ms=now_ms, duration_ms=1, now_ms=now_ms))
        )
        await asyncio.sleep(0.02)
        await self._transport.send(request)

    return [patch.object(Dispatcher, "_attempt", eager)]


@bug("attempts are dropped when the store refuses them once", 8)
def _() -> Sequence[Patch]:
    async def write(self: Recorder, batch: Any, lanes: Any) -> None:
        try:
            numbers = await self.store.record([pending.record for pending in batch], lanes)
        except StoreError:
            numbers = [0] * len(batch)
        self._done(batch, numbers)

    return [patch.object(Recorder, "_write", write)]


@bug("a start does not look for what is pending", 134)
def _() -> Sequence[Patch]:
    def make(new_lane: Any) -> Any:
        def blind(self: Roster, *args: Any) -> Lane:
            lane: Lane = new_lane(self, *args)
            lane.next_due_ms, lane.activity.counts = None, EndpointCounts()
            return lane

        return blind

    return [swap(Roster, "_new_lane", make)]


@bug("what is given back stays claimed", 20)
def _() -> Sequence[Patch]:
    async def nothing(self: Claims, delivery_ids: list[str], lane: Lane | None = None) -> None:
        return

    return [patch.object(Claims, "give_back", nothing)]


@bug("counters drift: a cancellation is not counted", 8)
def _() -> Sequence[Patch]:
    def make(moved: Any) -> Any:
        def drifting(self: Deltas, endpoint_id: int, before: int, after: int, *, rows: int = 1) -> None:
            if after != 3:
                moved(self, endpoint_id, before, after, rows=rows)

        return drifting

    return [swap(Deltas, "moved", make)]


@bug("retention takes an hour for a day", 0)
def _() -> Sequence[Patch]:
    return [patch.object(retention, "DAY_MS", 3_600_000)]


@bug("a known caller's id is taken for new", 2)
def _() -> Sequence[Patch]:
    def make(accept: Any) -> Any:
        async def careless(self: SQLiteStore, events: Sequence[NewEvent]) -> Any:
            return await accept(self, [replace(event, caller_id=None) for event in events])

        return careless

    return [swap(SQLiteStore, "accept", make)]


# ------------------------------------------------------------------------------------------------------ selection


@bug("a filter that errs delivers", 6)
def _() -> Sequence[Patch]:
    def make(matches: Any) -> Any:
        def lenient(self: EventFilter, view: Any) -> Any:
            found = matches(self, view)
            return True if found is None else found

        return lenient

    return [swap(EventFilter, "matches", make)]


@bug("a dangling channel widens to everybody", 9)
def _() -> Sequence[Patch]:
    return [swap(endpoint_module, "_channel_names", lambda names: lambda *args: names(*args) or None)]


# ------------------------------------------------------------------------------------------- schedule and attempts


@bug("no jitter", 8)
def _() -> Sequence[Patch]:
    return [patch.object(retry, "JITTER", 0.0)]


@bug("a Retry-After shortens the wait", 131)
def _() -> Sequence[Patch]:
    def make(after_failure: Any) -> Any:
        def obedient(*, now_ms: int, retry_after_ms: int | None = None, **rest: Any) -> Any:
            decision = after_failure(now_ms=now_ms, retry_after_ms=retry_after_ms, **rest)
            if retry_after_ms is not None and isinstance(decision, retry.RetryAt):
                return retry.RetryAt(now_ms + retry_after_ms)
            return decision

        return obedient

    return [swap(retry, "after_failure", make)]


@bug("one attempt more than the schedule has", 8)
def _() -> Sequence[Patch]:
    def make(after_failure: Any) -> Any:
        def stubborn(*, schedule_seconds: Sequence[int], **rest: Any) -> Any:
            return after_failure(schedule_seconds=[*schedule_seconds, schedule_seconds[-1]], **rest)

        return stubborn

    return [swap(retry, "after_failure", make)]


def _manual_failure(following: Callable[[DeliveryStatus, Settlement], Settlement | None]) -> Sequence[Patch]:
    """What becomes of a pending delivery whose manual attempt failed."""

    def make(reconcile: Any) -> Any:
        def mutant(
            current: DeliveryStatus, prior: DeliveryStatus, proposed: Settlement, *, succeeded: bool, trigger: Trigger
        ) -> Any:
            if trigger is Trigger.MANUAL and not succeeded and current is DeliveryStatus.PENDING:
                return following(current, proposed)
            return reconcile(current, prior, proposed, succeeded=succeeded, trigger=trigger)

        return mutant

    return [swap(recording, "reconcile", make)]


@bug("a failed redelivery cancels the schedule", 69)
def _() -> Sequence[Patch]:
    return _manual_failure(lambda current, proposed: Settlement(status=DeliveryStatus.DEAD_LETTERED))


@bug("a manual attempt uses up one of the schedule's", 97)
def _() -> Sequence[Patch]:
    def following(_current: DeliveryStatus, proposed: Settlement) -> Settlement:
        return replace(proposed, schedule_position=proposed.schedule_position + 1)

    return _manual_failure(following)


@bug("a cancellation forgets what was in flight", 67)
def _() -> Sequence[Patch]:
    def make(reconcile: Any) -> Any:
        def mutant(current: DeliveryStatus, *rest: Any, **options: Any) -> Any:
            return None if current is DeliveryStatus.CANCELLED else reconcile(current, *rest, **options)

        return mutant

    return [swap(recording, "reconcile", make)]


@bug("pending deliveries of a disabled endpoint are not cancelled", 53)
def _() -> Sequence[Patch]:
    def make(cancel: Any) -> Any:
        async def lazy(self: Dispatcher, key: Any, reason: CancelReason) -> None:
            if reason is not CancelReason.ENDPOINT_DISABLED:
                await cancel(self, key, reason)

        return lazy

    return [swap(Dispatcher, "cancel", make)]


@bug("pending deliveries of a deleted endpoint are not cancelled", 51)
def _() -> Sequence[Patch]:
    def make(cancel: Any) -> Any:
        async def lazy(self: Dispatcher, key: Any, reason: CancelReason) -> None:
            if reason is not CancelReason.ENDPOINT_DELETED:
                await cancel(self, key, reason)

        return lazy

    return [swap(Dispatcher, "cancel", make)]


@bug("an erased payload is sent from memory", 45)
def _() -> Sequence[Patch]:
    return [patch.object(Dispatcher, "erased", lambda self, event_id, endpoints: None)]


# --------------------------------------------------------------------------------------------------------- replays


@bug("a replay begins anew at a restart", 32)
def _() -> Sequence[Patch]:
    def make(begin: Any) -> Any:
        def forgetful(group: Any, uid: str, name: str, **rest: Any) -> Any:
            group.flush()
            group.connection.execute("UPDATE deliveries SET replay_id = NULL WHERE replay_id IN"
                                     " (SELECT id FROM replays WHERE uid = ?)", (uid,))  # fmt: skip
            group.connection.execute("DELETE FROM replays WHERE uid = ?", (uid,))
            return begin(group, uid, name, **rest)

        return forgetful

    return [swap(replays, "begin", make)]


@bug("a re-armed dead letter keeps its used-up schedule", 29)
def _() -> Sequence[Patch]:
    def make(rearm: Any) -> Any:
        def stingy(group: Any, item: Any, *rest: Any) -> Any:
            changed = rearm(group, item, *rest)
            group.connection.execute(
                "UPDATE deliveries SET schedule_position = 99 WHERE id = ?", (pack_id(DELIVERY, item.delivery_id),)
            )
            return changed

        return stingy

    return [swap(replays, "_rearm", make)]


@bug("a replay ignores what the endpoint selects", 7)
def _() -> Sequence[Patch]:
    return [patch.object(Replayer, "_selected", lambda self, endpoint, items: items)]


# ---------------------------------------------------------------------------------------------------------- pacing


@bug("maxInFlight is ignored", 2)
def _() -> Sequence[Patch]:
    return [patch.object(Lane, "max_in_flight", property(lambda self: 1000))]


@bug("the rate is ignored", 2)
def _() -> Sequence[Patch]:
    return [patch.object(Rate, "wait", lambda self, now: 0.0)]


@bug("the rate is forgotten at a restart", 17)
def _() -> Sequence[Patch]:
    return [patch.object(Rate, "after_restart", classmethod(lambda cls, per_second, now: cls(per_second)))]


@bug("an Ordered endpoint gets its deliveries as they are due", 8)
def _() -> Sequence[Patch]:
    return [
        swap(SQLiteStore, "claim", lambda claim: lambda *args, **rest: claim(*args, **(rest | {"ordered": False}))),
        patch.object(Lane, "ordered", property(lambda self: False)),
    ]


def _after_failure(change: Callable[[dict[str, Any]], None]) -> Sequence[Patch]:
    def make(after_failure: Any) -> Any:
        def mutant(state: Any, **options: Any) -> Any:
            change(options)
            return after_failure(state, **options)

        return mutant

    return [swap(pacing, "after_failure", make)]


@bug("410 stops nothing", 79)
def _() -> Sequence[Patch]:
    return _after_failure(lambda options: options.update(gone=False))


@bug("Gone is forgotten at a restart", 129)
def _() -> Sequence[Patch]:
    def make(lanes: Any) -> Any:
        def forgetful(*args: Any) -> Any:
            return {key: replace(state, gone_ms=None) for key, state in lanes(*args).items()}

        return forgetful

    return [swap(booting, "_lanes", make)]


@bug("a Retry-After pauses the delivery, not the endpoint", 112)
def _() -> Sequence[Patch]:
    return _after_failure(lambda options: options.update(retry_after_ms=None))


@bug("nothing is ever suspended", 8)
def _() -> Sequence[Patch]:
    return _after_failure(lambda options: options.update(suspend_after_seconds=0))


@bug("the circuit never opens", 151)
def _() -> Sequence[Patch]:
    return [patch.object(pacing, "CIRCUIT_FAILURES", 10**9)]


@bug("the circuit opens too early", 94)
def _() -> Sequence[Patch]:
    return [patch.object(pacing, "CIRCUIT_FAILURES", 5)]


@bug("the circuit never closes", 406)
def _() -> Sequence[Patch]:
    def make(after_success: Any) -> Any:
        def sticky(state: Any, *, now_ms: int) -> Any:
            return replace(
                after_success(state, now_ms=now_ms),
                circuit_opened_ms=state.circuit_opened_ms,
                circuit_probe_ms=state.circuit_probe_ms,
                circuit_backoff_seconds=state.circuit_backoff_seconds,
            )

        return sticky

    return [swap(pacing, "after_success", make)]


@bug("an open circuit probes with everything at once", 158)
def _() -> Sequence[Patch]:
    def reckless(self: Lane, now_ms: int) -> Wait | None:
        deferred = pacing.deferred_until_ms(self.state, now_ms=now_ms)
        return None if deferred is None else Wait((deferred[1] - now_ms) / 1000)

    return [patch.object(Lane, "_scheduled_may_start", reckless)]


@bug("an expired key signs", 18)
def _() -> Sequence[Patch]:
    return [patch.object(signing, "_valid", lambda not_after_ms, now_ms: True)]


@bug("only the first key signs", 34)
def _() -> Sequence[Patch]:
    def make(signature: Any) -> Any:
        def lonely(*args: Any, **rest: Any) -> Any:
            found = signature(*args, **rest)
            return found if found is None else found.split(" ")[0]

        return lonely

    return [swap(signing.Signer, "signature", make)]


def _hold_without(reason: Reason) -> Sequence[Patch]:
    def make(hold: Any) -> Any:
        def mutant(self: Lane, environment: Any) -> Any:
            found = hold(self, environment)
            return None if found is reason else found

        return mutant

    return [swap(Lane, "hold", make)]


@bug("a Paused endpoint is sent to", 1)
def _() -> Sequence[Patch]:
    return _hold_without(Reason.PAUSED)


@bug("a Disabled environment sends", 18)
def _() -> Sequence[Patch]:
    return _hold_without(Reason.ENVIRONMENT_DISABLED)


# ------------------------------------------------------------------------------------------------------ judgement


def judge_all(mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    for mutant in mutants:
        yield judge(mutant)


def main(arguments: Sequence[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in arguments)]
    killed = 0
    began = time.monotonic()
    for verdict in judge_all(chosen):
        killed += verdict.seed is not None
        fate = "SURVIVED" if verdict.seed is None else f"seed {verdict.seed}: {verdict.violation[:100]}"
        print(f"{verdict.name:62} {fate}", flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"mutants killed: {killed}/{len(chosen)}")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
