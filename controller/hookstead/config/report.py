"""What a gateway tells the operator: the answer to a push, and the report of what changed since a cursor.

Both travel as JSON over the internal port. Nothing here is a payload, a response body, a header value, a secret, or
a URL's path: whatever is in a report may end up in a resource's status.
"""

from __future__ import annotations

from hookstead.config.model import Epoch, Frozen
from hookstead.resources.conditions import Reason


class Running(Frozen, frozen=True):
    """The configuration that a gateway runs, as it answers a push and says in every report."""

    instance: str
    version: str
    hash: str = ""
    epoch: Epoch = Epoch()


class RecentDelivery(Frozen, frozen=True):
    """One line of `status.recentDeliveries`; times RFC 3339 UTC."""

    id: str
    event_type: str
    time: str
    attempt: int
    outcome: str
    status_code: int
    duration_milliseconds: int
    next_attempt_time: str | None = None
    message: str = ""


class EndpointActivity(Frozen, frozen=True, omit_defaults=False):
    """`status.activity` of an endpoint: counts within the window, `pending` and `dead_lettered` as they are now."""

    window_seconds: int = 86_400
    succeeded: int = 0
    failed: int = 0
    pending: int = 0
    dead_lettered: int = 0
    consecutive_failures: int = 0
    last_attempt_time: str | None = None
    last_success_time: str | None = None
    last_failure_time: str | None = None


class EndpointReport(Frozen, frozen=True):
    """`held`: what holds deliveries back beyond the manifests (Throttled, CircuitOpen, Suspended, Gone), else None.

    `owner`: whether the gateway that reports delivers for this endpoint. False is told once, when it has let go.
    """

    name: str
    uid: str
    owner: bool = True
    held: Reason | None = None
    held_message: str = ""
    handled_resume_at: str | None = None
    activity: EndpointActivity = EndpointActivity()
    recent_deliveries: tuple[RecentDelivery, ...] = ()


class NamedActivity(Frozen, frozen=True, omit_defaults=False):
    """Counters of one declared channel (by its wire name) or event type (by its type) since the store began."""

    name: str
    accepted: int = 0
    rejected: int = 0
    last_event_time: str | None = None


class ReplayReport(Frozen, frozen=True):
    name: str
    uid: str
    phase: Reason = Reason.RUNNING
    message: str = ""
    selected: int = 0
    delivered: int = 0
    failed: int = 0
    start_time: str | None = None
    completion_time: str | None = None


class EnvironmentActivity(Frozen, frozen=True, omit_defaults=False):
    """Environment-wide counters since the store began."""

    accepted: int = 0
    delivered: int = 0
    pending: int = 0
    dead_lettered: int = 0
    last_event_time: str | None = None


class Report(Frozen, frozen=True):
    """Everything that changed after `after`; `cursor` is the next call's `after`.

    A cursor of another life of the gateway (other `instance`), or none, yields everything once. `more`: not everything
    was in this one, so the next is to be asked for at once.
    """

    running: Running
    cursor: str
    environment: EnvironmentActivity = EnvironmentActivity()
    endpoints: tuple[EndpointReport, ...] = ()
    channels: tuple[NamedActivity, ...] = ()
    event_types: tuple[NamedActivity, ...] = ()
    replays: tuple[ReplayReport, ...] = ()
    more: bool = False
