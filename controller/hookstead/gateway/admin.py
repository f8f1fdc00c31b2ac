"""The admin port: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hookstead import __version__
from hookstead.delivery.engine import EngineMetrics
from hookstead.gateway.exchange import Request, Response, problem_response
from hookstead.gateway.problems import ProblemKind, problem
from hookstead.gateway.router import Route, Router

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class EngineCollector(Collector):
    """The engine's counters as Prometheus metrics, read at each scrape."""

    def __init__(self, metrics: Callable[[], EngineMetrics], *, streams: Callable[[], int]) -> None:
        self._metrics = metrics
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        counted = self._metrics()
        yield _gauge("hookstead_build_info", "The version that runs.", ("version",), [((__version__,), 1)])
        yield CounterMetricFamily(
            "hookstead_events_accepted",
            "Events that got their 202, duplicates not counted again.",
            value=counted.events.get("accepted", 0),
        )
        yield _counter(
            "hookstead_events",
            "Events by what became of them at ingest.",
            ("result",),
            (((result,), value) for result, value in counted.events.items()),
        )
        yield _counter(
            "hookstead_attempts",
            "Attempts that were sent.",
            ("endpoint", "outcome"),
            # As the API spells outcomes, whatever the engine calls them.
            (((endpoint, outcome.capitalize()), value) for (endpoint, outcome), value in counted.attempts.items()),
        )
        yield _gauge(
            "hookstead_deliveries",
            "Deliveries, each once, under its present status.",
            ("endpoint", "status"),
            counted.deliveries.items(),
        )
        yield _gauge(
            "hookstead_queue_age_seconds",
            "How long due deliveries have waited for this gateway: half of the endpoints with traffic no longer.",
            (),
            [((), counted.queue_age_ms / 1000)],
        )
        yield _counter(
            "hookstead_filter_errors",
            "Events that a filter could not be evaluated on; they did not match.",
            ("endpoint",),
            (((endpoint,), value) for endpoint, value in counted.filter_errors.items()),
        )
        yield CounterMetricFamily(
            "hookstead_undeclared_channels",
            "Channels of events that no WebhookChannel declares.",
            value=counted.undeclared_channels,
        )
        yield CounterMetricFamily(
            "hookstead_event_mismatches",
            "Events that the catalog does not allow and that were delivered all the same (Warn).",
            value=counted.mismatches,
        )
        yield _gauge("hookstead_in_flight_attempts", "Attempts under way.", (), [((), counted.in_flight)])
        yield _gauge("hookstead_activity_streams", "Open activity streams.", (), [((), self._streams())])


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of this gateway alone: nothing global, so that two gateways in one process do not mix."""
    own = CollectorRegistry()
    own.register(collector)
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    GCCollector(registry=own)
    return own


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """Handlers of the admin port. `unready` says why the gateway takes no work, None when it does."""

    unready: Callable[[], Awaitable[str | None]]
    metrics: CollectorRegistry

    async def healthz(self, _request: Request) -> Response:
        """The process answers; whether it can work is for `/readyz`."""
        return Response(200, b"ok\n", "text/plain; charset=utf-8")

    async def readyz(self, _request: Request) -> Response:
        reason = await self.unready()
        if reason is not None:
            return problem_response(problem(ProblemKind.NOT_READY, reason))
        return Response(200, b"ready\n", "text/plain; charset=utf-8")

    async def scrape(self, _request: Request) -> Response:
        return Response(200, generate_latest(self.metrics), METRICS_TYPE)


def admin_router(admin: Admin) -> Router:
    return Router(
        [
            Route(method="GET", path="/healthz", handler=admin.healthz, needs=None),
            Route(method="GET", path="/readyz", handler=admin.readyz, needs=None),
            Route(method="GET", path="/metrics", handler=admin.scrape, needs=None),
        ]
    )
