"""What the charts render, without a cluster: every values file, every switch, every slip."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts import generate
from charts.helm import (
    CRDS,
    ENVIRONMENT,
    USUAL,
    HelmError,
    arguments,
    lint,
    named,
    of_kind,
    pod_templates,
    template,
)
from charts.kubelet import pre_stop_seconds
from contract.processes import run
from hookstead import __version__

EVERYTHING: Final[dict[str, Any]] = {
    "environment": {
        "egress": {
            "plaintextHTTP": "Allow",
            "privateNetworks": "Allow",
            "allowedCIDRs": ["10.20.0.0/16", "fd00:1::/64"],
        }
    },
    "imagePullSecrets": [{"name": "pull"}],
    "commonLabels": {"team": "platform"},
    "operator": {"replicas": 2, "priorityClassName": "important", "nodeSelector": {"disk": "ssd"}},
    "gateway": {
        "auth": {"tokenReview": True},
        "ingestPerSecond": 20000000 // 2,
        "minFreeBytes": 0,
        "maxEventBytes": 2_000_000,
        "maxBatchBytes": 33_554_432,
        "resolvers": ["10.0.0.10", "10.0.0.11:5353", "[fd00::53]:53"],
        "podLabels": {"tier": "edge", "app.kubernetes.io/component": "mine"},
        "podAnnotations": {"note": "x"},
        "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
                ]
            }
        },
        "ingress": {
            "enabled": True,
            "className": "public",
            "hosts": ["hooks.example.com"],
            "tls": [{"secretName": "hooks-tls", "hosts": ["hooks.example.com"]}],
        },
        "service": {"type": "LoadBalancer", "port": 8443, "annotations": {"a": "b"}},
    },
    "store": {"persistence": {"existingClaim": "mine"}},
    "internal": {"existingSecret": "given-internal"},
    "serviceAccount": {"annotations": {"a": "b"}},
    "access": {
        "reader": {"payloads": "Read", "subjects": [{"kind": "Group", "name": "developers"}]},
        "operatorUser": {
            "payloads": "ReadAndErase",
            "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "ops"}],
        },
    },
    "networkPolicy": {
        "dns": {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]},
        "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [6443]},
        "gateway": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}], "receiverPorts": [443, 8443]},
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "failedPercent": 20, "pendingDeliveries": 2_000_000, "queueAgeSeconds": 7},
        "dashboard": {"enabled": True},
    },
    "tests": {"endpoint": "audit", "data": {"n": 12345678}},
}
"""Every switch that does not exclude another."""

STATIC: Final[dict[str, Any]] = {
    "gateway": {"auth": {"mode": "static", "existingSecret": "keys"}},
    "tests": {"existingSecret": "test-key"},
}
POSTGRESQL: Final[dict[str, Any]] = {"store": {"type": "postgresql", "postgresql": {"existingSecret": "database"}}}
SEVERAL: Final[dict[str, Any]] = {
    **POSTGRESQL,
    "gateway": {
        "replicas": 3,
        "preStopSeconds": 20,
        "drainSeconds": 40,
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 12, "targetQueueAgeSeconds": 30},
    },
    "store": {
        "type": "postgresql",
        "postgresql": {"existingSecret": "db-app", "key": "uri", "ca": {"existingSecret": "db-ca", "key": "root.crt"}},
    },
    "networkPolicy": {
        "database": {
            "to": [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "db"}}}],
            "port": 6432,
            "directPort": 5433,
        },
    },
}
"""Every switch of a shared store."""
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "postgresql": POSTGRESQL,
    "several gateways": SEVERAL,
    "static keys": STATIC,
    "environment elsewhere": {"environment": {"create": False}},
    "no policies": {
        "networkPolicy": {"enabled": False},
        "operator": {"podDisruptionBudget": {"enabled": False}},
        "gateway": {"podDisruptionBudget": {"enabled": False}},
    },
}
EACH: Final = [*((f, (f,), {}) for f in USUAL), *((name, (), values) for name, values in VARIANTS.items())]
CLUSTER_SCOPED: Final = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PriorityClass"}


@pytest.fixture(scope="module", params=EACH, ids=[name for name, _, _ in EACH])
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    _, files, values = request.param
    return template(ENVIRONMENT, *files, values=values)


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    return template(values=EVERYTHING)


# ------------------------------------------------------------------------------------------------- the charts' files


@pytest.mark.parametrize(("chart", "files"), [(CRDS, ()), (ENVIRONMENT, ()), *((ENVIRONMENT, (f,)) for f in USUAL)])
def test_lint_finds_nothing(chart: Path, files: tuple[str, ...]) -> None:
    said = lint(chart, *files)
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@pytest.mark.parametrize("chart", [CRDS, ENVIRONMENT])
def test_charts_say_which_kubernetes_and_which_version_they_are_for(chart: Path) -> None:
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert about["kubeVersion"] == ">=1.30.0-0"
    assert about["appVersion"] == __version__
    with pytest.raises(HelmError, match=r"incompatible with Kubernetes v1\.29\.9"):
        template(chart, more=["--kube-version=1.29.9"])
    assert template(chart, more=["--kube-version=1.30.0"])


@pytest.mark.parametrize("chart", [CRDS, ENVIRONMENT])
def test_every_value_is_described_and_has_a_type(chart: Path) -> None:
    assert generate.undocumented(chart.name) == []
    for value in generate.documented(chart.name):
        assert generate.typed(chart.name, value.path)
        assert value.description.endswith((".", "]"))
    assert len(list(generate.documented(chart.name))) > (85 if chart is ENVIRONMENT else 1)


@pytest.mark.parametrize("chart", [CRDS, ENVIRONMENT])
def test_the_schema_is_closed_and_bounded(chart: Path) -> None:
    """Every object refuses what it does not know, or is a map with typed values; one is free: the test event's data."""
    document = json.loads((chart / "values.schema.json").read_text())
    open_objects, unbounded = [], []

    def look(node: Any, where: str) -> None:
        if isinstance(node, list):
            for index, one in enumerate(node):
                look(one, f"{where}[{index}]")
        if not isinstance(node, dict):
            return
        kinds = node.get("type", ())
        if kinds == "object" and "additionalProperties" not in node and "/if" not in where and "/then" not in where:
            open_objects.append(where)
        if kinds == "string" and not {"enum", "maxLength", "minLength"} & node.keys():
            unbounded.append(where)
        if kinds == "array" and "maxItems" not in node and "minItems" not in node:
            unbounded.append(where)
        for name, one in node.items():
            if name != "enum":
                look(one, f"{where}/{name}")

    look(document, "")
    assert open_objects == (["/properties/tests/properties/data"] if chart is ENVIRONMENT else [])
    assert unbounded == []


def test_no_value_can_hold_a_secret() -> None:
    """`existingSecret` names one; nothing else in the values is about secrets."""
    words = re.compile(r"password|token$|apikey|secretkey|credential|signingkey", re.IGNORECASE)
    found = [".".join(value.path) for value in generate.documented("hookstead") if words.search(value.path[-1])]
    assert found == []
    assert {".".join(v.path) for v in generate.documented("hookstead") if "ecret" in v.path[-1]} == {
        "imagePullSecrets",
        "gateway.auth.existingSecret",
        "internal.existingSecret",
        "store.postgresql.existingSecret",
        "store.postgresql.ca.existingSecret",
        "tests.existingSecret",
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"enviroment": {"state": "Enabled"}}, "enviroment"),
        ({"environment": {"sate": "Enabled"}}, "sate"),
        ({"environment": {"state": "enabled"}}, "/environment/state"),
        ({"environment": {"state": True}}, "/environment/state"),
        ({"environment": {"deliveryDefaults": {"timeoutSeconds": 61}}}, "timeoutSeconds"),
        ({"environment": {"deliveryDefaults": {"timeout": 10}}}, "timeout"),
        ({"environment": {"deliveryDefaults": {"retry": {"scheduleSeconds": []}}}}, "scheduleSeconds"),
        ({"environment": {"egress": {"allowedCIDRs": ["10.0.0.0"]}}}, "allowedCIDRs"),
        ({"environment": {"egress": {"allowedCIDRs": ["10.0.0.0/8"]}}}, "privateNetworks: Allow"),
        ({"environment": {"retention": {"payloadDays": 0}}}, "payloadDays"),
        ({"operator": {"replicas": 0}}, "replicas"),
        ({"operator": {"replicas": "2"}}, "replicas"),
        ({"operator": {"resources": {"limit": {"memory": "1Gi"}}}}, "limit"),
        ({"operator": {"resources": {"limits": {"memory": "1 Gi"}}}}, "memory"),
        ({"operator": {"logFormat": "JSON"}}, "logFormat"),
        ({"operator": {"drainSeconds": -1}}, "drainSeconds"),
        ({"gateway": {"replicas": 2}}, "gateway.replicas: 2 needs store.type: postgresql"),
        ({"gateway": {"replicas": 0}}, "/gateway/replicas"),
        ({**POSTGRESQL, "gateway": {"replicas": "3"}}, "/gateway/replicas"),
        ({**POSTGRESQL, "gateway": {"replicas": 51}}, "/gateway/replicas"),
        ({"gateway": {"autoscaling": {"enabled": True}}}, "gateway.autoscaling.enabled needs store.type: postgresql"),
        ({**POSTGRESQL, "gateway": {"autoscaling": {"enable": True}}}, "enable"),
        (
            {**POSTGRESQL, "gateway": {"autoscaling": {"enabled": True, "maxReplicas": 1}}},
            "maxReplicas: 1 is less than minReplicas: 2",
        ),
        (
            {
                **POSTGRESQL,
                "gateway": {
                    "autoscaling": {"enabled": True, "targetQueueAgeSeconds": None, "targetCPUPercent": None},
                },
            },
            "needs targetQueueAgeSeconds, targetCPUPercent, or both",
        ),
        (
            {
                **POSTGRESQL,
                "gateway": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            },
            "gateway.resources.requests.cpu, which is not given",
        ),
        ({**POSTGRESQL, "gateway": {"minFreeBytes": 0}}, "gateway.minFreeBytes is for store.type sqlite"),
        ({"gateway": {"preStopSeconds": -1}}, "preStopSeconds"),
        ({"gateway": {"auth": {"mode": "none"}}}, "/gateway/auth/mode"),
        ({"gateway": {"auth": {"mode": "static"}}}, "existingSecret"),
        ({"gateway": {"auth": {"mode": "static", "existingSecret": "a", "tokenReview": True}}}, "tokenReview"),
        ({"gateway": {"auth": {"keys": [{"name": "shop"}]}}}, "keys"),
        ({"gateway": {"allowLoopback": True}}, "allowLoopback"),
        ({"gateway": {"extraArgs": ["--allow-loopback"]}}, "extraArgs"),
        ({"gateway": {"maxEventBytes": 1000}}, "maxEventBytes"),
        ({"gateway": {"resolvers": ["dns.example.com"]}}, "resolvers"),
        ({"gateway": {"ingress": {"enabled": True}}}, "hosts"),
        ({"gateway": {"ingress": {"hosts": ["https://hooks.example.com"]}}}, "hosts"),
        ({"gateway": {"nodeSelector": {"a": 1}}}, "nodeSelector"),
        ({"gateway": {"podLabels": {"a b": "c"}}}, "a b"),
        ({"gateway": {"tolerations": [{"efect": "NoSchedule"}]}}, "efect"),
        ({"gateway": {"affinity": {"nodeAfinity": {}}}}, "nodeAfinity"),
        ({"gateway": {"service": {"type": "ExternalName"}}}, "/gateway/service/type"),
        ({"store": {"type": "postgres"}}, "/store/type"),
        ({"store": {"type": "postgresql"}}, "store.postgresql.existingSecret is empty"),
        ({"store": {"postgresql": {"existingSecret": "db"}}}, "set store.type: postgresql"),
        ({"store": {"postgresql": {"ca": {"existingSecret": "db"}}}}, "set store.type: postgresql"),
        (
            {"store": {**POSTGRESQL["store"], "persistence": {"existingClaim": "mine"}}},
            "store.persistence.existingClaim is for store.type sqlite",
        ),
        ({"store": {"type": "postgresql", "postgresql": {"url": "postgresql://u:p@h/d"}}}, "url"),
        (
            {"store": {"type": "postgresql", "postgresql": {"existingSecret": "postgresql://u:p@h/d"}}},
            "/store/postgresql/existingSecret",
        ),
        (
            {"store": {"type": "postgresql", "postgresql": {"existingSecret": "db", "key": "a/b"}}},
            "/store/postgresql/key",
        ),
        ({"networkPolicy": {"database": {"port": 0}}}, "/networkPolicy/database/port"),
        ({"store": {"persistence": {"enabled": False}}}, "enabled"),
        ({"store": {"persistence": {"accessModes": ["ReadWriteMany"]}}}, "accessModes"),
        ({"store": {"persistence": {"size": "10 GB"}}}, "size"),
        ({"internal": {"token": "s3cret"}}, "token"),
        ({"access": {"reader": {"payloads": "ReadAndErase"}}}, "/access/reader/payloads"),
        ({"access": {"reader": {"subjects": [{"kind": "ServiceAccount", "name": "a"}]}}}, "namespace"),
        ({"access": {"reader": {"subjects": [{"kind": "Team", "name": "a"}]}}}, "kind"),
        ({"networkPolicy": {"enabled": "yes"}}, "/networkPolicy/enabled"),
        ({"networkPolicy": {"gateway": {"from": [{}]}}}, "from"),
        ({"monitoring": {"rules": {"failedPercent": 0}}}, "failedPercent"),
        ({"monitoring": {"rules": {"queueAgeSeconds": 0}}}, "queueAgeSeconds"),
        ({"monitoring": {"serviceMonitor": {"interval": "30"}}}, "interval"),
        ({"image": {"tag": "a b"}}, "tag"),
        ({"image": {"digest": "sha256:1"}}, "digest"),
        ({"image": {"pullpolicy": "Always"}}, "pullpolicy"),
        ({"commonLabels": {"a": True}}, "commonLabels"),
        ({"tests": {"eventType": "a..b"}}, "eventType"),
        ({"imagePullSecrets": ["pull"]}, "imagePullSecrets"),
    ],
)
def test_a_slip_in_the_values_is_refused_by_name(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(HelmError) as refused:
        template(values=values)
    assert expected in str(refused.value)


@pytest.mark.parametrize("values", [{"crds": True}, {"aggregatedRoles": {"enable": True}}])
def test_a_slip_in_the_values_of_the_definitions_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match="additional properties"):
        template(CRDS, values=values)


# ------------------------------------------------------------------------------------------------- what is rendered


def test_nothing_cluster_scoped_is_rendered_unless_tokens_shall_be_reviewed(rendered: list[dict[str, Any]]) -> None:
    scoped = {one["kind"] for one in rendered} & CLUSTER_SCOPED
    reviews = "--token-review" in arguments(pod_templates(rendered)["gateway"])
    assert scoped == ({"ClusterRole", "ClusterRoleBinding"} if reviews else set())
    for one in rendered:
        if one["kind"] in scoped:
            assert "prod" in one["metadata"]["name"]
            assert "demo" in one["metadata"]["name"]
        else:
            assert one["metadata"]["namespace"] == "prod"


def test_the_environment_is_disabled_until_a_values_file_says_otherwise() -> None:
    assert named(template(), "WebhookEnvironment", "default")["spec"] == {"state": "Disabled"}
    for file in USUAL:
        assert named(template(ENVIRONMENT, file), "WebhookEnvironment", "default")["spec"]["state"] == "Enabled"
    assert not of_kind(template(values={"environment": {"create": False}}), "WebhookEnvironment")


@pytest.mark.parametrize("component", ["operator", "gateway"])
def test_every_flag_that_is_set_exists_and_takes_its_value(component: str) -> None:
    """--help knows each; and the program gets past its command line with them: what it misses is the API server."""
    helped = run(component, "--help").stdout
    for values in (EVERYTHING, STATIC, SEVERAL, {}):
        words = arguments(pod_templates(template(values=values))[component])
        assert words[0] == component
        flags = [word.partition("=")[0] for word in words[1:]]
        assert all(re.search(rf"(^|\s){re.escape(flag)}[\s,]", helped) for flag in flags), flags
        assert "--allow-loopback" not in flags


@pytest.mark.parametrize("file", USUAL)
def test_the_rendered_resources_are_valid_offline(file: str, tmp_path: Path) -> None:
    """`helm template … | hookstead validate -`, as a pipeline does it."""
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(yaml.safe_dump_all(template(ENVIRONMENT, file)), encoding="utf-8")
    result = run("validate", rendered)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "no findings" in result.stdout


def test_numbers_are_written_out(everything: list[dict[str, Any]]) -> None:
    words = arguments(pod_templates(everything)["gateway"])
    assert {"--ingest-per-second=10000000", "--min-free-bytes=0", "--max-batch-bytes=33554432"} <= set(words)
    rule = next(
        rule
        for rule in of_kind(everything, "PrometheusRule")[0]["spec"]["groups"][0]["rules"]
        if rule["alert"] == "HooksteadBacklog"
    )
    assert rule["expr"].endswith("> 2000000")


def test_pods_are_restricted_and_bounded(rendered: list[dict[str, Any]]) -> None:
    templates = pod_templates(rendered)
    assert {"operator", "gateway"} <= templates.keys()
    for pod in templates.values():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert spec["enableServiceLinks"] is False
        for volume in spec.get("volumes", ()):
            assert "hostPath" not in volume
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


def test_a_pod_has_longer_to_stop_than_its_drain_takes(rendered: list[dict[str, Any]]) -> None:
    for component in ("operator", "gateway"):
        pod = pod_templates(rendered)[component]
        (drain,) = [
            int(word.removeprefix("--drain-seconds=")) for word in arguments(pod) if word.startswith("--drain-seconds=")
        ]
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["terminationGracePeriodSeconds"] >= pre_stop_seconds(container) + drain + 5


def test_only_who_calls_the_api_server_has_a_token_for_it(rendered: list[dict[str, Any]]) -> None:
    for account in of_kind(rendered, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    pods = pod_templates(rendered)
    assert pods["operator"]["spec"]["automountServiceAccountToken"] is True
    static = "--auth=static" in arguments(pods["gateway"])
    assert pods["gateway"]["spec"]["automountServiceAccountToken"] is not static


def test_selectors_meet_the_pods_and_nobody_else(everything: list[dict[str, Any]]) -> None:
    """Labels of users displace none of ours: `everything` tries it."""
    pods = {name: pod["metadata"]["labels"] for name, pod in pod_templates(everything).items()}
    assert pods["gateway"]["app.kubernetes.io/component"] == "gateway"
    assert pods["gateway"]["tier"] == "edge"

    def meets(selector: dict[str, str]) -> set[str]:
        return {name for name, labels in pods.items() if selector.items() <= labels.items()}

    for one in everything:
        spec = one.get("spec", {})
        match one["kind"]:
            case "Service":
                selector, expected = spec["selector"], one["metadata"]["labels"]["app.kubernetes.io/component"]
            case "Deployment" | "StatefulSet" | "PodDisruptionBudget":
                selector = spec["selector"]["matchLabels"]
                expected = one["metadata"]["labels"]["app.kubernetes.io/component"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
                expected = one["metadata"]["labels"]["app.kubernetes.io/component"]
            case _:
                continue
        assert meets(selector) == {expected}, one["kind"]
    (wanted,) = [w for w in arguments(pod_templates(everything)["operator"]) if w.startswith("--gateway-selector=")]
    assert meets(dict(pair.split("=") for pair in wanted.partition("=")[2].split(","))) == {"gateway"}


def test_ports_have_the_names_that_others_look_for() -> None:
    (container,) = pod_templates(template())["gateway"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080, "admin": 9090, "internal": 9443}


def test_the_sixteen_shards_are_projected_and_the_first_is_waited_for() -> None:
    volumes = {one["name"]: one for one in pod_templates(template())["gateway"]["spec"]["volumes"]}
    sources = [source["secret"] for source in volumes["config"]["projected"]["sources"]]
    assert [one["name"] for one in sources] == [f"hookstead-config-{n}" for n in range(16)]
    assert [one["optional"] for one in sources] == [False] + [True] * 15
    for number, one in enumerate(sources):
        assert [item["key"] for item in one["items"]] == [f"config-{number}.json.gz", f"config-{number}.meta.json"]
    assert volumes["internal"]["secret"]["secretName"] == "hookstead-internal"


def test_a_given_internal_secret_is_used_on_both_sides_and_changed_by_nobody() -> None:
    rendered = template(values={"internal": {"existingSecret": "given"}})
    assert "--internal-secret=given" in arguments(pod_templates(rendered)["operator"])
    volumes = {one["name"]: one for one in pod_templates(rendered)["gateway"]["spec"]["volumes"]}
    assert volumes["internal"]["secret"]["secretName"] == "given"
    rules = named(rendered, "Role", "demo-operator")["rules"]
    (patch,) = [
        rule["resourceNames"] for rule in rules if rule["resources"] == ["secrets"] and "patch" in rule["verbs"]
    ]
    assert patch == [f"hookstead-config-{n}" for n in range(16)]


def test_the_store_is_a_volume_that_outlives_the_release() -> None:
    (stateful,) = of_kind(template(values={"store": {"persistence": {"storageClassName": "fast"}}}), "StatefulSet")
    assert stateful["spec"]["replicas"] == 1
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    (existing,) = of_kind(template(values={"store": {"persistence": {"existingClaim": "mine"}}}), "StatefulSet")
    assert "volumeClaimTemplates" not in existing["spec"]
    volumes = {one["name"]: one for one in existing["spec"]["template"]["spec"]["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"] == {"claimName": "mine"}


# ------------------------------------------------------------------------------------------------- a shared store


def test_with_postgresql_the_gateway_has_no_volume_and_the_url_is_on_no_command_line() -> None:
    rendered = template(values=SEVERAL)
    assert not of_kind(rendered, "StatefulSet")
    workload = named(rendered, "Deployment", "demo-gateway")
    assert "volumeClaimTemplates" not in workload["spec"]
    pod = workload["spec"]["template"]
    assert not [word for word in arguments(pod) if word.startswith("--store")]
    (container,) = pod["spec"]["containers"]
    variables = {one["name"]: one for one in container["env"]}
    assert variables["HOOKSTEAD_STORE"]["valueFrom"] == {"secretKeyRef": {"name": "db-app", "key": "uri"}}
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert "store" not in volumes
    assert volumes["database"]["secret"]["secretName"] == "db-ca"
    assert volumes["database"]["secret"]["items"] == [{"key": "root.crt", "path": "ca.crt"}]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert variables["PGSSLROOTCERT"]["value"] == f"{mounts['database']}/ca.crt"
    assert variables["PGSSLMODE"]["value"] == "verify-full"
    (plain,) = named(template(values=POSTGRESQL), "Deployment", "demo-gateway")["spec"]["template"]["spec"][
        "containers"
    ]
    assert [one["name"] for one in plain["env"]] == ["HOOKSTEAD_STORE"]


def test_a_rollout_of_several_gateways_takes_none_away_before_another_is_ready() -> None:
    workload = named(template(values=POSTGRESQL), "Deployment", "demo-gateway")
    assert workload["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert pre_stop_seconds(container) == 10
    without = named(template(values={**POSTGRESQL, "gateway": {"preStopSeconds": 0}}), "Deployment", "demo-gateway")
    (container,) = without["spec"]["template"]["spec"]["containers"]
    assert "lifecycle" not in container
    # With one process on one file there is nobody else to take events meanwhile.
    (single,) = pod_templates(template())["gateway"]["spec"]["containers"]
    assert "lifecycle" not in single
    budget = named(template(values=POSTGRESQL), "PodDisruptionBudget", "demo-gateway")
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({}, 1),
        ({"replicas": 4}, 4),
        ({"replicas": None}, None),
        ({"replicas": 4, "autoscaling": {"enabled": True}}, None),
    ],
)
def test_the_number_of_gateways_is_said_by_one_only(gateway: dict[str, Any], expected: int | None) -> None:
    """What an autoscaler decides must not be set back by the next upgrade."""
    workload = named(template(values={**POSTGRESQL, "gateway": gateway}), "Deployment", "demo-gateway")
    assert workload["spec"].get("replicas") == expected


def test_the_autoscaler_goes_by_queue_age_and_cpu_and_is_off_until_it_is_asked_for() -> None:
    assert not of_kind(template(values=POSTGRESQL), "HorizontalPodAutoscaler")
    (scaler,) = of_kind(template(values=SEVERAL), "HorizontalPodAutoscaler")
    spec = scaler["spec"]
    assert scaler["apiVersion"] == "autoscaling/v2"
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-gateway"}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 12)
    age, cpu = spec["metrics"]
    assert age["pods"]["metric"]["name"] == "hookstead_queue_age_seconds"
    assert age["pods"]["target"] == {"type": "AverageValue", "averageValue": "30"}
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 75}}
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    for left_out, kind in (("targetQueueAgeSeconds", "Resource"), ("targetCPUPercent", "Pods")):
        scaling = {"enabled": True, left_out: None}
        (scaler,) = of_kind(
            template(values={**POSTGRESQL, "gateway": {"autoscaling": scaling}}), "HorizontalPodAutoscaler"
        )
        assert [one["type"] for one in scaler["spec"]["metrics"]] == [kind]


def test_gateways_are_spread_over_nodes() -> None:
    (constraint,) = pod_templates(template(values=POSTGRESQL))["gateway"]["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"


def test_a_question_goes_to_any_gateway() -> None:
    assert named(template(values=SEVERAL), "Service", "demo-gateway")["spec"]["sessionAffinity"] == "None"


def test_a_long_release_name_leaves_room_for_what_is_put_behind_it() -> None:
    release = "a" * 53
    for one in template(values=EVERYTHING, release=release):
        name = one["metadata"]["name"]
        if one["kind"] in ("StatefulSet", "Deployment", "Job"):
            assert len(name) <= 52, one["kind"]  # up to 11 characters are put behind it, in names and labels of pods
        if one["kind"] == "Service":
            assert len(name) <= 63
        if one["kind"] == "ServiceAccount":
            assert name.startswith(f"{release}-")
        assert len(name) <= 253


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, f"hookstead/hookstead:{__version__}"),
        (
            {"registry": "registry.example.com:5000", "tag": "main"},
            "registry.example.com:5000/hookstead/hookstead:main",
        ),
        ({"tag": "x", "digest": "sha256:" + "0" * 64}, "hookstead/hookstead@sha256:" + "0" * 64),
    ],
)
def test_every_pod_runs_the_one_image(image: dict[str, str], expected: str) -> None:
    pods = pod_templates(template(values={"image": image}))
    assert {pod["spec"]["containers"][0]["image"] for pod in pods.values()} == {expected}


# ------------------------------------------------------------------------------------------------- the network


def test_the_internal_port_is_for_this_releases_operator_alone(rendered: list[dict[str, Any]]) -> None:
    for policy in of_kind(rendered, "NetworkPolicy"):
        component = policy["metadata"]["labels"]["app.kubernetes.io/component"]
        internal = [
            rule for rule in policy["spec"]["ingress"] if any(port["port"] == "internal" for port in rule["ports"])
        ]
        if component == "gateway":
            (rule,) = internal
            (peer,) = rule["from"]
            assert peer["podSelector"]["matchLabels"] == {
                "app.kubernetes.io/name": "hookstead",
                "app.kubernetes.io/instance": "demo",
                "app.kubernetes.io/component": "operator",
            }
            assert "namespaceSelector" not in peer
        else:
            assert not internal


def test_the_gateways_way_out_is_the_environments_egress() -> None:
    def receivers(values: dict[str, Any]) -> dict[str, Any]:
        policy = named(template(values=values), "NetworkPolicy", "demo-gateway")
        rule: dict[str, Any] = policy["spec"]["egress"][-1]
        return rule

    closed = receivers({})
    blocks = {peer["ipBlock"]["cidr"]: peer["ipBlock"].get("except", []) for peer in closed["to"]}
    assert blocks.keys() == {"0.0.0.0/0", "2000::/3"}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"} <= set(
        blocks["0.0.0.0/0"]
    )
    assert "ports" not in closed
    opened = receivers(EVERYTHING)
    assert [peer["ipBlock"]["cidr"] for peer in opened["to"]][2:] == ["10.20.0.0/16", "fd00:1::/64"]
    assert [port["port"] for port in opened["ports"]] == [443, 8443]


def test_only_a_shared_store_is_reached_over_the_network() -> None:
    def ports(values: dict[str, Any]) -> dict[int, Any]:
        policy = named(template(values=values), "NetworkPolicy", "demo-gateway")
        rules = policy["spec"]["egress"]
        return {port["port"]: rule.get("to") for rule in rules for port in rule.get("ports", ())}

    assert ports({}).keys() == {53, 443, 6443}
    assert ports(POSTGRESQL)[5432] is None
    for port in (6432, 5433):
        assert ports(SEVERAL)[port] == [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "db"}}}]
    operator = named(template(values=SEVERAL), "NetworkPolicy", "demo-operator")
    opened = {port["port"] for rule in operator["spec"]["egress"] for port in rule.get("ports", ())}
    assert opened.isdisjoint({6432, 5433})


# ------------------------------------------------------------------------------------------------- rights


def test_people_get_what_the_contract_says(everything: list[dict[str, Any]]) -> None:
    def rights(objects: list[dict[str, Any]], name: str) -> set[str]:
        rules = named(objects, "Role", name)["rules"]
        return {
            f"{verb} {resource}"
            for rule in rules
            for resource in rule["resources"]
            for verb in rule["verbs"]
            if rule["apiGroups"] == ["hookstead.dev"]
        }

    look = {"get webhookendpoints", "get webhookendpoints/deliveries"}
    act = {"publish webhookeventtypes", "redeliver webhookendpoints/deliveries", "test webhookendpoints"}
    usual = template()
    assert rights(usual, "demo-reader") == look
    assert rights(usual, "demo-operator-user") == look | act
    assert rights(everything, "demo-reader") == look | {"get webhookendpoints/payloads"}
    payloads = {"get webhookendpoints/payloads", "delete webhookendpoints/payloads"}
    assert rights(everything, "demo-operator-user") == look | act | payloads


def test_whoever_may_have_a_token_may_forward_a_port_over_either_protocol(everything: list[dict[str, Any]]) -> None:
    """`get` is a port forward over WebSockets, as kubectl tries it first from 1.30 on; `create` one over SPDY."""
    for name in ("demo-reader-token", "demo-operator-user-token"):
        (rule,) = [one for one in named(everything, "Role", name)["rules"] if "pods/portforward" in one["resources"]]
        assert set(rule["verbs"]) == {"get", "create"}


def test_no_role_has_a_wildcard_or_more_than_its_own_names(rendered: list[dict[str, Any]]) -> None:
    for role in [*of_kind(rendered, "Role"), *of_kind(rendered, "ClusterRole")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "serviceaccounts/token" in rule["resources"]:
                assert rule["resourceNames"]


# ------------------------------------------------------------------------------------------------- the definitions


def test_the_definitions_are_those_of_the_folder_and_are_kept_on_deletion() -> None:
    rendered = {one["metadata"]["name"]: one for one in of_kind(template(CRDS), "CustomResourceDefinition")}
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(generate.CRDS.glob("*.yaml"))]
    assert rendered.keys() == {one["metadata"]["name"] for one in files}
    for one in files:
        mine = rendered[one["metadata"]["name"]]
        assert mine["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert mine == one


def test_common_labels_come_to_the_definitions_too() -> None:
    for one in template(CRDS, values={"commonLabels": {"team": "platform"}}):
        assert one["metadata"]["labels"]["team"] == "platform"


def test_the_roles_for_people_can_be_left_out() -> None:
    assert len(of_kind(template(CRDS), "ClusterRole")) == 3
    assert not of_kind(template(CRDS, values={"aggregatedRoles": {"enabled": False}}), "ClusterRole")
