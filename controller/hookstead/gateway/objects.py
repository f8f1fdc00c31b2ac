"""The environment's objects as the query API shows them: the fields of `status`, live, at the top level.

Conditions keep their `lastTransitionTime` between two looks of one gateway process; a status flip between them is
dated by the look that found it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from hookstead.config import serial
from hookstead.config import status as statuses
from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    Identity,
    ReplayConfig,
)
from hookstead.config.report import EndpointReport, EnvironmentActivity, NamedActivity, ReplayReport, Running
from hookstead.config.status import PROGRAMMED, Status
from hookstead.gateway.cursors import read_cursor, write_cursor
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import ProblemError, ProblemKind, refuse


class Source(Protocol):
    """What is needed of the engine."""

    @property
    def config(self) -> DeliveryConfig | None: ...
    @property
    def running(self) -> Running: ...
    async def look_up(self, *, endpoints: Collection[str] | None = (), replays: Collection[str] = ()) -> None: ...
    def endpoint_report(self, name: str) -> EndpointReport | None: ...
    def replay_report(self, uid: str) -> ReplayReport | None: ...
    def channel_activity(self) -> tuple[NamedActivity, ...]: ...
    def event_type_activity(self) -> tuple[NamedActivity, ...]: ...
    def environment_activity(self) -> EnvironmentActivity: ...


class _Named(Protocol):
    @property
    def identity(self) -> Identity: ...


Object = TypeVar("Object", bound=_Named)
_PAGING: Final = ("cursor", "limit")


@dataclass(slots=True)
class Objects:
    """Handlers over the running configuration. `now_ms` is the wall clock."""

    source: Source
    now_ms: Callable[[], int]
    _before: dict[tuple[str, str, str], Status] = field(default_factory=dict)
    _size: statuses.ConfigSize = field(default_factory=statuses.ConfigSize)

    async def environment(self, request: Request) -> Response:
        """`GET /v1/environment`"""
        Parameters(request, ())
        config = self._config()
        if config.environment is None:
            raise refuse(
                ProblemKind.NOT_FOUND,
                f'No WebhookEnvironment "default" in namespace {config.namespace}: apply one to switch webhooks on.',
            )
        return json_response(await self._environment(config, config.environment))

    async def endpoints(self, request: Request) -> Response:
        """`GET /v1/endpoints`"""
        config = self._config()
        return await self._list(
            request,
            config.endpoints,
            lambda one: self._endpoint(config, one),
            before=lambda page: self.source.look_up(endpoints=[one.identity.name for one in page]),
        )

    async def endpoint(self, request: Request) -> Response:
        """`GET /v1/endpoints/{name}`"""
        config = self._config()
        endpoint = _find(request, config.endpoints, "WebhookEndpoint")
        await self.source.look_up(endpoints=[endpoint.identity.name])
        return json_response(self._endpoint(config, endpoint))

    async def channels(self, request: Request) -> Response:
        """`GET /v1/channels`"""
        config, show = self._channel_view()
        return await self._list(request, config.channels, show)

    async def channel(self, request: Request) -> Response:
        """`GET /v1/channels/{name}`"""
        config, show = self._channel_view()
        return json_response(show(_find(request, config.channels, "WebhookChannel")))

    async def event_types(self, request: Request) -> Response:
        """`GET /v1/event-types`"""
        config, show = self._event_type_view()
        return await self._list(request, config.event_types, show)

    async def event_type(self, request: Request) -> Response:
        """`GET /v1/event-types/{name}`"""
        config, show = self._event_type_view()
        return json_response(show(_find(request, config.event_types, "WebhookEventType")))

    async def replays(self, request: Request) -> Response:
        """`GET /v1/replays`"""
        config, show = self._replay_view()
        return await self._list(
            request,
            config.replays,
            show,
            before=lambda page: self.source.look_up(replays=[one.identity.uid for one in page]),
        )

    async def replay(self, request: Request) -> Response:
        """`GET /v1/replays/{name}`"""
        config, show = self._replay_view()
        replay = _find(request, config.replays, "WebhookReplay")
        await self.source.look_up(replays=[replay.identity.uid])
        return json_response(show(replay))

    def _config(self) -> DeliveryConfig:
        config = self.source.config
        if config is None:
            raise unconfigured()
        return config

    async def _environment(self, config: DeliveryConfig, environment: EnvironmentConfig) -> Status:
        running = self.source.running
        endpoints = await self._count_endpoints(config)
        return self._shown(
            "environment",
            environment.identity,
            lambda previous, now: statuses.environment_status(
                environment,
                endpoints=endpoints,
                channels=len(config.channels),
                event_types=len(config.event_types),
                gateways=statuses.Gateways(replicas=1, programmed_replicas=1, version=running.version),
                config=self._config_size(config, running.hash),
                activity=self.source.environment_activity(),
                programmed=PROGRAMMED,
                previous=previous,
                now=now,
            ),
            {"state": environment.state, "displayName": environment.display_name},
        )

    def _config_size(self, config: DeliveryConfig, hash_: str) -> statuses.ConfigSize:
        """As the operator tells it of the same configuration; encoded once for each."""
        if self._size.hash != hash_:
            self._size = statuses.ConfigSize(hash=hash_, bytes=len(serial.encode(config)))
        return self._size

    async def _count_endpoints(self, config: DeliveryConfig) -> statuses.EndpointCounts:
        await self.source.look_up(endpoints=None)
        ready = active = failing = 0
        for index, endpoint in enumerate(config.endpoints):
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)
            conditions = {one["type"]: one["status"] for one in self._endpoint(config, endpoint)["conditions"]}
            ready += conditions.get("Ready") == "True"
            active += conditions.get("Active") == "True"
            failing += conditions.get("Healthy") == "False"
        return statuses.EndpointCounts(total=len(config.endpoints), ready=ready, active=active, failing=failing)

    def _endpoint(self, config: DeliveryConfig, endpoint: EndpointConfig) -> Status:
        return self._shown(
            "endpoint",
            endpoint.identity,
            lambda previous, now: statuses.endpoint_status(
                endpoint,
                environment=config.environment,
                report=self.source.endpoint_report(endpoint.identity.name),
                programmed=PROGRAMMED,
                previous=previous,
                now=now,
            ),
            {"recentDeliveries": [], "description": endpoint.description},
        )

    def _channel_view(self) -> tuple[DeliveryConfig, Callable[[ChannelConfig], Status]]:
        config = self._config()
        activity = {one.name: one for one in self.source.channel_activity()}
        counts = statuses.endpoints_by_channel(config)

        def show(channel: ChannelConfig) -> Status:
            return self._shown(
                "channel",
                channel.identity,
                lambda previous, now: statuses.channel_status(
                    channel,
                    environment=config.environment,
                    activity=activity.get(channel.channel_name, NamedActivity(name=channel.channel_name)),
                    endpoints=counts.get(channel.channel_name, 0),
                    programmed=PROGRAMMED,
                    previous=previous,
                    now=now,
                ),
                {"channelName": channel.channel_name, "description": channel.description},
            )

        return config, show

    def _event_type_view(self) -> tuple[DeliveryConfig, Callable[[EventTypeConfig], Status]]:
        config = self._config()
        activity = {one.name: one for one in self.source.event_type_activity()}
        counts = statuses.endpoints_by_event_type(config)

        def show(entry: EventTypeConfig) -> Status:
            return self._shown(
                "eventType",
                entry.identity,
                lambda previous, now: statuses.event_type_status(
                    entry,
                    environment=config.environment,
                    activity=activity.get(entry.type, NamedActivity(name=entry.type)),
                    endpoints=counts.get(entry.type, 0),
                    programmed=PROGRAMMED,
                    previous=previous,
                    now=now,
                ),
                {"type": entry.type, "description": entry.description, "lifecycle": entry.lifecycle},
            )

        return config, show

    def _replay_view(self) -> tuple[DeliveryConfig, Callable[[ReplayConfig], Status]]:
        config = self._config()

        def show(replay: ReplayConfig) -> Status:
            return self._shown(
                "replay",
                replay.identity,
                lambda previous, now: statuses.replay_status(
                    replay,
                    environment=config.environment,
                    report=self.source.replay_report(replay.identity.uid),
                    programmed=PROGRAMMED,
                    previous=previous,
                    now=now,
                ),
                {"endpoint": replay.endpoint, "select": replay.select},
            )

        return config, show

    def _shown(
        self,
        kind: str,
        identity: Identity,
        build: Callable[[Mapping[str, Any], datetime], Status],
        also: Mapping[str, Any],
    ) -> Status:
        key = (kind, identity.name, identity.uid)
        now = datetime.fromtimestamp(self.now_ms() / 1000, tz=UTC)
        status = build(self._before.get(key, {}), now)
        self._remember(key, status)
        extras = {name: value for name, value in also.items() if value is not None}
        return {"name": identity.name, **extras, **status}

    def _remember(self, key: tuple[str, str, str], status: Status) -> None:
        if key not in self._before and len(self._before) >= _REMEMBERED:
            self._before.pop(next(iter(self._before)))
        self._before[key] = status

    async def _list(
        self,
        request: Request,
        objects: Sequence[Object],
        show: Callable[[Object], Mapping[str, Any]],
        *,
        before: Callable[[Sequence[Object]], Awaitable[None]] | None = None,
    ) -> Response:
        """A page. `before` is given its objects, to find out what is to be shown of them."""
        given = Parameters(request, _PAGING)
        limit = given.limit()
        rest = _after(request.path, newest_first(objects), given.cursor())
        more = len(rest) > limit
        if before is not None:
            await before(rest[:limit])
        items = [show(one) for one in rest[:limit]]
        return json_response({"items": items, "nextCursor": _cursor(request.path, rest[limit - 1]) if more else None})


_BREATH: Final = 100
"""Endpoints that are judged before others may run; each takes some 50 µs."""
_REMEMBERED: Final = 50_000
"""Objects whose last look is kept; those of former configurations leave first."""


def newest_first(objects: Iterable[Object]) -> list[Object]:
    """By creation, newest first; objects of one second, or without a time, by name."""
    by_name = sorted(objects, key=lambda one: one.identity.name)
    return sorted(by_name, key=lambda one: one.identity.creation_time or "", reverse=True)


def unconfigured() -> ProblemError:
    """Nothing is known yet: neither from a saved copy, nor from a mounted one, nor from the operator."""
    return refuse(ProblemKind.NOT_READY, "The gateway has no configuration yet: the operator brings it; try again.")


def _find(request: Request, objects: Iterable[Object], kind: str) -> Object:
    Parameters(request, ())
    name = request.names["name"]
    for one in objects:
        if one.identity.name == name:
            return one
    raise refuse(ProblemKind.NOT_FOUND, f"No {kind} {name[:100]!r} here.")


def _cursor(listing: str, last: _Named) -> str:
    return write_cursor(listing, last.identity.creation_time or "", last.identity.name)


def _after(listing: str, ordered: list[Object], cursor: str | None) -> list[Object]:
    """What comes behind the cursor's object, which need not exist any more."""
    if cursor is None:
        return ordered
    time, name = read_cursor(listing, cursor, values=2)
    return [one for one in ordered if _is_behind(one, time, name)]


def _is_behind(one: _Named, time: str, name: str) -> bool:
    created = one.identity.creation_time or ""
    return created < time or (created == time and one.identity.name > name)
