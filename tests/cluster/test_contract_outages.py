"""What goes on, and what comes back, while the API server, the operator or the gateway is away."""

from __future__ import annotations

import base64
import gzip
import json
import re
import ssl
import time
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest

from cluster.apiserver import ApiServer
from cluster.conftest import CRDS
from cluster.contract_site import (
    ENDPOINT,
    ENVIRONMENT,
    REPLAY,
    Site,
    conditions,
    environment,
    keyed,
    new_key,
    replay,
    running_site,
    secret,
)
from contract.processes import Receiver, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Named `api_server` so that it is skipped with the others; this one may be killed, so it has its own."""
    del api_server
    folder = tmp_path_factory.mktemp("outages")
    with ApiServer(directory=folder / "cluster", controller_manager=False) as server:
        server.apply_crds(CRDS)
        yield from running_site(server, folder)


def internal(site: Site, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """One request to the internal port, with what the internal Secret has."""
    data = {key: base64.b64decode(value) for key, value in (site.secret("hookstead-internal") or {})["data"].items()}
    context = ssl.create_default_context(cadata=data["ca.crt"].decode())
    connection = _Named("127.0.0.1", site.internal, context=context, timeout=10)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"authorization": f"Bearer {data['token'].decode().strip()}", **fields}
    try:
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class _Named(HTTPSConnection):
    """Verifies the certificate under `hookstead-internal`, whatever was dialled."""

    def connect(self) -> None:
        import socket

        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname="hookstead-internal")  # type: ignore[attr-defined]


def stored(site: Site) -> dict[str, Any]:
    """The configuration Secrets by name."""
    items = site.server.request("GET", site.path("Secret"))["items"]
    return {one["metadata"]["name"]: one for one in items if one["metadata"]["name"].startswith("hookstead-config-")}


def runs(site: Site) -> dict[str, Any]:
    status, body = internal(site, "GET", "/internal/v1/report")
    assert status == 200
    found: dict[str, Any] = body["running"]
    return found


def test_the_internal_port_wants_the_certificate_and_the_token(site: Site) -> None:
    body = site.secret("hookstead-internal")
    assert body is not None
    assert {"token", "ca.crt", "tls.crt", "tls.key"} <= body["data"].keys()
    assert internal(site, "GET", "/internal/v1/report", authorization="Bearer nonsense")[0] == 401
    assert internal(site, "PUT", "/internal/v1/config", b"{}", authorization="Bearer nonsense")[0] == 401


def test_the_configuration_is_stored_in_shards_of_the_stated_form(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)

    def whole() -> bool:
        found = stored(site)
        assert all(re.fullmatch(r"hookstead-config-\d+", one) for one in found)
        data = found["hookstead-config-0"].get("data") or {}
        if "config-0.json.gz" not in data:
            return False
        document = gzip.decompress(base64.b64decode(data["config-0.json.gz"]))
        json.loads(document)
        return name.encode() in document

    site.eventually(whole, "the endpoint in hookstead-config-0")


def test_an_older_epoch_is_refused_and_changes_nothing(site: Site) -> None:
    before = runs(site)
    data = stored(site)["hookstead-config-0"]["data"]["config-0.json.gz"]
    status, body = internal(
        site,
        "PUT",
        "/internal/v1/config",
        base64.b64decode(data),
        content_type="application/json",
        content_encoding="gzip",
        hookstead_epoch="0.1",
        hookstead_hash=before["hash"],
    )
    assert status == 409
    assert body["epoch"] == before["epoch"]
    assert runs(site)["hash"] == before["hash"]


def test_deletion_waits_for_nobody_while_the_operator_is_away(site: Site) -> None:
    gone, kept, late = site.name(), site.name(), site.name()
    site.apply(site.endpoint(gone, delivery={"retry": {"scheduleSeconds": [600]}}), site.endpoint(kept))
    site.ready(gone, kept)
    site.receiver.on(f"/{gone}", 500)
    site.publish(gone)
    site.receiver.wait(f"/{gone}", 1)
    assert site.operator is not None
    site.operator.kill()
    began = time.monotonic()
    site.kubectl("delete", "whep", gone, "--timeout=10s")
    assert time.monotonic() - began < 8
    site.publish(kept)
    site.receiver.wait(f"/{kept}", 1)
    site.apply(site.endpoint(late))
    term = runs(site)["epoch"]["term"]
    mark = site.server.audit_mark()
    site.start_operator()
    site.ready(late, seconds=30)
    assert runs(site)["epoch"]["term"] > term
    site.eventually(lambda: site.publish(gone)["endpoints"] == 0, "the deleted endpoint gets nothing")
    site.eventually(
        lambda: (
            site.ask("GET", "/v1/deliveries", query={"endpoint": gone}).json["items"][0]["cancelReason"]
            == "EndpointDeleted"
        ),
        "its delivery is cancelled",
    )
    assert conditions(site.get(ENDPOINT, kept))["Programmed"] == ("True", "Programmed")
    statuses = [(one.resource, one.name) for one in site.writes(mark) if one.subresource == "status"]
    assert ("webhookendpoints", late) in statuses
    flips = site.get(ENDPOINT, kept)["status"]["conditions"]
    assert len(statuses) <= 6, statuses
    assert flips


def test_a_restart_of_the_operator_alone_changes_nothing(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    time.sleep(2)
    before = {item["metadata"]["name"]: item["status"]["conditions"] for item in all_endpoints(site)}
    running = runs(site)
    assert site.operator is not None
    site.operator.kill()
    mark = site.server.audit_mark()
    site.start_operator()
    site.eventually(lambda: runs(site)["epoch"] != running["epoch"], "a newer epoch", seconds=30)
    time.sleep(3)
    assert runs(site)["hash"] == running["hash"]
    assert {item["metadata"]["name"]: item["status"]["conditions"] for item in all_endpoints(site)} == before
    statuses = [one for one in site.writes(mark) if one.subresource == "status" and one.resource == "webhookendpoints"]
    assert statuses == []


def all_endpoints(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.server.request("GET", site.path(ENDPOINT))["items"]
    return found


def test_the_last_good_configuration_delivers_while_the_api_server_is_away(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    assert site.gateway is not None
    assert site.operator is not None
    site.server.kill()
    try:
        for _ in range(5):
            site.publish(name)
        site.receiver.wait(f"/{name}", 5)
        time.sleep(1)
        # A gateway that restarts meanwhile starts from its own saved copy.
        site.gateway.kill()
        restart_gateway(site)
        site.publish(name)
        site.receiver.wait(f"/{name}", 6)
    finally:
        site.server.restart()
    assert site.operator.running, site.operator.last_words()
    later = site.name()
    site.apply(site.endpoint(later))
    site.ready(later, seconds=40)
    site.publish(later)
    site.receiver.wait(f"/{later}", 1)
    told = site.expect(ENDPOINT, name, seconds=20, Healthy=("True", "Succeeding"))
    assert told["activity"]["succeeded"] >= 1


def restart_gateway(site: Site) -> None:
    """Without asking the API server for anything: the mount is there already."""
    mount = site.mount
    site.mount = lambda name, folder=None: site.folder / name  # type: ignore[method-assign]
    try:
        site.start_gateway()
    finally:
        site.mount = mount  # type: ignore[method-assign]


def test_a_gateway_restarts_without_the_operator_and_catches_up(site: Site) -> None:
    name, later = site.name(), site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    assert site.operator is not None
    assert site.gateway is not None
    site.operator.kill()
    site.gateway.kill()
    site.apply(site.endpoint(later))
    restart_gateway(site)
    site.publish(name)
    site.receiver.wait(f"/{name}", 1)
    assert site.publish(later)["endpoints"] == 0
    site.start_operator()
    site.ready(later, seconds=30)
    assert site.publish(later)["endpoints"] == 1


@pytest.mark.parametrize("only_shards", [False, True])
def test_a_gateway_with_an_empty_disk_boots_from_the_mounted_secrets(
    site: Site, tmp_path: Path, only_shards: bool
) -> None:
    """`only_shards`: a mount that projects nothing but the key that the contract names."""
    name = site.name()
    site.apply(site.endpoint(name, signing=keyed(("main", name))), secret(name, key=new_key()))
    site.ready(name)
    digest = runs(site)["hash"]
    site.eventually(
        lambda: (
            stored(site)["hookstead-config-0"]["metadata"]["annotations"].get("hookstead.dev/config-hash") == digest
        ),
        "the stored configuration is the one that runs",
    )
    mounted = tmp_path / "config"
    mounted.mkdir()
    for number in range(len(stored(site))):
        folder = site.mount(f"hookstead-config-{number}", mounted / str(number))
        for path in folder.iterdir() if only_shards else ():
            if not path.name.endswith(".json.gz"):
                path.unlink()
    other = Site(server=site.server, namespace=site.namespace, folder=tmp_path, receiver=site.receiver)
    try:
        other.start_gateway("--config-dir", mounted)
        assert other.publish(name)["endpoints"] == 1
        site.receiver.wait(f"/{name}", 1)
        assert ask(f"127.0.0.1:{other.admin}", "GET", "/readyz").status == 200
    finally:
        other.close()


def test_a_replay_survives_restarts_and_is_never_run_again(site: Site) -> None:
    name = site.name()
    site.receiver.on(f"/{name}", 500)
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [1]}}))
    site.ready(name)
    ids = sorted(site.publish(name)["id"] for _ in range(6))
    site.eventually(lambda: {d["status"] for d in site.deliveries(name)} == {"DeadLettered"}, "dead letters")
    site.receiver.on(f"/{name}", 204)
    before = len(site.receiver.received(f"/{name}"))
    site.apply(replay(name, name, requestsPerSecond=2))
    site.receiver.wait(f"/{name}", before + 2)
    assert site.gateway is not None
    assert site.operator is not None
    site.gateway.kill()
    site.operator.kill()
    restart_gateway(site)
    site.start_operator()
    told = site.expect(REPLAY, name, seconds=30, Complete=("True", "Completed"))
    assert (told["selected"], told["delivered"], told["failed"]) == (6, 6, 0)
    received = [one.id for one in site.receiver.received(f"/{name}")[before:]]
    assert sorted(set(received)) == ids
    assert len(received) <= 8, "only what was in flight may come twice"
    site.gateway.kill()
    restart_gateway(site)
    time.sleep(2)
    assert len(site.receiver.received(f"/{name}")) == before + len(received)
    assert conditions(site.get(REPLAY, name))["Complete"] == ("True", "Completed")


def test_without_its_gateway_nothing_new_is_programmed(site: Site) -> None:
    name = site.name()
    assert site.gateway is not None
    assert site.gateway.terminate(grace_seconds=30) == 0
    site.apply(site.endpoint(name))
    site.expect(
        ENDPOINT,
        name,
        Programmed=("False", "GatewayUnavailable"),
        Ready=("False", "GatewayUnavailable"),
        Reconciling=("True", "GatewayUnavailable"),
        Stalled=None,
    )
    site.expect(ENVIRONMENT, "default", seconds=25, Programmed=("False", "GatewayUnavailable"))
    restart_gateway(site)
    site.expect(ENDPOINT, name, seconds=25, Programmed=("True", "Programmed"), Ready=("True", "Ready"))
    told = site.expect(ENVIRONMENT, "default", seconds=25, Programmed=("True", "Programmed"))
    assert told["gateway"]["replicas"] == told["gateway"]["programmedReplicas"] == 1


def test_the_internal_secret_may_have_another_name_and_be_given(site: Site, tmp_path: Path) -> None:
    """An existingSecret: read and never touched."""
    given = site.secret("hookstead-internal")
    assert given is not None
    namespace = site.server.create_namespace(f"{site.namespace}-named")
    other = Site(
        server=site.server,
        namespace=namespace,
        folder=tmp_path,
        receiver=Receiver(),
        internal_secret="our-own",
    )
    data = {key: base64.b64decode(value).decode() for key, value in given["data"].items()}
    other.apply({**secret("our-own", labels={}, **data)}, environment())
    before = other.secret("our-own")
    try:
        other.start_operator("--internal-secret", "our-own")
        other.start_gateway()
        other.ready("default", kind=ENVIRONMENT, seconds=30)
        assert other.secret("our-own") == before
        assert other.secret("hookstead-internal") is None
    finally:
        other.close()
        other.receiver.close()
