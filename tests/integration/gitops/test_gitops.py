"""`examples/gitops`: built by the real kubectl, validated, planned, and judged by a real Lua, as its pages say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hookstead.cli.main import main
from hookstead.cli.validate import check
from hookstead.resources.kinds import GROUP, Kind
from hookstead.resources.schema import status_errors
from integration.gitops.lua import lua
from integration.gitops.pipeline import GITOPS, TOP, Pipeline, program

OVERLAYS = sorted(path.name for path in (GITOPS / "overlays").iterdir())


def built(folder: Path) -> str:
    kubectl = program("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_builds_to_manifests_without_a_finding(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(program('kubectl')).parent}:{os.environ['PATH']}")
    text = built(GITOPS / "overlays" / overlay)
    assert [finding.message for finding in check([("built", text)]).findings] == []
    assert main(["validate", "--strict", "--kustomize", str(GITOPS / "overlays" / overlay)]) == 0
    for one in documents(text):
        assert one["metadata"]["namespace"] == f"hooks-{overlay}"
    states = [one["spec"]["state"] for one in documents(text) if one["kind"] == Kind.ENVIRONMENT]
    assert states == ["Enabled"]
    assert "receiver.invalid" not in text


def test_the_base_alone_delivers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (environment,) = [one for one in documents(built(GITOPS / "base")) if one["kind"] == Kind.ENVIRONMENT]
    assert environment["spec"]["state"] == "Disabled"
    assert main(["validate", str(GITOPS / "base"), "--strict"]) == 0
    assert "no findings" in capsys.readouterr().out


def test_prefixes_and_generated_secrets_reach_every_reference(tmp_path: Path) -> None:
    shutil.copytree(GITOPS, tmp_path / "gitops")
    overlay = tmp_path / "gitops" / "overlays" / "hashed"
    overlay.mkdir()
    shutil.copy(GITOPS / "base" / "references.kustomize", overlay)
    refs = "secretKeyRef: {name: keys, key: a}"
    (overlay / "kustomization.yaml").write_text(
        "resources: [../../base]\n"
        "namePrefix: eu-\n"
        "configurations: [references.kustomize]\n"
        "secretGenerator:\n"
        '- {name: keys, literals: [a=x, ca.crt=x], options: {labels: {hookstead.dev/endpoint-secret: "true"}}}\n'
        "patches:\n"
        "- target: {kind: WebhookEndpoint, name: acme-orders}\n"
        "  patch: |-\n"
        f"    - {{op: add, path: /spec/signing, value: {{keys: [{{id: a, {refs}}}]}}}}\n"
        f"    - {{op: add, path: /spec/headers, value: [{{name: x, valueFrom: {{{refs}}}}}]}}\n"
        f"    - {{op: add, path: /spec/urlFrom, value: {{{refs}}}}}\n"
        "    - {op: add, path: /spec/tls, value: {caSecretRef: {name: keys}, clientCertSecretRef: {name: keys}}}\n"
    )
    objects = {one["metadata"]["name"]: one for one in documents(built(overlay))}
    (secret,) = [name for name, one in objects.items() if one["kind"] == "Secret"]
    spec = objects["eu-acme-orders"]["spec"]
    assert secret.startswith("eu-keys-")
    assert spec["channelRefs"] == [{"name": "eu-client-acme"}]
    named = [
        spec["signing"]["keys"][0]["secretKeyRef"]["name"],
        spec["headers"][0]["valueFrom"]["secretKeyRef"]["name"],
        spec["urlFrom"]["secretKeyRef"]["name"],
        spec["tls"]["caSecretRef"]["name"],
        spec["tls"]["clientCertSecretRef"]["name"],
    ]
    assert named == [secret] * 5


# ------------------------------------------------------------------------------------------------------------- Argo CD


def health(obj: Any) -> dict[str, str]:
    script = (GITOPS / "argocd" / "health.lua").read_text(encoding="utf-8")
    # No library beyond what Argo CD gives a check.
    whole = (
        f"obj = {lua(obj)}\nos, io, require, load, dofile = nil, nil, nil, nil, nil\n"
        f"local found = (function()\n{script}\nend)()\nprint(found.status)\nprint(found.message)\n"
    )
    done = subprocess.run([program("lua5.4"), "-"], input=whole, capture_output=True, text=True, check=True)
    status, message = done.stdout.rstrip("\n").split("\n", 1)
    return {"status": status, "message": message}


CASES = yaml.safe_load((GITOPS / "argocd" / "health_test.yaml").read_text(encoding="utf-8"))["tests"]


@pytest.mark.parametrize("case", CASES, ids=[case["inputPath"] for case in CASES])
def test_argo_cd_sees_the_health_that_its_test_data_says(case: dict[str, Any]) -> None:
    obj = yaml.safe_load((GITOPS / "argocd" / case["inputPath"]).read_text(encoding="utf-8"))
    assert health(obj) == case["healthStatus"]
    assert status_errors(Kind(obj["kind"]), obj["status"]) == []


def test_every_piece_of_test_data_is_used() -> None:
    used = {case["inputPath"] for case in CASES}
    assert used == {f"testdata/{path.name}" for path in (GITOPS / "argocd" / "testdata").iterdir()}


def test_argo_cds_configuration_has_every_kind() -> None:
    (config,) = documents(built(GITOPS / "argocd"))
    assert (config["kind"], config["metadata"]["name"]) == ("ConfigMap", "argocd-cm")
    wanted = {f"resource.customizations.health.{GROUP}_{kind.value}" for kind in Kind}
    wanted |= {f"resource.customizations.ignoreResourceUpdates.{GROUP}_{kind.value}" for kind in Kind}
    assert config["data"].keys() == wanted | {"resource.ignoreResourceUpdatesEnabled"}
    ignored = yaml.safe_load(config["data"][f"resource.customizations.ignoreResourceUpdates.{GROUP}_WebhookEndpoint"])
    assert {"/status/activity", "/status/recentDeliveries"} <= set(ignored["jsonPointers"])
    assert "/status/conditions" not in ignored["jsonPointers"]


def test_applications_and_kustomizations_name_folders_that_exist() -> None:
    for file in [*GITOPS.glob("argocd/application-*.yaml"), *GITOPS.glob("flux/kustomization-*.yaml")]:
        (one,) = documents(file.read_text(encoding="utf-8"))
        path = one["spec"]["source"]["path"] if one["kind"] == "Application" else one["spec"]["path"]
        assert (TOP / path / "kustomization.yaml").is_file(), file
    flux = {
        one["metadata"]["name"]: one["spec"]
        for file in GITOPS.glob("flux/kustomization-*.yaml")
        for one in documents(file.read_text(encoding="utf-8"))
    }
    assert [flux[f"hooks-{overlay}"]["wait"] for overlay in OVERLAYS] == [True] * 3
    assert flux["hooks-prod"]["dependsOn"] == [{"name": "hooks-staging"}]
    checked = {(one["kind"], one["name"], one["namespace"]) for one in flux["hooks-prod-acme"]["healthChecks"]}
    present = {
        (one["kind"], one["metadata"]["name"], one["metadata"]["namespace"])
        for one in documents(built(GITOPS / "overlays" / "prod"))
    }
    assert checked <= present


def test_both_ways_of_keeping_secrets_make_the_label_that_permits_them() -> None:
    (sealed,) = documents((GITOPS / "secrets" / "sealed-secret.yaml").read_text(encoding="utf-8"))
    (external,) = documents((GITOPS / "overlays" / "prod" / "external-secret.yaml").read_text(encoding="utf-8"))
    for template in (sealed["spec"]["template"], external["spec"]["target"]["template"]):
        assert template["metadata"]["labels"] == {"hookstead.dev/endpoint-secret": "true"}
    keys = {one["secretKey"] for one in external["spec"]["data"]}
    (patched,) = [
        one for one in documents(built(GITOPS / "overlays" / "prod")) if one["metadata"]["name"] == "acme-orders"
    ]
    assert {key["secretKeyRef"]["key"] for key in patched["spec"]["signing"]["keys"]} == keys


# -------------------------------------------------------------------------------------------------------- kubeconform


def kubeconform(text: str) -> list[dict[str, Any]]:
    location = f"{TOP}/docs/schemas/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    command = [program("kubeconform"), "-strict", "-output", "json", "-verbose", "-schema-location", location]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    resources: list[dict[str, Any]] = json.loads(done.stdout)["resources"]
    return resources


def test_kubeconform_takes_every_overlay_and_the_quickstart_with_the_published_schemas() -> None:
    texts = [built(GITOPS / "overlays" / overlay) for overlay in OVERLAYS]
    texts += [path.read_text(encoding="utf-8") for path in (TOP / "examples" / "quickstart").glob("*.yaml")]
    ours = [one for text in texts for one in documents(text) if one["apiVersion"].startswith(GROUP)]
    found = kubeconform(yaml.safe_dump_all(ours))
    assert {one["status"] for one in found} == {"statusValid"}
    assert len(found) == len(ours) > 20


@pytest.mark.parametrize(
    ("old", "new"),
    [("order.*", "'*'"), ("channelRefs", "chanelRefs"), ("https://", "ftp://"), ("- name: client", "- nam: client")],
)
def test_kubeconform_refuses_slips(old: str, new: str) -> None:
    text = (GITOPS / "base" / "endpoints.yaml").read_text(encoding="utf-8").split("---")[0]
    assert old in text
    (found,) = kubeconform(text.replace(old, new))
    assert found["status"] == "statusInvalid"


# ----------------------------------------------------------------------------------------------------------------- CI


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def github_steps() -> dict[str, str]:
    job = yaml.safe_load((GITOPS / "ci" / "github-actions.yaml").read_text(encoding="utf-8"))["jobs"]["check"]
    assert job["strategy"]["matrix"]["environment"] == ["dev", "staging", "prod"]
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


def gitlab_script() -> str:
    job = yaml.safe_load((GITOPS / "ci" / "gitlab-ci.yaml").read_text(encoding="utf-8"))["hooks"]
    return "\n".join(job["script"])


def test_a_pull_request_on_github_is_validated_and_planned(pipeline: Pipeline) -> None:
    steps = github_steps()
    variables = {"OVERLAY": "examples/gitops/overlays/dev", "GITHUB_BASE_REF": "main"}
    variables["GITHUB_WORKSPACE"] = str(pipeline.folder)
    pipeline.change("base/endpoints.yaml", "    - order.*", "    - order.created")
    done = pipeline.run(steps["Validate"], **variables)
    assert (done.returncode, done.stderr) == (0, "")
    done = pipeline.run(steps["Plan"], **variables)
    assert (done.returncode, done.stderr) == (0, "")
    plan = (pipeline.folder / "plan.md").read_text(encoding="utf-8")
    assert "### Hookstead plan: 1 endpoint changed" in plan
    assert "-   types     order.*, order.shipped" in plan
    pipeline.change("base/event-types.yaml", "required: [orderId, amount]", "required: [orderId]")
    assert pipeline.run(steps["Plan"], **variables).returncode == 1
    assert "data.amount: is no longer required" in (pipeline.folder / "plan.md").read_text(encoding="utf-8")
    pipeline.change("base/endpoints.yaml", "channelRefs", "chanelRefs")
    done = pipeline.run(steps["Validate"], **variables)
    assert done.returncode == 1
    assert "::error file=examples/gitops/base/endpoints.yaml,line=9,col=3,title=InvalidSpec::" in done.stdout


def test_a_merge_request_on_gitlab_is_validated_and_planned(pipeline: Pipeline) -> None:
    pipeline.change(
        "overlays/prod/kustomization.yaml", "          requestsPerSecond: 50", "          requestsPerSecond: 5"
    )
    done = pipeline.run(gitlab_script(), ENVIRONMENT="prod", CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((pipeline.folder / "gl-code-quality-report.json").read_text(encoding="utf-8")) == []
    plan = (pipeline.folder / "plan.md").read_text(encoding="utf-8")
    assert "delivery.requestsPerSecond: 50 → 5" in plan
    assert "delivery.requestsPerSecond" in done.stdout
