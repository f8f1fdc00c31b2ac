"""The bounds of the embedded store. Nothing in it grows with the backlog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes in bytes unless named otherwise. The defaults are measured (benchmarks/embedded_store.py), on one core.

    `synchronous` and `vfs` exist for the power-loss tests: NORMAL loses acknowledged events, and is there to prove
    that the tests would notice.
    """

    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    vfs: str | None = None
    page_bytes: int = 4096
    writer_cache: int = 6 * MIB
    reader_cache: int = 4 * MIB
    checkpoint_at: int = 16 * MIB
    """WAL size from which it is copied into the database, beside the writer."""
    restart_at: int = 64 * MIB
    """WAL size from which the writer waits for the last few pages to be copied, so that the WAL starts anew."""
    group_rows: int = 2048
    """Events and attempts that share one transaction at most."""
    queue_rows: int = 200_000
    queue_bytes: int = 128 * MIB
    """What may wait for the writer; beyond it new events get StoreUnavailable, while what ends work goes on."""
    cancel_rows: int = 4096
    """Deliveries that one transaction cancels; a long cancellation lets other work in between."""
    scan_rows: int = 200_000
    """Rows that one page of a filtered list looks at before it returns what it has."""
