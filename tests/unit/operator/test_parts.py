"""Certificates, pods, Events, shards' metadata, access: the small parts of the operator."""

from __future__ import annotations

import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hookstead.config.model import Identity
from hookstead.operator import signing_secrets
from hookstead.operator.access import Access, AccessError, from_kubeconfig, in_cluster, load_access
from hookstead.operator.certificates import LIFETIME, RENEW_BEFORE, issue, needs_renewal
from hookstead.operator.events import BURST, Bucket, Occurrence, event, event_name, occurrences
from hookstead.operator.internal_secret import credentials
from hookstead.operator.pods import PodStore, live_address
from hookstead.operator.schedule import Key
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import Kind

NOW = datetime(2026, 1, 31, tzinfo=UTC)


# Certificates.


def test_the_certificate_is_for_the_name_and_signed_by_its_authority() -> None:
    made = issue("hookstead-internal", now=NOW)
    (authority,) = x509.load_pem_x509_certificates(made.authorities.encode())
    leaf = x509.load_pem_x509_certificate(made.certificate.encode())
    leaf.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hookstead-internal"]
    assert leaf.not_valid_after_utc == NOW + LIFETIME
    assert "PRIVATE" not in made.authorities
    assert "PRIVATE" not in repr(made)


def test_a_renewal_keeps_the_former_authority_until_it_has_expired() -> None:
    first = issue("n", now=NOW)
    second = issue("n", now=NOW + timedelta(days=300), former_authorities=first.authorities)
    assert first.authorities in second.authorities
    third = issue("n", now=NOW + timedelta(days=500), former_authorities=second.authorities)
    assert first.authorities not in third.authorities
    assert len(x509.load_pem_x509_certificates(third.authorities.encode())) == 2


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(0), False), (LIFETIME - RENEW_BEFORE, False), (LIFETIME - RENEW_BEFORE + timedelta(seconds=1), True)],
)
def test_a_certificate_is_renewed_well_before_its_end(age: timedelta, expected: bool) -> None:
    assert needs_renewal(issue("n", now=NOW).certificate, now=NOW + age) is expected


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_an_unreadable_certificate_is_renewed(text: str) -> None:
    assert needs_renewal(text, now=NOW)


def test_credentials_come_trimmed_and_without_a_ca_there_is_no_tls() -> None:
    made = issue("n", now=datetime.now(UTC))
    known = credentials({"token": " abc\n", "ca.crt": made.authorities})
    assert known.token == "abc"
    assert isinstance(known.tls, ssl.SSLContext)
    assert credentials({"token": "abc"}).tls is None
    assert credentials({"token": "abc", "ca.crt": "nonsense"}).tls is None
    assert "abc" not in repr(known)


# Pods.


def pod(**changes: Any) -> dict[str, Any]:
    meta = {"name": "g", "uid": "u", "resourceVersion": "5", **changes.pop("meta", {})}
    return {
        "metadata": meta,
        "spec": {
            "containers": [
                {},
                {"ports": [{"name": "http", "containerPort": 1}, {"name": "internal", "containerPort": 9443}]},
            ]
        },
        "status": {"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]},
        **changes,
    }


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (pod(), "10.0.0.7:9443"),
        (pod(status={"podIP": "fd00::7", "conditions": [{"type": "Ready", "status": "True"}]}), "[fd00::7]:9443"),
        (pod(status={"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "False"}]}), None),
        (pod(status={"conditions": [{"type": "Ready", "status": "True"}]}), None),
        (pod(status={}), None),
        (pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}), None),
        (pod(spec={"containers": [{"ports": [{"name": "http", "containerPort": 1}]}]}), None),
    ],
)
def test_a_pod_is_live_when_it_is_ready_stays_and_has_the_port(body: dict[str, Any], address: str | None) -> None:
    assert live_address(body) == address


def test_a_pod_store_tells_when_the_addresses_change() -> None:
    pods = PodStore()
    assert pods.observe("ADDED", pod())
    assert not pods.observe("MODIFIED", pod(meta={"resourceVersion": "6"}))
    assert pods.addresses() == {"10.0.0.7:9443"}
    assert pods.observe("DELETED", pod(meta={"resourceVersion": "7"}))
    assert pods.addresses() == frozenset()


# Events.


def status(**reasons: str) -> dict[str, Any]:
    return {
        "conditions": [
            {"type": kind, "status": "False", "reason": reason, "message": "m"} for kind, reason in reasons.items()
        ]
    }


KEY = Key(Kind.ENDPOINT, "a")


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        (
            {},
            status(ResolvedRefs="SecretNotFound", Ready="SecretNotFound", Active="SecretNotFound"),
            ["SecretNotFound"],
        ),
        (status(ResolvedRefs="SecretNotFound"), status(ResolvedRefs="SecretNotFound"), []),
        (status(ResolvedRefs="SecretNotFound"), status(ResolvedRefs="SecretInvalid"), ["SecretInvalid"]),
        (status(ResolvedRefs="SecretNotFound"), {}, []),
        ({}, status(Active="Suspended"), ["Suspended"]),
        ({}, status(Active="CircuitOpen"), []),
        ({}, status(Active="Paused"), []),
        ({}, status(Programmed="GatewayUnavailable", Ready="GatewayUnavailable"), []),
        ({}, status(Accepted="EnvironmentMissing"), []),
        ({}, status(Accepted="Nonsense"), []),
    ],
)
def test_events_are_for_what_a_person_acts_on(before: Any, after: Any, reasons: list[str]) -> None:
    assert [item.reason.value for item in occurrences(KEY, "u", before=before, after=after)] == reasons


def test_a_gateway_that_is_away_is_an_event_of_the_environment_alone() -> None:
    after = status(Programmed="GatewayUnavailable", Ready="GatewayUnavailable")
    environment = Key(Kind.ENVIRONMENT, "default")
    assert [item.reason for item in occurrences(environment, "u", before={}, after=after)] == [
        Reason.GATEWAY_UNAVAILABLE
    ]
    assert occurrences(KEY, "u", before={}, after=after) == []


def test_one_object_and_reason_is_one_series() -> None:
    one = Occurrence(key=KEY, uid="u", reason=Reason.GONE, message="x" * 2000)
    assert event_name(one) == event_name(Occurrence(key=KEY, uid="u", reason=Reason.GONE, message="y"))
    assert event_name(one) != event_name(Occurrence(key=KEY, uid="v", reason=Reason.GONE, message="y"))
    body = event(one, namespace="n", name=event_name(one), now="2026-01-31T00:00:00Z", instance="i")
    assert len(body["message"]) <= 1000
    assert body["type"] == "Warning"


def test_the_bucket_lets_a_burst_through_and_then_a_trickle() -> None:
    bucket = Bucket()
    assert sum(bucket.take(0.0) for _ in range(100)) == BURST
    assert sum(bucket.take(10.0) for _ in range(100)) == 5


# Signing Secrets.


def test_a_generated_key_is_whsec_and_32_bytes_and_owned() -> None:
    body = signing_secrets.manifest(Identity(name="a", uid="u"), key=bytes(range(32)))
    material = base64.b64decode(body["data"]["key"]).decode()
    assert material.startswith("whsec_")
    assert base64.b64decode(material.removeprefix("whsec_")) == bytes(range(32))
    assert body["metadata"]["name"] == "a-signing"
    (owner,) = body["metadata"]["ownerReferences"]
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, False)


# Access.


def kubeconfig(folder: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    path = folder / "config"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster or {"server": "https://127.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(document))
    return path


def test_a_kubeconfig_gives_server_token_and_authority(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("PEM")
    cluster = {"server": "https://127.0.0.1:6443/", "certificate-authority": "ca.pem", "tls-server-name": "kube"}
    access = from_kubeconfig(kubeconfig(tmp_path, user={"token": "t"}, cluster=cluster))
    assert (access.server, access.ca, access.bearer(), access.server_name) == (
        "https://127.0.0.1:6443",
        "PEM",
        "t",
        "kube",
    )
    assert "'t'" not in repr(access)


def test_inline_data_and_client_certificates_are_decoded(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"PEM").decode()
    access = from_kubeconfig(
        kubeconfig(tmp_path, user={"client-certificate-data": encoded, "client-key-data": encoded})
    )
    assert (access.certificate, access.key) == ("PEM", "PEM")


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    access = from_kubeconfig(kubeconfig(tmp_path, user={"tokenFile": "token"}))
    assert access.bearer() == "one"
    (tmp_path / "token").write_text("two\n")
    assert access.bearer() == "two"


@pytest.mark.parametrize(
    ("user", "words"),
    [({"exec": {"command": "x"}}, "exec"), ({"client-key-data": "%"}, "base64"), ({"client-key": "absent"}, "absent")],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, user: dict[str, Any], words: str) -> None:
    with pytest.raises(AccessError, match=words):
        from_kubeconfig(kubeconfig(tmp_path, user=user))


@pytest.mark.parametrize("text", ["[", "just text", "{}", '{"current-context": "x", "contexts": [{"name": "y"}]}'])
def test_a_broken_kubeconfig_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError, match="config"):
        from_kubeconfig(path)


def test_the_flag_goes_before_the_variable_and_the_variable_before_the_pod(tmp_path: Path) -> None:
    named = kubeconfig(tmp_path, user={"token": "named"})
    environment = {"KUBECONFIG": f"{tmp_path / 'absent'}:{named}", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert load_access(None, environment=environment).bearer() == "named"
    with pytest.raises(AccessError, match="absent"):
        load_access(tmp_path / "absent", environment=environment)


def test_a_variable_that_names_no_file_never_leads_to_another_cluster(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match=r"KUBECONFIG: no such file: .*absent"):
        load_access(None, environment={"KUBECONFIG": str(tmp_path / "absent"), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("PEM")
    (tmp_path / "token").write_text("t")
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, folder=tmp_path)
    assert access == Access(server="https://[fd00::1]:6443", ca="PEM", token_file=tmp_path / "token")
    assert access.bearer() == "t"
