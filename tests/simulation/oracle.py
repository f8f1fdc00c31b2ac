"""What an endpoint's own answers forbid, worked out from the contract's sentences rather than from the engine.

Contract: section 1, `circuitBreaker` and `suspendAfterSeconds`; section 3 "Delivery", 410 and Retry-After.
"""

from __future__ import annotations

import email.utils
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One answer as the receiver gave it; or what people did: they asked to resume, or switched the breaker off."""

    send: int | None = None
    resumed: bool = False
    started_ms: int = 0
    ended_ms: int = 0
    succeeded: bool = False
    gone: bool = False
    retry_after_ms: int | None = None
    circuit: bool = True
    suspend_after: int = 0


@dataclass(slots=True)
class Standing:
    """Where an endpoint stands after some answers."""

    gone: bool = False
    suspended: bool = False
    failures: int = 0
    since_ms: int = 0
    wait_until_ms: int = 0
    probe_ms: int | None = None
    backoff: int = 0

    def forbids(self, *, exact: bool = True) -> str | None:
        """Why nothing at all may be sent. Not `exact`: runs of failures cannot be told, the wall clock went back."""
        return "Gone" if self.gone else "Suspended" if self.suspended and exact else None

    def defers(self, now_ms: int) -> str | None:
        """Why no scheduled attempt may be sent yet."""
        if now_ms < self.wait_until_ms:
            return f"Retry-After lasts until {self.wait_until_ms}"
        if self.probe_ms is not None and now_ms < self.probe_ms:
            return f"the circuit is open until {self.probe_ms}"
        return None

    def after(self, verdict: Verdict) -> None:
        if verdict.send is None and not verdict.resumed:
            self.probe_ms, self.backoff = None, 0
        elif verdict.send is None:
            self.gone = self.suspended = False
            self.failures = self.wait_until_ms = self.backoff = 0
            self.probe_ms = None
        elif verdict.succeeded:
            self.failures, self.probe_ms, self.backoff = 0, None, 0
        else:
            self._failed(verdict)

    def _failed(self, verdict: Verdict) -> None:
        now_ms = verdict.ended_ms
        if not self.failures:
            self.since_ms = verdict.started_ms
        self.failures += 1
        self.gone = self.gone or verdict.gone
        if verdict.retry_after_ms is not None:
            self.wait_until_ms = max(self.wait_until_ms, now_ms + verdict.retry_after_ms)
        run_ms = now_ms - self.since_ms
        if verdict.suspend_after and run_ms >= verdict.suspend_after * 1000:
            self.suspended = True
        if not verdict.circuit:
            return
        if self.probe_ms is None:
            if self.failures >= 10 and run_ms >= 30_000:
                self.backoff, self.probe_ms = 30, now_ms + 30_000
        elif now_ms >= self.probe_ms:
            self.backoff = min(2 * self.backoff, 600)
            self.probe_ms = now_ms + self.backoff * 1000


@dataclass(slots=True)
class Oracle:
    """The standing of one endpoint, and the answers that led to it, so that a crash can take back the last ones."""

    standing: Standing = field(default_factory=Standing)
    history: list[Verdict] = field(default_factory=list)
    resumed: str | None = None

    def add(self, verdict: Verdict) -> None:
        self.history.append(verdict)
        self.standing.after(verdict)

    def resume(self, request: str) -> None:
        self.resumed = request
        self.add(Verdict(resumed=True))

    def without_circuit(self) -> None:
        """Somebody switched the breaker off."""
        if self.standing.probe_ms is not None:
            self.add(Verdict())

    def forget(self, sends: Sequence[int]) -> None:
        """These answers were lost with the power."""
        lost = set(sends)
        if any(verdict.send in lost for verdict in self.history):
            self.history = [verdict for verdict in self.history if verdict.send not in lost]
            self.standing = Standing()
            for verdict in self.history:
                self.standing.after(verdict)


def wish(header: str | None, *, now_ms: int) -> int | None:
    """What a Retry-After asks for, in milliseconds, capped at a day; None for nothing, or the past."""
    if header is None:
        return None
    if header.isdigit():
        asked = int(header) * 1000
    else:
        asked = int(email.utils.parsedate_to_datetime(header).timestamp() * 1000) - now_ms
    return min(asked, DAY_MS) if asked > 0 else None
