"""What others see of lanes and attempts: versions and transitions for reports, and whoever watches the stream."""

from __future__ import annotations

import logging
from typing import Final

from hookstead.delivery import pacing
from hookstead.delivery.lane import Lane
from hookstead.delivery.observer import Observer
from hookstead.delivery.ports import AttemptRecord, Clock, RecentAttempt, Store, StoreError
from hookstead.delivery.recorder import Pending
from hookstead.delivery.versions import Versions

log = logging.getLogger(__name__)


class Telling:
    """Runs on the dispatcher's event loop. `attempts` counts them by endpoint's name and outcome."""

    def __init__(self, *, store: Store, observer: Observer, clock: Clock) -> None:
        self.versions: Final = Versions()
        self.attempts: Final[dict[tuple[str, str], int]] = {}
        self._store: Final = store
        self._observer: Final = observer
        self._clock: Final = clock

    def touched(self, lane: Lane) -> None:
        """Something about the lane changed that a report shows."""
        lane.version = self.versions.next()
        self.notice(lane)

    def notice(self, lane: Lane) -> None:
        """Wake whoever waits for transitions when the lane's outward state is another than before."""
        outward = (
            pacing.held_reason(lane.shown, now_ms=self._clock.now_ms()),
            lane.shown.consecutive_failures > 0,
            lane.shown.last_attempt_ms is not None,
        )
        if outward != lane.outward:
            lane.outward = outward
            lane.version = self.versions.next()
            self.versions.transition()

    def attempted(self, pending: Pending, number: int) -> RecentAttempt:
        """An attempt was recorded, as its delivery's `number`th."""
        record = pending.record
        key = (record.endpoint.name, "succeeded" if record.succeeded else "failed")
        self.attempts[key] = self.attempts.get(key, 0) + 1
        recent = RecentAttempt(
            delivery_id=record.delivery_id,
            event_type=pending.event_type,
            started_ms=record.started_ms,
            number=number,
            succeeded=record.succeeded,
            status_code=record.status_code,
            duration_ms=record.duration_ms,
            message=record.message,
            next_attempt_ms=record.settlement.next_attempt_ms,
        )
        self._observer.attempt(record.endpoint.name, recent)
        return recent

    def ended(self, record: AttemptRecord) -> None:
        """The attempt ended its delivery."""
        self._observer.delivery_finished(record.endpoint.name, record.delivery_id, record.settlement.status)

    async def ended_if_stored(self, record: AttemptRecord) -> None:
        """A failure counts only for a delivery that nobody ended while it was under way: the store knows."""
        try:
            found = await self._store.delivery(record.delivery_id)
        except StoreError as error:
            log.debug("an end was not told", extra={"action": "end_untold", "error": str(error)})
            return
        if found is not None and found[0].status is record.settlement.status:
            self.ended(record)
