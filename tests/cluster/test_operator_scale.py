"""Some hundred endpoints at once: within the budgets, each written about once. The benchmark has thousands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.apiserver import ApiServer
from cluster.operator_fixtures import World, channel, endpoint, environment, eventually, keyed, secret, world

ENDPOINTS = 250


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


def test_a_cold_start_answers_everything_within_the_budget_and_then_is_quiet(here: World) -> None:
    here.apply(environment(), secret("team"), channel("team"))
    here.apply(
        *(endpoint(f"e-{number}", signing=keyed("team"), channelRefs=[{"name": "team"}]) for number in range(ENDPOINTS))
    )
    mark = here.server.audit_mark()
    here.start_operator()

    def statuses() -> Counter[str]:
        entries = here.writes(mark, resource="webhookendpoints")
        assert all(entry.subresource == "status" for entry in entries)
        return Counter(entry.name for entry in entries)

    eventually("every endpoint is answered", lambda: len(statuses()) == ENDPOINTS, seconds=60)
    here.expect("WebhookEndpoint", f"e-{ENDPOINTS - 1}", Ready=("True", "Ready"))
    here.expect("WebhookEnvironment", "default", Ready=("True", "Ready"))
    assert len(here.gateway.config.endpoints) == ENDPOINTS
    assert max(statuses().values()) <= 2, "Ready is what is written first, unless the gateway was slow"
    times = sorted(entry.time.timestamp() for entry in here.writes(mark) if entry.subresource == "status")
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[110:], strict=False))


def test_what_is_created_edited_and_deleted_right_after_the_start_is_not_missed(here: World) -> None:
    """The watch begins after the first configuration: what happens in between is in its list, or found by a sweep."""
    here.apply(environment(), secret("team"))
    here.apply(*(endpoint(f"e-{number}", signing=keyed("team")) for number in range(40)))
    here.start_operator()
    eventually("the first configuration", lambda: here.gateway.config is not None, seconds=30)
    here.delete("WebhookEndpoint", "e-0")
    here.apply(endpoint("e-1", signing=keyed("team"), description="edited"), endpoint("new", signing=keyed("team")))

    def found() -> bool:
        present = {item.identity.name: item for item in here.gateway.config.endpoints}
        return "e-0" not in present and "new" in present and present["e-1"].description == "edited"

    eventually("all three are in the configuration", found, seconds=30)
