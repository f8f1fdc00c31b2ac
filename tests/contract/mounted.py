"""A configuration as the operator mounts it, for `hookstead gateway --config-dir`.

With `folder_operator`, what knows the product from inside here: the serial form of a configuration is between its own
programs, so the product's own parts write it here, in the operator's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import builders
from hookstead.config import serial
from hookstead.config.model import Epoch
from hookstead.gateway.configuration import ShardMeta

if TYPE_CHECKING:
    from pathlib import Path


def mount(folder: Path, *endpoints: tuple[str, str], store: str) -> tuple[str | Path, ...]:
    """Flags of a gateway on this store whose enabled environment has these endpoints, by name and URL."""
    items: list[Any] = [builders.endpoint(name, url=url) for name, url in endpoints]
    document = serial.encode(builders.config(builders.environment(), *items))
    meta = ShardMeta(hash=serial.digest(document), epoch=Epoch(term=1, sequence=1), shard=0, shards=1)
    mounted = folder / "config"
    mounted.mkdir()
    (mounted / "config-0.json.gz").write_bytes(serial.compress(document))
    (mounted / "config-0.meta.json").write_bytes(msgspec.json.encode(meta))
    return ("--config-dir", mounted, "--store", store)
