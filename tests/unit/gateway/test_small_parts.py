"""Router, parameters, quota, loopback, cursors, keys: the small parts, each by its law."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from hookstead.delivery.intake import OperateRefusal, RefusalKind
from hookstead.gateway import ingest, operate
from hookstead.gateway.authorize import (
    KeysUnreadable,
    OpenAuthorizer,
    Permission,
    StaticAuthorizer,
    bearer_token,
    read_keys,
)
from hookstead.gateway.cursors import read_cursor, write_cursor
from hookstead.gateway.exchange import Request, Response
from hookstead.gateway.loopback import foreign, is_loopback_host
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import BASE, Problem, ProblemError, ProblemKind, problem
from hookstead.gateway.quota import IngestQuota
from hookstead.gateway.router import Match, Route, Router


async def answer(_request: Request) -> Response:
    return Response(200)


def route(method: str, path: str) -> Route:
    return Route(method=method, path=path, handler=answer, needs=None)


ROUTER = Router([route("GET", "/a"), route("POST", "/a"), route("GET", "/a/{name}"), route("DELETE", "/a/{name}/b")])


@pytest.mark.parametrize(
    ("method", "path", "pattern", "names"),
    [
        ("GET", "/a", "/a", {}),
        ("POST", "/a", "/a", {}),
        ("HEAD", "/a", "/a", {}),
        ("GET", "/a/x", "/a/{name}", {"name": "x"}),
        ("GET", "/a/x%20%2Fy", "/a/{name}", {"name": "x /y"}),
        ("DELETE", "/a/x/b", "/a/{name}/b", {"name": "x"}),
    ],
)
def test_a_route_is_found_with_its_names(method: str, path: str, pattern: str, names: dict[str, str]) -> None:
    found = ROUTER.match(method, path)
    assert isinstance(found, Match)
    assert (found.route.path, found.names) == (pattern, names)


@pytest.mark.parametrize("path", ["/", "", "/a/", "/A", "/a/x/", "/a/x/c", "//a", "/a/x/b/c"])
def test_any_other_path_is_not_found(path: str) -> None:
    found = ROUTER.match("GET", path)
    assert isinstance(found, Problem)
    assert found.kind is ProblemKind.NOT_FOUND


def test_another_method_is_told_which_ones_there_are() -> None:
    found = ROUTER.match("PUT", "/a")
    assert isinstance(found, Problem)
    assert found.kind is ProblemKind.METHOD_NOT_ALLOWED
    assert dict(found.all_headers())["Allow"] == "GET, HEAD, POST"


class Colour(StrEnum):
    RED = "Red"
    GREEN = "Green"


def parameters(query: str, *known: str) -> Parameters:
    return Parameters(Request(method="GET", path="/x", headers=CIMultiDict(), query=query), known)


def test_parameters_are_read_as_what_they_are() -> None:
    given = parameters("a=1&c=Red&t=2026-01-31T12:00:00%2B01:00&n=7&limit=250", "a", "c", "t", "n", "limit", "none")
    assert given.text("a") == "1"
    assert given.text("none") is None
    assert given.choice("c", Colour) is Colour.RED
    assert given.time_ms("t") == 1_769_857_200_000
    assert given.whole("n", default=0, minimum=1, maximum=7) == 7
    assert given.limit() == 250


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("endpont=x", 'did you mean "endpoint"?'),
        ("endpoint=a&endpoint=b", "twice"),
        ("endpoint=", "empty"),
        ("endpoint=%ff", "percent-encoded"),
        ("endpoint", "name=value"),
        ("endpoint=" + "x" * 3000, "longer"),
        ("colour=red", "one of Red, Green"),
        ("limit=0", "1 to 250"),
        ("limit=251", "1 to 250"),
        ("limit=-1", "1 to 250"),
        ("limit=1e2", "1 to 250"),
        ("limit=%D9%A1", "1 to 250"),
        ("since=yesterday", "RFC 3339"),
        ("since=2026-01-31T12:00:00+01:00", "%2B"),
    ],
)
def test_a_bad_parameter_is_a_400_that_names_it(query: str, says: str) -> None:
    def read() -> None:
        given = parameters(query, "endpoint", "colour", "limit", "since")
        given.text("endpoint")
        given.choice("colour", Colour)
        given.limit()
        given.time_ms("since")

    with pytest.raises(ProblemError) as caught:
        read()
    assert caught.value.problem.status == 400
    assert says in caught.value.problem.detail


def test_a_cursor_is_good_for_its_own_list_only() -> None:
    cursor = write_cursor("/v1/endpoints", "2026-01-31T12:00:00Z", "a/b")
    assert read_cursor("/v1/endpoints", cursor, values=2) == ("2026-01-31T12:00:00Z", "a/b")
    for bad in (cursor + "A", cursor[:-2], "x", "!", "", write_cursor("/v1/channels", "a", "b"), "é"):
        with pytest.raises(ProblemError):
            read_cursor("/v1/endpoints", bad, values=2)


def admitted(quota: IngestQuota, *, events: int, per_second: float, seconds: float) -> int:
    return sum(
        events for tick in range(int(per_second * seconds)) if quota.take(events, now=1000 + tick / per_second) == 0
    )


@pytest.mark.parametrize("rate", [1, 3, 10, 250, 10_000])
def test_the_quota_holds_over_any_second_and_is_reached(rate: int) -> None:
    # With a burst of one event, what comes late is lost: only a dense stream uses the whole rate.
    density = 100 if rate < 250 else 3
    taken = admitted(IngestQuota(rate), events=1, per_second=rate * density + 1, seconds=10)
    assert rate * 9.8 <= taken <= rate * 10 + max(1, rate * 0.1) + 1


def test_a_batch_beyond_the_burst_passes_and_is_paid_for() -> None:
    quota = IngestQuota(100)
    assert quota.take(1000, now=0) == 0
    wait = quota.take(1, now=0)
    assert 9.9 <= wait <= 10
    assert quota.take(1, now=wait) == 0


def test_an_idle_quota_saves_nothing_up() -> None:
    quota = IngestQuota(10)
    assert quota.take(1, now=0) == 0
    burst = sum(quota.take(1, now=1000) == 0 for _ in range(20))
    assert burst == 1


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "api.localhost", "localhost.", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]
)
def test_this_machine_is_loopback(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "127.1", "localhost.evil.test", "notlocalhost", "10.0.0.1", "::", "2130706433"]
)
def test_nothing_else_is_loopback(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("localhost:8080", None, True),
        ("[::1]:8080", None, True),
        ("127.0.0.1", None, True),
        ("localhost:8080", "http://localhost:8080", True),
        ("LOCALHOST:8080", "http://localhost:8080", True),
        ("localhost:8080", "http://localhost:3000", False),
        ("localhost:8080", "https://evil.test", False),
        ("localhost:8080", "null", False),
        ("localhost:8080", "", False),
        ("evil.test:8080", None, False),
        ("evil.test", "http://evil.test", False),
        (None, None, False),
        ("", None, False),
    ],
)
def test_foreign_pages_and_names_are_turned_away(host: str | None, origin: str | None, allowed: bool) -> None:
    refusal = foreign(host, origin)
    assert (refusal is None) == allowed
    assert refusal is None or refusal.status == 403


def keys_file(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "keys"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def entry(key: str, *scopes: str, name: str = "shop") -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": list(scopes)}


async def test_a_static_key_may_do_what_its_scopes_say(tmp_path: Path) -> None:
    path = keys_file(tmp_path, {"keys": [entry("secret-1", "publish"), entry("secret-2", "read", "events", name="ui")]})
    authorizer = StaticAuthorizer(read_keys(path))
    shop = await authorizer.identify("Bearer secret-1")
    ui = await authorizer.identify("bearer secret-2")
    assert not isinstance(shop, Problem)
    assert not isinstance(ui, Problem)
    assert await shop.permit(Permission.PUBLISH, "any") is None
    assert await ui.permit(Permission.READ_PAYLOADS) is None
    refusal = await shop.permit(Permission.TEST)
    assert refusal == shop.refusal(Permission.TEST)
    assert refusal is not None
    assert refusal.status == 403
    assert refusal.extra["missingScope"] == "operate"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic c2VjcmV0LTE=",
        "Bearer secret-2",
        "secret-1",
        "Bearer " + "x" * 9000,
        "Bearer \udcff",
    ],
)
async def test_anything_but_a_known_key_is_a_401_with_a_challenge(tmp_path: Path, header: str | None) -> None:
    authorizer = StaticAuthorizer(read_keys(keys_file(tmp_path, {"keys": [entry("secret-1", "publish")]})))
    refusal = await authorizer.identify(header)
    assert isinstance(refusal, Problem)
    assert refusal.status == 401
    assert "Bearer" in dict(refusal.all_headers())["WWW-Authenticate"]


def test_keys_may_be_written_as_yaml(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    path = keys_file(tmp_path, f"keys:\n  - name: shop\n    sha256: '{digest}'\n    scopes: [publish]\n")
    assert [key.caller.name for key in read_keys(path)] == ["shop"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "neither JSON nor YAML"),
        ({}, "expected"),
        ({"keys": []}, "at least one"),
        ({"keys": ["x"]}, "keys[0]"),
        ({"keys": [{**entry("k", "publish"), "scops": 1}]}, 'did you mean "scopes"?'),
        ({"keys": [{**entry("k", "publish"), "name": ""}]}, "keys[0].name"),
        ({"keys": [{**entry("k", "publish"), "sha256": "abc"}]}, "64 hexadecimal"),
        ({"keys": [entry("k", "pubish")]}, 'did you mean "publish"?'),
        ({"keys": [entry("k")]}, "scopes"),
        ({"keys": [entry("k", "read"), entry("k", "read")]}, "same sha256"),
    ],
)
def test_a_broken_file_of_keys_is_refused_by_place(tmp_path: Path, document: Any, says: str) -> None:
    with pytest.raises(KeysUnreadable) as caught:
        read_keys(keys_file(tmp_path, document))
    assert says in str(caught.value)


async def test_mode_none_lets_everybody_do_everything() -> None:
    authorizer = OpenAuthorizer()
    caller = await authorizer.identify(None)
    assert not isinstance(caller, Problem)
    assert [await caller.permit(permission) for permission in Permission if caller.refusal(permission)] == []


def test_a_bearer_token_is_what_follows_the_scheme() -> None:
    assert bearer_token("Bearer  a b ") == "a b"
    assert bearer_token("BEARER x") == "x"
    assert bearer_token("Bearerx") is None


def test_every_kind_of_problem_has_a_uri_of_its_own() -> None:
    uris = [kind.uri for kind in ProblemKind]
    assert len(set(uris)) == len(uris)
    assert all(uri.startswith(BASE) for uri in uris)


@pytest.mark.parametrize("kind", ProblemKind)
def test_429_503_and_507_always_carry_retry_after(kind: ProblemKind) -> None:
    headers = dict(problem(kind, "x").all_headers())
    assert ("Retry-After" in headers) == (kind.status in (429, 503, 507))


def test_extra_members_never_hide_the_standard_ones() -> None:
    document = problem(ProblemKind.NOT_FOUND, "x", status=1, type="y", more=2).document()
    assert (document["status"], document["more"]) == (404, 2)
    assert document["type"] == ProblemKind.NOT_FOUND.uri


def test_every_refusal_of_the_engine_has_an_answer() -> None:
    assert set(operate.REFUSALS) == set(OperateRefusal)
    assert set(ingest.KINDS) == set(RefusalKind)
