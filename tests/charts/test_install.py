"""Two releases in two namespaces of a real API server, whose pods run as processes under the rendered accounts.

There is no kubelet: charts.kubelet does its part from the rendered pods. What is asked here is whether what the charts
render works, is enough, and is not too much.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from charts.helm import CRDS, ENVIRONMENT, USUAL, HelmError, helm, install, named, pod_templates, template
from charts.kubelet import NotMountedError, Pod, pod_of
from charts.releases import COMMON, TEST_ONLY, Release, merged
from charts.test_render import EVERYTHING, POSTGRESQL, VARIANTS
from cluster.apiserver import ApiError, KubectlError
from cluster.contract_site import event_type, manifest, secret
from contract.processes import Receiver, ask, until
from hookstead.gateway.authorize import Permission
from toolchain.binaries import locate

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer

TOP: Final = Path(__file__).resolve().parents[2]
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
# ------------------------------------------------------------------------------------------------- before anything runs


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_api_server_takes_every_object_as_it_is(cluster: ApiServer, values: dict[str, Any]) -> None:
    _dry_run(cluster, template(values=values, namespace="default"))


@pytest.mark.parametrize("file", USUAL)
def test_the_api_server_takes_every_object_of_the_usual_values(cluster: ApiServer, file: str) -> None:
    _dry_run(cluster, template(ENVIRONMENT, file, namespace="default"))


def _dry_run(cluster: ApiServer, objects: list[dict[str, Any]]) -> None:
    """Strictly: an unknown or doubled field is an error."""
    text = yaml.safe_dump_all(objects)
    said = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", input=text)
    assert len(said.splitlines()) == len(objects)


@pytest.mark.parametrize("file", USUAL)
def test_kubeconform_takes_our_kinds_by_the_published_schemas(file: str) -> None:
    """The other kinds were judged by the API server itself, above."""
    schemas = TOP / "docs" / "schemas" / "{{.Group}}" / "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
    text = yaml.safe_dump_all(template(ENVIRONMENT, file))
    command = [str(locate("kubeconform")), "-strict", "-ignore-missing-schemas", "-output=json", "-verbose"]
    result = subprocess.run(
        [*command, f"-schema-location={schemas}"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    judged = {one["kind"]: one["status"] for one in json.loads(result.stdout)["resources"]}
    assert result.returncode == 0, result.stdout
    assert judged["WebhookEnvironment"] == "statusValid"
    assert judged.get("WebhookEventType", "statusValid") == "statusValid"


def test_pod_security_restricted_takes_every_pod_and_refuses_others(cluster: ApiServer) -> None:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "restricted", "labels": labels}})

    def create(spec: dict[str, Any]) -> None:
        body = {"metadata": {"generateName": "p-"}, "spec": {"restartPolicy": "Always", **spec}}
        cluster.request("POST", "/api/v1/namespaces/restricted/pods?dryRun=All", body)

    for values in (EVERYTHING, {}):
        for pod in pod_templates(template(values=values)).values():
            spec = {**pod["spec"], "volumes": [one for one in pod["spec"].get("volumes", ()) if one["name"] != "store"]}
            for container in spec["containers"]:
                container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != "store"]
            spec.pop("priorityClassName", None)  # the test cluster has no such class
            create(spec)
            loose = json.loads(json.dumps(spec))
            del loose["containers"][0]["securityContext"]["capabilities"]
            with pytest.raises(ApiError, match="violates PodSecurity"):
                create(loose)


def test_the_notes_say_that_it_is_disabled_and_how_to_enable_it(cluster: ApiServer) -> None:
    def notes(*words: str) -> str:
        fixed = ("--namespace", "prod", "--dry-run=server")
        said = helm("install", "demo", ENVIRONMENT, *fixed, *words, environment=cluster.environment())
        return said.partition("NOTES:")[2]

    disabled = notes()
    assert "THE ENVIRONMENT IS DISABLED" in disabled
    assert "environment:\n      state: Enabled" in disabled
    assert "--set environment.state=Enabled" in disabled
    assert "database" not in disabled
    enabled = notes("--set", "environment.state=Enabled")
    assert "DISABLED" not in enabled
    assert "http://demo-gateway.prod.svc:80/v1/events" in enabled
    shared = notes("--set", "store.type=postgresql,store.postgresql.existingSecret=db,gateway.autoscaling.enabled=true")
    assert "Secret db, key url" in shared
    assert "rollout restart deployment/demo-gateway" in shared
    assert "describe horizontalpodautoscaler demo-gateway" in shared


def test_people_get_their_rights_from_the_clusters_own_roles(cluster: ApiServer) -> None:
    """view < edit < admin, by aggregation; and the definitions' own view of who reads payloads."""
    expected = {
        "view": {Permission.READ, Permission.READ_DELIVERIES},
        "edit": {Permission.PUBLISH, Permission.REDELIVER, Permission.TEST},
        "admin": {Permission.READ_PAYLOADS, Permission.ERASE_PAYLOADS},
    }
    held: set[Permission] = set()
    for role, more in expected.items():
        held |= more
        until(partial(_holds, cluster, role, frozenset(held)), what=f"ClusterRole {role} aggregates {held}")
    kinds = ["webhookenvironments", "webhookendpoints", "webhookchannels", "webhookeventtypes", "webhookreplays"]
    for kind in kinds:
        assert {"get", "list", "watch"} <= _verbs(cluster, "view", kind)
        assert not {"create", "update", "patch", "delete"} & _verbs(cluster, "view", kind)
        assert {"create", "update", "patch", "delete", "deletecollection"} <= _verbs(cluster, "edit", kind)
        assert not _verbs(cluster, "admin", f"{kind}/status") & {"update", "patch"}


def test_a_namespaces_admin_may_let_a_service_publish(cluster: ApiServer) -> None:
    """RBAC lets nobody grant what he does not hold; the aggregated role holds it."""
    namespace = cluster.create_namespace("granting")
    cluster.kubectl("create", "rolebinding", "bob", "--clusterrole=admin", "--user=bob", namespace=namespace)
    words = ("create", "role", "publishes", "--verb=publish", "--resource=webhookeventtypes.hookstead.dev")

    def granted() -> bool:
        try:
            return bool(cluster.kubectl(*words, "--resource-name=order-created", namespace=namespace, user="bob"))
        except KubectlError as error:
            if "forbidden" not in error.stderr:
                raise
            return False

    until(granted, what="bob grants publish")
    with pytest.raises(KubectlError, match="forbidden"):
        cluster.kubectl("get", "role", "publishes", namespace=namespace, user="alice")


def _verbs(cluster: ApiServer, role: str, resource: str) -> set[str]:
    rules = cluster.request("GET", f"{RBAC}/clusterroles/{role}")["rules"]
    return {
        verb
        for rule in rules
        if rule.get("apiGroups") == ["hookstead.dev"] and resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _holds(cluster: ApiServer, role: str, wanted: frozenset[Permission]) -> bool:
    return wanted == {one for one in Permission if one.verb in _verbs(cluster, role, one.rbac_resource)}


def test_the_definitions_stay_when_their_release_goes(cluster: ApiServer) -> None:
    names = {one["metadata"]["name"] for one in template(CRDS) if one["kind"] == "CustomResourceDefinition"}
    helm("uninstall", "hookstead-crds", "--namespace", "default", environment=cluster.environment())
    kept = json.loads(cluster.kubectl("get", "crds", "--output", "json"))["items"]
    assert names <= {one["metadata"]["name"] for one in kept}
    # A release of that name takes them up again; those that kubectl applied, if it is told to.
    owned = ("meta.helm.sh/release-name-", "app.kubernetes.io/managed-by-")
    cluster.kubectl("annotate", "crd", "webhookchannels.hookstead.dev", owned[0])
    cluster.kubectl("label", "crd", "webhookchannels.hookstead.dev", owned[1])
    with pytest.raises(HelmError, match="webhookchannels"):
        install(cluster, CRDS, release="hookstead-crds", namespace="default")
    install(cluster, CRDS, release="hookstead-crds", namespace="default", more=["--take-ownership"])


# ------------------------------------------------------------------------------------------------- what runs


def test_events_flow_end_to_end_and_each_release_is_its_own_environment(
    releases: tuple[Release, Release], receiver: Receiver
) -> None:
    for release in releases:
        producer = _account(release, "producer", ["publish"], ["webhookeventtypes"], ["order-created"])
        event = {"type": "order.created", "data": {"by": release.name}}

        def accepted(release: Release = release, token: str = producer, event: dict[str, Any] = event) -> bool:
            return release.ask("POST", "/v1/events", token=token, body=event).status == 202

        until(accepted, what="a service that may publish the type is let in")
        (first, *_) = receiver.wait(f"/{release.name}")
        assert json.loads(first.body)["data"] == {"by": release.name}
        refused = release.ask("POST", "/v1/events", token=producer, body={"type": "order.cancelled", "data": {}})
        refused.problem(403)
        other = next(one for one in releases if one is not release)
        other.ask("POST", "/v1/events", token=producer, body=event).problem(403)
    for release in releases:
        came = {json.loads(one.body)["data"].get("by") for one in receiver.received(f"/{release.name}")}
        assert came == {release.name}


def test_the_accounts_for_people_may_look_and_act(shop: Release, desk: Release) -> None:
    reader, actor = shop.token("shop-reader"), shop.token("shop-operator-user")
    for token in (reader, actor):
        assert shop.ask("GET", "/v1/endpoints", token=token).status == 200
        assert shop.ask("GET", "/v1/deliveries", token=token).status == 200
        shop.ask("GET", "/v1/events", token=token).problem(403)
    shop.ask("POST", "/v1/endpoints/audit/test", token=reader).problem(403)
    assert shop.ask("POST", "/v1/endpoints/audit/test", token=actor).json["outcome"] == "Succeeded"
    shop.ask("POST", "/v1/events", token=reader, body={"type": "order.created", "data": {}}).problem(403)
    assert shop.ask("POST", "/v1/events", token=actor, body={"type": "order.created", "data": {}}).status == 202
    # The values for development let them read payloads.
    assert desk.ask("GET", "/v1/events", token=desk.token("desk-reader")).status == 200


def test_kubectl_hooks_finds_the_gateway_and_the_accounts(shop: Release) -> None:
    """By the labels, the port's name and the accounts' names: nothing that only the chart knows."""
    from hookstead.cli.hooks.discovery import SELECTOR, choose

    pods = json.loads(shop.server.kubectl("get", "pods", "-l", SELECTOR, "-o", "json", namespace=shop.namespace))[
        "items"
    ]
    target = choose(pods, release=None, place=shop.namespace)
    assert (target.pod, target.port, target.release) == ("shop-gateway-0", 8080, "shop")
    for suffix in ("reader", "operator-user"):
        assert shop.token(target.account(suffix))


def test_who_may_get_a_token_is_who_the_values_name(shop: Release) -> None:
    def create(user: str, account: str) -> str:
        return shop.server.kubectl(
            "create", "token", account, "--audience=hookstead.dev", namespace=shop.namespace, user=user
        )

    with pytest.raises(KubectlError, match=r"cannot create resource .serviceaccounts/token"):
        create("alice", "shop-reader")
    shop.upgrade(access={"reader": {"subjects": [{"kind": "User", "name": "alice"}]}})

    def given() -> bool:
        try:
            return bool(create("alice", "shop-reader"))
        except KubectlError:
            return False

    until(given, what="alice gets a token of the reader")
    with pytest.raises(KubectlError, match=r"cannot create resource .serviceaccounts/token"):
        create("alice", "shop-operator-user")


def test_the_operators_role_is_enough_and_everything_in_it_is_used(shop: Release, receiver: Receiver) -> None:
    """The audit log says what was asked for: nothing was refused, and no granted verb was left unused."""
    broken = {
        "url": f"{receiver.url}/keyed",
        "eventTypes": ["none.*"],
        "signing": {"keys": [{"id": "main", "secretKeyRef": {"name": "later", "key": "key"}}]},
    }
    key = secret("later", key="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    shop.apply(
        manifest("WebhookEndpoint", "keyed", broken),
        manifest("WebhookReplay", "again", {"endpointRef": {"name": "audit"}, "since": "2026-01-01T00:00:00Z"}),
    )
    # A transition that a person acts on is an Event; after a restart, the next one of its series is counted in it.
    shop.expect("webhookendpoints", "keyed", ResolvedRefs=("False", "SecretNotFound"))
    operator = shop.pods["shop-operator-0"]
    assert operator.terminate() == 0
    operator.start(TEST_ONLY)
    operator.become_ready()
    shop.apply(key)
    shop.expect("webhookendpoints", "keyed", ResolvedRefs=("True", "ResolvedRefs"))
    shop.server.request("DELETE", f"/api/v1/namespaces/{shop.namespace}/secrets/later")
    shop.expect("webhookendpoints", "keyed", ResolvedRefs=("False", "SecretNotFound"))
    # A renewal is a patch: as if the certificate that the operator made had been lost.
    emptied = {"data": {"tls.crt": "", "tls.key": "", "ca.crt": ""}}
    shop.server.kubectl(
        "patch",
        "secret",
        "hookstead-internal",
        "--type=merge",
        f"--patch={json.dumps(emptied)}",
        namespace=shop.namespace,
    )
    assert operator.terminate() == 0
    operator.start(TEST_ONLY)
    operator.become_ready()
    shop.pods["shop-gateway-0"].refresh()
    programmed = "hookstead_operator_gateways_programmed"
    until(lambda: _number(operator, programmed) == 1, what="the gateway has the new certificate", seconds=40)
    granted = _granted(shop, "operator")

    def unused() -> set[str]:
        return granted - _used(shop, "operator")

    until(lambda: not unused(), what="every right of the operator's Role is used", seconds=40, pause=0.5)
    refused = [one for one in shop.requests_of("operator") if one.code == 403]
    assert [(one.verb, one.uri) for one in refused] == []


def test_the_gateways_role_is_enough_and_everything_in_it_is_used(shop: Release) -> None:
    shop.ask("GET", "/v1/endpoints", token=shop.token("shop-reader"))
    assert _granted(shop, "gateway") == {"create authorization.k8s.io/localsubjectaccessreviews"}
    assert _used(shop, "gateway") == _granted(shop, "gateway")
    assert not [one for one in shop.requests_of("gateway") if one.code == 403]


def _granted(release: Release, component: str) -> set[str]:
    """`verb group/resource[/name]`, each that the component's Role grants; a rule for names counts if any is used."""
    rules = release.get(f"{RBAC}/namespaces/{release.namespace}/roles/{release.name}-{component}")["rules"]
    return {
        f"{verb} {group}/{resource}"
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _used(release: Release, component: str) -> set[str]:
    return {
        f"{one.verb} {one.group}/{one.resource}{'/' if one.subresource else ''}{one.subresource}"
        for one in release.requests_of(component)
        if one.resource and one.namespace == release.namespace
    }


def test_only_its_own_secrets_can_be_changed_by_the_operator(shop: Release) -> None:
    """patch is granted by name: the internal Secret and sixteen shards."""
    token = shop.server.service_account_token(shop.namespace, "shop-operator")
    shop.apply(secret("somebodys", key="x"))
    patch = ("patch", "secret", "somebodys", "--type=merge", '--patch={"data":{}}')
    with pytest.raises(KubectlError, match="forbidden"):
        shop.server.kubectl(*patch, namespace=shop.namespace, token=token)
    for words in (("get", "secrets", "-n", "team-desk"), ("get", "namespaces"), ("delete", "secret", "somebodys")):
        with pytest.raises(KubectlError, match="forbidden"):
            shop.server.kubectl(*words, namespace=shop.namespace, token=token)


def test_the_gateway_waits_for_the_first_configuration_and_needs_no_operator_later(
    cluster: ApiServer, tmp_path: Path
) -> None:
    release = Release(cluster, "team-first", "first", tmp_path, (), dict(COMMON))
    try:
        release.create_namespace()
        release.upgrade()
        gateway = release.gateway_pod()
        with pytest.raises(NotMountedError, match="hookstead-config-0"):
            gateway.start(TEST_ONLY)
        operator = release.operator_pod()
        traces = (tmp_path / "operator.trace", tmp_path / "gateway.trace")
        operator.start(TEST_ONLY, trace=traces[0])
        release.start_when_mounted(gateway, trace=traces[1])
        gateway.become_ready()
        release.expect("webhookenvironments", "default", Ready=("True", "Ready"))
        assert operator.terminate() == 0
        assert gateway.terminate() == 0
        # The root file system is read-only.
        assert operator.written(traces[0]) == set()
        assert gateway.written(traces[1]) == set()
        assert "store.db" in traces[1].read_text(encoding="utf-8")
        gateway.start(TEST_ONLY)
        gateway.become_ready()
        # Its environment is Disabled: nobody said otherwise.
        actor = release.token("first-operator-user")
        event = {"type": "order.created", "data": {}}
        until(
            lambda: release.ask("POST", "/v1/events", token=actor, body=event).status == 403,
            what="events are refused",
        )
        release.ask("POST", "/v1/events", token=actor, body=event).problem(403, "environment-disabled")
    finally:
        release.close()


def test_static_keys_let_in_who_has_one(cluster: ApiServer, tmp_path: Path) -> None:
    """The gateway has no account at the API server then, and `helm test` a key from a Secret."""
    values = {
        "environment": {"state": "Enabled"},
        "gateway": {"auth": {"mode": "static", "existingSecret": "keys"}},
        "tests": {"existingSecret": "test-key"},
    }
    release = Release(cluster, "team-static", "static", tmp_path, (), merged(COMMON, values))
    key = {"name": "tester", "sha256": hashlib.sha256(b"k1").hexdigest(), "scopes": ["publish", "events", "read"]}
    try:
        release.create_namespace()
        release.upgrade()
        release.apply(
            secret("keys", {}, **{"keys.yaml": json.dumps({"keys": [key]})}), secret("test-key", {}, token="k1\n")
        )
        release.run_all()
        assert release.ask("POST", "/v1/events", token="k2", body={"type": "a.b", "data": 1}).status == 401
        assert release.ask("POST", "/v1/events", token="k1", body={"type": "a.b", "data": 1}).status == 202
        job = named(template(values=release.values, release="static", namespace="team-static"), "Job", "static-test")
        pod = _test_pod(release, job)
        pod.start()
        _wait_for_the_end(pod)
        assert "Read back, with 0 deliveries." in pod.words()
        assert not release.requests_of("gateway")
    finally:
        release.close()


def test_reviewed_tokens_may_be_of_any_kind_under_the_rendered_cluster_role(cluster: ApiServer, tmp_path: Path) -> None:
    values = {"environment": {"state": "Enabled"}, "gateway": {"auth": {"tokenReview": True}}}
    release = Release(cluster, "team-review", "review", tmp_path, (), merged(COMMON, values))
    try:
        release.create_namespace()
        release.upgrade()
        release.run_all()
        alice = cluster.tokens["alice"]
        release.ask("GET", "/v1/endpoints", token=alice).problem(403)
        rule = {"apiGroups": ["hookstead.dev"], "resources": ["webhookendpoints"], "verbs": ["get"]}
        _bind(release, "looks", {"kind": "User", "name": "alice"}, rule)
        until(
            lambda: release.ask("GET", "/v1/endpoints", token=alice).status == 200,
            what="a person's own token is taken",
            seconds=30,
            pause=0.5,
        )
        assert not [one for one in release.requests_of("gateway") if one.code == 403]
        assert {one.resource for one in release.requests_of("gateway")} == {"tokenreviews", "localsubjectaccessreviews"}
    finally:
        release.close()


def test_a_standby_takes_over_and_the_gateway_is_found_anew(desk: Release) -> None:
    """Two operators: the second stands by, is Ready, and leads when the first goes."""
    desk.upgrade(operator={"replicas": 2})
    first, second = desk.pods["desk-operator-0"], desk.operator_pod(number=1)
    second.start(TEST_ONLY)
    second.become_ready()
    assert _number(second, "hookstead_operator_leader") == 0
    assert first.terminate() == 0
    until(lambda: _number(second, "hookstead_operator_leader") == 1, what="the standby leads", seconds=40)
    until(
        lambda: _number(second, "hookstead_operator_gateways_programmed") == 1, what="the gateway is programmed again"
    )
    desk.apply(event_type("order-cancelled", "order.cancelled"))
    desk.expect("webhookeventtypes", "order-cancelled", Ready=("True", "Ready"))


def _number(pod: Any, metric: str) -> float:
    text = ask(f"{pod.address}:{pod.port('admin')}", "GET", "/metrics").text
    (line,) = [one for one in text.splitlines() if one.startswith(f"{metric} ")]
    return float(line.split()[1])


def test_an_upgrade_changes_what_it_names_and_keeps_every_event(desk: Release) -> None:
    reader = desk.token("desk-reader")
    before = desk.ask("GET", "/v1/events", token=reader).json["items"]
    assert before
    claim = _claims(desk)
    desk.upgrade(
        environment={"displayName": "Desk two", "retention": {"payloadDays": 5}},
        gateway={"maxEventBytes": 70_000, "podAnnotations": {"rolled": "yes"}},
        commonLabels={"team": "desk"},
    )
    gateway = desk.pods["desk-gateway-0"]
    assert gateway.terminate() == 0
    desk.server.request("DELETE", f"{gateway.path}?gracePeriodSeconds=0")
    again = desk.gateway_pod()
    assert "--max-event-bytes=70000" in again.container["args"]
    desk.start_when_mounted(again)
    again.become_ready()
    desk.expect("webhookenvironments", "default", Ready=("True", "Ready"))
    assert desk.ask("GET", "/v1/environment", token=reader).status == 200
    kept = {one["id"] for one in desk.ask("GET", "/v1/events", token=reader).json["items"]}
    assert {one["id"] for one in before} <= kept
    assert _claims(desk) == claim  # nothing in it may change while a StatefulSet lives
    history = json.loads(
        helm("history", "desk", "--namespace", desk.namespace, "--output=json", environment=desk.server.environment())
    )
    assert history[-1]["status"] == "deployed"


def _claims(release: Release) -> list[dict[str, Any]]:
    path = f"/apis/apps/v1/namespaces/{release.namespace}/statefulsets/{release.name}-gateway"
    claims: list[dict[str, Any]] = release.get(path)["spec"]["volumeClaimTemplates"]
    return claims


def test_a_release_moves_from_sqlite_to_postgresql_and_to_an_autoscaler(cluster: ApiServer, tmp_path: Path) -> None:
    release = Release(cluster, "team-moved", "moved", tmp_path, (), {})
    release.create_namespace()
    release.upgrade()
    path = f"/apis/apps/v1/namespaces/{release.namespace}"
    assert _maybe(release, f"{path}/statefulsets/moved-gateway")
    release.upgrade(**POSTGRESQL, gateway={"replicas": 3})
    until(lambda: _maybe(release, f"{path}/statefulsets/moved-gateway") is None, what="the StatefulSet goes")
    assert release.get(f"{path}/deployments/moved-gateway")["spec"]["replicas"] == 3
    release.upgrade(gateway={"autoscaling": {"enabled": True}})
    # As docs/install.md says: what is not given any more starts from the API server's default.
    assert release.get(f"{path}/deployments/moved-gateway")["spec"]["replicas"] == 1
    words = ("scale", "deployment/moved-gateway", "--replicas=5")
    cluster.kubectl(*words, namespace=release.namespace)  # the autoscaler
    release.upgrade(gateway={"autoscaling": {"maxReplicas": 9}, "podAnnotations": {"rolled": "yes"}})
    assert release.get(f"{path}/deployments/moved-gateway")["spec"]["replicas"] == 5
    scaler = f"/apis/autoscaling/v2/namespaces/{release.namespace}/horizontalpodautoscalers/moved-gateway"
    assert release.get(scaler)["spec"]["maxReplicas"] == 9
    # As the notes have it; `--reuse-values` would lack what a newer chart's values have more.
    upgrade = ("upgrade", "moved", ENVIRONMENT, "--namespace", release.namespace, "--reset-then-reuse-values")
    helm(*upgrade, "--set", "environment.state=Enabled", environment=cluster.environment(namespace=release.namespace))
    assert release.get(scaler)["spec"]["maxReplicas"] == 9
    environment = f"/apis/hookstead.dev/v1alpha1/namespaces/{release.namespace}/webhookenvironments/default"
    assert release.get(environment)["spec"]["state"] == "Enabled"
    with pytest.raises(HelmError, match=r"gateway\.replicas: 3 needs store\.type: postgresql"):
        release.upgrade(store={"type": "sqlite", "postgresql": {"existingSecret": ""}})


def test_a_second_release_in_a_namespace_is_refused(shop: Release) -> None:
    """One environment per namespace: Helm itself sees whose WebhookEnvironment it is."""
    with pytest.raises(HelmError, match=r"WebhookEnvironment .*default.* exists and cannot be imported"):
        install(shop.server, release="other", namespace=shop.namespace)


def test_helm_test_sends_an_event_end_to_end(shop: Release, receiver: Receiver) -> None:
    """The real `helm test`, with its Job's pod run here; it ends when the Job is Complete."""
    shop.upgrade(tests={"endpoint": "audit"})
    said: list[str] = []

    def test() -> None:
        try:
            said.append(
                helm(
                    *("test", "shop", "--namespace", shop.namespace, "--timeout=60s"),
                    environment=shop.server.environment(namespace=shop.namespace),
                )
            )
        except Exception as error:  # noqa: BLE001  (a thread's error is shown by the test)
            said.append(f"failed: {error}")

    running = threading.Thread(target=test)
    running.start()
    path = f"/apis/batch/v1/namespaces/{shop.namespace}/jobs/shop-test"
    try:
        job = until(lambda: _maybe(shop, path), what=f"the Job is there; helm said {said}", seconds=40, pause=0.2)
        pod = _test_pod(shop, job)
        pod.start()
        _wait_for_the_end(pod)
        log = pod.words()
        assert "Delivered to audit." in log, log
        _complete(shop, path)
    finally:
        running.join(90)
    assert "Phase:          Succeeded" in said[0] or "Succeeded" in said[0], said
    assert any(json.loads(one.body)["type"] == "hookstead.test" for one in receiver.received("/shop"))
    assert _maybe(shop, f"/api/v1/namespaces/{shop.namespace}/serviceaccounts/shop-test") is None


def test_helm_test_of_a_disabled_environment_says_so(desk: Release) -> None:
    """Same Job, same script: it passes because the gateway refuses for exactly that reason."""
    objects = template(ENVIRONMENT, release="desk", namespace=desk.namespace)
    desk.apply(*[one for one in objects if one["metadata"]["name"] == "desk-test" and one["kind"] != "Job"])
    desk.upgrade(environment={"state": "Disabled"})
    desk.expect("webhookenvironments", "default", Ready=("True", "Ready"))
    pod = _test_pod(desk, named(objects, "Job", "desk-test"), number=1)
    pod.start()
    _wait_for_the_end(pod)
    assert "nothing was sent" in pod.words()
    desk.upgrade(environment={"state": "Enabled"})


def _wait_for_the_end(pod: Pod) -> None:
    assert pod.process is not None
    process = pod.process
    try:
        until(lambda: not process.running, what="helm test's program ends", seconds=60, pause=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{pod.words()}") from None
    finally:
        pod.kill()


def _maybe(release: Release, path: str) -> dict[str, Any] | None:
    try:
        return release.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


def _complete(release: Release, path: str) -> None:
    """What the Job controller writes when the pod has succeeded."""
    now = "2026-01-01T00:00:10Z"
    condition = {"status": "True", "lastProbeTime": now, "lastTransitionTime": now}
    conditions = [{"type": "SuccessCriteriaMet", **condition}, {"type": "Complete", **condition}]
    status = {
        "startTime": "2026-01-01T00:00:00Z",
        "completionTime": now,
        "succeeded": 1,
        "uncountedTerminatedPods": {},
        "conditions": conditions,
    }
    release.server.request("PUT", f"{path}/status", {**release.get(path), "status": status})


def _test_pod(release: Release, job: dict[str, Any], *, number: int = 0) -> Pod:
    """The pod of `helm test`, led to the gateway's own address: a cluster's name service would do that.

    The Service's port leads to the port named `http`.
    """
    pod = pod_of(release.server, job, folder=release.folder, address="127.0.0.1", number=number)
    gateway = release.pods[f"{release.name}-gateway-0"]
    (url,) = [one for one in pod.container["env"] if one["name"] == "GATEWAY"]
    assert url["value"] == f"http://{release.name}-gateway.{release.namespace}.svc:80"
    url["value"] = f"http://{gateway.address}:{gateway.port('http')}"
    return pod


def _account(release: Release, name: str, verbs: list[str], resources: list[str], names: list[str]) -> str:
    """A token of a ServiceAccount with one right by name: the Role of docs/security.md."""
    rule = {"apiGroups": ["hookstead.dev"], "resources": resources, "resourceNames": names, "verbs": verbs}
    release.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    _bind(release, name, {"kind": "ServiceAccount", "name": name, "namespace": release.namespace}, rule)
    return release.token(name)


def _bind(release: Release, name: str, subject: dict[str, str], *rules: dict[str, Any]) -> None:
    group = "rbac.authorization.k8s.io"
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    role = {"apiGroup": group, "kind": "Role", "name": name}
    release.apply(
        {**head, "kind": "Role", "rules": list(rules)},
        {**head, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
    )
