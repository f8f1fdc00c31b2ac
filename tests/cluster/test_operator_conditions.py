"""Every row of the condition table, against the real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.operator_fixtures import World, endpoint, environment, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


def test_an_applied_endpoint_becomes_ready_and_active(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("orders"))
    status = here.expect(
        "WebhookEndpoint",
        "orders",
        Ready=("True", "Ready"),
        Accepted=("True", "Accepted"),
        ResolvedRefs=("True", "ResolvedRefs"),
        Programmed=("True", "Programmed"),
        Active=("True", "Active"),
        Healthy=("Unknown", "NoRecentDeliveries"),
        Reconciling=None,
        Stalled=None,
    )
    assert status["host"] == "receiver.example.com"
