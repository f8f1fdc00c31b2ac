"""Which deliveries are on their way in this process, as they were when they were claimed.

The database has the claims themselves (`pending.taken`, and table `claims`); this is the memory that makes a
completion one statement: what is written is computed from it, and compared with what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(slots=True, kw_only=True)
class Held:
    """A delivery's state. `status` and `cancel_reason` are codes; a pending one has `next_attempt_ms`, an ended one
    `completed_ms`."""

    seq: int
    endpoint_id: int
    status: int = 0
    attempt_count: int = 0
    schedule_position: int = 0
    next_attempt_ms: int | None = None
    completed_ms: int | None = None
    cancel_reason: int | None = None

    def copy(self) -> Held:
        return replace(self)


Claims = dict[str, Held]
"""By delivery id."""
