"""The way out: one POST, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from hookstead.config.model import EgressPolicy, TlsMaterial
from hookstead.delivery.ports.deliveries import EndpointKey, ErrorCode

RESPONSE_BODY_LIMIT = 16 * 1024
"""Bytes of a response body that are read, kept and shown; the connection is closed behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRequest:
    """One POST. `endpoint` names the connection pool; nothing is shared between two endpoints.

    `headers` are complete but for `host` and `content-length`, names in lower case, validated.
    `timeout_seconds` covers the whole attempt: look-up, connect, TLS, request, response.
    """

    endpoint: EndpointKey
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    policy: EgressPolicy
    tls: TlsMaterial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """How an attempt ended. `error` is None when a complete answer arrived, whatever its status.

    `status_code` is 0 while no status line was read. `body` holds at most RESPONSE_BODY_LIMIT bytes, undecoded.
    `retry_after` is the raw header value. `message` says in one line what happened, without secrets or paths.
    """

    status_code: int = 0
    error: ErrorCode | None = None
    message: str = ""
    retry_after: str | None = None
    body: bytes = b""


class Transport(Protocol):
    async def send(self, request: OutboundRequest) -> SendResult:
        """Dial, send, read, within the timeout. Never raises but for cancellation. Never follows a redirect."""

    def forget(self, endpoint: EndpointKey) -> None:
        """Close the endpoint's idle connections: its URL, TLS material or the policy changed, or it is gone."""

    async def close(self) -> None:
        """Close every connection. Attempts under way are cancelled by their callers beforehand."""
