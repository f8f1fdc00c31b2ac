"""Python that runs in a gateway's process before its command line: what a test changes about the world."""

from __future__ import annotations

from typing import Final

UNSYNCED: Final = """
from pathlib import Path
from hookstead.gateway import process
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore

def open_store(url, *, min_free_bytes, clock):
    settings = Settings(synchronous="NORMAL")
    path = Path(url.removeprefix("sqlite:"))
    return SQLiteStore(path, clock=clock, min_free_bytes=min_free_bytes, settings=settings)

process.open_store = open_store
"""
"""A store that answers before the disk has it: the control that must be caught."""
