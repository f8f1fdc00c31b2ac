"""What the feed and the sweeps make of objects and Secrets."""

from __future__ import annotations

import base64
from typing import Any

from hookstead.config.compile import Rejected, SecretObject
from hookstead.operator.compact import canonical
from hookstead.operator.kube import Listed, Listing
from hookstead.operator.objects import ObjectStore, SecretStore, secret_object
from hookstead.resources.kinds import Kind
from hookstead.resources.secret import Secret

LABEL = {"hookstead.dev/endpoint-secret": "true"}


def endpoint(version: int, *, uid: str = "u", generation: int = 1, **more: Any) -> dict[str, Any]:
    status = more.pop("status", None)
    body: dict[str, Any] = {
        "apiVersion": "hookstead.dev/v1alpha1",
        "kind": "WebhookEndpoint",
        "metadata": {
            "name": "a",
            "namespace": "n",
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **more,
        },
        "spec": {"url": "https://receiver.example.com/"},
    }
    return body if status is None else {**body, "status": status}


def listing(version: int, **versions: int) -> Listing:
    items = {name: Listed(name=name, uid="u", resource_version=number) for name, number in versions.items()}
    return Listing(resource_version=version, items=items)


def store(*bodies: dict[str, Any]) -> ObjectStore:
    made = ObjectStore("n")
    for body in bodies:
        made.observe(Kind.ENDPOINT, "ADDED", body)
    return made


def test_a_status_alone_is_no_change() -> None:
    objects = store(endpoint(1))
    seen = objects.observe(Kind.ENDPOINT, "MODIFIED", endpoint(2, status={"observedGeneration": 1}))
    assert not seen.changed
    assert seen.status
    assert objects.kinds[Kind.ENDPOINT]["a"].status == canonical({"observedGeneration": 1})


def test_labels_and_the_annotations_of_others_are_no_change() -> None:
    objects = store(endpoint(1))
    foreign = endpoint(2, labels={"x": "y"}, annotations={"kubectl.kubernetes.io/x": "y"})
    assert not objects.observe(Kind.ENDPOINT, "MODIFIED", foreign).changed


def test_an_annotation_of_ours_is_a_change_and_a_request() -> None:
    objects = store(endpoint(1))
    asked = endpoint(2, annotations={"hookstead.dev/reconcile-requested-at": "x"})
    seen = objects.observe(Kind.ENDPOINT, "MODIFIED", asked)
    assert seen.changed
    assert seen.requested
    again = objects.observe(
        Kind.ENDPOINT, "MODIFIED", {**asked, "metadata": {**asked["metadata"], "resourceVersion": "3"}}
    )
    assert not again.changed


def test_a_new_generation_is_a_change_and_old_news_are_none() -> None:
    objects = store(endpoint(5, generation=2))
    assert not objects.observe(Kind.ENDPOINT, "MODIFIED", endpoint(4, generation=1)).changed
    assert objects.kinds[Kind.ENDPOINT]["a"].meta.generation == 2
    assert objects.observe(Kind.ENDPOINT, "MODIFIED", endpoint(6, generation=3)).changed


def test_the_deletion_of_a_former_object_does_not_remove_its_successor() -> None:
    objects = store(endpoint(1, uid="old"), endpoint(9, uid="new"))
    assert not objects.observe(Kind.ENDPOINT, "DELETED", endpoint(5, uid="old")).changed
    assert objects.kinds[Kind.ENDPOINT]["a"].meta.uid == "new"
    seen = objects.observe(Kind.ENDPOINT, "DELETED", endpoint(10, uid="new"))
    assert seen.changed
    assert seen.deleted
    assert objects.count() == 0


def test_an_object_that_does_not_parse_is_kept_with_its_problems() -> None:
    body = endpoint(1)
    body["spec"] = {"url": 7}
    objects = store(body)
    (item,) = objects.items(Kind.ENDPOINT)
    assert isinstance(item, Rejected)
    assert item.meta.uid == "u"
    assert item.problems


def test_a_sweep_removes_what_is_older_than_the_list_and_not_in_it() -> None:
    assert store(endpoint(5)).sweep(Kind.ENDPOINT, listing(9)).ghosts == ("a",)
    newer = store(endpoint(10))
    assert newer.sweep(Kind.ENDPOINT, listing(9)).ghosts == ()
    assert newer.count() == 1


def test_a_sweep_removes_the_former_object_of_a_name() -> None:
    objects = store(endpoint(5, uid="old"))
    swept = objects.sweep(Kind.ENDPOINT, listing(9, a=8))
    assert swept.ghosts == ("a",)
    assert swept.missing == ("a",)


def test_a_sweep_says_what_the_feed_has_not_brought_yet() -> None:
    objects = store(endpoint(5))
    assert objects.sweep(Kind.ENDPOINT, listing(9, a=5, b=6)).missing == ("b",)
    assert objects.sweep(Kind.ENDPOINT, listing(9, a=7)).missing == ("a",)
    assert objects.sweep(Kind.ENDPOINT, listing(9, a=5)).missing == ()


def secret(version: int, *, labels: dict[str, str] | None = None, owner: str = "", **data: str) -> dict[str, Any]:
    owners = [{"uid": "x"}, {"uid": owner, "controller": True}] if owner else []
    return {
        "metadata": {
            "name": "s",
            "uid": "u",
            "resourceVersion": str(version),
            "labels": LABEL if labels is None else labels,
            "ownerReferences": owners,
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def test_data_is_taken_of_labelled_secrets_only() -> None:
    assert secret_object(secret(1, key="v", owner="o")) == SecretObject(
        name="s", permitted=True, data={"key": Secret(b"v")}, owner_uid="o"
    )
    assert secret_object(secret(1, labels={}, key="v")) == SecretObject(name="s", permitted=False)
    assert not secret_object(secret(1, labels={"hookstead.dev/endpoint-secret": "True"}, key="v")).permitted


def test_a_secret_that_loses_its_label_has_to_be_looked_up() -> None:
    secrets = SecretStore()
    assert secrets.observe("ADDED", secret(1, key="v")).changed
    assert secrets.unknown({"s"}) == []
    assert secrets.observe("DELETED", secret(2, key="v")).changed
    assert secrets.unknown({"s"}) == ["s"]
    assert secrets.learn("s", SecretObject(name="s", permitted=False))
    assert not secrets.learn("s", SecretObject(name="s", permitted=False))
    assert secrets.unknown({"s"}) == []
    assert secrets.unresolved({"s"}) == ["s"]
    assert secrets.snapshot() == {"s": SecretObject(name="s", permitted=False)}


def test_an_absent_secret_is_news_once_and_forgotten_when_nobody_mentions_it() -> None:
    secrets = SecretStore()
    assert secrets.learn("s", None)
    assert not secrets.learn("s", None)
    secrets.forget_unmentioned({"other"})
    assert secrets.unknown({"s"}) == ["s"]


def test_a_look_up_never_overrules_the_watch() -> None:
    secrets = SecretStore()
    secrets.observe("ADDED", secret(1, key="v"))
    assert not secrets.learn("s", None)
    assert secrets.snapshot()["s"].permitted


def test_the_same_data_again_is_no_change() -> None:
    secrets = SecretStore()
    secrets.observe("ADDED", secret(1, key="v"))
    assert not secrets.observe("MODIFIED", secret(2, key="v")).changed
    assert secrets.observe("MODIFIED", secret(3, key="w")).changed
