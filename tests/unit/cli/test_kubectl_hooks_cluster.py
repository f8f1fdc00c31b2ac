"""What `kubectl hooks` decides about a cluster, without one: pods, tokens, errors, manifests, completion."""

from __future__ import annotations

import argparse
import base64
import json
import stat
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hookstead.cli.flags import parse
from hookstead.cli.hooks import discovery, forward, names, replay, secret
from hookstead.cli.hooks.completion import complete
from hookstead.cli.hooks.kubectl import refusal
from hookstead.cli.kubectl_hooks import MODULES, command_first, main
from hookstead.cli.outcome import CommandError
from hookstead.config import endpoint as config_endpoint
from hookstead.resources import kinds
from hookstead.resources.parse import validate

if TYPE_CHECKING:
    from pathlib import Path

NOW: Final = datetime(2026, 11, 25, 17, 30, 1, 234_000, tzinfo=UTC)


def pod(name: str, *, release: str = "shop", ready: bool = True, port: str = "http", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "prod", "labels": {discovery.INSTANCE: release}, **meta},
        "spec": {
            "containers": [
                {},
                {"ports": [{"name": "admin", "containerPort": 1}, {"name": port, "containerPort": 8080}]},
            ]
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_the_first_live_pod_of_the_only_release_is_asked() -> None:
    gone = pod("a", deletionTimestamp="2026-01-01T00:00:00Z")
    found = discovery.choose([pod("c"), pod("b"), gone], release=None, place="namespace prod")
    assert (found.pod, found.port, found.namespace) == ("b", 8080, "prod")
    assert found.account("operator-user") == "shop-operator-user"


@pytest.mark.parametrize(
    ("pods", "release", "words"),
    [
        ([], None, "no gateway in namespace prod: no pod there is labelled"),
        ([pod("a"), pod("b", release="other")], None, "choose with --release, one of other, shop"),
        ([pod("a")], "other", "release other has no gateway in namespace prod"),
        ([pod("a", ready=False)], None, "is Ready (a: Running)"),
        ([pod("a", deletionTimestamp="x")], None, "is Ready (a: Terminating)"),
        ([pod("a", port="web")], None, "has no port named http"),
    ],
)
def test_what_is_missing_is_said(pods: list[dict[str, Any]], release: str | None, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        discovery.choose(pods, release=release, place="namespace prod")
    assert words in str(caught.value)


def test_kubectl_s_own_words_are_handed_on_without_its_log() -> None:
    said = refusal(
        'E1125 17:13:43.479039   14580 memcache.go:265] "Unhandled Error"\nWarning: old\n'
        'Error from server (Forbidden): pods is forbidden: User "alice" cannot list\n',
        what="kubectl get",
    )
    assert said.reason == "Forbidden"
    assert str(said) == 'Error from server (Forbidden): pods is forbidden: User "alice" cannot list'
    assert str(refusal("", what="it said nothing")) == "it said nothing"
    assert said.sentence.endswith("list.")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["-n", "prod", "status"], ["status", "-n", "prod"]),
        (["--context=x", "--as", "alice", "status", "acme"], ["status", "--context=x", "--as", "alice", "acme"]),
        (["status", "-n", "prod"], ["status", "-n", "prod"]),
        (["--help"], ["--help"]),
        (["-n", "prod"], ["-n", "prod"]),
        ([], []),
    ],
)
def test_flags_may_stand_in_front_of_the_command(written: list[str], read: list[str]) -> None:
    assert command_first(written) == read


def replay_flags(*words: str) -> argparse.Namespace:
    return parse(replay.COMMAND, words, {})


def test_a_replay_s_manifest_is_valid_and_says_what_was_asked() -> None:
    long = "a" * 43 + "-" + "b" * 19
    given = replay_flags(
        long,
        "--since=2026-11-25T00:00:00Z",
        "--select=Missed",
        "--event-type=a.b",
        "--event-type=c.*",
        "--requests-per-second=5",
    )
    manifest = replay.replay_manifest(given, now=NOW)
    assert manifest["metadata"]["name"] == "a" * 43 + "-20261125173001234"
    assert manifest["spec"] == {
        "endpointRef": {"name": long},
        "select": "Missed",
        "since": "2026-11-25T00:00:00.000Z",
        "eventTypes": ["a.b", "c.*"],
        "requestsPerSecond": 5,
    }
    assert validate(manifest) == []
    named = replay.replay_manifest(replay_flags("acme", "--since=1h", "--name=mine"), now=NOW)
    assert named["metadata"]["name"] == "mine"


def signed(*keys: tuple[str, str | None]) -> dict[str, Any]:
    """An endpoint with keys by (id, notAfterTime)."""
    named = [
        {
            "id": name,
            "secretKeyRef": {"name": f"s-{name}", "key": "key"},
            **({} if end is None else {"notAfterTime": end}),
        }
        for name, end in keys
    ]
    return {"metadata": {"name": "acme", "uid": "u-1"}, "spec": {"signing": {"keys": named}} if keys else {}}


def rotate(endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return secret.rotated(endpoint, "acme-signing-2", key_id="k2", now=NOW, overlap=timedelta(hours=1))


def test_a_new_key_comes_first_and_the_others_end_after_the_overlap() -> None:
    keys = rotate(signed(("a", None), ("b", "2026-11-25T19:00:00+01:00"), ("c", "2026-11-25T17:00:00Z")))
    assert [(key["id"], key.get("notAfterTime")) for key in keys] == [
        ("k2", None),
        ("a", "2026-11-25T18:30:01Z"),
        ("b", "2026-11-25T18:00:00Z"),
    ]
    generated = rotate(signed())
    assert generated[1]["secretKeyRef"] == {"name": "acme-signing", "key": "key"}
    with pytest.raises(CommandError, match="4 keys that sign"):
        rotate(signed(*((name, None) for name in "abcd")))


def test_a_new_secret_belongs_to_its_endpoint_and_holds_a_good_key() -> None:
    body = secret.secret_manifest(signed(), "acme-signing-2")
    assert body["metadata"]["labels"] == {"hookstead.dev/endpoint-secret": "true"}
    assert body["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert len(base64.b64decode(body["stringData"]["key"].removeprefix("whsec_"))) == 32
    assert body["stringData"] != secret.secret_manifest(signed(), "acme-signing-2")["stringData"]


class Programs:
    """A kubectl of ours on PATH that answers by its arguments and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.log: Final = folder / "asked"
        self.answers: Final = folder / "answers.json"
        script = folder / "kubectl"
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys\n"
            "asked = [sys.argv[1:], 'HOOKSTEAD_TOKEN' in os.environ]\n"
            f"open({str(self.log)!r}, 'a').write(json.dumps(asked) + chr(10))\n"
            f"for words, code, out, err in json.load(open({str(self.answers)!r})):\n"
            "    if all(word in sys.argv for word in words.split()):\n"
            "        sys.stdout.write(out); sys.stderr.write(err); sys.stdout.flush(); sys.stderr.flush()\n"
            "        import time; time.sleep(60 if code < 0 else 0); sys.exit(code)\n"
            "sys.exit('nobody taught me that')\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def teach(self, *answers: tuple[str, int, str, str]) -> None:
        """Words that the call has, exit code (negative: it goes on), stdout, stderr; the first that fits answers."""
        self.answers.write_text(json.dumps(answers))

    def asked(self) -> list[tuple[list[str], bool]]:
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.delenv("HOOKSTEAD_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Programs(tmp_path)


def test_flags_reach_kubectl_and_the_gateway_s_token_does_not(
    kubectl: Programs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOKSTEAD_TOKEN", "mine")
    kubectl.teach(
        ("get pods", 0, json.dumps({"items": [pod("a")]}), ""), ("port-forward", 1, "", "error: no kubelet\n")
    )
    assert main(["-n", "prod", "status", "--context", "c", "--kubeconfig=f", "--as=alice"]) == 1
    assert capsys.readouterr().err == "error: no way to pod prod/a: no kubelet.\n"
    (first, first_token), (second, _) = kubectl.asked()
    assert first[:4] == ["--kubeconfig=f", "--context=c", "--as=alice", "--namespace=prod"]
    assert not first_token
    assert second[-2:] == ["pod/a", ":8080"]


def test_a_port_forward_that_never_comes_up_is_given_up(
    kubectl: Programs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOKSTEAD_TOKEN", "mine")
    monkeypatch.setattr(forward, "_READY_SECONDS", 0.5)
    kubectl.teach(("get pods", 0, json.dumps({"items": [pod("a")]}), ""), ("port-forward", -1, "", "half a word"))
    assert main(["status"]) == 1
    said = capsys.readouterr().err
    assert said == "error: no way to pod prod/a: kubectl port-forward was not ready within 0.5 s.\n"


def test_a_forward_that_breaks_is_told_by_the_pod(
    kubectl: Programs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOKSTEAD_TOKEN", "mine")
    ready = "Forwarding from 127.0.0.1:1 -> 8080\n"  # and nobody listens there
    kubectl.teach(("get pods", 0, json.dumps({"items": [pod("a")]}), ""), ("port-forward", -1, ready, ""))
    assert main(["deliveries"]) == 1
    assert capsys.readouterr().err.startswith("error: no answer from the gateway's pod prod/a: ")


def test_who_may_have_no_token_is_told_before_any_port_is_forwarded(
    kubectl: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    no = 'Error from server (Forbidden): serviceaccounts "shop-reader" is forbidden\n'
    kubectl.teach(("get pods", 0, json.dumps({"items": [pod("a")]}), ""), ("create token", 1, "", no))
    assert main(["deliveries"]) == 1
    said = capsys.readouterr().err
    assert "no token of ServiceAccount prod/shop-reader" in said
    assert "Who may look at this environment is who may `create` `serviceaccounts/token`" in said
    words, _ = kubectl.asked()[-1]
    assert words[1:] == [
        "create",
        "token",
        "shop-reader",
        "--namespace=prod",
        "--audience=hookstead.dev",
        "--duration=600s",
    ]
    assert main(["redeliver", "dlv_1", "--audience=elsewhere.dev"]) == 1
    assert "Who may act on this environment" in capsys.readouterr().err
    assert {"shop-operator-user", "--audience=elsewhere.dev"} <= set(kubectl.asked()[-1][0])


def test_an_api_server_that_is_away_is_told_with_the_other_way(
    kubectl: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.teach(("get pods", 1, "", "The connection to the server 127.0.0.1:1 was refused\n"))
    assert main(["status"]) == 1
    assert "was refused. That was the look for the gateway's pods; --server URL names" in capsys.readouterr().err


def test_a_token_never_goes_over_plain_http_to_another_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOKSTEAD_TOKEN", "mine")
    assert main(["status", "--server", "http://gateway.example:8080"]) == 1
    assert "a token is not sent over plain HTTP to another machine" in capsys.readouterr().err
    # A loopback address is this machine; nothing listens there.
    assert main(["status", "--server", "http://[::1]:1"]) == 1
    assert "no answer from the gateway" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], list(MODULES)),
        (["s"], ["status", "send", "secret"]),
        (["nothing", ""], []),
        (["deliveries", "--st"], ["--status"]),
        (["deliveries", "--status", "De"], ["Delivered", "DeadLettered"]),
        (["deliveries", "--status=C"], ["--status=Cancelled"]),
        (["status", "-o", ""], ["wide", "json", "yaml", "name"]),
        (["status", "a"], ["acme"]),
        (["deliveries", "--endpoint", ""], ["acme", "other"]),
        (["status", "--context", ""], ["dev", "prod"]),
        (["status", "-n", "k"], ["kube-system"]),
        (["redeliver", ""], []),
        (["send", "o"], ["order.made"]),
        (["diagnose", "acme", "--event-type", ""], ["order.made", "user.born"]),
        (["send", "order.made", "--channel", "c"], ["client_7"]),
        (["deliveries", "--limit", ""], []),
    ],
)
def test_a_shell_is_offered_what_fits(kubectl: Programs, words: list[str], offered: list[str]) -> None:
    kubectl.teach(
        ("get webhookendpoints.hookstead.dev", 0, "other\nacme\n", ""),
        ("get webhookeventtypes.hookstead.dev", 0, "user.born\norder.made\n", ""),
        ("get webhookchannels.hookstead.dev", 0, "client_7\n", ""),
        ("config get-contexts", 0, "prod\ndev\n", ""),
        ("get namespaces", 0, "namespace/kube-system\nnamespace/prod\n", ""),
    )
    candidates, directive = complete(words, MODULES)
    assert [one.partition("\t")[0] for one in candidates] == offered
    assert directive == ":4"


def test_completion_asks_in_the_namespace_that_was_typed_and_never_complains(kubectl: Programs) -> None:
    kubectl.teach(("get", 1, "", "error: no\n"))
    assert complete(["status", "-n", "prod", "--as=alice", ""], MODULES) == ([], ":4")
    words, _ = kubectl.asked()[-1]
    assert {"--namespace=prod", "--as=alice"} <= set(words)
    assert complete(["status", "--kubeconfig", ""], MODULES) == ([], ":0")


def test_the_plugin_s_names_are_the_package_s() -> None:
    assert (names.GROUP, names.API_VERSION) == (kinds.GROUP, kinds.API_VERSION)
    assert (names.ENDPOINT, names.REPLAY) == (kinds.Kind.ENDPOINT, kinds.Kind.REPLAY)
    assert f"{kinds.Kind.ENDPOINT.plural}.{kinds.GROUP}" == names.ENDPOINTS
    assert f"{kinds.Kind.REPLAY.plural}.{kinds.GROUP}" == names.REPLAYS
    assert f"{kinds.Kind.CHANNEL.plural}.{kinds.GROUP}" == names.CHANNELS
    assert f"{kinds.Kind.EVENT_TYPE.plural}.{kinds.GROUP}" == names.EVENT_TYPES
    assert tuple(kinds.ReplaySelect) == names.REPLAY_SELECTS
    assert (names.RESUME_ANNOTATION, names.SECRET_LABEL) == (kinds.RESUME_ANNOTATION, kinds.SECRET_LABEL)
    assert config_endpoint.SIGNING_KEY == names.SIGNING_KEY
    assert names.signing_secret_name("acme") == config_endpoint.signing_secret_name("acme")


def test_receivers_are_shown_what_they_verify_with_and_no_private_key() -> None:
    seed = bytes(range(32))
    private = b"whsk_" + base64.b64encode(seed)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert secret.verification_key(private + b"\n") == "whpk_" + base64.b64encode(public).decode()
    shared = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert secret.verification_key(f"{shared}\n".encode()) == shared
    with pytest.raises(ValueError, match="expected text that begins with whsec_"):
        secret.verification_key(b"hunter2")
