"""`kubectl hooks` in a cluster: real kubectl, API server, operator and gateway, under the chart's RBAC.

Only the kubelet, through which the API server forwards ports, is a fake. `alice` may look, `bob` may act.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from cluster.apiserver import KubectlError
from cluster.contract_site import ENDPOINT, ENVIRONMENT, RESUME, Site, channel, environment, event_type, manifest
from cluster.fake_kubelet import FakeKubelet
from contract.processes import Receiver, until
from hookstead.cli.hooks import discovery
from toolchain.binaries import ProgramMissingError, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.apiserver import ApiServer

CHART: Final = Path(__file__).parents[2] / "charts" / "hookstead"
RELEASE: Final = "shop"
GATEWAY_ROLE: Final = Path(__file__).parent / "rbac" / "gateway.yaml"
LABELS: Final = {
    "app.kubernetes.io/name": "hookstead",
    "app.kubernetes.io/component": "gateway",
    "app.kubernetes.io/instance": RELEASE,
}
WAIT_SECONDS: Final = 20.0


@pytest.fixture(scope="module", autouse=True)
def _helm() -> None:
    """Skips (fails under HOOKSTEAD_REQUIRE_ALL=1) where the program is not there yet."""
    try:
        locate("helm")
    except ProgramMissingError as missing:
        pytest.skip(str(missing))


def rendered(namespace: str, template: str, *settings: str) -> list[dict[str, Any]]:
    """What the chart makes of one template."""
    show = ("--show-only", f"templates/{template}")
    flags = [word for setting in settings for word in ("--set", setting)]
    text = subprocess.run(
        [locate("helm"), "template", RELEASE, CHART, "--namespace", namespace, *show, *flags],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@dataclass
class Place:
    """A site whose gateway is behind a pod."""

    site: Site
    kubelet: FakeKubelet

    @property
    def namespace(self) -> str:
        return self.site.namespace

    def hooks(self, *words: str, user: str | None = "alice") -> str:
        """stdout of `kubectl hooks`."""
        return self.site.kubectl("hooks", *words, user=user)

    def lines(self, *words: str, user: str | None = "alice") -> list[list[str]]:
        return [line.split() for line in self.hooks(*words, user=user).splitlines()]

    def json(self, *words: str, user: str | None = "alice") -> Any:
        return json.loads(self.hooks(*words, "-o", "json", user=user))

    def refused(self, *words: str, user: str | None = "alice") -> str:
        """What it says on stderr when it exits 1."""
        with pytest.raises(KubectlError) as caught:
            self.hooks(*words, user=user)
        assert caught.value.code == 1, caught.value
        return caught.value.stderr

    def start(self, *words: str, user: str = "alice") -> subprocess.Popen[str]:
        """One that goes on."""
        return subprocess.Popen(
            [locate("kubectl"), "hooks", *words],
            env=self.site.server.environment(user=user, namespace=self.namespace),
            stdout=subprocess.PIPE,
            text=True,
        )


def gateway_config(site: Site) -> Path:
    """Of the gateway's own account, under its namespaced Role alone."""
    site.kubectl("apply", "-f", str(GATEWAY_ROLE))
    token = site.server.service_account_token(site.namespace, "hookstead-gateway")
    return site.server.kubeconfig(token=token, namespace=site.namespace)


def people(site: Site) -> None:
    """The release's two accounts and who may have their tokens, as the chart says; what else bob may."""
    subject = "[0].kind=User,access.{0}.subjects[0].apiGroup=rbac.authorization.k8s.io,access.{0}.subjects[0].name="
    objects = rendered(
        site.namespace,
        "rbac-people.yaml",
        "access.reader.payloads=Read",
        f"access.reader.subjects{subject.format('reader')}alice",
        f"access.operatorUser.subjects{subject.format('operatorUser')}bob",
    )
    looked_up = ["webhookendpoints", "webhookeventtypes", "webhookchannels"]
    objects += bound("alice", ("hookstead.dev", looked_up, ["get", "list"]))
    objects += bound(
        "bob",
        ("hookstead.dev", ["webhookreplays"], ["create", "get"]),
        ("hookstead.dev", ["webhookendpoints"], ["get", "list", "patch"]),
        ("", ["secrets"], ["get", "create"]),
    )
    site.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def bound(user: str, *rules: tuple[str, list[str], list[str]]) -> list[dict[str, Any]]:
    """A Role of the user's own, by API group, resources and verbs."""
    group = "rbac.authorization.k8s.io"
    allowed = [{"apiGroups": [api], "resources": resources, "verbs": verbs} for api, resources, verbs in rules]
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": f"{user}-besides"}}
    reference = {"apiGroup": group, "kind": "Role", "name": f"{user}-besides"}
    subject = {"kind": "User", "apiGroup": group, "name": user}
    return [
        {**head, "kind": "Role", "rules": allowed},
        {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]},
    ]


@pytest.fixture(scope="module")
def place(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hooks")
    namespace = api_server.create_namespace(f"hooks-{os.getpid()}")
    site = Site(server=api_server, namespace=namespace, folder=folder, receiver=Receiver())
    try:
        sample = {"orderId": "A-1"}
        site.apply(
            environment(),
            channel("client-7", "client_7"),
            event_type("order-made", "order.made", sample=sample),
            manifest(
                ENDPOINT,
                "acme",
                {"url": f"{site.receiver.url}/acme", "eventTypes": ["order.*"], "filter": "event.data.orderId != 'X'"},
                labels={"team": "billing"},
            ),
            manifest(
                ENDPOINT,
                "seven",
                {
                    "url": f"{site.receiver.url}/seven",
                    "channelRefs": [{"name": "client-7"}],
                    "eventTypes": ["order.made"],
                },
            ),
        )
        site.start_operator()
        people(site)
        site.start_gateway("--auth", "kubernetes", "--kubeconfig", gateway_config(site))
        site.ready("default", kind=ENVIRONMENT, seconds=30)
        site.ready("acme", "seven")
        with FakeKubelet(folder) as kubelet:
            kubelet.register(api_server)
            kubelet.run_pod(api_server, namespace, "shop-gateway-0", labels=LABELS, port=site.port)
            yield Place(site, kubelet)
    finally:
        site.close()
        site.receiver.close()


def test_the_chart_labels_the_gateway_s_pods_and_names_its_port_as_the_plugin_looks_for_them() -> None:
    (workload,) = [one for one in rendered("prod", "gateway.yaml") if one["kind"] in ("StatefulSet", "Deployment")]
    template = workload["spec"]["template"]
    wanted = dict(pair.split("=") for pair in discovery.SELECTOR.split(","))
    assert wanted.items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["labels"][discovery.INSTANCE] == RELEASE
    pod = {
        "metadata": {"namespace": "prod", "name": "g-0", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = discovery.choose([pod], release=None, place="namespace prod")
    assert (found.port, found.account("reader")) == (8080, "shop-reader")


def test_the_way_to_the_gateway_is_taken_over_websockets_at_the_first_try(place: Place) -> None:
    """kubectl asks for them first, which is `get`; without that right each command would begin with a refusal."""
    server = place.site.server
    mark = server.audit_mark()
    place.hooks("status")
    asked = [one for one in server.audit_entries(since=mark) if one.subresource == "portforward"]
    assert {(one.verb, one.user, one.code) for one in asked} == {("get", "alice", 101)}


def test_whoever_may_have_the_reader_s_token_looks_and_may_do_nothing_else(place: Place) -> None:
    mark = place.site.server.audit_mark()
    rows = place.lines("status")
    assert rows[0][:3] == ["ENVIRONMENT", "ACTIVE", "READY"]
    assert {row[0]: row[1:3] for row in rows[4:]} == {"acme": ["True", "True"], "seven": ["True", "True"]}
    assert place.kubelet.forwards[-1] == (f"{place.namespace}/shop-gateway-0", place.site.port)

    entries = list(place.site.server.audit_entries(since=mark))
    of_alice = {(one.verb, one.resource, one.subresource, one.name) for one in entries if one.user == "alice"}
    assert ("create", "serviceaccounts", "token", "shop-reader") in of_alice
    assert not any(resource == "secrets" for _, resource, _, _ in of_alice)

    for words in (("redeliver", "dlv_1"), ("test", "acme"), ("send", "order.made")):
        said = place.refused(*words)
        assert "shop-operator-user" in said
        assert "serviceaccounts/token" in said
    assert "webhookreplays" in place.refused("replay", "acme", "--since", "1h")
    assert "patch" in place.refused("resume", "acme")
    assert "secrets" in place.refused("secret", "acme", "--show")


def test_an_event_is_sent_followed_explained_and_delivered_again(place: Place) -> None:
    watching = place.start("deliveries", "-f", "--endpoint", "acme", "-o", "name")
    try:
        sent = place.hooks("send", "order.made", "--sample", user="bob")
        event = sent.split()[0].removeprefix("event/")
        assert sent == f"event/{event} accepted for 1 endpoint\n"
        assert watching.stdout is not None
        delivery = watching.stdout.readline().strip().removeprefix("delivery/")
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=WAIT_SECONDS)
    (item,) = place.json("events", event)["deliveries"]
    assert (item["id"], item["endpoint"]) == (delivery, "acme")
    assert place.json("deliveries", "-l", "team=billing")["items"][0]["id"] == delivery
    assert place.hooks("deliveries", "-l", "team=nobody", "-o", "name") == ""

    again = place.hooks("redeliver", delivery, user="bob")
    assert again == f"delivery/{delivery} redelivery requested\n"
    until(lambda: place.json("deliveries", delivery)["attemptCount"] == 2, what="a second attempt")

    assert place.hooks("diagnose", "acme", event).startswith(f"acme gets {event} (order.made without channels)\n")
    with pytest.raises(KubectlError) as caught:
        place.hooks("diagnose", "seven", event)
    assert caught.value.code == 1
    assert "  NO   its channelRefs is absent or one of" in caught.value.stdout
    assert "the event has no channels" in caught.value.stdout


def test_a_channel_that_nobody_declares_is_a_warning(place: Place) -> None:
    words = ("hooks", "send", "order.made", "--sample", "--channel", "client_8")
    ended = subprocess.run(
        [locate("kubectl"), *words],
        env=place.site.server.environment(user="bob", namespace=place.namespace),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout.endswith(" accepted for 1 endpoint\n")
    assert "no WebhookChannel declares the channel 'client_8' (did you mean \"client_7\"?)" in ended.stderr


def test_a_replay_is_created_and_followed_to_its_end(place: Place) -> None:
    dead = place.site.name("dead")
    place.site.apply(place.site.endpoint(dead, delivery={"retry": {"scheduleSeconds": [1]}}))
    place.site.ready(dead)
    place.site.receiver.on(f"/{dead}", 500)
    place.hooks("send", f"{dead}.made", user="bob")

    def given_up() -> bool:
        return bool(place.json("deliveries", "--endpoint", dead, "--status", "DeadLettered")["items"])

    until(given_up, what="a dead letter", seconds=30)
    place.site.receiver.on(f"/{dead}", 204)
    said = place.hooks("replay", dead, "--since", "1h", "--wait", "--timeout", "60", user="bob").splitlines()
    assert said[0].endswith(" created")
    assert said[1].endswith(" complete: 1 delivery selected, 1 delivered, 0 failed, 100 % done")
    name = said[0].split()[0].rpartition("/")[2]
    assert place.site.get("WebhookReplay", name)["spec"]["endpointRef"] == {"name": dead}

    named = place.hooks("replay", dead, "--since", "1h", "--name", f"{dead}-again", "-o", "name", user="bob")
    assert named == f"webhookreplay.hookstead.dev/{dead}-again\n"
    missing = place.refused("replay", "nobody", "--since", "1h", "--wait", "--timeout", "60", user="bob")
    assert "EndpointNotFound" in missing


def test_an_endpoint_that_was_given_up_on_goes_on(place: Place) -> None:
    gone = place.site.name("gone")
    place.site.apply(place.site.endpoint(gone))
    place.site.ready(gone)
    place.site.receiver.on(f"/{gone}", 410)
    place.hooks("send", f"{gone}.made", user="bob")
    place.site.expect(ENDPOINT, gone, Active=("False", "Gone"), seconds=30)
    row = next(row for row in place.lines("status", gone, "-o", "wide") if row[0] == gone)
    assert row[-2:] == ["Ready", "Gone"]
    place.site.receiver.on(f"/{gone}", 204)
    assert place.hooks("resume", gone, "--wait", "--timeout", "60", user="bob").endswith(f"/{gone} resumed\n")
    assert RESUME in place.site.get(ENDPOINT, gone)["metadata"]["annotations"]
    until(lambda: place.json("deliveries", "--endpoint", gone)["items"][0]["status"] == "Delivered", what="it went on")


def test_keys_are_shown_and_made_only_when_asked_for(place: Place) -> None:
    rows = place.lines("secret", "acme")
    assert rows[1] == ["key", "acme-signing", "key", "True", "<none>"]
    body = place.site.secret("acme-signing")
    assert body is not None
    material = base64.b64decode(body["data"]["key"]).decode()
    assert material not in place.hooks("secret", "acme", "-o", "yaml")
    assert place.hooks("secret", "acme", "--show", user="bob") == f"{material}\n"

    keys = yaml.safe_load(place.hooks("secret", "acme", "--rotate", "--apply", user="bob"))["spec"]["signing"]["keys"]
    assert place.site.get(ENDPOINT, "acme")["spec"]["signing"]["keys"] == keys
    assert [key["secretKeyRef"]["name"] for key in keys][1] == "acme-signing"
    assert "notAfterTime" not in keys[0]
    assert "notAfterTime" in keys[1]
    place.site.ready("acme")
    status = place.site.status(ENDPOINT, "acme")
    assert status["signing"]["activeKeyIDs"] == [key["id"] for key in keys]
    shown = place.hooks("secret", "acme", "--show", user="bob").split()
    assert shown[1] == material
    assert shown[0].startswith("whsec_")


def test_a_namespace_without_a_gateway_says_so_and_so_does_one_with_too_many(place: Place) -> None:
    server = place.site.server
    other = server.create_namespace(f"{place.namespace}-other")

    def said(*words: str, user: str | None = None) -> str:
        with pytest.raises(KubectlError) as caught:
            server.kubectl("hooks", *words, namespace=other, user=user)
        return caught.value.stderr

    assert "no gateway in" in said("status")
    assert f"no gateway in namespace {other}" in said("-n", other, "status")
    assert 'cannot list resource "pods"' in said("status", user="alice")
    place.kubelet.run_pod(server, other, "a", labels=LABELS, port=1, ready=False)
    assert "is Ready (a: Running)" in said("status")
    place.kubelet.run_pod(server, other, "b", labels={**LABELS, discovery.INSTANCE: "second"}, port=2)
    assert "choose with --release, one of second, shop" in said("status")
    assert f"ServiceAccount {other}/second-reader" in said("status", "--release", "second")
    assert "release third has no gateway" in said("status", "--release", "third")


def test_the_flags_of_kubectl_are_honoured(place: Place) -> None:
    admin = place.site.server.kubeconfig(namespace="default")
    config = json.loads(admin.read_text())
    config["contexts"].append(
        {"name": "prod", "context": {**config["contexts"][0]["context"], "namespace": place.namespace}}
    )
    both = place.site.folder / "both.json"
    both.write_text(json.dumps(config))
    flags = ("--kubeconfig", str(both), "--context", "prod")
    assert len(place.lines("status", *flags, "acme", user=None)) == 2
    assert len(place.lines(*flags, "--as", "alice", "status", "acme", user=None)) == 2
    assert 'User "bob" cannot' in place.refused("status", *flags, "--as=bob", "--account=reader", user=None)
    assert 'User "alice" cannot' in place.refused("test", "acme", *flags, "--as=alice", user=None)


def test_kubectl_completes_commands_flags_and_endpoints(place: Place) -> None:
    def offered(*words: str) -> list[str]:
        lines = place.site.kubectl("__complete", "hooks", *words, user="alice").splitlines()
        return [line.partition("\t")[0] for line in lines if not line.startswith((":", "Completion ended"))]

    assert offered("re") == ["redeliver", "replay", "resume"]
    assert offered("deliveries", "--status", "D") == ["Delivered", "DeadLettered"]
    assert offered("test", "ac") == ["acme"]
    assert offered("send", "") == ["order.made"]
    assert offered("deliveries", "--channel=") == ["--channel=client_7"]
    assert "--select" in offered("replay", "--se")


def test_the_port_forward_ends_with_the_command(place: Place) -> None:
    watching = place.start("status", "-w", "-o", "name")
    assert watching.stdout is not None
    watching.stdout.readline()
    forwards = children_of(watching.pid)
    assert forwards
    watching.send_signal(signal.SIGTERM)
    watching.communicate(timeout=WAIT_SECONDS)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in forwards), what="kubectl's end")


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
