"""WebhookReplay: select a page, arm it, wait until it drains, select the next; through restarts, and only once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from hookstead.config.event_patterns import covers
from hookstead.config.model import DeliveryConfig, EndpointConfig, ReplayConfig
from hookstead.config.report import ReplayReport
from hookstead.config.times import format_optional
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.ports import (
    Clock,
    DeliveryStatus,
    EndpointKey,
    Random,
    ReplayCandidate,
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
    Store,
    StoreError,
    slot_of,
)
from hookstead.delivery.routing import Router
from hookstead.resources.conditions import Reason
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import EndpointState, ReplaySelect

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPace:
    """Bounds. At most `outstanding` deliveries of one replay wait at a time, so that live traffic is not behind all.

    `patience_seconds`: how long a replay waits for its endpoint, which may come with the same commit.
    """

    page: int = 256
    page_with_data: int = 16
    outstanding: int = 1000
    poll_seconds: float = 0.5
    patience_seconds: float = 5.0


@dataclass(slots=True)
class _Progress:
    row: ReplayRow | None = None
    version: int = 0


class Replayer:
    """One task for each replay that has not ended, where its endpoint is this process's. One event loop."""

    def __init__(
        self, *, store: Store, dispatcher: Dispatcher, clock: Clock, random: Random, pace: ReplayPace | None = None
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._random = random
        self._pace = pace or ReplayPace()
        self._config: DeliveryConfig | None = None
        self._replays: dict[str, ReplayConfig] = {}
        self._progress: dict[str, _Progress] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._abroad: dict[str, ReplayRow] = {}
        self._shared = store.peers is not None
        self._uids: dict[str, str] = {}

    def apply(self, config: DeliveryConfig) -> None:
        """Run what is new; stop what was deleted. Its deliveries go on: they are deliveries like all others."""
        self._config = config
        self._replays = {item.identity.uid: item for item in config.replays if item.verdict.is_accepted}
        for uid in self._tasks.keys() - self._replays.keys():
            self._tasks.pop(uid).cancel()
        self._progress = {uid: seen for uid, seen in self._progress.items() if uid in self._replays}
        if self._shared:
            self._abroad = {uid: row for uid, row in self._abroad.items() if uid in self._replays}
            self._uids = {endpoint.identity.name: endpoint.identity.uid for endpoint in config.endpoints}
        self.follow()

    def follow(self) -> None:
        """Run what is this process's; what is another's stops behind its present step, which `busy` tells."""
        for uid in self._replays:
            if not self._is_mine(uid):
                self._progress.pop(uid, None)
            elif uid not in self._tasks and not self._has_ended(uid):
                self._tasks[uid] = asyncio.get_running_loop().create_task(self._run(uid), name=f"replay {uid}")

    def _is_mine(self, uid: str) -> bool:
        return not self._shared or self._dispatcher.owns(self._place(uid))

    def _place(self, uid: str) -> EndpointKey:
        """The endpoint; one without uid where there is none, so that one process sees to the replay in any case."""
        name = self._replays[uid].endpoint
        return EndpointKey(name, self._uids.get(name, ""))

    def busy(self) -> set[int]:
        """The slots of replays that are at a step."""
        return {
            slot_of(self._place(uid)) for uid, task in self._tasks.items() if uid in self._replays and not task.done()
        }

    def _has_ended(self, uid: str) -> bool:
        row = self._progress.get(uid, _Progress()).row
        return row is not None and row.phase is not ReplayPhase.RUNNING

    async def stop(self, *, grace_seconds: float = 0.0) -> None:
        """End the tasks; the next life goes on from the stored position. Steps are waited for within the grace."""
        if grace_seconds and self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_seconds)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def reports(self, *, after: int) -> tuple[ReplayReport, ...]:
        """Progress with a later version, by name."""
        seen = (
            _report(progress.row)
            for progress in self._progress.values()
            if progress.row is not None and progress.version > after
        )
        return tuple(sorted(seen, key=lambda report: report.name))

    def report(self, uid: str) -> ReplayReport | None:
        progress = self._progress.get(uid)
        row = self._abroad.get(uid) if progress is None else progress.row
        return None if row is None else _report(row)

    async def look_up(self, uids: Collection[str]) -> None:
        """Read how far other processes are with these replays. Raises StoreError."""
        for uid in uids:
            if uid in self._replays and not self._is_mine(uid):
                row = await self._store.replay(uid)
                if row is not None:
                    self._abroad[uid] = row

    def _note(self, row: ReplayRow) -> None:
        if not self._is_mine(row.uid):
            return
        progress = self._progress.setdefault(row.uid, _Progress())
        if progress.row == row:
            return
        ended = row.phase is not ReplayPhase.RUNNING
        progress.row = row
        progress.version = self._dispatcher.versions.next()
        if ended:
            self._dispatcher.versions.transition()

    # ------------------------------------------------------------------------------------------ one replay

    async def _run(self, uid: str) -> None:
        await self._steps(uid)
        if not self._is_mine(uid):
            del self._tasks[uid]  # another process goes on with it; it may come back

    async def _steps(self, uid: str) -> None:
        row = await self._begin(uid)
        patience_ends = self._clock.monotonic() + self._pace.patience_seconds
        while row is not None and row.phase is ReplayPhase.RUNNING and self._is_mine(uid):
            try:
                if self._clock.monotonic() < patience_ends and self._endpoint(uid) is None:
                    await asyncio.sleep(self._pace.poll_seconds)
                    continue
                row = await self._step(uid, row)
                if row is not None:
                    self._note(row)
            except StoreError as error:
                log.warning("replay waits for the store", extra={"action": "replay_waits", "error": str(error)})
                await asyncio.sleep(self._pace.poll_seconds)

    async def _begin(self, uid: str) -> ReplayRow | None:
        """None where it is another process's by now."""
        while self._is_mine(uid):
            try:
                row = await self._store.begin_replay(uid, self._replays[uid].identity.name, now_ms=self._clock.now_ms())
            except StoreError:
                await asyncio.sleep(self._pace.poll_seconds)
            else:
                self._note(row)
                return row
        return None

    async def _step(self, uid: str, row: ReplayRow) -> ReplayRow | None:
        endpoint = self._endpoint(uid)
        refusal = _refusal(endpoint)
        if endpoint is None or refusal is not None:
            return await self._finish(uid, refusal or ReplayPhase.ENDPOINT_NOT_FOUND)
        if self._config is None or not self._config.enabled:
            await asyncio.sleep(self._pace.poll_seconds)
            return row
        if row.selecting and row.pending < self._pace.outstanding:
            await self._select(self._replays[uid], endpoint, row)
            return await self._look(uid)
        if not row.selecting and not row.pending:
            ended = ReplayPhase.COMPLETED if row.selected else ReplayPhase.NOTHING_SELECTED
            return await self._finish(uid, ended)
        await asyncio.sleep(self._pace.poll_seconds)
        return await self._look(uid)

    def _endpoint(self, uid: str) -> EndpointConfig | None:
        name = self._replays[uid].endpoint
        endpoints = self._config.endpoints if self._config is not None else ()
        return next((item for item in endpoints if item.identity.name == name), None)

    async def _look(self, uid: str) -> ReplayRow | None:
        found = await self._store.replay(uid)
        return found if found is not None else await self._begin(uid)

    async def _finish(self, uid: str, phase: ReplayPhase) -> ReplayRow:
        return await self._store.finish_replay(uid, phase, now_ms=self._clock.now_ms())

    async def _select(self, replay: ReplayConfig, endpoint: EndpointConfig, row: ReplayRow) -> None:
        window = ReplayWindow(
            uid=replay.identity.uid,
            endpoint=EndpointKey(endpoint.identity.name, endpoint.identity.uid),
            select=replay.select,
            since_ms=replay.since_ms,
            until_ms=replay.until_ms,
        )
        with_data = endpoint.filter is not None and replay.select is not ReplaySelect.FAILED
        page = await self._store.replay_candidates(
            window, limit=self._pace.page_with_data if with_data else self._pace.page, with_data=with_data
        )
        if self._endpoint(window.uid) is not endpoint:
            return  # edited, disabled or deleted meanwhile: the page is looked at again, if at all
        deliveries = self._deliveries(replay, endpoint, page, row)
        made = await self._store.advance_replay(window, page, deliveries, now_ms=self._clock.now_ms())
        if made:
            self._hand_over(window, made)

    def _deliveries(
        self, replay: ReplayConfig, endpoint: EndpointConfig, page: ReplayPage, row: ReplayRow
    ) -> list[ReplayDelivery]:
        """What of the page the replay wants. With a rate of its own, due one after the other."""
        wanted = [item for item in page.candidates if covers(replay.event_types, item.event_type)]
        if replay.select is not ReplaySelect.FAILED:
            wanted = self._selected(endpoint, wanted)
        now_ms = self._clock.now_ms()
        spacing_ms = 1000 / replay.requests_per_second if replay.requests_per_second else 0.0
        first_ms = max(now_ms, row.started_ms + round(row.selected * spacing_ms))
        return [
            ReplayDelivery(
                event_id=item.event_id,
                delivery_id=item.delivery_id or self._random.delivery_id(),
                rearm=item.delivery_id is not None,
                payload_format=endpoint.payload_format,
                due_ms=first_ms + round(index * spacing_ms),
            )
            for index, item in enumerate(wanted)
        ]

    def _selected(self, endpoint: EndpointConfig, items: list[ReplayCandidate]) -> list[ReplayCandidate]:
        """Those that the endpoint selects now."""
        if self._config is None:
            return []
        router = Router(msgspec.structs.replace(self._config, endpoints=(endpoint,)))
        return [
            item
            for item in items
            if router.route(item.event_type, item.channels, lambda item=item: _view(item)).endpoints  # type: ignore[misc]  # bound early
        ]

    def _hand_over(self, window: ReplayWindow, made: int) -> None:
        lane = self._dispatcher.lanes.get(window.endpoint.name)
        if lane is None or lane.key != window.endpoint:
            return
        if window.select is ReplaySelect.FAILED:
            for _ in range(made):
                lane.activity.moved(DeliveryStatus.DEAD_LETTERED, DeliveryStatus.PENDING)
        else:
            lane.activity.added(made)
        self._dispatcher.claims.left_in_store(lane)
        self._dispatcher.pump(lane)


def _refusal(endpoint: EndpointConfig | None) -> ReplayPhase | None:
    if endpoint is None:
        return ReplayPhase.ENDPOINT_NOT_FOUND
    return ReplayPhase.ENDPOINT_DISABLED if endpoint.state is EndpointState.DISABLED else None


def _view(item: ReplayCandidate) -> EventView:
    return EventView(
        type=item.event_type,
        channels=item.channels,
        id=item.event_id,
        timestamp=item.timestamp,
        data=item.data or b"null",
    )


def _report(row: ReplayRow) -> ReplayReport:
    return ReplayReport(
        name=row.name,
        uid=row.uid,
        phase=Reason(row.phase.value),
        message=_MESSAGES.get(row.phase, ""),
        selected=row.selected,
        delivered=row.delivered,
        failed=row.failed,
        start_time=format_optional(row.started_ms),
        completion_time=format_optional(row.completed_ms),
    )


_MESSAGES = {
    ReplayPhase.ENDPOINT_NOT_FOUND: "The endpoint does not exist. Create another replay once it does.",
    ReplayPhase.ENDPOINT_DISABLED: "The endpoint is Disabled. Enable it, then create another replay.",
    ReplayPhase.NOTHING_SELECTED: "No event or dead letter in the window matches.",
}
