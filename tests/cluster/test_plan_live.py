"""`hookstead plan --against live`: the folder against what a real API server has, read by the real kubectl."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cluster.apiserver import ApiServer
from hookstead.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = "apiVersion: hookstead.dev/v1alpha1\n"
MANIFESTS = f"""\
{HEAD}kind: WebhookEnvironment
metadata: {{name: default}}
spec: {{state: Enabled}}
---
{HEAD}kind: WebhookEventType
metadata: {{name: order.created}}
spec: {{type: order.created, description: An order., schema: {{type: object, properties: {{id: {{type: string}}}}}}}}
---
{HEAD}kind: WebhookEndpoint
metadata: {{name: acme}}
spec:
  url: https://a.example.com/in
  eventTypes: [order.created]
  signing: {{keys: [{{id: a, secretKeyRef: {{name: acme-keys, key: a}}}}]}}
---
{HEAD}kind: WebhookEndpoint
metadata: {{name: beta}}
spec: {{url: "https://b.example.com/in"}}
"""


class Live:
    """A namespace that has the manifests, and a folder to change them in."""

    def __init__(self, server: ApiServer, namespace: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.namespace, self.folder, self._capsys = server, namespace, folder, capsys
        server.kubectl("apply", "--server-side", "-f", "-", input=MANIFESTS, namespace=namespace)
        self.file = folder / "all.yaml"
        self.file.write_text(MANIFESTS)

    def plan(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        flags = ["--namespace", self.namespace, "--kubeconfig", str(self.server.kubeconfig()), "-o", "json"]
        code = main(["plan", str(self.folder), "--against", "live", *flags, *arguments])
        out, err = self._capsys.readouterr()
        assert err == "", err
        document: dict[str, Any] = json.loads(out)
        return code, document


@pytest.fixture
def live(
    api_server: ApiServer,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Live:
    for name, value in api_server.environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "hooks"
    folder.mkdir()
    return Live(api_server, namespace, folder, capsys)


def changes(plan: dict[str, Any], of: str = "endpoints") -> dict[str, str]:
    (environment,) = plan["environments"]
    return {one["name"]: one["fate"] for one in environment["changes"][of]}


def test_what_was_applied_changes_nothing(live: Live) -> None:
    code, plan = live.plan()
    assert code == 0
    assert changes(plan) == changes(plan, "objects") == changes(plan, "eventTypes") == {}
    assert plan["before"] == f"the cluster, namespace {live.namespace}"
    assert any("Secrets in the cluster were not read" in note for note in plan["notes"])


def test_what_the_folder_lacks_goes_and_what_it_changes_is_told(live: Live) -> None:
    live.file.write_text(
        MANIFESTS.rsplit("---", 1)[0]
        .replace("eventTypes: [order.created]", "state: Disabled")
        .replace("{id: {type: string}}", "{id: {type: integer}}")
    )
    status = {"observedGeneration": 1, "activity": {"windowSeconds": 3600, "pending": 7}}
    live.server.kubectl(
        *("patch", "webhookendpoints", "acme", "--subresource=status", "--type=merge"),
        *("-p", json.dumps({"status": status})),
        namespace=live.namespace,
    )
    code, plan = live.plan()
    assert code == 1
    assert [one["rule"] for one in plan["findings"]] == ["BreakingSchemaChange"]
    assert changes(plan) == {"acme": "Changed", "beta": "Lost"}
    (environment,) = plan["environments"]
    assert environment["pending"] == {"acme": 7, "beta": None}
    assert plan["summary"]["deliveriesCancelled"] == 7
    assert changes(live.plan("--no-prune")[1]) == {"acme": "Changed"}


def test_a_namespace_that_has_nothing_yet_gains_everything(live: Live) -> None:
    live.namespace = live.server.create_namespace(f"{live.namespace}-empty")
    code, plan = live.plan()
    assert code == 0
    assert changes(plan) == {"acme": "Gained", "beta": "Gained"}
    assert changes(plan, "objects") == {"default": "Gained"}


def test_whoever_may_not_read_is_told_so(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = str(live.server.kubeconfig(user="alice"))
    arguments = ["plan", str(live.folder), "--against", "live", "-n", live.namespace, "--kubeconfig", kubeconfig]
    assert main(arguments) == 1
    assert "forbidden" in capsys.readouterr().err


def test_an_overlay_is_taken_by_the_server_and_then_changes_nothing(
    live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "gitops" / "overlays" / "staging"
    shutil.copytree(EXAMPLES / "gitops", tmp_path / "gitops")
    file = overlay / "kustomization.yaml"
    namespace = live.server.create_namespace(f"{live.namespace}-staging")
    file.write_text(file.read_text().replace("namespace: hooks-staging", f"namespace: {namespace}"))
    arguments = ["plan", str(overlay), "--kustomize", "--against", "live"]
    arguments += ["--kubeconfig", str(live.server.kubeconfig())]
    assert main(arguments) == 0
    assert "2 endpoints gained" in capsys.readouterr().out
    live.server.kubectl("apply", "--server-side", "-k", overlay)
    assert main(arguments) == 0
    assert "nothing changes for deliveries" in capsys.readouterr().out
