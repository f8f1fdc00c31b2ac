"""Gateways that come, go, hang and lag behind under a stream of changes; operators that are killed and stopped."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.apiserver import ApiServer
from cluster.fake_gateway import FakeGateway
from cluster.operator_fixtures import World, endpoint, environment, eventually, keyed, secret, world
from cluster.status_journal import Entry, StatusJournal, status_journal
from hookstead.config.report import EndpointActivity, EndpointReport, Running
from hookstead.resources.conditions import Reason

ENDPOINT: Final = "WebhookEndpoint"
SECONDS: Final = 12.0
SETTLED_SECONDS: Final = 1.0
"""For so long after a gateway has come a status that is written may not know of it yet."""
LATE_SECONDS: Final = 60.0


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


@dataclass
class Pod:
    """A gateway in a pod of its own; `live` are the times (monotonic seconds) between which it was Ready."""

    here: World
    name: str
    gateway: FakeGateway
    live: list[list[float]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.here.namespace}/pods"

    def create(self) -> None:
        ports = [{"name": "internal", "containerPort": self.gateway.port}]
        self.here.server.request(
            "POST",
            self.path,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": self.name, "labels": {"app": "gateway"}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "main", "image": "none", "ports": ports}],
                },
            },
        )

    def delete(self) -> None:
        self.live[-1].append(time.monotonic())
        self.here.server.request("DELETE", f"{self.path}/{self.name}")

    def turn(self, *, ready: bool) -> None:
        if ready == self.is_live:
            return
        if not ready:
            self.live[-1].append(time.monotonic())
        body = self.here.server.request("GET", f"{self.path}/{self.name}")
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        body["status"] = {"podIP": "127.0.0.1", "conditions": conditions}
        self.here.server.request("PUT", f"{self.path}/{self.name}/status", body)
        if ready:
            self.live.append([time.monotonic()])

    @property
    def is_live(self) -> bool:
        return bool(self.live) and len(self.live[-1]) == 1

    def was_live(self, at: float) -> bool:
        """Long enough for a status that arrived at `at` to know of it."""
        return any(since + SETTLED_SECONDS <= at and (not until or at < until[0]) for since, *until in self.live)

    def ran(self, name: str, at: float) -> int:
        """The generation of the endpoint that it ran then; 0 for none."""
        known = [generations for when, generations in self.gateway.history if when <= at]
        return known[-1].get(name, 0) if known else 0


def lies(journal: StatusJournal, pods: list[Pod]) -> list[str]:
    """Each time that a status was written which said Programmed of a generation that a live gateway did not run.

    What stands in an object while something else of it is edited was true when it was written, and has its time to
    follow: two seconds for the gateways to answer, ten between two transitions.
    """
    found = []
    stood: dict[tuple[str, str], Any] = {}
    for entry in journal.seen():
        kind, name = entry.key
        status = entry.body["status"]
        written, stood[entry.key] = status != stood.get(entry.key), status
        said = {item["type"]: item for item in status.get("conditions") or ()}.get("Programmed")
        if kind != ENDPOINT or entry.event == "DELETED" or not written or said is None or said["status"] != "True":
            continue
        found += [
            f"{name}: Programmed of {said['observedGeneration']} at {entry.at:.2f} while {pod.name} ran "
            f"{pod.ran(name, entry.at)}; live {pod.live}, given {[round(when, 2) for when, _ in pod.gateway.history]}"
            for pod in pods
            if pod.was_live(entry.at) and pod.ran(name, entry.at) < said["observedGeneration"]
        ]
    return found


def test_programmed_is_never_said_of_what_a_live_gateway_does_not_run(
    here: World, record_property: Callable[[str, object], None]
) -> None:
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    print(f"\nseed {seed}")
    here.apply(secret("hookstead-internal", labels={}, token="given"), secret("key"))
    with ExitStack() as stack, status_journal(here.server, here.namespace) as journal:
        gateways = [here.gateway]
        for _ in range(2):
            gateways.append(FakeGateway().start())
            stack.callback(gateways[-1].stop)
        pods = [Pod(here, f"gw-{number}", gateway) for number, gateway in enumerate(gateways)]
        for pod in pods:
            pod.create()
        pods[0].turn(ready=True)
        here.apply(environment())
        here.start_operator(gateway_selector="app=gateway")
        here.apply(endpoint("e0", signing=keyed("key")))
        here.expect(ENDPOINT, "e0", seconds=20, Ready=("True", "Ready"))
        pods[1].turn(ready=True)
        eventually("pods are watched", lambda: replicas(here) == 2, seconds=20)
        ends = time.monotonic() + SECONDS
        number = 0
        while time.monotonic() < ends:
            number += 1
            here.apply(endpoint(f"e{number % 6}", signing=keyed("key"), description=f"{number}"))
            one = chance.choice(pods)
            match chance.randrange(4):
                case 0:
                    one.gateway.frozen = not one.gateway.frozen
                case 1:
                    one.turn(ready=not one.is_live)
            time.sleep(chance.uniform(0.05, 0.3))
        for pod in pods:
            pod.gateway.frozen = False
            pod.turn(ready=True)
        eventually("all run the same in the end", partial(alike, gateways), seconds=30)
        for index in range(6):
            here.expect(ENDPOINT, f"e{index}", seconds=30, Ready=("True", "Ready"), Programmed=("True", "Programmed"))
        assert lies(journal, pods) == [], here.operators[0].log.read_text()
        assert journal.faults() == []
        said = sum(1 for entry in journal.seen() if entry.key[0] == ENDPOINT)
        record_property("tally", ["statuses that said Programmed truly, with gateways coming and going", said, said])


def view(succeeded: int, **fields: Any) -> EndpointReport:
    """What the owner of endpoint `a` tells; each attempt is a second."""
    at = f"2026-01-01T00:00:{succeeded:02}Z"
    activity = EndpointActivity(succeeded=succeeded, last_attempt_time=at, last_success_time=at)
    return EndpointReport(name="a", uid=fields.pop("uid"), activity=activity, **fields)


def test_a_rolling_restart_flips_no_condition_and_loses_no_activity(here: World) -> None:
    """A pod more joins before each one that leaves, and the endpoint goes from owner to owner."""
    here.apply(secret("hookstead-internal", labels={}, token="given"))
    with ExitStack() as stack, status_journal(here.server, here.namespace) as journal:
        gateways = [here.gateway, *(FakeGateway() for _ in range(3))]
        for number, gateway in enumerate(gateways):
            if number:
                stack.callback(gateway.start().stop)
            gateway.running = Running(instance=f"g{number}", version="9.9.9" if number < 2 else "10.0.0")
        pods = [Pod(here, f"gw-{number}", gateway) for number, gateway in enumerate(gateways)]
        for pod in pods:
            pod.create()
        here.start_operator(gateway_selector="app=gateway")
        here.apply(environment(), endpoint("a"))
        for pod in pods[:2]:
            pod.turn(ready=True)
        here.expect(ENDPOINT, "a", seconds=20, Ready=("True", "Ready"))
        uid = here.get(ENDPOINT, "a")["metadata"]["uid"]
        gateways[0].report_endpoint(view(1, uid=uid))
        eventually("activity", lambda: here.status(ENDPOINT, "a").get("activity", {}).get("succeeded") == 1)
        eventually("both count", lambda: replicas(here) == 2, seconds=20)
        begins = time.monotonic()
        leaving: list[Callable[[], None]] = [pods[0].delete, partial(pods[1].turn, ready=False)]
        for number, leave in enumerate(leaving):
            pods[number + 2].turn(ready=True)
            eventually("it is caught up", partial(alike, gateways[: number + 3]))
            gateways[number].report_endpoint(view(number + 2, uid=uid))
            gateways[number].report_endpoint(EndpointReport(name="a", uid=uid, owner=False))
            leave()
            gateways[number + 1].report_endpoint(view(number + 2, uid=uid))
        gateways[2].report_endpoint(view(9, uid=uid, held=Reason.CIRCUIT_OPEN))
        here.expect(ENDPOINT, "a", Active=("False", "CircuitOpen"), Healthy=("True", "Succeeding"))
        eventually(
            "the new ones count",
            lambda: (
                here.status("WebhookEnvironment", "default")["gateway"]
                == {"replicas": 2, "programmedReplicas": 2, "version": "10.0.0"}
            ),
            seconds=30,
        )
        entries = [entry for entry in journal.seen() if entry.at > begins and entry.key == (ENDPOINT, "a")]
        assert {said(entry, "Programmed") for entry in entries} == {"True"}
        counts = [entry.body["status"]["activity"]["succeeded"] for entry in entries]
        assert counts == sorted(counts)
        assert counts[-1] == 9
        assert journal.faults() == []


def alike(gateways: list[FakeGateway]) -> bool:
    return len({gateway.running.hash for gateway in gateways}) == 1


def said(entry: Entry, condition: str) -> str | None:
    known = {item["type"]: item["status"] for item in entry.body["status"].get("conditions") or ()}
    return known.get(condition)


def replicas(here: World) -> int:
    count: int = here.status("WebhookEnvironment", "default").get("gateway", {}).get("replicas", 0)
    return count


def taken_over(here: World, term: int) -> float:
    """When a gateway was given a configuration of this term."""
    eventually(f"term {term}", lambda: here.gateway.running.epoch.term >= term, seconds=LATE_SECONDS)
    return time.monotonic()


def test_a_standby_takes_over_from_a_leader_that_is_stopped_and_from_one_that_is_killed(
    here: World, record_property: Callable[[str, object], None]
) -> None:
    """The bars are the contract's; here they are only written down, a busy machine may be late (see the laws)."""
    first = here.start_operator(leader_elect=True)
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", seconds=20, Ready=("True", "Ready"))
    second = here.start_operator(leader_elect=True)
    eventually("the standby waits", lambda: "leads" not in second.last_words() and second.running)
    time.sleep(2)  # it has started, and has seen the Lease
    before = time.monotonic()
    assert first.terminate(grace_seconds=15) == 0
    stopped = taken_over(here, 2) - before
    here.start_operator(leader_elect=True)
    time.sleep(2)
    before = time.monotonic()
    second.kill()
    killed = taken_over(here, 3) - before
    here.apply(endpoint("b"))
    here.expect(ENDPOINT, "b", seconds=20, Ready=("True", "Ready"))
    terms = [int(epoch.partition(".")[0]) for epoch, _ in here.gateway.pushes]
    assert terms == sorted(terms), "no configuration of an earlier leader came after one of a later"
    print(f"\ntaken over {stopped:.1f} s after a stop, {killed:.1f} s after a kill")
    record_property("tally", ["takeovers within 3 s of a clean stop", int(stopped <= 3), 1])
    record_property("tally", ["takeovers within 20 s of kill -9", int(killed <= 20), 1])
