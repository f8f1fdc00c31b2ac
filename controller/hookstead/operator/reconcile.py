"""The pass: everything that is known, compiled; what differs, published. Level-triggered, debounced, one at a time.

A change only marks the environment dirty. No pass depends on what the last one did but for the caches named here.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hookstead.config.compile import Compiled, Inputs, Memory, compile_environment
from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.config.serial import digest, encode, to_shards
from hookstead.config.status import ConfigSize, next_key_expiry_ms
from hookstead.operator import guard
from hookstead.operator.gateways import Package
from hookstead.operator.kube import KubeError
from hookstead.operator.programming import Fleet, History, Index, index, shared
from hookstead.operator.publish import Shards
from hookstead.operator.statuses import view
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hookstead.config.model import EnvironmentConfig
    from hookstead.operator.gateways import Gateways
    from hookstead.operator.objects import ObjectStore, SecretStore
    from hookstead.operator.publish import Published, Publisher
    from hookstead.operator.reporter import Reporter
    from hookstead.operator.resolve import Resolver
    from hookstead.operator.sweep import Sweeper

DEBOUNCE_SECONDS: Final = 0.05
LONGEST_TIMER_SECONDS: Final = 86_400.0

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """A configuration with its serial form: `shards` joined are the gzip of `size` bytes whose digest is `digest`."""

    config: DeliveryConfig
    index: Index
    objects: frozenset[guard.Published]
    shards: Sequence[bytes]
    digest: str
    size: int


def pack(config: DeliveryConfig) -> Packed:
    """Encode, digest, compress."""
    document = encode(config)
    return Packed(config, index(config), _objects_of(config), to_shards(document), digest(document), len(document))


class Reconciler:
    """Owns the published configuration and its epoch."""

    def __init__(
        self,
        *,
        namespace: str,
        allow_loopback: bool,
        objects: ObjectStore,
        secrets: SecretStore,
        resolver: Resolver,
        gateways: Gateways,
        publisher: Publisher,
        sweeper: Sweeper,
        may_write: Callable[[], None],
        monotonic: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._namespace: Final = namespace
        self._allow_loopback: Final = allow_loopback
        self._objects: Final = objects
        self._secrets: Final = secrets
        self._resolver: Final = resolver
        self._gateways: Final = gateways
        self._publisher: Final = publisher
        self._sweeper: Final = sweeper
        self._may_write: Final = may_write
        self._monotonic: Final = monotonic
        self._now_ms: Final = now_ms
        self._reporter: Reporter | None = None
        self._dirty: Final = asyncio.Event()
        self._memory: Final = Memory()
        self._history: Final = History()
        self._compiled: Packed | None = None
        self._published: frozenset[guard.Published] = frozenset()
        self._published_digest = ""
        self._environment: EnvironmentConfig | None = None
        self._stored_environment: EnvironmentConfig | None = None
        self._epoch = Epoch()
        self._suspicion: guard.Suspicion | None = None
        self._announced: set[guard.Published] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.passes = 0

    # What others tell.

    def mark(self) -> None:
        """Something is different: a pass is due."""
        self._dirty.set()

    def deleted(self, kind: Kind, name: str, uid: str) -> None:
        """The API server said that this object was deleted."""
        self._announced.add(guard.Published(kind, name, uid))

    def report_to(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def start_from(self, published: Published, *, term: int) -> None:
        """Continue where the last leader stopped, under a newer term."""
        self._epoch = Epoch(term=term, sequence=0)
        self._published = _objects_of(published.config)
        if published.config is not None:
            self._environment = self._stored_environment = published.config.environment
            self._history.remember(published.digest, index(published.config))

    def superseded(self, epoch: Epoch) -> None:
        """A gateway runs a newer epoch than ours although we lead: go past it, and publish again."""
        if epoch < self._epoch:
            return
        log.warning(
            "a gateway runs a newer epoch; continuing above it",
            extra={"action": "epoch", "theirs": f"{epoch.term}.{epoch.sequence}"},
        )
        self._epoch = Epoch(term=epoch.term + 1, sequence=0)
        self._published_digest = ""
        self.mark()

    def fleet(self) -> Fleet:
        """The live gateways against what was compiled last."""
        return Fleet(
            members=self._gateways.members(),
            digest=self._compiled.digest if self._compiled is not None else "",
            history=self._history.by_hash,
            unstored=self._publisher.problem,
        )

    @property
    def shards(self) -> int:
        """How many Secrets the configuration takes."""
        return len(self._compiled.shards) if self._compiled is not None else 0

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    # What runs.

    async def run(self) -> None:
        """One pass after another, each as soon as something is different, for ever."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(DEBOUNCE_SECONDS)
            self._dirty.clear()
            await self._pass()

    async def _pass(self) -> None:
        self._may_write()
        compiled = await self._compile()
        if await self._resolver.resolve(compiled):
            compiled = await self._compile()
        packed = await self._pack(compiled.config)
        self._compiled = packed
        self._environment = packed.config.environment
        if await self._believed(packed):
            self._publish(packed)
        self.passes += 1
        if self._reporter is not None:
            size = ConfigSize(hash=packed.digest, bytes=packed.size)
            self._reporter.show(view(packed.config, size=size, index=packed.index))
        self._watch_expiry(packed.config)

    async def _compile(self) -> Compiled:
        return await asyncio.to_thread(compile_environment, self._inputs(), memory=self._memory)

    def _inputs(self) -> Inputs:
        environments = self._objects.items(Kind.ENVIRONMENT)
        last = self._environment
        if last is not None and all(item.meta.uid != last.identity.uid for item in environments):
            last = None
        return Inputs(
            namespace=self._namespace,
            environments=environments,
            endpoints=self._objects.items(Kind.ENDPOINT),
            channels=self._objects.items(Kind.CHANNEL),
            event_types=self._objects.items(Kind.EVENT_TYPE),
            replays=self._objects.items(Kind.REPLAY),
            secrets=self._secrets.snapshot(),
            last_environment=last,
            allow_loopback=self._allow_loopback,
        )

    async def _pack(self, config: DeliveryConfig) -> Packed:
        before = self._compiled
        config = shared(config, before.config if before is not None else None)
        if before is not None and before.config == config:
            return before
        return await asyncio.to_thread(pack, config)

    # Believing.

    async def _believed(self, packed: Packed) -> bool:
        """Whether the configuration may be published: a mass deletion has to be confirmed first."""
        lost = guard.lost_objects(self._published, packed.objects)
        lost |= guard.still_lost(self._suspicion, packed.objects)
        if not lost:
            self._suspicion = None
            return True
        now = self._monotonic()
        before = self._suspicion
        suspicion = guard.suspect(before, lost, announced=self._announced, now=now)
        if before is None or not lost <= before.lost:
            log.warning(
                "many objects vanished at once; the last good configuration stays in force until confirmed",
                extra={"action": "guard", "lost": len(lost), "silent": suspicion.silent},
            )
        if now >= suspicion.look_at:
            suspicion = guard.after_look(suspicion, confirmed=await self._confirmed(suspicion), now=self._monotonic())
        self._suspicion = suspicion
        if guard.decide(suspicion) is guard.Decision.PUBLISH:
            log.warning("the deletion is confirmed", extra={"action": "guard", "lost": len(lost)})
            self._suspicion = None
            return True
        self._mark_later("guard", max(suspicion.look_at - self._monotonic(), 0.05))
        return False

    async def _confirmed(self, suspicion: guard.Suspicion) -> bool:
        """Ask the API server whether the kinds are served and the objects gone."""
        if not await self._sweeper.served():
            return False
        try:
            listings = await self._sweeper.sweep()
        except KubeError as error:
            log.warning("cannot confirm", extra={"action": "guard", "error": str(error)})
            return False
        found = {
            guard.Published(kind, item.name, item.uid)
            for kind, listing in listings.kinds.items()
            for item in listing.items.values()
        }
        if suspicion.lost & found:
            self._sweeper.ask()  # they exist: it is we who have lost them
            return False
        return True

    # Publishing.

    def _publish(self, packed: Packed) -> None:
        self._published = packed.objects
        # Only what is still published can still be lost.
        self._announced &= packed.objects
        if packed.digest == self._published_digest:
            return
        self._published_digest = packed.digest
        self._epoch = Epoch(term=self._epoch.term, sequence=self._epoch.sequence + 1)
        self._history.remember(packed.digest, packed.index)
        self._gateways.publish(Package(body=b"".join(packed.shards), digest=packed.digest, epoch=self._epoch))
        self._publisher.hand_in(
            Shards(pieces=packed.shards, digest=packed.digest, epoch=self._epoch),
            at_once=self._stored_environment != packed.config.environment,
        )
        self._stored_environment = packed.config.environment
        log.info(
            "published a configuration",
            extra={
                "action": "publish",
                "hash": packed.digest,
                "epoch": f"{self._epoch.term}.{self._epoch.sequence}",
                "bytes": packed.size,
            },
        )

    # Time.

    def _watch_expiry(self, config: DeliveryConfig) -> None:
        now_ms = self._now_ms()
        expiry = next_key_expiry_ms(config, now_ms=now_ms)
        if expiry is not None:
            wait = min((expiry - now_ms) / 1000 + 0.01, LONGEST_TIMER_SECONDS)
            self._call_later("expiry", wait, self._key_expired)

    def _key_expired(self) -> None:
        if self._reporter is not None:
            self._reporter.keys_expired()
        self.mark()

    def _mark_later(self, name: str, seconds: float) -> None:
        self._call_later(name, seconds, self.mark)

    def _call_later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)


def _objects_of(config: DeliveryConfig | None) -> frozenset[guard.Published]:
    if config is None:
        return frozenset()
    environment = [config.environment] if config.environment is not None else []
    return frozenset(
        guard.Published(kind, item.identity.name, item.identity.uid)
        for kind, items in (
            (Kind.ENVIRONMENT, environment),
            (Kind.ENDPOINT, config.endpoints),
            (Kind.CHANNEL, config.channels),
            (Kind.EVENT_TYPE, config.event_types),
            (Kind.REPLAY, config.replays),
        )
        for item in items
    )
