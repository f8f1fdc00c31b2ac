"""Why a store was not opened. Each message names the store, what was found and what to do."""

from __future__ import annotations

from hookstead.delivery.ports import StoreError


class StoreRefused(StoreError):
    """The store cannot be opened here and as it is; a person must change something first."""


class StoreInUse(StoreRefused):
    """Another process, or another store of this one, holds the same file."""


class SchemaTooNew(StoreRefused):
    """The file was written by a newer Hookstead."""
