"""The configuration at rest: Secrets `hookstead-config-<n>`, from which a gateway boots and a new leader learns.

The push is what makes a change live; these Secrets make it last. They are written behind the push, the latest one
wins, at most one write round a second, but for a changed environment: its last valid form, on which everything rests
while it is edited into something invalid, outlives a crash only here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.config.serial import ConfigUnreadable, decode, digest, from_shards
from hookstead.operator.kube import METADATA, Forbidden, Invalid, KubeClient, KubeError, NotFound, core_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PREFIX: Final = "hookstead-config-"
HASH: Final = "hookstead.dev/config-hash"
EPOCH: Final = "hookstead.dev/config-epoch"
SHARDS: Final = "hookstead.dev/config-shards"
TERM: Final = "hookstead.dev/config-term"
"""The highest term that an operator has claimed here; persisted before its first push."""
MAX_SHARDS: Final = 16
"""The chart projects shards 0 to 15."""
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "hookstead"}
VERIFY_SECONDS: Final = 60.0
WRITE_INTERVAL_SECONDS: Final = 1.0
RETRY_CEILING_SECONDS: Final = 30.0

log: Final = logging.getLogger(__name__)


class TooLarge(KubeError):
    """The configuration does not fit the Secrets that are mounted; only a smaller one heals that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the Secrets hold: `config` is None where they hold nothing readable. `term`: the highest claimed."""

    config: DeliveryConfig | None = None
    digest: str = ""
    epoch: Epoch = field(default_factory=Epoch)
    term: int = 0
    resource_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """A configuration cut up for Secrets."""

    pieces: Sequence[bytes]
    digest: str
    epoch: Epoch


class ShardMeta(msgspec.Struct, frozen=True, kw_only=True):
    """`config-<n>.meta.json`, beside each shard: a mounted Secret shows data keys only."""

    hash: str
    epoch: Epoch
    shard: int
    shards: int


def shard_name(number: int) -> str:
    return f"{PREFIX}{number}"


async def read_published(kube: KubeClient, *, namespace: str) -> Published:
    """What the last leader left. Raises KubeError; unreadable contents are no error, only nothing."""
    try:
        first = await kube.get(core_path("secrets", namespace, shard_name(0)))
    except NotFound:
        return Published()
    annotations = first["metadata"].get("annotations") or {}
    epoch = _epoch(annotations.get(EPOCH, ""))
    term = max(_number(annotations.get(TERM, "")), epoch.term)
    found = Published(epoch=epoch, term=term, resource_version=first["metadata"]["resourceVersion"])
    count = min(_number(annotations.get(SHARDS, "")), MAX_SHARDS)
    try:
        pieces = [_piece(first, 0)]
        for number in range(1, count):
            body = await kube.get(core_path("secrets", namespace, shard_name(number)))
            pieces.append(_piece(body, number))
        document = from_shards(pieces)
        if digest(document) != annotations.get(HASH):
            raise ConfigUnreadable("the shards are not of one configuration")
        return replace(found, config=decode(document), digest=digest(document))
    except (ConfigUnreadable, NotFound, KeyError, binascii.Error) as error:
        log.warning("the stored configuration is unreadable", extra={"action": "config-read", "error": str(error)})
        return found


async def claim_term(kube: KubeClient, *, namespace: str, published: Published, at_least: int) -> int:
    """Persist and return a term above every earlier one, and at least `at_least`.

    Raises Conflict when another operator claimed one at the same moment, KubeError otherwise.
    """
    term = max(at_least, published.term + 1)
    meta: dict[str, Any] = {"annotations": {TERM: str(term)}, "labels": MANAGED_BY}
    if published.resource_version:
        meta["resourceVersion"] = published.resource_version
        await kube.merge_patch(core_path("secrets", namespace, shard_name(0)), {"metadata": meta})
    else:
        await kube.create(core_path("secrets", namespace), _secret(shard_name(0), meta, {}))
    return term


async def write_shards(kube: KubeClient, shards: Shards, *, namespace: str, may_write: Callable[[], None]) -> None:
    """Write all shards, the first one last: its annotations say what the others belong to. Raises KubeError.

    `may_write` is asked before each, and raises: whoever was deposed half way must not write over the next leader's.
    """
    if len(shards.pieces) > MAX_SHARDS:
        raise TooLarge(
            f"it needs {len(shards.pieces)} Secrets of 896 KiB and {MAX_SHARDS} are mounted. Shorten schemas and "
            "samples of event types, or move endpoints into a namespace of their own."
        )
    for number in reversed(range(len(shards.pieces))):
        may_write()
        await _write(kube, shard_name(number), _contents(shards, number), namespace=namespace)
    await _empty_surplus(kube, len(shards.pieces), namespace=namespace, may_write=may_write)


def _contents(shards: Shards, number: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Metadata and data of one shard's Secret."""
    count = len(shards.pieces)
    meta = ShardMeta(hash=shards.digest, epoch=shards.epoch, shard=number, shards=count)
    annotations = {
        HASH: shards.digest,
        EPOCH: f"{shards.epoch.term}.{shards.epoch.sequence}",
        SHARDS: str(count),
    }
    data = {
        f"config-{number}.json.gz": _encoded(shards.pieces[number]),
        f"config-{number}.meta.json": _encoded(msgspec.json.encode(meta)),
    }
    return {"annotations": annotations, "labels": MANAGED_BY}, data


async def _write(
    kube: KubeClient, name: str, contents: tuple[dict[str, Any], dict[str, str]], *, namespace: str
) -> None:
    meta, data = contents
    try:
        await kube.merge_patch(core_path("secrets", namespace, name), {"metadata": meta, "data": data})
    except NotFound:
        await kube.create(core_path("secrets", namespace), _secret(name, meta, data))


async def _empty_surplus(kube: KubeClient, count: int, *, namespace: str, may_write: Callable[[], None]) -> None:
    """Empty shards of a larger configuration of before. Emptied, not deleted: the Role has no `delete`."""
    for number in range(count, MAX_SHARDS):
        path = core_path("secrets", namespace, shard_name(number))
        try:
            body = await kube.get(path)
        except NotFound:
            return
        if body.get("data"):
            may_write()
            await kube.merge_patch(path, {"data": None})


def _secret(name: str, meta: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**meta, "name": name},
        "type": "Opaque",
        "data": data,
    }


class Publisher:
    """Writes the latest configuration handed in, in the background, until it stands in the Secrets."""

    def __init__(
        self, kube: KubeClient, *, namespace: str, may_write: Callable[[], None], changed: Callable[[], None]
    ) -> None:
        """`changed` is called when `problem` is another one."""
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._may_write: Final = may_write
        self._changed: Final = changed
        self.problem = ""
        """Why the latest configuration cannot be stored, for people; empty where it can. Not for what heals alone."""
        self._latest: Shards | None = None
        self._written: Shards | None = None
        self._wake: Final = asyncio.Event()
        self._hurry: Final = asyncio.Event()

    def hand_in(self, shards: Shards, *, at_once: bool = False) -> None:
        """`at_once`: without the interval after the write before, for what the next leader must not miss."""
        self._latest = shards
        self._wake.set()
        if at_once:
            self._hurry.set()

    @property
    def idle(self) -> bool:
        """Whether everything that was handed in has been written."""
        return self._latest is None

    async def run(self) -> None:
        """Write for ever."""
        retry = 0.5
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._hurry.clear()
            shards = self._latest
            if shards is None:
                continue
            try:
                await write_shards(self._kube, shards, namespace=self._namespace, may_write=self._may_write)
            except KubeError as error:
                log.warning("the configuration was not stored", extra={"action": "config-write", "error": str(error)})
                self._say(str(error) if isinstance(error, (TooLarge, Forbidden, Invalid)) else self.problem)
                if isinstance(error, TooLarge):
                    continue  # until another one is handed in
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_CEILING_SECONDS)
                self._wake.set()
                continue
            retry = 0.5
            self._say("")
            self._written = shards
            if self._latest is shards:
                self._latest = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WRITE_INTERVAL_SECONDS):
                    await self._hurry.wait()

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._changed()

    async def verify(self) -> None:
        """Look every minute whether what was written is still there, and write it again where it is not."""
        while True:
            await asyncio.sleep(VERIFY_SECONDS)
            written = self._written
            if written is None or not self.idle:
                continue
            try:
                intact = await is_intact(self._kube, written, namespace=self._namespace)
            except KubeError as error:
                log.warning(
                    "the stored configuration was not looked at", extra={"action": "config-verify", "error": str(error)}
                )
                continue
            if not intact and self.idle:
                log.warning("the stored configuration was changed or deleted", extra={"action": "config-verify"})
                self.hand_in(written)


async def is_intact(kube: KubeClient, shards: Shards, *, namespace: str) -> bool:
    """Whether every shard's Secret is there and says that it belongs to this configuration. Raises KubeError."""
    for number in range(len(shards.pieces)):
        try:
            body = await kube.get(core_path("secrets", namespace, shard_name(number)), accept=METADATA)
        except NotFound:
            return False
        if (body["metadata"].get("annotations") or {}).get(HASH) != shards.digest:
            return False
    return True


def _piece(body: Mapping[str, Any], number: int) -> bytes:
    return base64.b64decode((body.get("data") or {})[f"config-{number}.json.gz"], validate=True)


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _epoch(text: str) -> Epoch:
    match = re.fullmatch(r"(\d{1,15})\.(\d{1,15})", text)
    return Epoch(term=int(match[1]), sequence=int(match[2])) if match else Epoch()


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else 0
