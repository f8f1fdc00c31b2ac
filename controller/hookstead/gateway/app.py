"""The public port's routes: which handler answers what, for whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hookstead.delivery.engine import Engine
from hookstead.delivery.ports import Clock, Store
from hookstead.gateway.authorize import Permission
from hookstead.gateway.catalog import Catalog, ObjectNames
from hookstead.gateway.diagnose import Diagnose
from hookstead.gateway.exchange import Handler
from hookstead.gateway.history import History, endpoint_asked_for
from hookstead.gateway.ingest import Ingest
from hookstead.gateway.objects import Objects
from hookstead.gateway.openapi import describe
from hookstead.gateway.operate import Operate
from hookstead.gateway.problems import Problem
from hookstead.gateway.quota import IngestQuota
from hookstead.gateway.router import Route, Router, Subject, everything, named
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
        object_name=ObjectNames(lambda: engine.config).of_type,
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
                needs=Permission.PUBLISH,
                subject=None,
                body_limit=bounds.event_bytes,
            ),
            Route(
                method="POST",
                path="/v1/events/batch",
                handler=handlers.batch,
                needs=Permission.PUBLISH,
                subject=None,
                body_limit=bounds.batch_bytes,
            ),
            _get("/v1/environment", objects.environment),
            _get("/v1/endpoints", objects.endpoints),
            _get("/v1/endpoints/{name}", objects.endpoint, subject=named),
            _get("/v1/channels", objects.channels),
            _get("/v1/channels/{name}", objects.channel),
            _get("/v1/event-types", objects.event_types),
            _get("/v1/event-types/{name}", objects.event_type),
            _get("/v1/replays", objects.replays),
            _get("/v1/replays/{name}", objects.replay),
            _get("/v1/deliveries", history.deliveries, Permission.READ_DELIVERIES, subject=endpoint_asked_for),
            _get("/v1/deliveries/{id}", history.delivery, Permission.READ_DELIVERIES, subject=history.endpoint_of),
            _get("/v1/events", history.events, Permission.READ_PAYLOADS),
            _get("/v1/events/{id}", history.event, Permission.READ_PAYLOADS),
            _get("/v1/activity", history.activity),
            _get("/v1/activity/stream", stream.handle),
            _get("/v1/catalog", catalog.handle),
            Route(
                method="POST",
                path="/v1/deliveries/{id}/redeliver",
                handler=operate.redeliver,
                needs=Permission.REDELIVER,
                subject=history.endpoint_of,
            ),
            Route(
                method="POST",
                path="/v1/endpoints/{name}/test",
                handler=operate.test,
                needs=Permission.TEST,
                subject=named,
            ),
            Route(
                method="POST",
                path="/v1/endpoints/{name}/diagnose",
                handler=Diagnose(lambda: engine.config, store, clock.now_ms).handle,
                needs=Permission.READ,
                subject=named,
                body_limit=bounds.event_bytes,
            ),
            Route(
                method="DELETE",
                path="/v1/events/{id}/payload",
                handler=operate.erase,
                needs=Permission.ERASE_PAYLOADS,
            ),
            Route(method="GET", path="/openapi.json", handler=describe, needs=None),
        ]
    )


def _get(path: str, handler: Handler, needs: Permission = Permission.READ, *, subject: Subject = everything) -> Route:
    return Route(method="GET", path=path, handler=handler, needs=needs, subject=subject)
