"""Laws of compile(): the order of the input does not matter, equal input gives equal bytes, nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import channel, compiled, endpoint, environment, event_type
from hookstead.config import serial

NAMES = st.sampled_from(["a", "b", "c", "d"])
CHANNELS = st.builds(channel, NAMES, st.sampled_from(["client_1", "client_2"]))
TYPES = st.builds(event_type, NAMES, st.sampled_from(["order.created", "order.paid"]))
ENDPOINTS = st.builds(
    endpoint,
    NAMES,
    channels=st.none() | st.lists(NAMES, min_size=1, max_size=3, unique=True),
    types=st.none() | st.lists(st.sampled_from(["order.*", "order.paid", "x"]), min_size=1, unique=True),
    filter=st.none() | st.sampled_from(["event.data.n > 1", "not cel (", "1"]),
)


def _unique(items: list[Any]) -> list[Any]:
    return list({(type(item), item.meta.name): item for item in items}.values())


OBJECTS = st.lists(CHANNELS | TYPES | ENDPOINTS, max_size=8).map(_unique)


@given(OBJECTS, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_input_does_not_matter(objects: list[Any], chance: Any, present: bool) -> None:
    everything = [*objects, *([environment()] if present else [])]
    shuffled = chance.sample(everything, len(everything))
    assert serial.encode(compiled(*everything).config) == serial.encode(compiled(*shuffled).config)


@given(OBJECTS)
def test_the_serial_form_is_whole(objects: list[Any]) -> None:
    config = compiled(environment(), *objects).config
    document = serial.encode(config)
    assert serial.decode(document) == config
    assert serial.from_shards(serial.to_shards(document)) == document


@given(st.lists(OBJECTS, min_size=1, max_size=4))
def test_a_decoder_that_knows_earlier_configurations_reads_what_a_fresh_one_does(series: list[list[Any]]) -> None:
    decoder = serial.Decoder()
    for objects in series:
        config = compiled(environment(), *objects).config
        assert decoder.decode(serial.encode(config)) == config


@given(OBJECTS)
def test_one_bad_object_never_blocks_the_rest(objects: list[Any]) -> None:
    good = endpoint("z-good")
    alone = compiled(environment(), good).config.endpoints[-1]
    among = compiled(environment(), good, *objects).config.endpoints[-1]
    assert among == alone


@given(OBJECTS)
def test_every_object_is_in_the_configuration_with_a_verdict(objects: list[Any]) -> None:
    config = compiled(environment(), *objects).config
    compiled_objects: list[Any] = [*config.endpoints, *config.channels, *config.event_types]
    named = {item.identity.name for item in compiled_objects}
    assert named == {item.meta.name for item in objects}
