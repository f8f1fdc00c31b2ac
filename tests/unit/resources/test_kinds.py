from __future__ import annotations

import msgspec
import pytest

from cluster import crd_cases
from hookstead.resources import kinds
from hookstead.resources.definitions import definitions, folder
from hookstead.resources.kinds import RESOURCE_TYPES, Kind, kind_of
from hookstead.resources.parse import parse


@pytest.mark.parametrize("kind", list(Kind))
def test_a_typed_value_and_its_serial_form_are_the_same(kind: Kind) -> None:
    for obj in crd_cases.complete_objects(kind):
        parsed = parse(obj)
        assert not isinstance(parsed, list)
        assert kind_of(parsed) is kind
        assert msgspec.json.decode(msgspec.json.encode(parsed), type=RESOURCE_TYPES[kind]) == parsed
        assert parse({**obj, "spec": msgspec.json.decode(msgspec.json.encode(parsed.spec))}) == parsed


@pytest.mark.parametrize("kind", list(Kind))
def test_typed_values_have_every_field_of_the_definition_and_no_other(kind: Kind) -> None:
    (spec,) = (field.type for field in msgspec.structs.fields(RESOURCE_TYPES[kind]) if field.name == "spec")
    names = {field.encode_name for field in msgspec.structs.fields(spec)}
    assert names == set(definitions()[kind].schema["properties"]["spec"]["properties"])


def test_typed_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        setattr(kinds.ChannelSpec(channel_name="a"), "channel_name", "b")  # noqa: B010  (what mypy refuses otherwise)


def test_the_definitions_come_from_the_wheel_or_the_checkout() -> None:
    assert {f"{kind.plural}.yaml" for kind in Kind} <= {file.name for file in folder().iterdir()}
