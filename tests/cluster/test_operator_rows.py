"""The contract's condition table, row by row: every reason on every kind that can have it, reached and left again.

All objects of the table live in one environment at once, the bad beside the good, so that a bad one that blocked
another would be seen. Each row states all conditions of its object, and what heals it.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.apiserver import ApiServer
from cluster.kstatus import CURRENT, FAILED, IN_PROGRESS, STALLED_REASONS, kstatus
from cluster.operator_fixtures import (
    World,
    channel,
    endpoint,
    environment,
    event_type,
    eventually,
    keyed,
    replay,
    secret,
    world,
)
from cluster.status_journal import StatusJournal, status_journal
from hookstead.config.report import EndpointActivity, EndpointReport, ReplayReport
from hookstead.resources.conditions import Reason

ENVIRONMENT, ENDPOINT, CHANNEL, TYPE, REPLAY = (
    "WebhookEnvironment",
    "WebhookEndpoint",
    "WebhookChannel",
    "WebhookEventType",
    "WebhookReplay",
)
WHEN: Final = "2026-01-31T12:00:00.000Z"
RECONCILE: Final = "hookstead.dev/reconcile-requested-at"
Said = dict[str, tuple[str, str]]


def said(
    kind: str,
    *,
    accepted: str = "Accepted",
    resolved: str = "ResolvedRefs",
    programmed: str = "Programmed",
    active: str = "Active",
    healthy: str = "NoRecentDeliveries",
) -> Said:
    """All conditions of an object, from the reasons that are its own: the rest follows from the contract."""
    three = {
        "Accepted": ("True" if accepted == "Accepted" else "False", accepted),
        "ResolvedRefs": ("True" if resolved == "ResolvedRefs" else "False", resolved),
        "Programmed": ("True" if programmed == "Programmed" else "False", programmed),
    }
    failing = next((reason for status, reason in three.values() if status == "False"), None)
    found = {**three, "Ready": ("False", failing) if failing else ("True", "Ready")}
    if failing:
        found["Stalled" if failing in STALLED_REASONS else "Reconciling"] = ("True", failing)
    found["Active"] = ("True" if active == "Active" else "False", active)
    if kind == ENDPOINT:
        statuses = {"NoRecentDeliveries": "Unknown", "Succeeding": "True", "Failing": "False"}
        found["Healthy"] = (statuses[healthy], healthy)
    return found


def running(reason: str = "Running") -> Said:
    return {**_RESOLVED, "Ready": ("False", reason), "Reconciling": ("True", reason)}


def ended(how: str, reason: str) -> Said:
    """A replay that is over; a failed one is Stalled, for nobody should wait for it."""
    over = {how: ("True", reason)}
    if how == "Failed":
        return {**_RESOLVED, "Ready": ("False", reason), "Stalled": ("True", reason), **over}
    return {**_RESOLVED, "Ready": ("True", "Completed"), **over}


_RESOLVED: Final[Said] = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}


@dataclass(frozen=True)
class Row:
    """`body` beside `beside` comes to `wanted`; `cure` brings it to `healed` (None: only deleting it helps).

    `reports`: what the gateway tells of it; `relief`: what it tells later. `words`: what a message says of it.
    """

    body: dict[str, Any]
    wanted: Said
    healed: Said | None
    beside: tuple[dict[str, Any], ...] = ()
    cure: tuple[dict[str, Any], ...] = ()
    reports: dict[str, Any] = field(default_factory=dict)
    relief: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


READY: Final = said(ENDPOINT)
LAW: Final = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}


def refused(name: str, reason: str, *words: str, **spec: Any) -> Row:
    """An endpoint that is not accepted, and the edit that mends it."""
    return Row(
        endpoint(name, **spec),
        said(ENDPOINT, accepted=reason, active=reason),
        READY,
        cure=(endpoint(name),),
        words=words,
    )


def held(reason: str, **relief: Any) -> Row:
    name = f"held-{reason.lower()}"
    return Row(
        endpoint(name),
        said(ENDPOINT, active=reason),
        READY,
        reports={"held": Reason(reason), "held_message": "Because."},
        relief=relief,
    )


def secrets_rows() -> list[Row]:
    """Each way to name a Secret, with each way in which it may fail."""
    certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    ways: dict[str, tuple[dict[str, Any], str, str]] = {
        # spec with `S` for the Secret's name; the data key; a value that is no such thing
        "keys": ({"signing": keyed("S")}, "key", "whsec_c2hvcnQ="),
        "header": (
            {"headers": [{"name": "x-key", "valueFrom": {"secretKeyRef": {"name": "S", "key": "key"}}}]},
            "key",
            "two\nlines",
        ),
        "url": ({"urlFrom": {"secretKeyRef": {"name": "S", "key": "key"}}}, "key", "gopher://example.com"),
        "ca": ({"tls": {"caSecretRef": {"name": "S"}}}, "ca.crt", certificate),
        "mtls": ({"tls": {"clientCertSecretRef": {"name": "S"}}}, "tls.crt", certificate),
    }
    rows = []
    for way, (spec, key, bad) in ways.items():
        for reason, given in (
            ("SecretNotFound", None),
            ("SecretKeyMissing", {"other": "x"}),
            ("SecretNotPermitted", {key: "x"}),
            ("SecretInvalid", {key: bad, **({"tls.key": "x"} if way == "mtls" else {})}),
        ):
            name = f"{way}-{reason.lower()}"
            body = endpoint(name, **_named(spec, name))
            if "urlFrom" in body["spec"]:
                del body["spec"]["url"]
            labels: dict[str, str] | None = {} if reason == "SecretNotPermitted" else None
            rows.append(
                Row(
                    body,
                    said(ENDPOINT, resolved=reason, active=reason),
                    READY,
                    beside=() if given is None else (secret(name, labels, **given),),
                    cure=(secret(name, None, **_good(way)),),
                    words=(name,),
                )
            )
    return rows


def _named(spec: Any, name: str) -> Any:
    if isinstance(spec, dict):
        return {key: _named(value, name) for key, value in spec.items()}
    if isinstance(spec, list):
        return [_named(value, name) for value in spec]
    return name if spec == "S" else spec


def _good(way: str) -> dict[str, str]:
    if way == "url":
        return {"key": "https://receiver.example.com/"}
    if way in ("ca", "mtls"):
        made = _certificate()
        return {"ca.crt": made[0], "tls.crt": made[1], "tls.key": made[2]}
    return {"key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


def _certificate() -> tuple[str, str, str]:
    from hookstead.operator.certificates import issue

    made = issue("client", now=datetime.now(UTC))
    return made.authorities, made.certificate, made.key


def _from_secret(name: str) -> dict[str, Any]:
    body = endpoint(name, urlFrom={"secretKeyRef": {"name": name, "key": "key"}})
    del body["spec"]["url"]
    return body


ROWS: Final = [
    # Accepted
    Row(endpoint("good"), READY, READY),
    Row(channel("good"), said(CHANNEL), said(CHANNEL)),
    Row(event_type("good.type"), said(TYPE), said(TYPE)),
    refused("literal", "InvalidSpec", "spec.url", url="https://10.1.2.3/"),
    refused("metadata", "InvalidSpec", "spec.url", url="https://169.254.169.254/latest"),
    refused("plain", "InvalidSpec", "spec.url", url="http://receiver.example.com/"),
    refused("filter", "FilterInvalid", "spec.filter", filter="event.type +"),
    refused("no-bool", "FilterInvalid", "spec.filter", "bool", filter="event.type"),
    refused("no-field", "FilterInvalid", "spec.filter", filter="event.tpye == 'a'"),
    Row(
        event_type("no.schema", schema={"type": "nonsense"}),
        said(TYPE, accepted="SchemaInvalid", active="SchemaInvalid"),
        said(TYPE),
        cure=(event_type("no.schema", schema=LAW),),
        words=("spec.schema",),
    ),
    Row(
        event_type("far.schema", schema={"$ref": "https://example.com/x.json"}),
        said(TYPE, accepted="SchemaInvalid", active="SchemaInvalid"),
        said(TYPE),
        cure=(event_type("far.schema"),),
        words=("spec.schema", "$ref"),
    ),
    Row(
        event_type("no.sample", schema=LAW, sample={"amount": "many"}),
        said(TYPE, accepted="SampleInvalid", active="SampleInvalid"),
        said(TYPE),
        cure=(event_type("no.sample", schema=LAW, sample={"amount": 1}),),
        words=("spec.sample", "amount"),
    ),
    Row(
        channel("twin-z", "client_twin"),
        said(CHANNEL, accepted="DuplicateChannelName", active="DuplicateChannelName"),
        said(CHANNEL),
        beside=(channel("twin-a", "client_twin"),),
        words=("spec.channelName", "'twin-a'"),
    ),
    Row(
        event_type("twin.z", "twin.type"),
        said(TYPE, accepted="DuplicateEventType", active="DuplicateEventType"),
        said(TYPE),
        beside=(event_type("twin.a", "twin.type"),),
        words=("spec.type", "'twin.a'"),
    ),
    # ResolvedRefs
    *secrets_rows(),
    Row(
        endpoint("lost-channel", channelRefs=[{"name": "client-acmee"}]),
        said(ENDPOINT, resolved="ChannelNotFound"),
        READY,
        beside=(channel("client-acme", "client_acme"),),
        cure=(channel("client-acmee", "client_acmee"),),
        words=("spec.channelRefs[0].name", 'did you mean "client-acme"?', "receives nothing until it exists"),
    ),
    Row(
        endpoint("half-lost", channelRefs=[{"name": "client-acme"}, {"name": "nobody-like-it"}]),
        said(ENDPOINT, resolved="ChannelNotFound"),
        READY,
        cure=(channel("nobody-like-it", "nobody"),),
        words=("spec.channelRefs[1].name", "receives only its other channels"),
    ),
    Row(
        endpoint("refused-channel", channelRefs=[{"name": "twin-z"}]),
        said(ENDPOINT, resolved="ChannelNotFound"),
        READY,
        words=("spec.channelRefs[0].name", "DuplicateChannelName"),
    ),
    Row(
        endpoint("lost-type", eventTypes=["order.creatd", "order.*"]),
        said(ENDPOINT, resolved="EventTypeNotFound"),
        READY,
        beside=(event_type("order.created"),),
        cure=(event_type("order.creatd"),),
        words=("spec.eventTypes[", 'did you mean "order.created"?'),
    ),
    Row(
        replay("lost-endpoint", "godo"),
        {
            "Accepted": ("True", "Accepted"),
            "ResolvedRefs": ("False", "EndpointNotFound"),
            "Ready": ("False", "EndpointNotFound"),
            "Reconciling": ("True", "EndpointNotFound"),
        },
        None,
        words=("spec.endpointRef.name", 'did you mean "good"?'),
    ),
    Row(
        _from_secret("denied-url"),
        said(ENDPOINT, accepted="InvalidSpec", active="InvalidSpec"),
        READY,
        beside=(secret("denied-url", key="http://169.254.169.254/latest?token=1"),),
        cure=(secret("denied-url", key="https://receiver.example.com/hooks"),),
        words=("spec.urlFrom",),
    ),
    # Active
    Row(endpoint("off", state="Disabled"), said(ENDPOINT, active="EndpointDisabled"), READY, cure=(endpoint("off"),)),
    Row(endpoint("paused", state="Paused"), said(ENDPOINT, active="Paused"), READY, cure=(endpoint("paused"),)),
    Row(
        channel("shut", state="Disabled"),
        said(CHANNEL, active="ChannelDisabled"),
        said(CHANNEL),
        cure=(channel("shut", state="Enabled"),),
    ),
    held("Throttled", held=None),
    held("CircuitOpen", held=None),
    held("Suspended", held=None, handled_resume_at="today"),
    held("Gone", held=None, handled_resume_at="today"),
    # Healthy
    Row(
        endpoint("failing"),
        said(ENDPOINT, healthy="Failing"),
        said(ENDPOINT, healthy="Succeeding"),
        reports={"activity": EndpointActivity(failed=1, consecutive_failures=1, last_attempt_time=WHEN)},
        relief={"activity": EndpointActivity(succeeded=1, last_attempt_time=WHEN, last_success_time=WHEN)},
    ),
    # Replays
    Row(
        replay("running", "good"),
        running(),
        ended("Complete", "Completed"),
        relief={"phase": Reason.COMPLETED, "selected": 2, "delivered": 2},
    ),
    Row(
        replay("nothing", "good"),
        running(),
        ended("Complete", "NothingSelected"),
        relief={"phase": Reason.NOTHING_SELECTED},
    ),
    Row(
        replay("to-the-disabled", "off"),
        running(),
        ended("Failed", "EndpointDisabled"),
        relief={"phase": Reason.ENDPOINT_DISABLED},
    ),
]
BY_NAME: Final = {f"{row.kind.removeprefix('Webhook')}-{row.name}": row for row in ROWS}


def conditions(body: dict[str, Any]) -> Said:
    return {item["type"]: (item["status"], item["reason"]) for item in body["status"].get("conditions") or ()}


@dataclass
class Table:
    """The world of all rows, and what was ever seen in it."""

    here: World
    journal: StatusJournal
    healed: bool = False

    def expect(self, row: Row, wanted: Said) -> dict[str, Any]:
        """Wait until exactly these conditions stand there for the present generation; the object."""

        def holds() -> dict[str, Any] | None:
            body = self.here.get(row.kind, row.name)
            observed = body["status"]["observedGeneration"] == body["metadata"]["generation"]
            return body if observed and conditions(body) == wanted else None

        try:
            return dict(eventually(f"{row.kind} {row.name}: {wanted}", holds, seconds=25))
        except AssertionError as error:
            found = conditions(self.here.get(row.kind, row.name))
            raise AssertionError(f"{error}\nfound: {found}\n{self.here.words()}") from None

    def report(self, row: Row, told: dict[str, Any]) -> None:
        if not told:
            return
        uid = self.here.get(row.kind, row.name)["metadata"]["uid"]
        if row.kind == REPLAY:
            over = ReplayReport(name=row.name, uid=uid, start_time=WHEN, completion_time=WHEN, **told)
            self.here.gateway.report_replay(over)
        else:
            self.here.gateway.report_endpoint(EndpointReport(name=row.name, uid=uid, **told))

    def heal(self) -> None:
        """Everything at once, and only once."""
        if self.healed:
            return
        self.healed = True
        for row in ROWS:
            self.here.apply(*row.cure)
            self.report(row, row.relief)
        self.here.delete(CHANNEL, "twin-a")
        self.here.delete(TYPE, "twin.a")


@pytest.fixture(scope="module")
def table(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    namespace = api_server.create_namespace(f"test-{uuid.uuid4().hex[:12]}")
    with (
        world(api_server, namespace, tmp_path_factory.mktemp("operator")) as here,
        status_journal(api_server, namespace) as journal,
    ):
        here.apply(environment())
        here.start_operator()
        here.expect(ENVIRONMENT, "default", Ready=("True", "Ready"), Active=("True", "Active"))
        made = Table(here, journal)
        # The older of two twins is the one whose creation second, then name, is lower.
        here.apply(*(body for row in ROWS for body in row.beside))
        here.apply(*(row.body for row in ROWS))
        for row in ROWS:
            made.report(row, row.reports)
        yield made


@pytest.mark.parametrize("name", BY_NAME)
def test_each_reason_is_reached_with_the_conditions_that_belong_to_it(table: Table, name: str) -> None:
    row = BY_NAME[name]
    assert not table.healed, "the rows are looked at before they are healed"
    body = table.expect(row, row.wanted)
    stalled, waiting = "Stalled" in row.wanted, "Reconciling" in row.wanted
    assert kstatus(body) == (FAILED if stalled else IN_PROGRESS if waiting else CURRENT)
    messages = "\n".join(item["message"] for item in body["status"]["conditions"])
    for words in row.words:
        assert words in messages, messages
    assert all(item["message"] for item in body["status"]["conditions"]), "every condition explains itself"
    assert not re.search(r"MfKQ9r8GKYqrTwj|[?]token=", str(body["status"])), "never a secret, nor more of a URL"


def test_among_all_that_is_bad_a_good_one_is_live(table: Table) -> None:
    table.here.apply(endpoint("newcomer"))
    eventually("pushed", lambda: table.here.gateway.endpoint("newcomer"))
    assert {item.identity.name for item in table.here.gateway.config.endpoints} >= {
        row.name for row in ROWS if row.kind == ENDPOINT
    }, "the bad ones are in the configuration, too, held"


def test_a_reconcile_request_is_echoed_in_every_state(table: Table) -> None:
    bodies = {name: row for name, row in BY_NAME.items() if row.kind != REPLAY or row.name == "running"}
    for row in bodies.values():
        path = f"{table.here._path(row.kind)}/{row.name}"
        table.here.server.update(path, {"metadata": {"annotations": {RECONCILE: "again"}}})

    def echoed() -> bool:
        return all(
            table.here.status(row.kind, row.name).get("lastHandledReconcileAt") == "again" for row in bodies.values()
        )

    eventually("the echo on every row", echoed, seconds=20)


def test_a_key_that_expires_leaves_the_status_by_itself(table: Table) -> None:
    ends = f"{datetime.now(UTC) + timedelta(seconds=4):%Y-%m-%dT%H:%M:%SZ}"
    body = endpoint("expiring", signing=keyed("client"))
    former = {"id": "former", "secretKeyRef": {"name": "client", "key": "key"}, "notAfterTime": ends}
    body["spec"]["signing"]["keys"].append(former)
    table.here.apply(secret("client"), body)
    eventually(
        "one key is left",
        lambda: table.here.status(ENDPOINT, "expiring").get("signing") == {"activeKeyIDs": ["main"]},
        seconds=25,
    )
    forms = [form["status"].get("signing") for form in table.journal.of(ENDPOINT, "expiring")]
    both = [form for form in forms if form and form["activeKeyIDs"] == ["main", "former"]]
    assert both, forms
    assert datetime.fromisoformat(both[0]["nextExpiryTime"]) == datetime.fromisoformat(ends)


def test_a_status_is_of_bounded_size_and_tells_no_secret(table: Table) -> None:
    for entry in table.journal.seen():
        told = json.dumps(entry.body.get("status") or {})
        assert len(told) <= 16 * 1024
        assert "MfKQ9r8GKYqrTwj" not in told
        assert "token=" not in told


def _all(found: Said) -> set[str]:
    return {reason for status, reason in found.values() if status == "False"}


HEALED: Final = [name for name, row in BY_NAME.items() if row.healed is not None]


@pytest.mark.parametrize("name", HEALED)
def test_each_row_is_left_again_by_its_cure(table: Table, name: str) -> None:
    table.heal()
    row = BY_NAME[name]
    assert row.healed is not None
    body = table.expect(row, row.healed)
    assert kstatus(body) == (FAILED if "Stalled" in row.healed else CURRENT)


def test_a_word_of_an_event_is_a_transition_that_a_person_acts_on_and_none_is_told_twice(table: Table) -> None:
    items = table.here.server.request("GET", f"/api/v1/namespaces/{table.here.namespace}/events")["items"]
    reasons: dict[tuple[str, str], set[str]] = {}
    for entry in table.journal.seen():
        said_now = conditions(entry.body) if entry.body["status"].get("conditions") else {}
        reasons.setdefault(entry.key, set()).update(
            reason for kind, (status, reason) in said_now.items() if status == "False" and kind != "Healthy"
        )
    assert items
    told = [(item["involvedObject"]["kind"], item["involvedObject"]["name"], item["reason"]) for item in items]
    assert len(told) == len(set(told)), "one series per object and reason"
    for item, (kind, name, reason) in zip(items, told, strict=True):
        assert reason in reasons[kind, name], f"an Event about what never was: {kind} {name} {reason}"
        ways = [conditions(form) for form in table.journal.of(kind, name)]
        reached = sum(before != after for before, after in pairwise([False, *(reason in _all(one) for one in ways)]))
        assert item["count"] <= (reached + 1) // 2, (kind, name, item["count"], item["message"], ways)
        assert item["type"] == "Warning"
    quiet = {"Paused", "EndpointDisabled", "ChannelDisabled", "Throttled", "CircuitOpen", "EnvironmentDisabled"}
    assert not quiet & {reason for _, _, reason in told}, "what is meant, or passes by itself, is no Event"
    kind, name, reason = next(row for row in told if row[0] == ENDPOINT)
    shown = table.here.server.kubectl("events", "--for", f"{kind.lower()}/{name}", namespace=table.here.namespace)
    assert reason in shown


def test_no_status_ever_broke_the_rules_of_kstatus(table: Table) -> None:
    assert table.journal.faults() == []
    assert len({entry.key for entry in table.journal.seen()}) > len(ROWS)


def test_the_table_has_every_reason_of_the_contract() -> None:
    reached = {reason for row in ROWS for wanted in (row.wanted, row.healed or {}) for _, reason in wanted.values()}
    elsewhere = {
        # test_the_rows_of_an_environment_and_its_gateways
        "EnvironmentMissing",
        "EnvironmentDisabled",
        "Pending",
        "GatewayUnavailable",
    }
    renamed = {"ENDPOINT_NOT_FOUND"}
    assert {reason.value for reason in Reason if reason.name not in renamed} <= reached | elsewhere


# What all objects share: the environment and the gateways. --------------------------------------------------------


def quartet(stem: str, of: str = "") -> list[dict[str, Any]]:
    return [
        endpoint(stem),
        channel(stem, f"client_{stem}"),
        event_type(f"{stem}.type"),
        replay(stem, of or stem),
    ]


def stands(here: World, bodies: list[dict[str, Any]], *, seconds: float = 20, **reasons: str) -> None:
    """Each object of a quartet has exactly the conditions that these reasons come to."""
    for body in bodies:
        kind, name = body["kind"], body["metadata"]["name"]
        wanted = said(kind, **reasons)
        if kind == REPLAY:
            wanted = replay_says(**reasons)

        def holds() -> bool:
            found = here.get(kind, name)  # noqa: B023
            return found["status"]["observedGeneration"] == 1 and conditions(found) == wanted  # noqa: B023

        try:
            eventually(f"{kind} {name}: {wanted}", holds, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\nfound: {conditions(here.get(kind, name))}\n{here.words()}") from None


def replay_says(accepted: str = "Accepted", programmed: str = "Programmed", **_: str) -> Said:
    if accepted != "Accepted":
        return {
            "Accepted": ("False", accepted),
            "ResolvedRefs": ("True", "ResolvedRefs"),
            "Ready": ("False", accepted),
            "Reconciling": ("True", accepted),
        }
    return running("Running" if programmed == "Programmed" else programmed)


def test_the_rows_of_an_environment_and_its_gateways(api_server: ApiServer, namespace: str, tmp_path: Path) -> None:
    """Fresh objects at every step: one that stood there before may wait ten seconds for its next transition."""
    with world(api_server, namespace, tmp_path) as here, status_journal(api_server, namespace) as journal:
        here.start_operator()
        early = quartet("early")
        here.apply(*early)
        stands(here, early, accepted="EnvironmentMissing", active="EnvironmentMissing")
        here.apply(environment("Disabled"))
        off = quartet("off")
        here.apply(*off)
        stands(here, [*off, *early], active="EnvironmentDisabled")
        here.gateway.frozen = True
        behind = quartet("behind")
        here.apply(*behind)
        stands(here, behind, programmed="Pending", active="EnvironmentDisabled")
        here.gateway.stop()
        lost = quartet("lost")
        time.sleep(1.5)  # a gateway that does not answer is called so after a second
        here.apply(*lost)
        stands(here, lost, programmed="GatewayUnavailable", active="EnvironmentDisabled")
        here.gateway.frozen = False
        here.gateway.start()
        stands(here, lost, active="EnvironmentDisabled")
        here.apply(environment())
        on = quartet("on")
        here.apply(*on)
        stands(here, on)
        invalid = environment(egress={"privateNetworks": "Allow", "allowedCIDRs": ["8.8.8.0/24"]})
        here.apply(invalid)
        here.expect(
            ENVIRONMENT,
            "default",
            Accepted=("False", "InvalidSpec"),
            Stalled=("True", "InvalidSpec"),
            Active=("True", "Active"),
        )
        here.apply(environment())
        here.expect(ENVIRONMENT, "default", Accepted=("True", "Accepted"), Ready=("True", "Ready"), Stalled=None)
        assert journal.faults() == []
