"""The operator's second port: /healthz, /readyz, /metrics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

TEXT_FORMAT: Final = "text/plain; version=0.0.4"


class _Numbers(Collector):
    """Reads the operator's own counters at each scrape; nothing is counted twice."""

    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read: Final = read

    def collect(self) -> Iterable[Metric]:
        for name, value in self._read().items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(name.removesuffix("_total"), HELP.get(name, name), value=value)


HELP: Final[Mapping[str, str]] = {
    "hookstead_operator_passes_total": "Passes over the whole environment.",
    "hookstead_operator_status_writes_total": "Statuses written.",
    "hookstead_operator_status_write_failures_total": "Statuses that could not be written, each try.",
    "hookstead_operator_ghosts_total": "Objects whose deletion no watch reported.",
    "hookstead_operator_objects": "Custom resources known.",
    "hookstead_operator_gateways": "Live gateways.",
    "hookstead_operator_gateways_programmed": "Live gateways that run the present configuration.",
    "hookstead_operator_config_shards": "Secrets that the configuration needs; 16 are mounted.",
    "hookstead_operator_config_unstored": "1 while the configuration cannot be kept in Secrets.",
    "hookstead_operator_leader": "1 while this process leads.",
}


@asynccontextmanager
async def admin_port(
    listen: tuple[str, int] | None,
    *,
    ready: Callable[[], bool],
    numbers: Callable[[], Mapping[str, float]],
) -> AsyncIterator[int]:
    """Serve while the block runs; yields the port, 0 without a listener. Raises OSError where it cannot bind."""
    if listen is None:
        yield 0
        return
    registry = CollectorRegistry()
    registry.register(_Numbers(numbers))

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(text="not ready\n", status=503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"content-type": TEXT_FORMAT})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host=listen[0] or None, port=listen[1])
        await site.start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()
