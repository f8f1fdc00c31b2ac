"""What a customer runs: an HTTP server that verifies each webhook with the public `standardwebhooks` package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(slots=True)
class Received:
    """One request that reached a receiver."""

    endpoint: str
    message_id: str
    event_type: str
    verified: bool
    answered: int


@dataclass(slots=True)
class Receivers:
    """One server, a path for each endpoint. `failures` says how often a path answers 503 before it gives in."""

    key_of: Callable[[str], str]
    paths: dict[str, str]
    failures: dict[str, int] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path}", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        endpoint = self.paths[request.match_info["path"]]
        body = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            event = Webhook(self.key_of(endpoint)).verify(body, headers)
            verified = True
        except WebhookVerificationError:
            event, verified = {}, False
        status = 400
        if verified:
            status = 503 if self._fails(endpoint) else 204
        self.received.append(
            Received(endpoint, headers.get("webhook-id", ""), str(event.get("type")), verified, status)
        )
        return web.Response(status=status)

    def _fails(self, endpoint: str) -> bool:
        left = self.failures.get(endpoint, 0)
        self.failures[endpoint] = max(0, left - 1)
        return left > 0

    def of(self, message_ids: Iterable[str]) -> list[Received]:
        wanted = set(message_ids)
        return [one for one in self.received if one.message_id in wanted]
