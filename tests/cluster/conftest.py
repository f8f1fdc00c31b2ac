"""One real API server for all tests of this folder, and a namespace of its own for each."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.apiserver import ApiServer
from toolchain.binaries import ProgramMissingError, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CRDS = HERE.parent.parent / "crds"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


GROUPS = {
    "test_contract_conditions": "cluster-contract",
    "test_contract_delivery": "cluster-contract",
    "test_contract_edges": "cluster-outages",
    "test_contract_outages": "cluster-outages",
    "test_operator_any_order": "cluster-rows",
    "test_operator_fleet": "cluster-rows",
    "test_operator_rows": "cluster-rows",
}
"""The long modules, which wait more than they compute, beside the others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folder into a few xdist groups: one worker runs a group, and one server is started for it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(GROUPS.get(item.path.stem, "cluster")))


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server that serves our kinds; shared, so a test keeps to its `namespace`.

    Skips (fails under HOOKSTEAD_REQUIRE_ALL=1) where the programs are not there yet: building them takes
    longer than a test may.
    """
    try:
        for program in PROGRAMS:
            locate(program)
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with ApiServer(directory=tmp_path_factory.mktemp("cluster")) as server:
        server.apply_crds(CRDS)
        yield server


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """The name of a fresh namespace. Never deleted: the whole server goes anyway."""
    return api_server.create_namespace(f"test-{uuid.uuid4().hex[:12]}")
