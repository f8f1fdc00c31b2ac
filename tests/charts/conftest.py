"""One worker for what needs the API server, into which the chart of definitions was installed; one for all else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from charts.helm import CRDS, install
from charts.releases import COMMON, Release
from cluster.apiserver import ApiServer
from cluster.contract_site import channel, event_type, manifest
from contract.processes import Receiver
from store.postgres_fixtures import postgres_server
from toolchain.binaries import ProgramMissingError, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["postgres_server"]

HERE = Path(__file__).parent
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm", "kubeconform")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            alone = "cluster" not in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("charts-rendered" if alone else "charts"))


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    """Skips (fails under HOOKSTEAD_REQUIRE_ALL=1) where a program is not there: building one takes too long here."""
    try:
        for program in PROGRAMS:
            locate(program)
    except ProgramMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that has what charts/hookstead-crds installs, and the kinds of the Prometheus operator."""
    with ApiServer(directory=tmp_path_factory.mktemp("charts")) as server:
        install(server, CRDS, release="hookstead-crds", namespace="default")
        server.kubectl("apply", "--filename", HERE / "monitoring-crds.yaml")
        names = json.loads(server.kubectl("get", "customresourcedefinitions", "--output", "json"))["items"]
        for one in names:
            server.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{one['metadata']['name']}")
        yield server


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="session")
def releases(
    cluster: ApiServer, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Release, Release]]:
    """`shop` with the values for production, `desk` with those for development; each with an endpoint of its own."""
    made = tuple(
        Release(
            server=cluster,
            namespace=f"team-{name}",
            name=name,
            folder=tmp_path_factory.mktemp(name),
            files=(file,),
            values=dict(COMMON),
        )
        for name, file in (("shop", "values-prod.yaml"), ("desk", "values-dev.yaml"))
    )
    try:
        for release in made:
            release.create_namespace()
            release.upgrade()
            release.apply(
                manifest("WebhookEndpoint", "audit", {"url": f"{receiver.url}/{release.name}"}),
                event_type("order-created", "order.created"),
                channel("client-acme", "client_acme"),
            )
            release.run_all()
            release.expect("webhookendpoints", "audit", Ready=("True", "Ready"))
        yield made[0], made[1]
    finally:
        for release in made:
            release.close()


@pytest.fixture(scope="session")
def shop(releases: tuple[Release, Release]) -> Release:
    return releases[0]


@pytest.fixture(scope="session")
def desk(releases: tuple[Release, Release]) -> Release:
    return releases[1]
