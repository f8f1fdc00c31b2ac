"""`hookstead validate` and the API server: the same verdict on manifests as people write them, and on what slips make.

The texts go through the real kubectl, which reads YAML in its own way; the mutations through the bare API. What only
the operator can judge (references, filters, schemas) is no part of either.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import crd_cases
from cluster.apiserver import ApiError, ApiServer, KubectlError
from hookstead.cli.validate import check
from hookstead.config.lint import Severity
from hookstead.resources.kinds import API_VERSION, Kind
from hookstead.resources.parse import validate

if TYPE_CHECKING:
    from pathlib import Path

Json = Any
API_RULES = ("InvalidSpec", "Unreadable", "InvalidSecret", "NotAManifest")
"""What the API server, or kubectl on the way to it, refuses as well."""
HEAD = f"apiVersion: {API_VERSION}\n"
ENDPOINT = f"{HEAD}kind: WebhookEndpoint\nmetadata: {{name: NAME}}\nspec:\n  url: https://a.example.com/in\n"
CHANNEL = f"{HEAD}kind: WebhookChannel\nmetadata: {{name: NAME}}\nspec: {{channelName: NAME}}\n"
TYPE = f"{HEAD}kind: WebhookEventType\nmetadata: {{name: NAME}}\nspec:\n  type: t.NAME\n  description: x\n"

# How YAML is read: each text, and whether it is taken. NAME is a name of its own.
TEXTS: list[tuple[str, bool]] = [
    (ENDPOINT, True),
    ("# a comment\n---\n" + ENDPOINT + "---\n# and nothing\n", True),
    ("\ufeff" + ENDPOINT, True),
    (ENDPOINT.replace("\n", "\r\n"), True),
    (ENDPOINT + "...\n", True),
    ("%YAML 1.1\n---\n" + ENDPOINT, False),
    (ENDPOINT + "  description: yes\n", False),
    (ENDPOINT + "  description: 'yes'\n", True),
    (ENDPOINT + "  description: off\n", False),
    (ENDPOINT + "  description: y\n", False),
    (ENDPOINT + "  description: 012\n", False),
    (ENDPOINT + "  description: 1e3\n", False),
    (ENDPOINT + "  description: 2026-01-01\n", True),
    (ENDPOINT + "  description: 2026-01-01T00:00:00Z\n", True),
    (ENDPOINT + "  description: 12:30\n", True),
    (ENDPOINT + "  description: ~\n", True),
    (ENDPOINT + "  description: null\n", True),
    (ENDPOINT + "  description:\n", True),
    (ENDPOINT + "  description: ''\n", True),
    (ENDPOINT + "  description: !!str 5\n", True),
    (ENDPOINT + "  description: |\n    two\n    lines\n", True),
    (ENDPOINT + "  description: >-\n    folded\n    lines\n", True),
    (ENDPOINT + '  description: "\\u00e9\\n"\n', True),
    (ENDPOINT + "  delivery: {timeoutSeconds: 5.0}\n", True),
    (ENDPOINT + "  delivery: {timeoutSeconds: 5.5}\n", False),
    (ENDPOINT + "  delivery: {timeoutSeconds: '5'}\n", False),
    (ENDPOINT + "  delivery: {timeoutSeconds: 0x5}\n", True),
    (ENDPOINT + "  delivery: {timeoutSeconds: 0o5}\n", True),
    (ENDPOINT + "  delivery: {timeoutSeconds: 1_0}\n", True),
    (ENDPOINT + "  delivery: {timeoutSeconds: +5}\n", True),
    (ENDPOINT + "  delivery: {timeoutSeconds: .inf}\n", False),
    (ENDPOINT + "  delivery: {}\n", True),
    (ENDPOINT + "  delivery: []\n", False),
    (ENDPOINT + "  unknown: 1\n", False),
    (ENDPOINT + "  eventTypes: [a.b, a.b]\n", False),
    (ENDPOINT + "  eventTypes: a.b\n", False),
    (ENDPOINT + "  eventTypes: [a.*]\n", True),
    (ENDPOINT + "  eventTypes: ['*']\n", False),
    (ENDPOINT + "  eventTypes: []\n", False),
    (ENDPOINT + "  eventTypes: null\n", True),
    (ENDPOINT + "  eventTypes: [null]\n", False),
    (ENDPOINT + "  eventTypes: [on.off, no]\n", False),
    (ENDPOINT + "  channelRefs: &refs [{name: a}]\n", True),
    (ENDPOINT + "  headers: [{name: x-a, value: &v b}, {name: x-b, value: *v}]\n", True),
    (ENDPOINT + "  headers: [{name: x-a, value: 1}]\n", False),
    (ENDPOINT + "  headers: [{name: host, value: a}]\n", False),
    (ENDPOINT + "  headers: [{name: X-A, value: a}]\n", False),
    (ENDPOINT + "\tstate: Paused\n", False),
    (ENDPOINT.replace("NAME}", "NAME, labels: {a: true}}"), False),
    (ENDPOINT.replace("NAME}", "NAME, labels: {a: 'true'}}"), True),
    (ENDPOINT.replace("NAME}", "NAME, annotations: {a: 1}}"), False),
    (ENDPOINT.replace("name: NAME", "name: 'NAME'"), True),
    (ENDPOINT.replace("name: NAME", "name: NAME_"), False),
    (ENDPOINT.replace("name: NAME", "nam: NAME"), False),
    (ENDPOINT.replace(API_VERSION, "hookstead.dev/v1"), False),
    (ENDPOINT.replace("WebhookEndpoint", "WebhookEndpiont"), False),
    (ENDPOINT.replace("WebhookEndpoint", "webhookendpoint"), False),
    (ENDPOINT.replace("spec:", "spce:"), False),
    (ENDPOINT + "status: {anything: 1}\n", False),
    (ENDPOINT + "status: {observedGeneration: 1}\n", True),
    (HEAD + "kind: WebhookEndpoint\nmetadata: {name: NAME}\n", False),
    (HEAD + "kind: WebhookEndpoint\nmetadata: {name: NAME}\nspec: null\n", False),
    (json.dumps({"apiVersion": API_VERSION, "kind": "WebhookChannel", "metadata": {"name": "NAME"},
                 "spec": {"channelName": "NAME"}}), True),
    (CHANNEL.replace("channelName: NAME", "channelName: 7"), False),
    (CHANNEL.replace("channelName: NAME", "channelName: client_5e3"), True),
    (CHANNEL.replace("channelName: NAME", "channelName: 5e3"), False),
    (TYPE + "  sample: {y: 1, n: 2}\n", True),
    (TYPE + "  sample: {a: [1, {b: null}]}\n", True),
    (TYPE + "  sample: [1]\n", False),
    (TYPE + "  schema: {type: nonsense}\n", True),
    (TYPE + "  schema: true\n", False),
    (TYPE + "  lifecycle: active\n", False),
    ("apiVersion: v1\nkind: List\nitems:\n- " + CHANNEL.replace("\n", "\n  ").rstrip() + "\n", True),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\ndata: {a: '*'}\n", False),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {a: 5}\n", False),
    ("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {a: b}\n", True),
    ("a: [\n", False),
    ("just words\n", False),
]  # fmt: skip


def test_a_key_that_stands_twice_is_refused_though_kubectl_drops_one_of_them_without_a_word() -> None:
    """On purpose stricter: kustomize and Flux refuse it as well, and nobody means it."""
    assert not verdict_offline(ENDPOINT.replace("NAME", "n1") + "  state: Paused\n  state: Enabled\n")


def verdict_offline(text: str) -> bool:
    """Whether nothing is wrong that an API server would mind."""
    findings = check([("f.yaml", text)]).findings
    return not [one for one in findings if one.severity is Severity.ERROR and one.rule in API_RULES]


def test_every_text_is_judged_as_kubectl_and_the_server_judge_it(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    for number, (text, _) in enumerate(TEXTS):
        (tmp_path / f"t{number}.yaml").write_text(text.replace("NAME", f"n{number}"), encoding="utf-8", newline="")
    try:
        said = api_server.kubectl(
            *("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", tmp_path), namespace=namespace
        )
        refused: set[int] = set()
    except KubectlError as error:
        said = str(error)
        refused = {int(number) for number in re.findall(r"/t(\d+)\.yaml", said)}
    expected = {number for number, (_, is_taken) in enumerate(TEXTS) if not is_taken}
    by_server = {number: TEXTS[number][0] for number in refused ^ expected}
    assert by_server == {}, said
    offline = {number for number, (text, _) in enumerate(TEXTS) if not verdict_offline(text.replace("NAME", "n1"))}
    assert {number: TEXTS[number][0] for number in offline ^ expected} == {}


def test_validate_judges_the_whole_table_of_boundaries_and_rules_as_the_server_does() -> None:
    """The tables are held to the real server in test_crds.py; here they are read as files."""
    cases = [(case.label, case.obj, case.is_accepted) for kind in Kind for case in crd_cases.boundaries(kind)]
    for case in crd_cases.rule_cases():
        if not case.is_update:
            cases += [(case.says, case.refused, False), (case.says, case.accepted, True)]
    assert len(cases) > 500
    wrong = [label for label, obj, is_accepted in cases if verdict_of(obj) is not is_accepted]
    assert wrong == []


def verdict_of(obj: Json) -> bool:
    return not any(problem.reason.value == "InvalidSpec" for problem in validate(json.loads(json.dumps(obj))))


# ------------------------------------------------------------------------------------------------------------ mutations

GOOD = [obj for kind in Kind for obj in crd_cases.complete_objects(kind)]
GOOD += [case.accepted for case in crd_cases.rule_cases() if not case.is_update]
VALUES: list[Json] = [
    *(None, True, False, 0, 1, -1, 5, 61, 86400, 86401, 10**6, 1.0, 0.5, 2**53, "", " ", "a", "A", "a.b", "a.*", "*"),
    *("a b", "ä", "a\n", "\t", "x" * 64, "x" * 300, "https://a.example.com", "http://x", "https://", "Enabled", "None"),
    *("2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z", "10.0.0.0/8", "10.0.0.0/33", "fc00::/7", "host", "x-a"),
    *([], {}, [None], [1], ["a"], ["a", "a"], {"name": "a"}, [{"name": "a"}], [{"name": "a"}, {"name": "a"}]),
]


def places(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of an object, its containers too."""
    found = [path] if path else []
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        found += places(item, (*path, key))
    return found


@st.composite
def slips(draw: st.DrawFn) -> Json:
    """A good object with one or two slips in its spec."""
    obj = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 2))):
        paths = places({"spec": obj["spec"]})
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        holder: Any = obj
        for step in path[:-1]:
            holder = holder[step]
        last: Any = path[-1]
        match draw(st.sampled_from(["replace", "replace", "delete", "rename", "double", "text"])):
            case "delete":
                del holder[last]
            case "rename" if isinstance(last, str):
                holder[last + "x"] = holder.pop(last)
            case "double" if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[last]))
            case "text" if isinstance(holder[last], str):
                holder[last] += draw(st.sampled_from([" ", "\n", "x", ".", "é", "/", "*"]))
            case _:
                holder[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if "spec" not in obj:
            break
    return obj


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(obj=slips())
def test_no_slip_is_taken_by_the_one_and_refused_by_the_other(obj: Json, api_server: ApiServer) -> None:
    path = f"/apis/{API_VERSION}/namespaces/default/{Kind(obj['kind']).plural}?fieldValidation=Strict&dryRun=All"
    refused: ApiError | None = None
    try:
        api_server.request("POST", path, obj)
    except ApiError as error:
        refused = error
    assert refused is None or refused.status in (400, 422), refused
    problems = [str(problem) for problem in validate(obj)]
    assert bool(problems) == (refused is not None), (problems, refused)
