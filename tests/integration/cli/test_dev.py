"""`hookstead dev` from outside: a real process, real files, a receiver that verifies."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from integration.cli.dev_process import Dev, Receiver, dev_command, endpoint, environment

if TYPE_CHECKING:
    from pathlib import Path

KEY = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
SECRET = f"""\
apiVersion: v1
kind: Secret
metadata:
  name: acme-key
  labels: {{hookstead.dev/endpoint-secret: "true"}}
stringData: {{key: {KEY}}}
"""
OWN_KEY: Any = {"keys": [{"id": "a", "secretKeyRef": {"name": "acme-key", "key": "key"}}]}


def generated(tmp_path: Path, name: str) -> str:
    return (tmp_path / "state" / "secrets" / "default" / f"{name}-signing" / "key").read_text().strip()


def test_an_event_becomes_a_signed_delivery_under_a_generated_key_that_survives_a_restart(
    folder: Path, tmp_path: Path, receiver: Receiver
) -> None:
    (folder / "endpoint.yaml").write_text(endpoint("acme", receiver.url))
    with Dev(folder, state=tmp_path / "state") as dev:
        accepted = dev.publish("order.created", {"n": 1})
        assert (accepted["httpStatus"], accepted["endpoints"]) == (202, 1)
        request = receiver.next()
        key = generated(tmp_path, "acme")
        assert request.verified(key)["data"] == {"n": 1}
        assert request.headers["webhook-id"] == accepted["id"]
        uid = dev.ask("/v1/endpoints/acme")
        assert dev.stop() == 0
        assert dev.out.rest()[-1] == "stopped"
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    with Dev(folder, state=tmp_path / "state") as dev:
        assert generated(tmp_path, "acme") == key
        assert dev.ask("/v1/endpoints/acme")["observedGeneration"] == uid["observedGeneration"]
        dev.publish("order.created", {"n": 2})
        assert receiver.next().verified(key)["data"] == {"n": 2}
        assert [item["status"] for item in dev.ask("/v1/deliveries")["items"]][-1] == "Delivered"
        assert dev.stop(signal.SIGINT) == 0


def test_edits_additions_and_deletions_are_in_force_within_moments_and_told_in_one_line_each(
    folder: Path, tmp_path: Path, receiver: Receiver
) -> None:
    file = folder / "sub" / "endpoint.yml"
    file.parent.mkdir()
    file.write_text(endpoint("acme", receiver.url + "/before"))
    with Dev(folder, state=tmp_path / "state") as dev:
        file.write_text(endpoint("acme", receiver.url + "/after"))
        assert dev.out.until("acme changed").endswith("WebhookEndpoint acme changed (generation 2)")
        dev.publish("order.created", {})
        assert receiver.next().path == "/after"
        assert dev.ask("/v1/endpoints/acme")["observedGeneration"] == 2
        (folder / "other.yaml").write_text(endpoint("other", receiver.url))
        assert dev.out.until("other added").endswith("WebhookEndpoint other added")
        first_key = generated(tmp_path, "acme")
        file.unlink()
        assert dev.out.until("acme deleted").endswith("WebhookEndpoint acme deleted")
        assert dev.publish("order.created", {})["endpoints"] == 1
        assert dev.ask("/v1/endpoints/acme")["httpStatus"] == 404
        file.write_text(endpoint("acme", receiver.url))
        dev.out.until("WebhookEndpoint acme added")
        assert dev.ask("/v1/endpoints/acme")["observedGeneration"] == 1
        assert generated(tmp_path, "acme") != first_key


def test_comments_and_written_out_defaults_are_no_edit(folder: Path, tmp_path: Path, receiver: Receiver) -> None:
    file = folder / "endpoint.yaml"
    file.write_text(endpoint("acme", receiver.url))
    with Dev(folder, state=tmp_path / "state") as dev:
        file.write_text(
            "# a comment\n" + endpoint("acme", receiver.url, state="Enabled", payloadFormat="StandardWebhooks")
        )
        (folder / "marker.yaml").write_text(endpoint("marker", receiver.url))
        dev.out.until("marker added")
        assert dev.ask("/v1/endpoints/acme")["observedGeneration"] == 1


def test_an_unreadable_file_keeps_its_last_good_objects_even_over_a_restart(
    folder: Path, tmp_path: Path, receiver: Receiver
) -> None:
    file = folder / "endpoint.yaml"
    file.write_text(endpoint("acme", receiver.url))
    with Dev(folder, state=tmp_path / "state") as dev:
        file.write_text("kind: [broken\n")
        told = dev.err.until("endpoint.yaml")
        assert told.startswith("error: ")
        assert "Its last readable version is used further" in told
        assert dev.publish("order.created", {})["endpoints"] == 1
        receiver.next()
        dev.stop()
    with Dev(folder, state=tmp_path / "state") as dev:
        dev.err.until("Its last readable version is used further")
        assert dev.publish("order.created", {})["endpoints"] == 1
        receiver.next()
        file.write_text(endpoint("acme", receiver.url + "/mended"))
        dev.out.until("acme changed (generation 2)")
        dev.publish("order.created", {})
        assert receiver.next().path == "/mended"


def test_the_label_rule_for_secrets_holds_and_a_label_heals(folder: Path, tmp_path: Path, receiver: Receiver) -> None:
    (folder / "endpoint.yaml").write_text(endpoint("acme", receiver.url, signing=OWN_KEY))
    secret = folder / "secret.yaml"
    secret.write_text(SECRET.replace('"true"', '"false"'))
    with Dev(folder, state=tmp_path / "state") as dev:
        assert "is not labelled for endpoints" in dev.err.until("acme")
        resolved = [c for c in dev.ask("/v1/endpoints/acme")["conditions"] if c["type"] == "ResolvedRefs"]
        assert resolved[0]["reason"] == "SecretNotPermitted"
        assert dev.publish("order.created", {})["endpoints"] == 1
        assert receiver.received.empty()
        secret.write_text(SECRET)
        assert receiver.next().verified(KEY) is not None


def test_other_namespaces_are_ignored_with_one_warning(folder: Path, tmp_path: Path, receiver: Receiver) -> None:
    documents = [
        endpoint(name, receiver.url).replace('"metadata": {', '"metadata": {"namespace": "prod", ')
        for name in ("a", "b")
    ]
    (folder / "prod.yaml").write_text("\n---\n".join(documents))
    with Dev(folder, state=tmp_path / "state") as dev:
        assert dev.ask("/v1/endpoints")["items"] == []
        (folder / "more.yaml").write_text(documents[0].replace('"a"', '"c"'))
        (folder / "own.yaml").write_text(endpoint("own", receiver.url))
        dev.out.until("own added")
        dev.stop()
        warnings = [line for line in dev.err.rest() if "other namespaces" in line]
        assert len(warnings) == 1
        assert "(prod)" in warnings[0]


def test_the_first_by_path_and_document_has_a_contested_name(folder: Path, tmp_path: Path, receiver: Receiver) -> None:
    channel = (
        '{"apiVersion": "hookstead.dev/v1alpha1", "kind": "WebhookChannel", "metadata": {"name": "%s"}, '
        '"spec": {"channelName": "client_7"}}'
    )
    (folder / "b.yaml").write_text(channel % "early")
    (folder / "c.yaml").write_text("\n---\n".join([channel % "a-late", channel % "a-later"]))
    with Dev(folder, state=tmp_path / "state") as dev:
        accepted = {
            item["name"]: next(c["status"] for c in item["conditions"] if c["type"] == "Accepted")
            for item in dev.ask("/v1/channels")["items"]
        }
        assert accepted == {"early": "True", "a-late": "False", "a-later": "False"}


def test_a_second_process_on_one_state_folder_exits_1_with_a_message(folder: Path, tmp_path: Path) -> None:
    with Dev(folder, state=tmp_path / "state") as dev:
        second = subprocess.run(
            dev_command(folder, state=tmp_path / "state"),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert second.returncode == 1
        assert second.stderr.startswith("error: ")
        assert "Traceback" not in second.stderr
        assert dev.ask("/v1/environment")["httpStatus"] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"host": "evil.example"}, 403), ({"origin": "https://evil.example"}, 403)],
)
def test_only_this_machine_and_no_foreign_page_may_ask(
    folder: Path, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    with Dev(folder, state=tmp_path / "state") as dev:
        assert dev.ask("/v1/environment", headers=headers)["httpStatus"] == status


@pytest.mark.parametrize(
    ("flags", "folder_name", "code", "message"),
    [
        (["--listen", "0.0.0.0:0"], "manifests", 2, "--listen 0.0.0.0:0 is not loopback"),
        (["--admin-listen", "192.0.2.1:9090"], "manifests", 2, "--admin-listen 192.0.2.1:9090 is not loopback"),
        (["--drain-seconds", "soon"], "manifests", 2, "--drain-seconds: 'soon' is not a number of seconds"),
        (["--namespace", "Prod"], "manifests", 2, "'Prod' is not a namespace"),
        (["--resolver", "dns.example"], "manifests", 2, "'dns.example' is not a name server"),
        ([], "nothing", 2, "nothing is no folder"),
        (["--state-dir", "{manifests}/environment.yaml"], "manifests", 1, "cannot be created"),
    ],
)
def test_what_cannot_work_ends_at_once_with_a_message(
    folder: Path, flags: list[str], folder_name: str, code: int, message: str
) -> None:
    command = dev_command(folder.parent / folder_name, state=folder.parent / "state")
    ended = subprocess.run(
        [*command, *(flag.replace("{manifests}", str(folder)) for flag in flags)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_variables_stand_in_for_flags(folder: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "hookstead.cli.main", "dev", str(folder)],
        env=environment(HOOKSTEAD_LISTEN="10.0.0.1:80", HOOKSTEAD_STATE_DIR=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 2
    assert "10.0.0.1:80 is not loopback" in ended.stderr
