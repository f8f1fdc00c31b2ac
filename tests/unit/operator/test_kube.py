"""The client of the API server: errors by what a caller can do, lists page by page."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from hookstead.operator.access import Access
from hookstead.operator.kube import (
    METADATA_LIST,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KubeClient,
    KubeError,
    NotFound,
    Throttled,
    Unavailable,
    kind_path,
)
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], **access: Any
) -> AsyncIterator[KubeClient]:
    """A client of a server whose every answer is the handler's."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with KubeClient(Access(server=f"http://127.0.0.1:{port}", **access)) as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (422, Invalid),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (418, KubeError),
    ],
)
async def test_an_error_status_is_an_error_by_what_can_be_done(status: int, error: type[KubeError]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Status", "message": "because"}, status=status)

    async with serving(answer) as client:
        with pytest.raises(error, match="because") as caught:
            await client.get("/x")
    assert caught.value.status == status
    assert type(caught.value) is error


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("900", 30.0), ("soon", 1.0), ("", 1.0)])
async def test_a_429_says_how_long_to_wait_within_bounds(header: str, seconds: float) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"retry-after": header})

    async with serving(answer) as client:
        with pytest.raises(Throttled) as caught:
            await client.get("/x")
    assert caught.value.retry_after == seconds


async def test_an_answer_that_is_not_json_is_no_answer() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async with serving(answer) as client:
        with pytest.raises(Unavailable, match="not JSON"):
            await client.get("/x")


async def test_nobody_there_is_unavailable() -> None:
    async with KubeClient(Access(server="http://127.0.0.1:1")) as client:
        with pytest.raises(Unavailable) as caught:
            await client.get("/x")
    assert caught.value.status == 0


async def test_a_redirect_is_not_followed() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/x"
        return web.Response(status=302, headers={"location": "/elsewhere"})

    async with serving(answer) as client:
        with pytest.raises(KubeError):
            await client.get("/x")


async def test_a_list_is_read_to_its_end_at_one_version() -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        assert request.headers["accept"] == METADATA_LIST
        first = "continue" not in request.query
        name = "a" if first else "b"
        meta = {"resourceVersion": "9", **({"continue": "more"} if first else {})}
        item = {"metadata": {"name": name, "uid": name, "resourceVersion": "5"}}
        return web.json_response({"metadata": meta, "items": [item]})

    async with serving(answer) as client:
        listing = await client.list_metadata(kind_path(Kind.ENDPOINT, "n"), label_selector="x=y")
    assert (listing.resource_version, sorted(listing.items)) == (9, ["a", "b"])
    assert [page.get("continue") for page in asked] == [None, "more"]
    assert all(page["labelSelector"] == "x=y" for page in asked)


async def test_a_token_file_that_was_replaced_is_used_at_the_next_request(tmp_path: Path) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["authorization"])
        return web.json_response({})

    path = tmp_path / "token"
    path.write_text("one")
    async with serving(answer, token_file=path) as client:
        await client.get("/x")
        path.write_text("two")
        await client.merge_patch("/x", {})
    assert seen == ["Bearer one", "Bearer two"]


async def test_a_watch_tells_every_event_however_it_is_cut_up() -> None:
    asked: list[dict[str, str]] = []
    long = "x" * 300_000

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        lines = b"".join(
            json.dumps({"type": kind, "object": {"name": name}}).encode() + b"\n"
            for kind, name in (("ADDED", "a"), ("MODIFIED", long), ("DELETED", "b"))
        )
        for cut in (lines[:7], lines[7:100_000], lines[100_000:]):
            await response.write(cut)
        return response

    async with serving(answer) as client:
        events = [event async for event in client.watch("/x", version=7, label_selector="a=b")]
    assert events == [("ADDED", {"name": "a"}), ("MODIFIED", {"name": long}), ("DELETED", {"name": "b"})]
    assert asked == [{"watch": "1", "resourceVersion": "7", "timeoutSeconds": "60", "labelSelector": "a=b"}]


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (410, "{}", Expired),
        (403, "{}", Forbidden),
        (200, '{"type":"ERROR","object":{"code":410,"message":"too old"}}\n', Expired),
        (200, "<html>\n", Unavailable),
    ],
)
async def test_a_watch_that_cannot_go_on_says_why(status: int, text: str, error: type[KubeError]) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with serving(answer) as client:
        with pytest.raises(error):
            assert [event async for event in client.watch("/x", version=7)] == []
