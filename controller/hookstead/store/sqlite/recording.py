"""Attempts in: their rows, what becomes of their deliveries, the lanes' states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hookstead.delivery.ports import (
    RESPONSE_BODY_LIMIT,
    AttemptRecord,
    DeliveryStatus,
    EndpointKey,
    LaneState,
    Settlement,
    Trigger,
)
from hookstead.delivery.transitions import reconcile
from hookstead.store.codec import (
    ERROR_CODES,
    REASON_CODES,
    STATUS_CODES,
    STATUSES,
    TRIGGER_CODES,
    safe_text,
)
from hookstead.store.sqlite.claims import Held
from hookstead.store.sqlite.group import Group


def record(group: Group, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> list[int]:
    """Buffer attempts and lane states. A number is 0 where the delivery is gone (retired, or never was)."""
    numbers = [_record(group, attempt) for attempt in attempts]
    for endpoint, state in lanes.items():
        group.lanes[group.endpoint_id(endpoint)] = msgspec.json.encode(state)
    return numbers


def _record(group: Group, attempt: AttemptRecord) -> int:
    state = group.state(attempt.delivery_id)
    group.released.append(attempt.delivery_id)
    if state is None:
        return 0
    ended_ms = attempt.started_ms + attempt.duration_ms
    settlement = reconcile(
        STATUSES[state.status],
        attempt.prior_status,
        attempt.settlement,
        succeeded=attempt.succeeded,
        trigger=attempt.trigger,
    )
    following = _settled(state, settlement, ended_ms)
    seq = group.context.numbering.take(ended_ms)
    group.attempts += (
        seq,
        state.seq,
        following.attempt_count,
        attempt.started_ms,
        attempt.duration_ms,
        TRIGGER_CODES[attempt.trigger],
        int(attempt.succeeded),
        attempt.status_code,
        None if attempt.error is None else ERROR_CODES[attempt.error],
        safe_text(attempt.message),
        following.next_attempt_ms,
        attempt.response_body[:RESPONSE_BODY_LIMIT] or None,
    )
    group.settle(attempt.delivery_id, following, manual=attempt.trigger is Trigger.MANUAL)
    group.recent.setdefault(state.endpoint_id, []).append(seq)
    group.deltas.attempt(
        state.endpoint_id,
        ended_ms=ended_ms,
        duration_ms=attempt.duration_ms,
        succeeded=attempt.succeeded,
        before=state.status,
        after=following.status,
    )
    return following.attempt_count


def _settled(state: Held, settlement: Settlement | None, ended_ms: int) -> Held:
    """The delivery after one more attempt."""
    following = Held(
        state.seq,
        state.endpoint_id,
        state.status,
        state.attempt_count + 1,
        state.schedule_position,
        state.next_attempt_ms,
        state.completed_ms,
        state.cancel_reason,
    )
    if settlement is None:
        return following
    following.status = STATUS_CODES[settlement.status]
    following.schedule_position = settlement.schedule_position
    if settlement.status is DeliveryStatus.PENDING:
        # A pending delivery without a next attempt would wait for ever: due now.
        due = settlement.next_attempt_ms
        following.next_attempt_ms = ended_ms if due is None else due
        following.completed_ms = following.cancel_reason = None
    else:
        following.next_attempt_ms = None
        following.completed_ms = ended_ms
        reason = settlement.cancel_reason
        following.cancel_reason = None if reason is None else REASON_CODES[reason]
    return following
