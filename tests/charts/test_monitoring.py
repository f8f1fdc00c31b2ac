"""Alerts and dashboard: valid PromQL over metrics that gateway and operator really have, a runbook for each alert."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import promql_parser
import pytest

from charts.helm import ENVIRONMENT, of_kind, template
from charts.test_render import EVERYTHING, POSTGRESQL
from contract.processes import ask
from hookstead.cli.kubectl_hooks import MODULES
from hookstead.delivery.intake import RefusalKind

if TYPE_CHECKING:
    from charts.releases import Release

RUNBOOKS: Final = Path(__file__).resolve().parents[2] / "docs" / "runbooks.md"
OF_OTHERS: Final = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
"""From Prometheus itself and from the kubelet."""
PROMISED: Final = {
    "hookstead_events_accepted_total",
    "hookstead_attempts_total",
    "hookstead_deliveries",
    "hookstead_filter_errors_total",
}
"""Those that the contract names: somebody looks at each."""
ADDED_BY_SCRAPE: Final = {"namespace", "service", "pod", "persistentvolumeclaim"}


def _rules() -> list[dict[str, Any]]:
    (rule,) = of_kind(template(ENVIRONMENT, "values-prod.yaml"), "PrometheusRule")
    (group,) = rule["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def _dashboard() -> dict[str, Any]:
    (made,) = [
        one
        for one in of_kind(template(ENVIRONMENT, "values-prod.yaml"), "ConfigMap")
        if one["metadata"]["name"].endswith("-dashboard")
    ]
    (text,) = made["data"].values()
    found: dict[str, Any] = json.loads(text)
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and itself."""
    for rule in _rules():
        yield rule["alert"], rule["expr"]
    for panel in _dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def selectors(expression: str) -> list[Any]:
    """Every vector selector in it. Raises ValueError where it is not PromQL."""
    found: list[Any] = []

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        for name in ("lhs", "rhs", "expr", "args", "vector_selector", "param"):
            below = getattr(node, name, None)
            for one in below if isinstance(below, list) else [below]:
                if isinstance(one, promql_parser.Expr):
                    look(one)

    look(promql_parser.parse(expression))
    return found


@pytest.fixture(scope="module")
def scraped(shop: Release) -> dict[str, set[str]]:
    """Every metric of the running gateway and operator, and the labels that were seen on it."""
    metrics: dict[str, set[str]] = {}
    for pod in (shop.pods["shop-gateway-0"], shop.pods["shop-operator-0"]):
        for line in ask(f"{pod.address}:{pod.port('admin')}", "GET", "/metrics").text.splitlines():
            if line.startswith("# TYPE "):
                metrics.setdefault(line.split()[2], set())
            elif not line.startswith("#"):
                sample = re.match(r"(\w+)(?:\{(.*)\})? ", line)
                assert sample is not None
                metrics.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return metrics


def test_every_expression_is_promql_over_metrics_that_exist(scraped: dict[str, set[str]]) -> None:
    used = set()
    for where, expression in expressions():
        found = selectors(expression)
        assert found, where
        for selector in found:
            used.add(selector.name)
            if selector.name in OF_OTHERS:
                continue
            assert selector.name in scraped, (where, selector.name)
            labels = {matcher.name for matcher in selector.matchers.matchers} - ADDED_BY_SCRAPE
            if scraped[selector.name]:
                assert labels <= scraped[selector.name], (where, selector.name)
    assert used >= PROMISED


def test_every_expression_is_of_this_release_only() -> None:
    for where, expression in expressions():
        for selector in selectors(expression):
            wanted = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            assert wanted["namespace"] == "prod", where
            assert selector.name.startswith("kubelet_") or wanted["service"].startswith("demo-"), where


def test_values_of_labels_are_those_that_the_programs_say() -> None:
    known = {
        "outcome": {"Succeeded", "Failed"},
        "status": {"Pending", "Delivered", "DeadLettered", "Cancelled"},
        "result": {"accepted", "duplicate", "clash", *RefusalKind},
    }
    for where, expression in expressions():
        for selector in selectors(expression):
            for matcher in selector.matchers.matchers:
                if matcher.name in known:
                    assert set(matcher.value.split("|")) <= known[matcher.name], where


def test_every_alert_has_a_runbook_and_says_what_is_wrong() -> None:
    headings = re.findall(r"^## (\S+)$", RUNBOOKS.read_text(encoding="utf-8"), re.MULTILINE)
    rules = _rules()
    assert headings == [rule["alert"] for rule in rules]
    for rule in rules:
        annotations = rule["annotations"]
        assert annotations["runbook_url"].endswith(f"/runbooks#{rule['alert'].lower()}")
        assert annotations["summary"].endswith(".")
        assert "prod" in annotations["description"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert re.fullmatch(r"\d+[mh]", rule["for"])


@pytest.mark.parametrize("page", ["runbooks.md", "install.md"])
def test_the_commands_of_the_pages_exist_with_their_flags(page: str) -> None:
    text = RUNBOOKS.with_name(page).read_text(encoding="utf-8")
    used = re.findall(r"kubectl hooks ([a-z]+)([^`\n]*)", text)
    assert used or page == "install.md"
    for name, rest in used:
        command = importlib.import_module(MODULES[name][0]).COMMAND
        known = {f"--{flag.name}" for flag in command.flags} | {f"-{flag.short}" for flag in command.flags}
        assert set(re.findall(r"(?<!\S)--?[a-z-]+", rest)) <= known, (name, rest)
    # kubectl takes no flag of its own before a plugin's name.
    assert not re.search(r"kubectl -\S+ \S+ hooks", text)


def test_thresholds_are_values() -> None:
    (rule,) = of_kind(template(values=EVERYTHING), "PrometheusRule")
    by_name = {one["alert"]: one["expr"] for one in rule["spec"]["groups"][0]["rules"]}
    assert by_name["HooksteadEndpointFails"].endswith("> 20")
    assert by_name["HooksteadBacklog"].endswith("> 2000000")
    assert by_name["HooksteadDeliveriesWait"].endswith("> 7")


def test_nobody_is_told_to_watch_a_volume_that_there_is_not() -> None:
    values = {**POSTGRESQL, "monitoring": {"rules": {"enabled": True}}}
    (rule,) = of_kind(template(values=values), "PrometheusRule")
    names = {one["alert"] for one in rule["spec"]["groups"][0]["rules"]}
    assert names == {one["alert"] for one in _rules()} - {"HooksteadVolumeFills"}


def test_what_each_gateway_tells_of_the_whole_store_is_not_summed_up_over_gateways() -> None:
    for where, expression in expressions():
        if "hookstead_deliveries{" in expression:
            assert "max by (endpoint)" in expression, where


def test_dashboards_of_two_environments_do_not_displace_each_other() -> None:
    one = _dashboard()
    (other,) = [
        json.loads(text)
        for made in of_kind(template(ENVIRONMENT, "values-prod.yaml", namespace="staging"), "ConfigMap")
        for text in made["data"].values()
    ]
    assert one["uid"] != other["uid"]
    assert one["title"] == "Hookstead / prod / demo"
    assert "RELEASE_" not in json.dumps(one)
    boxes = [tuple(panel["gridPos"].values()) for panel in one["panels"]]
    assert len(set(boxes)) == len(boxes)
    assert len({panel["id"] for panel in one["panels"]}) == len(boxes)
    assert all(panel["title"] and panel["description"] for panel in one["panels"])
