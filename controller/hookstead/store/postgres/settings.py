"""The bounds of the PostgreSQL store. Nothing in it grows with the backlog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Counts of rows unless named otherwise."""

    readers: int = 3
    """Connections for lists and details, beside six: lease, writing, claims, partitions, looks at others, hints."""
    lease_seconds: float = 6.0
    """How long a gateway that vanished still counts as present. Renewed by every commit, and three times as often."""
    database_clock: bool = True
    """Go by the database's clock, as all processes on it do. False: by the one that the store is given."""
    connect_seconds: float = 5.0
    statement_seconds: float = 30.0
    """A statement that takes longer is given up, here and (a little later) at the server."""
    retry_seconds: float = 10.0
    """For how long a batch is tried again whose connection broke, before its callers are told."""
    group_rows: int = 2048
    """Events and attempts that share one transaction at most."""
    queue_rows: int = 200_000
    queue_bytes: int = 128 * MIB
    """What may wait for the writer; beyond it new events get StoreUnavailable, while what ends work goes on."""
    claims_at_once: int = 64
    """Endpoints that one claiming statement serves at most."""
    cancel_rows: int = 4096
    """Deliveries that one transaction cancels; a long cancellation lets other work in between."""
    scan_rows: int = 200_000
    """Rows that one page of a filtered list looks at before it returns what it has."""
    days_ahead: int = 3
    """Days whose partitions are made before they begin."""
    retention_slack_ms: int = 25 * 3_600_000
    """How long rows may outlive their age before they go one by one; until then they go with their whole day."""

    @property
    def idle_seconds(self) -> float:
        """How long the server waits for the next statement of a transaction: whoever vanishes in the middle of one
        holds its locks so long, and everybody waits."""
        return max(self.statement_seconds / 5, 5.0)
