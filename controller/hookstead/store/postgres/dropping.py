"""Whole days that nothing needs any longer: three partitions go at once, and no row of them is touched."""

from __future__ import annotations

from typing import Any

from hookstead.store.postgres.retention import Ages


async def drop_days(connection: Any, ages: Ages) -> None:
    """Later."""
