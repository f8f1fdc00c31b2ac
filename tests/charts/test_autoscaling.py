"""docs/install.md on PostgreSQL and autoscaling: every block of it is tried on what it is for."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import promql_parser
import pytest
import yaml

from charts.helm import named, of_kind, template
from charts.test_monitoring import selectors
from contract.processes import ask
from hookstead.store.postgres.link import Link, target
from hookstead.store.postgres.migrate import migrate
from hookstead.store.postgres.settings import Settings

if TYPE_CHECKING:
    from charts.releases import Release
    from cluster.apiserver import ApiServer
    from store.postgres_server import PostgresServer

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "install.md"
METRIC: Final = "hookstead_queue_age_seconds"
HOUR_MS: Final = 3_600_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def documents() -> list[dict[str, Any]]:
    return [document for block in blocks("yaml") for document in yaml.safe_load_all(block)]


def values() -> list[dict[str, Any]]:
    """Those blocks that are values of our chart: prometheus-adapter's have rules, objects an apiVersion."""
    return [one for one in documents() if not {"apiVersion", "rules"} & one.keys()]


def scaled_objects() -> list[dict[str, Any]]:
    return of_kind([one for one in documents() if "kind" in one], "ScaledObject")


def triggers() -> dict[str, dict[str, Any]]:
    return {trigger["type"]: trigger for one in scaled_objects() for trigger in one["spec"]["triggers"]}


@pytest.mark.parametrize("given", values(), ids=lambda one: "+".join(one))
def test_the_values_of_the_page_are_values_of_the_chart(given: dict[str, Any]) -> None:
    rendered = template(values=given, release="hookstead")
    (workload,) = of_kind(rendered, "Deployment")[:1]
    assert workload["metadata"]["name"].startswith("hookstead-")
    assert not of_kind(rendered, "StatefulSet")
    assert bool(of_kind(rendered, "HorizontalPodAutoscaler")) == ("autoscaling" in given.get("gateway", {}))


def test_keda_is_given_the_values_that_leave_the_number_to_it() -> None:
    assert [one for one in values() if one.get("gateway") == {"replicas": None}]


def test_the_scaled_objects_are_about_the_gateways_of_the_release_that_the_page_installs() -> None:
    (given,) = [one for one in values() if one.get("gateway") == {"replicas": None}]
    rendered = template(values=given, release="hookstead", namespace="prod")
    for one in scaled_objects():
        assert one["metadata"]["namespace"] == "prod"
        gateway = named(rendered, "Deployment", one["spec"]["scaleTargetRef"]["name"])
        assert gateway["metadata"]["labels"]["app.kubernetes.io/component"] == "gateway"
    (selector,) = selectors(triggers()["prometheus"]["metadata"]["query"])
    wanted = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
    assert wanted["namespace"] == "prod"
    assert named(rendered, "Service", wanted["service"])["metadata"]["labels"]["hookstead.dev/metrics"] == "true"


def test_an_age_is_compared_with_its_target_and_not_divided_by_the_number_of_gateways() -> None:
    for kind, target_of in (("prometheus", "threshold"), ("postgresql", "targetQueryValue")):
        assert triggers()[kind]["metricType"] == "Value"
        assert triggers()[kind]["metadata"][target_of] == "5"


def test_the_adapter_gives_the_metric_that_the_autoscaler_asks_for() -> None:
    ((rule,),) = [one["rules"]["custom"] for one in documents() if "rules" in one]
    (series,) = selectors(rule["seriesQuery"])
    (scaler,) = of_kind(
        template(
            values={
                "store": {"type": "postgresql", "postgresql": {"existingSecret": "db"}},
                "gateway": {"autoscaling": {"enabled": True}},
            }
        ),
        "HorizontalPodAutoscaler",
    )
    assert series.name == scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == METRIC
    query = (
        rule["metricsQuery"]
        .replace("<<.GroupBy>>", "pod")
        .replace("<<.Series>>", series.name)
        .replace("<<.LabelMatchers>>", 'namespace="prod",pod=~"a|b"')
    )
    assert isinstance(promql_parser.parse(query), promql_parser.AggregateExpr)
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_a_gateway_has_that_metric_also_when_nothing_waits(shop: Release) -> None:
    """An autoscaler that misses a metric takes no gateway away."""
    pod = shop.pods["shop-gateway-0"]
    text = ask(f"{pod.address}:{pod.port('admin')}", "GET", "/metrics").text
    (line,) = [one for one in text.splitlines() if one.startswith(METRIC)]
    assert float(line.removeprefix(METRIC)) >= 0


def test_the_api_server_takes_the_job_and_the_secret_of_the_page(cluster: ApiServer) -> None:
    known = [one for one in documents() if one.get("kind") in ("Job", "Secret")]
    assert len(known) == 2
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "prod", "labels": labels}})
    said = cluster.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "--filename", "-"), input=yaml.safe_dump_all(known)
    )
    assert len(said.splitlines()) == 2
    (job,) = of_kind(known, "Job")
    pod = {"metadata": {"name": "copy"}, "spec": job["spec"]["template"]["spec"]}
    cluster.request("POST", "/api/v1/namespaces/prod/pods?dryRun=All", pod)


def test_the_job_mounts_the_claim_of_the_release_and_says_what_the_command_takes() -> None:
    (job,) = of_kind([one for one in documents() if "kind" in one], "Job")
    (stateful,) = of_kind(template(release="hookstead"), "StatefulSet")
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    spec = job["spec"]["template"]["spec"]
    names = {one["name"]: one.get("persistentVolumeClaim", {}).get("claimName") for one in spec["volumes"]}
    assert names["store"] == f"{claim['metadata']['name']}-{stateful['metadata']['name']}-0"
    (container,) = spec["containers"]
    (gateway,) = stateful["spec"]["template"]["spec"]["containers"]
    assert f"--store={container['command'][-1]}" in gateway["args"]


# ------------------------------------------------------------------------------------------------- asking the database


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> tuple[PostgresServer, str]:
    """One with our schema, and the role that the page makes."""
    return postgres_server, asyncio.run(_prepare(postgres_server))


async def _prepare(server: PostgresServer) -> str:
    name = await server.create()
    settings = Settings()
    link = Link(target(server.url(name)), settings, purpose="test")
    await migrate(link, name)
    await link.close()
    (sql,) = blocks("sql")
    for statement in filter(str.strip, sql.split(";")):
        await server.execute(statement, database=name)
    return name


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ((), 0),
        # Hours since the last success (None: never), seconds since the oldest is due (None: nothing is pending).
        (((0, None),), 0),
        (((0, 30),), 30),
        # What falls due in the future is not late.
        (((0, -600),), 0),
        # One slow receiver beside others; and one that is paused since yesterday, or never answered.
        (((0, 900), (0, None), (0, None)), 0),
        (((0, 10), (0, 20), (0, 900)), 20),
        (((30, 90_000), (None, 90_000), (0, 7)), 7),
        (((1, 40),), 40),
    ],
)
def test_the_question_to_the_database_is_answered_for_a_role_that_sees_no_payload(
    database: tuple[PostgresServer, str], endpoints: tuple[tuple[int | None, int | None], ...], expected: int
) -> None:
    server, name = database
    query = triggers()["postgresql"]["metadata"]["query"]
    assert "\n" not in query.strip()

    async def answer() -> int:
        for table in ("hours", "pending"):
            await server.execute(f"DELETE FROM hookstead.{table}", database=name)
        for number, (hours_ago, late) in enumerate(endpoints, start=1):
            now_ms = "(extract(epoch FROM now()) * 1000)::bigint"
            ago, succeeded = (0, 0) if hours_ago is None else (hours_ago, 3)
            await server.execute(
                f"INSERT INTO hookstead.hours VALUES ({now_ms} / {HOUR_MS} - {ago}, {number}, {succeeded}, 1, 0)",
                database=name,
            )
            for seq, more in enumerate(() if late is None else (late, late - 5), start=number * 10):
                await server.execute(
                    "INSERT INTO hookstead.pending (seq, id, event_seq, endpoint_id, type, attempt_count,"
                    " schedule_position, payload_format, origin, in_order, created_ms, next_attempt_ms)"
                    f" VALUES ({seq}, '\\x{seq:08x}', {seq}, {number}, 't', 0, 0, 0, 0, true, 0,"
                    f" {now_ms} - {more * 1000})",
                    database=name,
                )
        scaler = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user="hookstead_scaler", database=name, timeout=10
        )
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await scaler.fetch("SELECT data FROM hookstead.events")
            found = await scaler.fetchval(query)
            assert isinstance(found, int)  # KEDA asks for one
            return found
        finally:
            await scaler.close()

    assert asyncio.run(answer()) == pytest.approx(expected, abs=5)


def test_the_question_reads_the_oldest_of_each_endpoint_and_not_the_backlog(
    database: tuple[PostgresServer, str],
) -> None:
    """It is asked every 15 seconds: it must not cost more where more waits."""
    server, name = database

    async def plan() -> Any:
        for table in ("hours", "pending"):
            await server.execute(f"DELETE FROM hookstead.{table}", database=name)
        await server.execute(
            f"INSERT INTO hookstead.hours SELECT extract(epoch FROM now())::bigint * 1000 / {HOUR_MS}, n, 1, 0, 0"
            " FROM generate_series(1, 20) n",
            database=name,
        )
        await server.execute(
            "INSERT INTO hookstead.pending (seq, id, event_seq, endpoint_id, type, attempt_count, schedule_position,"
            " payload_format, origin, in_order, created_ms, next_attempt_ms)"
            " SELECT n, int8send(n), n, n % 20 + 1, 't', 0, 0, 0, 0, true, 0, n FROM generate_series(1, 20000) n",
            database=name,
        )
        await server.execute("ANALYZE hookstead.pending", database=name)
        await server.execute("ANALYZE hookstead.hours", database=name)
        query = triggers()["postgresql"]["metadata"]["query"]
        rows = await server.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", database=name)
        return json.loads(rows[0][0])

    def read(node: dict[str, Any]) -> float:
        own = node["Actual Rows"] * node["Actual Loops"] if "Relation Name" in node else 0
        return own + sum(read(one) for one in node.get("Plans", ()))

    assert read(asyncio.run(plan())[0]["Plan"]) <= 20 + 20 + 20
