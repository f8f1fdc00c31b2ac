"""What a store raises."""

from __future__ import annotations


class StoreError(Exception):
    """The store could not do it."""


class StoreUnavailable(StoreError):
    """The store cannot answer now; nothing was changed; try again."""


class StoreFull(StoreError):
    """Free disk space is below the watermark; nothing was changed."""
