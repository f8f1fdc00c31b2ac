"""Only the statuses that may have become different are computed again: no other could have."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hookstead.config.model import ChannelConfig, DeliveryConfig, EndpointConfig, EnvironmentConfig, Identity
from hookstead.config.status import ConfigSize
from hookstead.config.verdicts import GOOD
from hookstead.operator.objects import ObjectStore
from hookstead.operator.programming import Fleet, History, Member, index, shared
from hookstead.operator.reports import ReportBook
from hookstead.operator.statuses import Seen, Statuses, View, view
from hookstead.resources.kinds import EnvironmentState, Kind

NAMES = ("a", "b", "c")
ENVIRONMENT = EnvironmentConfig(identity=Identity(name="default"), verdict=GOOD)


@st.composite
def configs(draw: st.DrawFn) -> DeliveryConfig:
    generations = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 2)))
    state = draw(st.sampled_from([*[EnvironmentState.ENABLED] * 4, EnvironmentState.DISABLED]))
    return DeliveryConfig(
        namespace="n",
        environment=draw(st.sampled_from([msgspec.structs.replace(ENVIRONMENT, state=state)] * 5 + [None])),
        endpoints=tuple(
            EndpointConfig(
                identity=Identity(name=name, generation=generation),
                verdict=GOOD,
                channels=draw(st.sampled_from([None, ("w",), ()])),
            )
            for name, generation in sorted(generations.items())
        ),
        channels=(ChannelConfig(identity=Identity(name="ch"), verdict=GOOD, channel_name="w"),),
    )


def members(hashes: list[str]) -> st.SearchStrategy[list[Member]]:
    one = st.builds(
        Member,
        address=st.sampled_from(("http://g", "http://h")),
        hash=st.sampled_from([*hashes, ""]),
        problem=st.sampled_from(["", "", "", "", "gone"]),
        refusal=st.sampled_from(["", "", "refused"]),
    )
    return st.lists(one, max_size=2, unique_by=lambda member: member.address)


def shown(config: DeliveryConfig, number: int) -> View:
    return view(config, size=ConfigSize(hash=str(number), bytes=number), index=index(config))


@given(st.lists(configs(), min_size=2, max_size=4), st.data())
def test_what_is_not_affected_would_say_the_same(made: list[DeliveryConfig], data: st.DataObject) -> None:
    history = History()
    views: list[View] = []
    for number, config in enumerate(made):
        sharing = shared(config, views[-1].config if views else None)
        views.append(shown(sharing, number))
        history.remember(str(number), views[-1].index)
    forgotten = data.draw(st.sampled_from(["", "0"]))
    old = data.draw(st.integers(0, len(views) - 1))
    hashes = [str(number) for number in range(len(views))]
    then = Fleet(members=data.draw(members(hashes)), digest=str(old), history=dict(history.by_hash))
    history.by_hash.pop(forgotten, None)
    now = Fleet(members=data.draw(members(hashes)), digest=hashes[-1], history=history.by_hash)
    before = Seen(view=views[old], general=then.general, hashes=then.hashes)
    current = views[-1]
    found = Statuses(ObjectStore("n"), ReportBook()).affected(before, current, now)
    if found is None:
        return
    for key, item in current.index.objects.items():
        if key in found:
            continue
        kind, name = key
        assert kind is not Kind.ENVIRONMENT
        assert views[old].index.objects[key] == item
        assert then.of(kind, views[old].index.objects[key], name) == now.of(kind, item, name)
        assert views[old].config.environment == current.config.environment
        if isinstance(item, ChannelConfig):
            assert views[old].by_channel.get(item.channel_name) == current.by_channel.get(item.channel_name)
