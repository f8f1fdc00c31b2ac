"""Whatever the order in which things are applied, deleted and applied again, the same statuses come of it.

Courses are drawn at random and run side by side, each in a namespace of its own; a failure prints the seed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest

from cluster.apiserver import ApiError, ApiServer
from cluster.kstatus import CURRENT, FAILED, kstatus
from cluster.operator_fixtures import (
    PLURALS,
    World,
    channel,
    endpoint,
    environment,
    event_type,
    eventually,
    keyed,
    secret,
    world,
)
from cluster.status_journal import StatusJournal, status_journal

COURSES: Final = 4
LAW: Final = {"type": "object", "required": ["amount"]}
OBJECTS: Final = [
    environment(),
    secret("shared-key"),
    secret("private", labels={}),
    channel("acme", "client_acme"),
    channel("closed", "client_closed", state="Disabled"),
    event_type("order.created", schema=LAW, sample={"amount": 1}),
    event_type("order.broken", schema=LAW, sample={}),
    endpoint("all"),
    endpoint("own-key", signing=keyed("shared-key")),
    # With a key of its own: a generated one goes with the endpoint when the garbage collector gets to it.
    endpoint("segment", channelRefs=[{"name": "acme"}], eventTypes=["order.created"], signing=keyed("shared-key")),
    endpoint("nowhere", channelRefs=[{"name": "nobody"}]),
    endpoint("peeking", signing=keyed("private")),
    endpoint("invalid", "https://10.0.0.1/"),
    endpoint("odd", filter="event.type", eventTypes=["order.broken"]),
    endpoint("off", state="Disabled"),
]
READY: Final = ("all", "own-key", "segment", "off")


@dataclass
class Course:
    """One namespace in which everything is applied in an order of its own."""

    number: int
    here: World
    journal: StatusJournal
    chance: random.Random

    def begin(self) -> None:
        """Apply everything; the operator starts somewhere in between. Some things are deleted and come again."""
        steps = [*OBJECTS]
        self.chance.shuffle(steps)
        start = self.chance.randrange(len(steps))
        for at, body in enumerate(steps):
            if at == start:
                self.here.start_operator()
            self.here.apply(body)
            time.sleep(self.chance.choice([0, 0, 0.02, 0.1]))

    def stir(self) -> None:
        """Take away what others rest on, and bring it back in another order."""
        bodies = [body for body in OBJECTS if body["metadata"]["name"] in ("default", "acme", "shared-key", "segment")]
        bodies.append(OBJECTS[5])
        for body in self.chance.sample(bodies, k=3):
            delete(self.here, body)
            time.sleep(self.chance.choice([0, 0.1, 0.3]))
        self.chance.shuffle(bodies)
        for body in bodies:
            self.here.apply(body)

    def statuses(self) -> dict[str, Any]:
        """What has to be the same in every course: all but names of time, and what only counts."""
        found = {}
        for kind, plural in PLURALS.items():
            for body in self.here.server.request("GET", self.path(plural))["items"]:
                status = body["status"]
                assert status["observedGeneration"] == body["metadata"]["generation"], "not answered yet"
                found[f"{kind}/{body['metadata']['name']}"] = {
                    **{name: value for name, value in status.items() if name not in ("config", "observedGeneration")},
                    "conditions": {
                        item["type"]: (item["status"], item["reason"], _without_namespace(item["message"], body))
                        for item in status["conditions"]
                    },
                }
        return found

    def path(self, plural: str) -> str:
        return f"/apis/hookstead.dev/v1alpha1/namespaces/{self.here.namespace}/{plural}"


def _without_namespace(message: str, body: dict[str, Any]) -> str:
    return str(message.replace(body["metadata"]["namespace"], "NAMESPACE"))


def delete(here: World, body: dict[str, Any]) -> None:
    name = body["metadata"]["name"]
    try:
        if body["kind"] == "Secret":
            here.server.request("DELETE", f"/api/v1/namespaces/{here.namespace}/secrets/{name}")
        else:
            here.delete(body["kind"], name)
    except ApiError as error:
        if error.status != 404:
            raise


@pytest.fixture(scope="module")
def courses(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Course]]:
    seed = int.from_bytes(os.urandom(4))
    print(f"\nseed {seed}")
    with ExitStack() as stack:
        made = []
        for number in range(COURSES):
            namespace = api_server.create_namespace(f"order-{seed}-{number}")
            here = stack.enter_context(world(api_server, namespace, tmp_path_factory.mktemp("order")))
            journal = stack.enter_context(status_journal(api_server, namespace))
            made.append(Course(number, here, journal, random.Random(f"{seed} {number}")))
        yield made


def same(courses: list[Course]) -> dict[str, Any]:
    """Wait until every course has come to the same statuses, and those are the right ones; the statuses."""

    def converged() -> dict[str, Any] | None:
        try:
            first, *others = [course.statuses() for course in courses]
        except (AssertionError, KeyError):  # not yet written
            return None
        return first if right(first) and all(other == first for other in others) else None

    try:
        return dict(eventually("all courses alike", converged, seconds=45))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{differences(courses)}\n{courses[0].here.words()}") from None


def right(statuses: dict[str, Any]) -> bool:
    """Not merely alike: the Ready ones are Ready."""
    ready = {name for name, status in statuses.items() if status["conditions"]["Ready"][0] == "True"}
    wanted = {f"WebhookEndpoint/{name}" for name in READY} | {
        "WebhookEnvironment/default",
        "WebhookChannel/acme",
        "WebhookChannel/closed",
        "WebhookEventType/order.created",
    }
    return ready == wanted


def differences(courses: list[Course]) -> str:
    lines = []
    for course in courses:
        for kind, plural in PLURALS.items():
            for body in course.here.server.request("GET", course.path(plural))["items"]:
                said = {item["type"]: item["reason"] for item in body["status"].get("conditions") or ()}
                lines.append(f"{course.number} {kind}/{body['metadata']['name']}: {said}")
    return "\n".join(sorted(lines, key=lambda line: line.partition(" ")[2]))


def test_the_order_of_application_makes_no_difference(courses: list[Course]) -> None:
    for course in courses:
        course.begin()
    statuses = same(courses)
    counts = statuses["WebhookEnvironment/default"]["endpoints"]
    assert counts == {"total": 8, "ready": 4, "active": 4, "failing": 0}
    for course in courses:
        words = {
            body["metadata"]["name"]: kstatus(body)
            for body in course.here.server.request("GET", course.path("webhookendpoints"))["items"]
        }
        assert {name for name, word in words.items() if word == CURRENT} == set(READY)
        assert {name for name, word in words.items() if word == FAILED} == {"invalid", "odd"}


def test_what_was_taken_away_and_came_back_heals_to_the_same(courses: list[Course]) -> None:
    for course in courses:
        course.stir()
    same(courses)


def test_on_no_way_there_did_a_status_break_the_rules(courses: list[Course]) -> None:
    for course in courses:
        assert course.journal.faults() == [], f"course {course.number}"
        assert len(course.journal.seen()) > len(OBJECTS)


def test_the_gateway_was_given_exactly_what_the_statuses_say(courses: list[Course]) -> None:
    for course in courses:
        config = course.here.gateway.config
        held = {item.identity.name for item in config.endpoints if item.hold is not None}
        assert held == {"peeking", "invalid", "odd"}
        assert all(item.keys for item in config.endpoints if item.identity.name not in ("peeking", "invalid", "odd"))
        assert next(item.channels for item in config.endpoints if item.identity.name == "nowhere") == ()
