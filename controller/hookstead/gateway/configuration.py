"""Which configuration this gateway runs: the newest of its own saved copy, the mounted Secrets, and the push.

A configuration is saved before its push is answered: what the operator was told is what a restart begins with.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, Protocol

import msgspec

from hookstead.config import serial
from hookstead.config.model import DeliveryConfig, Epoch, Frozen
from hookstead.config.report import Running
from hookstead.delivery.ports import StoreError

log = logging.getLogger(__name__)

BLOB: Final = "configuration"
MAX_SHARDS: Final = 256


class Stale(Exception):
    """A newer configuration is in force; `running` says which."""

    def __init__(self, running: Running) -> None:
        super().__init__(f"epoch {running.epoch.term}.{running.epoch.sequence} is in force, which is newer")
        self.running = running


class HashMismatch(ValueError):
    """The bytes are not those that the hash was made of."""


class Applies(Protocol):
    async def apply(self, config: DeliveryConfig, *, running: Running) -> None: ...


class Blobs(Protocol):
    async def get_blob(self, name: str) -> bytes | None: ...
    async def replace_blob(self, name: str, old: bytes | None, new: bytes) -> bool: ...


class Copy(Frozen, frozen=True):
    """A configuration as bytes, with its place in the order of configurations."""

    epoch: Epoch
    hash: str
    document: bytes
    """gzip of the serial form."""


class ShardMeta(Frozen, frozen=True):
    """`config-<n>.meta.json`: which copy a mounted shard belongs to, and which part of it this is."""

    hash: str
    epoch: Epoch
    shard: int
    shards: int


class Configuration:
    """Decides, applies, saves. `instance` names this life of the process in reports."""

    def __init__(self, *, engine: Applies, blobs: Blobs, instance: str, version: str) -> None:
        self._engine = engine
        self._blobs = blobs
        self._running = Running(instance=instance, version=version)
        self._pushing = asyncio.Lock()
        self._decoder = serial.Decoder()

    @property
    def running(self) -> Running:
        return self._running

    async def boot(self, config_dir: Path | None) -> bool:
        """Apply the newest copy that is there and readable; False when there is none."""
        candidates = [copy for copy in (await self._saved(), read_mounted(config_dir)) if copy is not None]
        for copy in sorted(candidates, key=lambda one: one.epoch, reverse=True):
            try:
                await self.push(copy.document, epoch=copy.epoch, hash_=copy.hash)
            except (serial.ConfigUnreadable, HashMismatch, StoreError) as error:
                log.warning("a copy of the configuration is unusable: %s", error, extra={"action": "config_unusable"})
                continue
            return True
        return False

    async def push(self, packed: bytes, *, epoch: Epoch, hash_: str) -> Running:
        """Put a configuration in force, given as the gzip of its serial form, and keep it. The same one again changes
        nothing. Events flow meanwhile: what takes time is done beside the event loop.

        Raises Stale, HashMismatch, ConfigUnreadable, StoreError (nothing changed then).
        """
        async with self._pushing:
            if epoch < self._running.epoch:
                raise Stale(self._running)
            read = await asyncio.to_thread(self._read, packed, hash_, epoch == self._running.epoch)
            if read is None:
                return self._running
            await self._keep(Copy(epoch=epoch, hash=hash_, document=packed))
            await self._apply(read, epoch=epoch, hash_=hash_)
            return self._running

    async def _keep(self, copy: Copy) -> None:
        """Save it, unless another gateway on the store has saved a newer one. Raises StoreError."""
        new = msgspec.msgpack.encode(copy)
        while True:
            old = await self._blobs.get_blob(BLOB)
            if old is not None and (saved := _decoded(old)) is not None and saved.epoch > copy.epoch:
                return
            if await self._blobs.replace_blob(BLOB, old, new):
                return

    def _read(self, packed: bytes, hash_: str, again: bool) -> DeliveryConfig | None:
        """The configuration; None where it is the one in force (`again`: its epoch is). Raises as `push`."""
        document = serial.decompress(packed)
        found = serial.digest(document)
        if found != hash_:
            raise HashMismatch(f"its hash is {found}, {hash_[:80]} was announced")
        if again and found == self._running.hash:
            return None
        return self._decoder.decode(document)

    async def apply(self, config: DeliveryConfig, *, epoch: Epoch) -> Running:
        """Put a configuration in force that is compiled in this process and need not be kept (`dev`)."""
        async with self._pushing:
            await self._apply(config, epoch=epoch, hash_=serial.digest(serial.encode(config)))
            return self._running

    async def _apply(self, config: DeliveryConfig, *, epoch: Epoch, hash_: str) -> None:
        running = msgspec.structs.replace(self._running, epoch=epoch, hash=hash_)
        await self._engine.apply(config, running=running)
        self._running = running
        log.info(
            "configuration %s of epoch %d.%d is in force",
            hash_[:19],
            epoch.term,
            epoch.sequence,
            extra={"action": "config_applied", "endpoints": len(config.endpoints)},
        )

    async def _saved(self) -> Copy | None:
        try:
            saved = await self._blobs.get_blob(BLOB)
        except StoreError as error:
            log.warning("the saved configuration cannot be read: %s", error, extra={"action": "config_unusable"})
            return None
        return None if saved is None else _decoded(saved)


def _decoded(saved: bytes) -> Copy | None:
    try:
        return msgspec.msgpack.decode(saved, type=Copy)
    except msgspec.DecodeError as error:
        log.warning("the saved configuration cannot be read: %s", error, extra={"action": "config_unusable"})
        return None


def read_mounted(config_dir: Path | None) -> Copy | None:
    """The copy in a folder of mounted Secrets, None when there is none that is whole.

    A mount is replaced shard by shard: shards of two configurations are no copy.
    """
    if config_dir is None:
        return None
    try:
        metas = [
            msgspec.json.decode(path.read_bytes(), type=ShardMeta) for path in config_dir.rglob("config-*.meta.json")
        ]
        return _assemble(config_dir, metas) if metas else _without_metas(config_dir)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        log.warning("the mounted configuration cannot be read: %s", error, extra={"action": "config_unusable"})
        return None


def _without_metas(config_dir: Path) -> Copy | None:
    """From a mount that projects the shards and nothing else: of no known epoch, so every other copy is newer.

    Raises ConfigUnreadable where the shards are not one stream: some are missing or of another configuration.
    """
    pieces: list[bytes] = []
    while len(pieces) < MAX_SHARDS and any(config_dir.rglob(f"config-{len(pieces)}.json.gz")):
        pieces.append(_read_shard(config_dir, len(pieces)))
    if not pieces:
        return None
    return Copy(epoch=Epoch(), hash=serial.digest(serial.from_shards(pieces)), document=b"".join(pieces))


def _assemble(config_dir: Path, metas: list[ShardMeta]) -> Copy:
    newest = max(metas, key=lambda meta: meta.epoch)
    wanted = {meta.shard for meta in metas if meta.hash == newest.hash and meta.epoch == newest.epoch}
    if not 1 <= newest.shards <= MAX_SHARDS or wanted != set(range(newest.shards)):
        raise ValueError(f"{len(wanted)} of {newest.shards} shards of {newest.hash[:19]} are there")
    pieces = [_read_shard(config_dir, number) for number in range(newest.shards)]
    return Copy(epoch=newest.epoch, hash=newest.hash, document=b"".join(pieces))


def _read_shard(config_dir: Path, number: int) -> bytes:
    for path in config_dir.rglob(f"config-{number}.json.gz"):
        return path.read_bytes()
    raise ValueError(f"config-{number}.json.gz is missing")
