"""Leader election by a Lease: one operator writes, a standby takes over when the writer has gone silent.

The rules are client-go's (lease 15 s, renew within 10 s, try every 2 s): a candidate never compares the clock of
another machine with its own, it waits for a full lease since *it* last saw the record change. A leader that could
not renew for 10 s of its own monotonic clock holds itself for deposed, 5 s before anybody may follow; a process
that was stopped (SIGSTOP) finds that out before its next write.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.kube import KubeClient, KubeError, NotFound, lease_path

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_NAME: Final = "hookstead-operator"
LEASE_SECONDS: Final = 15.0
RENEW_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0

log: Final = logging.getLogger(__name__)


class LeaseLost(Exception):
    """This process does not lead any more: it must not write another byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What stands in the Lease. `holder` is empty after a clean stop."""

    holder: str = ""
    transitions: int = 0
    renew_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A record, and when (monotonic seconds) this process first saw it in exactly this form."""

    record: Record
    since: float


def observe(before: Observation | None, record: Record, *, now: float) -> Observation:
    """Keep the time for as long as the record stays the same."""
    if before is not None and before.record == record:
        return before
    return Observation(record=record, since=now)


def claim(observation: Observation, *, identity: str, now: float) -> Record | None:
    """The record that this process may write: a renewal, a take-over, or None while somebody else leads."""
    record = observation.record
    if record.holder == identity:
        return Record(holder=identity, transitions=record.transitions)
    if record.holder and now - observation.since < LEASE_SECONDS:
        return None
    return Record(holder=identity, transitions=record.transitions + 1)


def still_leads(*, renewed: float, now: float) -> bool:
    """Whether a leader whose last renewal was sent at `renewed` may still write at `now`."""
    return now - renewed < RENEW_SECONDS


class Elector:
    """Takes, holds and gives back the Lease of one namespace."""

    def __init__(self, kube: KubeClient, *, namespace: str, identity: str, monotonic: Callable[[], float]) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._identity: Final = identity
        self._monotonic: Final = monotonic
        self._observation: Observation | None = None
        self._version: str = ""
        self._renewed = float("-inf")
        self.transitions = 0

    @property
    def leads(self) -> bool:
        """Whether this process may write now."""
        return still_leads(renewed=self._renewed, now=self._monotonic())

    def check(self) -> None:
        """Call before every write. Raises LeaseLost."""
        if not self.leads:
            raise LeaseLost(f"the Lease was not renewed for {RENEW_SECONDS:.0f} s")

    async def acquire(self) -> None:
        """Return once this process leads."""
        while not await self._attempt():  # noqa: ASYNC110  (the Lease is polled)
            await asyncio.sleep(self._pause())
        log.info("this operator leads", extra={"action": "lease-acquired", "identity": self._identity})

    def _pause(self) -> float:
        """Before a candidate's next try: until the silence of the holder has lasted long enough, if that is sooner."""
        seen = self._observation
        if seen is None or not seen.record.holder:
            return RETRY_SECONDS
        left = seen.since + LEASE_SECONDS - self._monotonic()
        return min(RETRY_SECONDS, left) if left > 0 else RETRY_SECONDS

    async def hold(self) -> None:
        """Renew for ever. Raises LeaseLost once that failed for too long or somebody else holds the Lease."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if not await self._attempt():
                record = self._observation.record if self._observation else Record()
                if record.holder not in ("", self._identity):
                    self._renewed = float("-inf")
                    raise LeaseLost(f"{record.holder} holds the Lease")
            self.check()

    async def release(self) -> None:
        """Give the Lease back so that a standby follows at its next try. Best effort."""
        if not self.leads:
            return
        self._renewed = float("-inf")
        try:
            await self._write(Record(holder="", transitions=self.transitions))
        except KubeError as error:
            log.warning("the Lease could not be released", extra={"action": "lease-release", "error": str(error)})

    async def _attempt(self) -> bool:
        """One try, at most RETRY_SECONDS x 2 long; True when this process leads after it."""
        started = self._monotonic()
        try:
            async with asyncio.timeout(RETRY_SECONDS * 2):
                wanted = claim(await self._read(), identity=self._identity, now=self._monotonic())
                if wanted is None:
                    return False
                await self._write(wanted)
        except (KubeError, TimeoutError) as error:
            log.warning("the Lease was not renewed", extra={"action": "lease-renew", "error": str(error)})
            return False
        self._renewed = started
        self.transitions = wanted.transitions
        return True

    async def _read(self) -> Observation:
        try:
            body = await self._kube.get(lease_path(self._namespace, LEASE_NAME))
            self._version = body["metadata"]["resourceVersion"]
            record = _record(body.get("spec") or {})
        except NotFound:
            self._version = ""
            record = Record()
        self._observation = observe(self._observation, record, now=self._monotonic())
        return self._observation

    async def _write(self, record: Record) -> None:
        body = _body(record, namespace=self._namespace, version=self._version)
        if self._version:
            answer = await self._kube.replace(lease_path(self._namespace, LEASE_NAME), body)
        else:
            answer = await self._kube.create(lease_path(self._namespace), body)
        self._version = answer["metadata"]["resourceVersion"]


def _record(spec: dict[str, Any]) -> Record:
    return Record(
        holder=spec.get("holderIdentity") or "",
        transitions=spec.get("leaseTransitions") or 0,
        renew_time=spec.get("renewTime") or "",
    )


def _body(record: Record, *, namespace: str, version: str) -> dict[str, Any]:
    meta = {"name": LEASE_NAME, "namespace": namespace}
    if version:
        meta["resourceVersion"] = version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": int(LEASE_SECONDS) if record.holder else 1,
            "leaseTransitions": record.transitions,
            "renewTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        },
    }


def since_boot() -> float:
    """Seconds that nobody sets, and that pass while the machine sleeps, too: a leader that slept has to notice."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux only
    return time.monotonic() if clock is None else time.clock_gettime(clock)
