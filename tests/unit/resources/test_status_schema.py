"""Status against the definitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import crd_cases
from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import Kind
from hookstead.resources.schema import status_errors

Json = Any


def _paths(value: Json, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}"
            yield from _paths(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item, path)


def _declared(schema: Json, path: str = "") -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _declared(part, f"{path}.{name}")
    yield from _declared(schema["items"], path) if "items" in schema else ()


@pytest.mark.parametrize("kind", list(Kind))
def test_the_complete_status_has_every_field_and_fits(kind: Kind) -> None:
    status = crd_cases.complete_status(kind)
    assert status_errors(kind, status) == []
    assert set(_paths(status)) == set(_declared(definitions()[kind].schema["properties"]["status"]))


def test_what_the_server_would_refuse_or_prune_is_told() -> None:
    status = {"observedGeneration": -2, "hosts": "x", "conditions": [{"type": "Ready"}]}
    errors = status_errors(Kind.ENDPOINT, status)
    assert any(error.startswith("status.observedGeneration: ") for error in errors)
    assert any(error.startswith("status: Additional properties") for error in errors)
    assert any(error.startswith("status.conditions[0]: ") for error in errors)
