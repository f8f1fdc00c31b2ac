"""The five definitions on a real API server: what it refuses and accepts, and how kubectl shows them."""

from __future__ import annotations

import http.client
import json
import random
import re
import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from cluster import crd_cases
from cluster.apiserver import ApiServer, KubectlError
from hookstead.resources.conditions import Condition, ConditionStatus, ConditionType, Reason
from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import API_VERSION, Kind
from hookstead.resources.parse import validate
from hookstead.resources.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = Any
COLUMNS = {
    Kind.ENVIRONMENT: (
        ["STATE", "READY", "ENDPOINTS", "FAILING", "AGE"],
        ["CHANNELS", "EVENTTYPES", "GATEWAY", "REASON"],
    ),
    Kind.ENDPOINT: (
        ["READY", "ACTIVE", "HEALTHY", "LAST-DELIVERY", "FAILURES", "AGE"],
        ["HOST", "SCOPE", "PENDING", "REASON"],
    ),
    Kind.CHANNEL: (["CHANNEL", "READY", "ENDPOINTS", "AGE"], ["LAST-EVENT", "DESCRIPTION"]),
    Kind.EVENT_TYPE: (["TYPE", "READY", "ENDPOINTS", "AGE"], ["GROUP", "LIFECYCLE", "LAST-EVENT"]),
    Kind.REPLAY: (["ENDPOINT", "SELECT", "COMPLETE", "SELECTED", "DELIVERED", "FAILED", "AGE"], []),
}
SHORT_NAMES = {
    Kind.ENVIRONMENT: "whenv",
    Kind.ENDPOINT: "whep",
    Kind.CHANNEL: "whch",
    Kind.EVENT_TYPE: "whet",
    Kind.REPLAY: "whrp",
}


class Client:
    """Requests over one connection, since the tables are long. Strict, as kubectl asks for."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        address = server.url.removeprefix("https://")
        self._connection = http.client.HTTPSConnection(address, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {server.admin_token}", "Content-Type": "application/json"}
        self._root = f"/apis/{API_VERSION}/namespaces/{namespace}"

    def close(self) -> None:
        self._connection.close()

    def send(self, method: str, kind: Kind, obj: Json, *, name: str = "", dry: bool = True) -> tuple[int, Json]:
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        path = f"{self._root}/{kind.plural}{'/' + name if name else ''}{query}"
        self._connection.request(method, path, json.dumps(obj), self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def verdict(self, obj: Json) -> Json:
        """The object as it would be stored, or None where it is refused."""
        status, body = self.send("POST", Kind(obj["kind"]), obj)
        assert status in (201, 400, 422), body
        return body if status == 201 else None


@pytest.fixture
def client(api_server: ApiServer, namespace: str) -> Iterator[Client]:
    with closing(Client(api_server, namespace)) as made:
        yield made


def example(kind: Kind) -> Json:
    """A valid object of the kind."""
    return next(case.base for case in crd_cases.rule_cases() if case.kind is kind)


def test_every_rule_refuses_and_accepts_on_the_server_what_it_does_offline(client: Client) -> None:
    for number, case in enumerate(crd_cases.rule_cases()):
        if case.is_update:
            check_update(client, case, f"update-{number}")
            continue
        status, body = client.send("POST", case.kind, case.refused)
        assert status == 422, f"{case}: {body}"
        causes = [cause for cause in body["details"]["causes"] if case.says in cause["message"]]
        assert causes, f"{case.says!r} is not in {body['message']}"
        assert causes[0]["field"].replace("<nil>", "") == case.field
        status, body = client.send("POST", case.kind, case.accepted)
        assert status == 201, f"{case}: {body}"


def check_update(client: Client, case: crd_cases.RuleCase, name: str) -> None:
    def named(obj: Json, **metadata: str) -> Json:
        return {**obj, "metadata": {**obj["metadata"], "name": name, **metadata}}

    status, stored = client.send("POST", case.kind, named(case.base), dry=False)
    assert status == 201, stored
    version = stored["metadata"]["resourceVersion"]
    status, body = client.send("PUT", case.kind, named(case.refused, resourceVersion=version), name=name)
    assert status == 422, f"{case}: {body}"
    assert case.says in body["message"]
    status, body = client.send("PUT", case.kind, named(case.accepted, resourceVersion=version), name=name)
    assert status == 200, f"{case}: {body}"


@pytest.mark.parametrize("kind", list(Kind))
def test_the_server_takes_what_is_within_the_bounds_of_every_field_and_nothing_beyond(
    kind: Kind, client: Client
) -> None:
    wrong = [
        case.label for case in crd_cases.boundaries(kind) if (client.verdict(case.obj) is not None) != case.is_accepted
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", list(Kind))
def test_complete_objects_are_stored_as_they_are(kind: Kind, client: Client) -> None:
    for obj in crd_cases.complete_objects(kind):
        stored = client.verdict(obj)
        assert stored is not None
        assert stored["spec"] == schema_of(kind).normalise(obj)["spec"]


@pytest.mark.parametrize("seed", range(3))
def test_offline_validation_agrees_with_the_server_on_objects_of_any_shape(seed: int, client: Client) -> None:
    for obj in crd_cases.random_objects(random.Random(seed), 300):
        stored, problems = client.verdict(obj), validate(obj)
        assert (stored is None) == bool(problems), f"{obj}: {[str(problem) for problem in problems]}"
        if stored is not None:
            assert stored["spec"] == schema_of(Kind(obj["kind"])).normalise(obj)["spec"]


METADATA = (
    ({"name": "A"}, False),
    ({"name": "a..b"}, False),
    ({"name": ""}, False),
    ({"name": "x", "bogus": 1}, False),
    ({"name": "x", "labels": {"a": "b c"}}, False),
    ({"name": "x", "labels": {"a/b/c": "d"}}, False),
    ({"name": "x", "labels": {"a": True}}, False),
    ({"name": "x", "annotations": {"a b": ""}}, False),
    ({"name": "x", "annotations": {"a": "é\n"}}, True),
    ({"name": "x", "annotations": {"A.b/c": ""}}, True),
    ({"name": "x", "labels": {"a": "", "b.c/d": "E_f"}}, True),
    ({"name": "x", "labels": None}, True),
)


def test_metadata_is_judged_offline_as_on_the_server(client: Client) -> None:
    for metadata, is_accepted in METADATA:
        obj = {**example(Kind.CHANNEL), "metadata": metadata}
        assert (client.verdict(obj) is not None) is is_accepted, metadata
        assert (not validate(obj)) is is_accepted, metadata


def test_an_object_that_nobody_has_seen_has_observed_generation_minus_one(
    api_server: ApiServer, namespace: str
) -> None:
    for kind in Kind:
        obj = example(kind)
        api_server.kubectl("apply", "-f", "-", input=json.dumps(obj), namespace=namespace)
        name = obj["metadata"]["name"]
        assert status_of(api_server, namespace, kind, name) == {"observedGeneration": -1}
        patch_status(api_server, namespace, kind, name, {"observedGeneration": 1})
        assert status_of(api_server, namespace, kind, name) == {"observedGeneration": 1}
        patch_status(api_server, namespace, kind, name, None)
        assert status_of(api_server, namespace, kind, name) == {"observedGeneration": -1}


def status_of(server: ApiServer, namespace: str, kind: Kind, name: str) -> Json:
    return json.loads(server.kubectl("get", kind.plural, name, "-o", "json", namespace=namespace))["status"]


def patch_status(server: ApiServer, namespace: str, kind: Kind, name: str, status: Json) -> None:
    change = json.dumps({"status": status})
    server.kubectl(
        "patch", kind.plural, name, "--subresource=status", "--type=merge", "-p", change, namespace=namespace
    )


def test_wait_returns_once_a_condition_of_this_generation_is_true(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("apply", "-f", "-", input=json.dumps(example(Kind.ENDPOINT)), namespace=namespace)
    wait = ("wait", "--for=condition=Ready", "whep/example")
    with pytest.raises(KubectlError, match="timed out"):
        api_server.kubectl(*wait, "--timeout=0.1s", namespace=namespace)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch_status(api_server, namespace, Kind.ENDPOINT, "example", {"observedGeneration": 1, "conditions": [ready]})
    assert "condition met" in api_server.kubectl(*wait, "--timeout=5s", namespace=namespace)


def test_status_takes_every_condition_that_the_product_can_write(client: Client) -> None:
    conditions = [
        json.loads(
            json.dumps(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": "x" * 1024,
                    "observedGeneration": 1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            )
        )
        for kind, status, reason in zip(
            ConditionType, [*ConditionStatus] * 4, list(Reason)[: len(ConditionType)], strict=False
        )
    ]
    assert {field for condition in conditions for field in condition} == set(
        definitions()[Kind.ENDPOINT].schema["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
    )
    assert {field.encode_name for field in _fields(Condition)} == set(conditions[0])
    for kind in Kind:
        obj = example(kind)
        status, stored = client.send("POST", kind, obj, dry=False)
        assert status == 201, stored
        stored["status"] = {"observedGeneration": 1, "conditions": conditions}
        status, body = client.send("PUT", kind, stored, name=f"{obj['metadata']['name']}/status")
        assert status == 200, body
        assert body["status"]["conditions"] == conditions


def _fields(struct: type) -> Any:
    import msgspec.structs

    return msgspec.structs.fields(struct)


ROWS = {
    Kind.ENVIRONMENT: ["default", "Disabled", "True", "3", "1", "AGE", "4", "5", "2", "Ready"],
    Kind.ENDPOINT: [
        *("example", "True", "True", "False", "AGE", "3", "AGE"),
        *("receiver.example:8443", "SelectedChannels", "2", "Ready"),
    ],
    Kind.CHANNEL: ["example", "client_1", "True", "2", "AGE", "AGE"],
    Kind.EVENT_TYPE: ["example", "order.created", "True", "2", "AGE", "Active", "AGE"],
    Kind.REPLAY: ["example", "acme", "Failed", "True", "10", "8", "2", "AGE"],
}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_complete_status_is_stored_whole_and_fills_the_columns(
    kind: Kind, client: Client, api_server: ApiServer, namespace: str
) -> None:
    _, stored = client.send("POST", kind, example(kind), dry=False)
    wanted = {**stored, "status": crd_cases.complete_status(kind)}
    status, body = client.send("PUT", kind, wanted, name=f"{stored['metadata']['name']}/status", dry=False)
    assert status == 200, body
    assert body["status"] == crd_cases.complete_status(kind)
    row = api_server.kubectl("get", kind.plural, "-o", "wide", "--no-headers", namespace=namespace).split()
    assert [re.sub(r"^\d+[smhdy]\S*$", "AGE", cell) for cell in row] == ROWS[kind]


def test_the_status_subresource_leaves_spec_labels_and_annotations_alone(client: Client) -> None:
    obj = example(Kind.CHANNEL)
    _, stored = client.send("POST", Kind.CHANNEL, obj, dry=False)
    changed = {**stored, "spec": {**stored["spec"], "description": "changed"}, "status": {"observedGeneration": 1}}
    changed["metadata"] = {**stored["metadata"], "labels": {"a": "b"}}
    status, body = client.send("PUT", Kind.CHANNEL, changed, name="example/status")
    assert status == 200, body
    assert "description" not in body["spec"]
    assert "labels" not in body["metadata"]


@pytest.mark.parametrize("kind", list(Kind))
def test_columns_are_those_of_the_contract(kind: Kind, api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("apply", "-f", "-", input=json.dumps(example(kind)), namespace=namespace)
    plain, wide = COLUMNS[kind]
    short = SHORT_NAMES[kind]
    assert api_server.kubectl("get", short, namespace=namespace).splitlines()[0].split() == ["NAME", *plain]
    header = api_server.kubectl("get", short, "-o", "wide", namespace=namespace).splitlines()[0].split()
    assert header == ["NAME", *plain, *wide]


def test_the_category_lists_every_kind_and_all_lists_none(api_server: ApiServer, namespace: str) -> None:
    for kind in Kind:
        api_server.kubectl("apply", "-f", "-", input=json.dumps(example(kind)), namespace=namespace)
    listed = api_server.kubectl("get", "webhooks", "-o", "name", namespace=namespace).split()
    assert {line.split(".")[0] for line in listed} == {kind.lower() for kind in Kind}
    assert "webhook" not in api_server.kubectl("get", "all", "-o", "name", namespace=namespace)


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        (Kind.ENVIRONMENT, "spec.state=Disabled"),
        (Kind.ENDPOINT, "spec.state=Enabled"),
        (Kind.CHANNEL, "spec.state=Enabled,spec.channelName=client_1"),
        (Kind.EVENT_TYPE, "spec.type=order.created"),
    ],
)
def test_field_selectors_find_objects_by_state_and_wire_name(
    kind: Kind, selector: str, api_server: ApiServer, namespace: str
) -> None:
    api_server.kubectl("apply", "-f", "-", input=json.dumps(example(kind)), namespace=namespace)

    def found(text: str) -> list[str]:
        return api_server.kubectl(
            "get", kind.plural, "--field-selector", text, "-o", "name", namespace=namespace
        ).split()

    assert len(found(selector)) == 1
    assert found(selector.rsplit("=", 1)[0] + "=Other") == []


@pytest.mark.parametrize("kind", list(Kind))
def test_explain_tells_what_every_field_is(kind: Kind, api_server: ApiServer) -> None:
    names = set(_names(definitions()[kind].schema))
    explained = api_server.kubectl("explain", kind.plural, "--recursive")
    assert names <= {word for line in explained.splitlines() for word in line.split("\t")[0].split()}
    top = api_server.kubectl("explain", f"{kind.plural}.spec")
    assert "spec is " in " ".join(top.split())


def _names(schema: Json) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield name
        yield from _names(part)
    if "items" in schema:
        yield from _names(schema["items"])


def test_the_quickstart_is_taken_whole(api_server: ApiServer, namespace: str) -> None:
    folder = crd_cases.HERE.parent.parent / "examples" / "quickstart"
    applied = api_server.kubectl("apply", "--server-side", "-f", folder, namespace=namespace)
    assert applied.count("serverside-applied") == 9
