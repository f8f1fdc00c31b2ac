"""Contract, section 3, "Who may": `--auth static`, and the gateway's own ports."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from contract.mounted import mount
from contract.processes import Gateway, ask, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.processes import NewStore

SCOPES = ("publish", "read", "events", "operate")
ROUTES = [
    ("POST", "/v1/events", "publish"),
    ("POST", "/v1/events/batch", "publish"),
    ("GET", "/v1/endpoints", "read"),
    ("GET", "/v1/endpoints/shop", "read"),
    ("GET", "/v1/environment", "read"),
    ("GET", "/v1/channels", "read"),
    ("GET", "/v1/event-types", "read"),
    ("GET", "/v1/replays", "read"),
    ("GET", "/v1/deliveries", "read"),
    ("GET", "/v1/activity", "read"),
    ("GET", "/v1/catalog", "read"),
    ("GET", "/v1/events", "events"),
    ("GET", "/v1/events/msg_x", "events"),
    ("POST", "/v1/deliveries/dlv_x/redeliver", "operate"),
    ("POST", "/v1/endpoints/shop/test", "operate"),
    ("DELETE", "/v1/events/msg_x/payload", "operate"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    keys = [
        {"name": scope, "sha256": hashlib.sha256(f"key-{scope}".encode()).hexdigest(), "scopes": [scope]}
        for scope in SCOPES
    ]
    (folder / "keys.json").write_text(json.dumps({"keys": keys}))
    flags = ("--auth", "static", "--auth-keys", folder / "keys.json", "--min-free-bytes", "0")
    with Gateway(
        folder, *flags, *mount(folder, ("shop", "http://127.0.0.1:9/hook"), store=new_store(folder))
    ) as gateway:
        yield gateway


def call(gateway: Gateway, method: str, path: str, token: str | None, scheme: str = "Bearer") -> int:
    document = {"type": "a.b", "data": {}}
    body = json.dumps([document] if path.endswith("batch") else document if path == "/v1/events" else {}).encode()
    headers = {"content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"{scheme} {token}"
    reply = gateway.ask(method, path, body=body if method == "POST" else None, headers=headers)
    if reply.status in (401, 403):
        reply.problem(reply.status)
    if reply.status == 401:
        assert reply.headers["www-authenticate"].startswith("Bearer")
    return reply.status


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_each_route_wants_its_scope(guarded: Gateway, method: str, path: str, scope: str) -> None:
    for held in SCOPES:
        status = call(guarded, method, path, f"key-{held}")
        if held == scope:
            assert status not in (401, 403), (held, status)
        else:
            assert status == 403, (held, status)
    for token in (None, "wrong", "", "key-"):
        assert call(guarded, method, path, token) == 401
    assert call(guarded, method, path, f"key-{scope}", scheme="Basic") == 401


def test_who_may_read_deliveries_but_not_events_sees_no_response_body(guarded: Gateway) -> None:
    found = guarded.ask("GET", "/v1/deliveries", headers={"authorization": "Bearer key-read"}).json
    assert set(found) == {"items", "nextCursor"}


def test_the_internal_port_wants_its_token_and_answers_nothing_else(guarded: Gateway) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer key-operate"}):
        for method, path in (("GET", "/internal/v1/report"), ("PUT", "/internal/v1/config")):
            body = b"x" if method == "PUT" else None
            ask(guarded.internal_address, method, path, headers=headers, body=body).problem(401)
    good = {"authorization": "Bearer internal-token"}
    assert ask(guarded.internal_address, "GET", "/internal/v1/report", headers=good).status == 200
    ask(guarded.internal_address, "GET", "/v1/events", headers=good).problem(404)
    guarded.ask("GET", "/internal/v1/report", headers=good).problem(404)


def test_a_broken_configuration_is_refused_and_the_last_one_stays(guarded: Gateway) -> None:
    good = {"authorization": "Bearer internal-token"}
    reply = ask(guarded.internal_address, "PUT", "/internal/v1/config", headers=good, body=b"rubbish")
    assert 400 <= reply.status < 500
    assert call(guarded, "GET", "/v1/endpoints/shop", "key-read") == 200


def test_an_open_gateway_listens_on_loopback_only_and_refuses_foreign_hosts(
    tmp_path: Path, new_store: NewStore
) -> None:
    ended = run("gateway", "--auth", "none", "--store", f"sqlite:{tmp_path}/s.db", "--listen", "0.0.0.0:0")
    assert ended.returncode == 2
    with Gateway(
        tmp_path, "--auth", "none", *mount(tmp_path, store=new_store(tmp_path)), "--min-free-bytes", "0"
    ) as gateway:
        gateway.ask("GET", "/v1/endpoints", headers={"Host": "example.com"}).problem(403)


@pytest.mark.dev_alone  # on PostgreSQL it is welcome
def test_a_second_gateway_on_one_store_exits_1(tmp_path: Path, new_store: NewStore) -> None:
    flags = ("--auth", "none", *mount(tmp_path, store=new_store(tmp_path)), "--min-free-bytes", "0")
    ports = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0")
    with Gateway(tmp_path, *flags):
        ended = run("gateway", *flags, *ports)
        assert ended.returncode == 1
        assert ended.stderr.strip()
        assert "Traceback" not in ended.stderr


def test_without_a_configuration_it_is_not_ready(tmp_path: Path, new_store: NewStore) -> None:
    flags = ("--auth", "none", "--store", new_store(tmp_path), "--min-free-bytes", "0")
    with Gateway(tmp_path, *flags) as gateway:
        ask(gateway.admin_address, "GET", "/readyz").problem(503)
        assert ask(gateway.admin_address, "GET", "/healthz").status == 200
        gateway.post("/v1/events", b'{"type":"a.b","data":{}}').problem(503)
