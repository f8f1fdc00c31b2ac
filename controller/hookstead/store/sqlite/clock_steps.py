"""After the wall clock went back: pending deliveries keep what is left of their wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hookstead.store.sqlite.group import Group
from hookstead.store.sqlite.rows import fetch_one

_CHUNK: Final = """
SELECT max(seq), count(*) FROM (
  SELECT seq FROM deliveries INDEXED BY deliveries_endpoint
  WHERE endpoint_id = :endpoint AND status = 0 AND seq > :after ORDER BY seq LIMIT :rows)
"""
_BRING_FORWARD: Final = """
UPDATE deliveries INDEXED BY deliveries_endpoint SET next_attempt_ms = next_attempt_ms - :step
WHERE endpoint_id = :endpoint AND status = 0 AND seq > :after AND seq <= :last AND next_attempt_ms > :now
"""
_MANUAL: Final = "UPDATE deliveries SET manual_due_ms = :now WHERE manual_due_ms IS NOT NULL AND manual_due_ms > :now"


@dataclass(slots=True, kw_only=True)
class BringForward:
    """Make what is due after `now_ms` due `step_ms` earlier, about `rows` in each transaction, each row once.

    Call until it answers True.
    """

    step_ms: int
    now_ms: int
    rows: int
    endpoints: list[int] | None = None
    _after: int = field(default=0, init=False)

    def __call__(self, group: Group) -> bool:
        """True when everything was looked at."""
        group.flush()
        if self.endpoints is None:
            self.endpoints = list(group.context.endpoints.keys)
            group.connection.execute(_MANUAL, {"now": self.now_ms})
        left = self.rows
        while self.endpoints and left > 0:
            left -= self._chunk(group, self.endpoints[-1], left)
        group.touched(None)
        return not self.endpoints

    def _chunk(self, group: Group, endpoint: int, rows: int) -> int:
        """Rows that were looked at; goes on to the next endpoint behind the last."""
        bindings = {"endpoint": endpoint, "after": self._after, "rows": rows, "step": self.step_ms, "now": self.now_ms}
        last, found = fetch_one(group.connection, _CHUNK, bindings)
        if found:
            group.connection.execute(_BRING_FORWARD, {**bindings, "last": last})
        if found < rows:
            assert self.endpoints is not None
            self.endpoints.pop()
            self._after = 0
        else:
            self._after = last
        return int(found) + 1
