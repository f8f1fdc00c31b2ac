"""Argo CD's check on what the product really writes: every verdict and reason of an endpoint and of a replay."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import Any

from hookstead.config.model import EndpointConfig, EnvironmentConfig, Finding, Identity, ReplayConfig, Verdict
from hookstead.config.report import ReplayReport
from hookstead.config.status import PROGRAMMED, endpoint_status, gateway_unavailable, pending, replay_status
from hookstead.config.verdicts import ACCEPTED, GOOD, RESOLVED, missing_environment
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import EndpointState, EnvironmentState, Kind
from integration.gitops.lua import lua
from integration.gitops.pipeline import GITOPS, program

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
ENABLED = EnvironmentConfig(identity=Identity(name="default"), verdict=GOOD, state=EnvironmentState.ENABLED)
STALLED = (
    Reason.INVALID_SPEC,
    Reason.SCHEMA_INVALID,
    Reason.SAMPLE_INVALID,
    Reason.FILTER_INVALID,
    Reason.DUPLICATE_CHANNEL_NAME,
    Reason.DUPLICATE_EVENT_TYPE,
)
WAITING = (
    Reason.SECRET_NOT_FOUND,
    Reason.SECRET_KEY_MISSING,
    Reason.SECRET_NOT_PERMITTED,
    Reason.SECRET_INVALID,
    Reason.CHANNEL_NOT_FOUND,
    Reason.EVENT_TYPE_NOT_FOUND,
)


def endpoint(
    verdict: Verdict,
    *,
    state: EndpointState = EndpointState.ENABLED,
    environment: EnvironmentConfig | None = ENABLED,
    programmed: Any = PROGRAMMED,
) -> Any:
    config = EndpointConfig(identity=Identity(name="a", uid="u", generation=3), verdict=verdict, state=state)
    status = endpoint_status(config, environment=environment, report=None, programmed=programmed, previous={}, now=NOW)
    return {"kind": Kind.ENDPOINT.value, "metadata": {"name": "a", "generation": 3}, "status": status}


def replay(phase: Reason | None) -> Any:
    config = ReplayConfig(identity=Identity(name="r", uid="u", generation=1), verdict=GOOD, endpoint="a")
    report = None if phase is None else ReplayReport(name="r", uid="u", phase=phase)
    status = replay_status(config, environment=ENABLED, report=report, programmed=PROGRAMMED, previous={}, now=NOW)
    return {"kind": Kind.REPLAY.value, "metadata": {"name": "r", "generation": 1}, "status": status}


def healths(objects: list[Any]) -> list[str]:
    """In one Lua process, a check after the other."""
    script = (GITOPS / "argocd" / "health.lua").read_text(encoding="utf-8")
    calls = "".join(f"obj = {lua(one)}\nprint((function()\n{script}\nend)().status)\n" for one in objects)
    done = subprocess.run([program("lua5.4"), "-"], input=calls, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_status_that_the_product_writes_has_the_health_that_it_means() -> None:
    def refused(reason: Reason) -> Verdict:
        return Verdict(accepted=Finding(reason=reason, message="Edit it."), resolved=RESOLVED)

    def unresolved(reason: Reason) -> Verdict:
        return Verdict(accepted=ACCEPTED, resolved=Finding(reason=reason, message="Make it."))

    disabled = EnvironmentConfig(identity=Identity(name="default"), verdict=GOOD)
    cases: list[tuple[Any, str]] = [
        (endpoint(GOOD), "Healthy"),
        (endpoint(GOOD, state=EndpointState.PAUSED), "Healthy"),
        (endpoint(GOOD, state=EndpointState.DISABLED), "Healthy"),
        (endpoint(GOOD, environment=disabled), "Healthy"),
        (endpoint(missing_environment(), environment=None), "Progressing"),
        (endpoint(GOOD, programmed=pending("The gateways have not answered yet.")), "Progressing"),
        (endpoint(GOOD, programmed=gateway_unavailable("No gateway is ready.")), "Progressing"),
        *((endpoint(refused(reason)), "Degraded") for reason in STALLED),
        *((endpoint(unresolved(reason)), "Progressing") for reason in WAITING),
        (replay(None), "Progressing"),
        (replay(Reason.RUNNING), "Progressing"),
        (replay(Reason.COMPLETED), "Healthy"),
        (replay(Reason.ENDPOINT_NOT_FOUND), "Degraded"),
        (replay(Reason.ENDPOINT_DISABLED), "Degraded"),
    ]
    found = healths([obj for obj, _ in cases])
    wrong = [
        (obj["status"]["conditions"], expected, health)
        for (obj, expected), health in zip(cases, found, strict=True)
        if health != expected
    ]
    assert wrong == []


def test_a_status_of_an_older_generation_is_not_trusted() -> None:
    obj = endpoint(GOOD)
    assert healths([obj, {**obj, "metadata": {"name": "a", "generation": 4}}]) == ["Healthy", "Progressing"]
    assert healths([{**obj, "status": {"observedGeneration": -1}}, {"metadata": {"name": "a"}}]) == ["Progressing"] * 2
