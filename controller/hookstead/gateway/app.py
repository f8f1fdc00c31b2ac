"""The public port's routes: which handler answers what, for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hookstead.delivery.engine import Engine
from hookstead.delivery.ports import Clock, Store
from hookstead.gateway.authorize import Scope
from hookstead.gateway.catalog import Catalog
from hookstead.gateway.exchange import Handler
from hookstead.gateway.history import History
from hookstead.gateway.ingest import Ingest
from hookstead.gateway.objects import Objects
from hookstead.gateway.openapi import describe
from hookstead.gateway.operate import Operate
from hookstead.gateway.problems import Problem
from hookstead.gateway.quota import IngestQuota
from hookstead.gateway.router import Route, Router
from hookstead.gateway.stream import ActivityStream

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """`event_bytes` and `batch_bytes` bound a body; `events_per_second` None is no quota."""

    event_bytes: int = MIB
    batch_bytes: int = 16 * MIB
    events_per_second: int | None = None


def build_public_router(
    *,
    engine: Engine,
    store: Store,
    clock: Clock,
    stream: ActivityStream,
    ingest: IngestSettings | None = None,
    closed: Callable[[], Problem | None] = lambda: None,
) -> Router:
    """Everything of section 3. `closed` says why no event is taken (draining, unconfigured), None when they are."""
    bounds = ingest or IngestSettings()
    handlers = Ingest(
        publisher=engine,
        now=clock.monotonic,
        event_bytes=bounds.event_bytes,
        quota=None if bounds.events_per_second is None else IngestQuota(bounds.events_per_second),
        closed=closed,
    )
    history = History(store, clock.now_ms)
    objects = Objects(engine, clock.now_ms)
    operate = Operate(engine)
    catalog = Catalog(lambda: engine.config)
    return Router(
        [
            Route(
                method="POST",
                path="/v1/events",
                handler=handlers.one,
                scope=Scope.PUBLISH,
                body_limit=bounds.event_bytes,
            ),
            Route(
                method="POST",
                path="/v1/events/batch",
                handler=handlers.batch,
                scope=Scope.PUBLISH,
                body_limit=bounds.batch_bytes,
            ),
            _read("/v1/environment", objects.environment),
            _read("/v1/endpoints", objects.endpoints),
            _read("/v1/endpoints/{name}", objects.endpoint),
            _read("/v1/channels", objects.channels),
            _read("/v1/channels/{name}", objects.channel),
            _read("/v1/event-types", objects.event_types),
            _read("/v1/event-types/{name}", objects.event_type),
            _read("/v1/replays", objects.replays),
            _read("/v1/replays/{name}", objects.replay),
            _read("/v1/deliveries", history.deliveries),
            _read("/v1/deliveries/{id}", history.delivery),
            _read("/v1/events", history.events, Scope.EVENTS),
            _read("/v1/events/{id}", history.event, Scope.EVENTS),
            _read("/v1/activity", history.activity),
            _read("/v1/activity/stream", stream.handle),
            _read("/v1/catalog", catalog.handle),
            _act("POST", "/v1/deliveries/{id}/redeliver", operate.redeliver),
            _act("POST", "/v1/endpoints/{name}/test", operate.test),
            _act("DELETE", "/v1/events/{id}/payload", operate.erase),
            Route(method="GET", path="/openapi.json", handler=describe, scope=None),
        ]
    )


def _read(path: str, handler: Handler, scope: Scope = Scope.READ) -> Route:
    return Route(method="GET", path=path, handler=handler, scope=scope)


def _act(method: str, path: str, handler: Handler) -> Route:
    return Route(method=method, path=path, handler=handler, scope=Scope.OPERATE)
