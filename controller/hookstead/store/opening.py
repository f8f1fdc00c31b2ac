"""From the value of `--store` to a store that is open."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hookstead.delivery.ports import Clock, Store
from hookstead.store.errors import StoreRefused
from hookstead.store.sqlite.store import SQLiteStore

_SQLITE: Final = "sqlite:"


def open_store(url: str, *, min_free_bytes: int | None, clock: Clock) -> Store:
    """Open the store that `url` names, bringing its schema up to date.

    `min_free_bytes` None: the larger of 256 MiB and a tenth of the disk. Raises StoreRefused, whose message is for
    people, where it cannot be opened (in use, newer schema, network disk, another program's file).
    """
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE).removeprefix("//")
        if not path or path == ":memory:":
            raise StoreRefused(f"--store {url}: a file is needed, for example sqlite:/var/lib/hookstead/store.db")
        return SQLiteStore(Path(path), clock=clock, min_free_bytes=min_free_bytes)
    raise StoreRefused(f"--store {url.split(':', 1)[0]}:…: expected sqlite:PATH")
