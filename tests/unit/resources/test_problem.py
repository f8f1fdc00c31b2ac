from __future__ import annotations

import pytest

from hookstead.resources.conditions import Reason
from hookstead.resources.problem import Problem, field_path


def test_a_problem_reads_as_a_sentence_about_object_and_field() -> None:
    problem = Problem(kind="WebhookEndpoint", name="acme-orders", field="spec.channelRefs[1].name", message="must be …")
    assert str(problem) == "WebhookEndpoint acme-orders: spec.channelRefs[1].name: must be …"
    assert problem.reason is Reason.INVALID_SPEC


@pytest.mark.parametrize(
    ("kind", "name", "field", "expected"),
    [
        ("WebhookEndpoint", "acme", "", "WebhookEndpoint acme: m"),
        ("WebhookEndpoint", "", "metadata.name", "WebhookEndpoint: metadata.name: m"),
        ("", "", "", "object: m"),
    ],
)
def test_what_is_not_known_is_left_out(kind: str, name: str, field: str, expected: str) -> None:
    assert str(Problem(kind=kind, name=name, field=field, message="m")) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), ""),
        (("spec", "channelRefs", 1, "name"), "spec.channelRefs[1].name"),
        (("metadata", "labels", "a.b/c"), 'metadata.labels["a.b/c"]'),
        ((0, "a"), "[0].a"),
    ],
)
def test_paths_are_written_as_kubectl_explain_does(parts: tuple[str | int, ...], expected: str) -> None:
    assert field_path(parts) == expected
