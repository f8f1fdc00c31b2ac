"""Programmed tells the truth: per object, over every live gateway."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from hookstead.config.model import DeliveryConfig, EndpointConfig, EnvironmentConfig, Identity
from hookstead.config.verdicts import GOOD
from hookstead.operator.programming import REMEMBERED, Fleet, History, Member, index, shared
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import Kind


def endpoint(name: str, generation: int = 1) -> EndpointConfig:
    return EndpointConfig(identity=Identity(name=name, uid=name, generation=generation), verdict=GOOD)


OLD = DeliveryConfig(namespace="n", endpoints=(endpoint("a"), endpoint("b")))
NEW = DeliveryConfig(namespace="n", endpoints=(endpoint("a"), endpoint("b", 2)))


def fleet(*members: Member, digest: str = "new") -> Fleet:
    history = History()
    history.remember("old", index(OLD))
    history.remember("new", index(NEW))
    return Fleet(members=members, digest=digest, history=history.by_hash)


def said(known: Fleet, item: EndpointConfig) -> Reason:
    return known.of(Kind.ENDPOINT, item, item.identity.name).reason


def member(digest: str, address: str = "http://g", **fields: str) -> Member:
    return Member(address=address, hash=digest, **fields)


def test_without_a_live_gateway_nothing_is_programmed() -> None:
    assert said(fleet(), endpoint("a")) is Reason.GATEWAY_UNAVAILABLE


def test_a_gateway_that_does_not_answer_makes_it_unknown_for_all() -> None:
    known = fleet(member("new"), member("new", "http://h", problem="connection refused"))
    answer = known.of(Kind.ENDPOINT, endpoint("a"), "a")
    assert answer.reason is Reason.GATEWAY_UNAVAILABLE
    assert "http://h" in answer.message
    assert "connection refused" in answer.message


def test_a_gateway_that_is_behind_leaves_only_what_changed_pending() -> None:
    known = fleet(member("new"), member("old", "http://h"))
    assert said(known, endpoint("a")) is Reason.PROGRAMMED
    assert said(known, endpoint("b", 2)) is Reason.PENDING
    assert known.programmed == 1


def test_a_gateway_that_runs_nobody_knows_what_leaves_everything_pending() -> None:
    assert said(fleet(member("")), endpoint("a")) is Reason.PENDING
    assert said(fleet(member("strange")), endpoint("a")) is Reason.PENDING


def test_all_on_the_present_one_is_programmed() -> None:
    assert said(fleet(member("new"), member("new", "http://h")), endpoint("b", 2)) is Reason.PROGRAMMED


def test_an_unpublished_configuration_is_judged_object_by_object() -> None:
    known = fleet(member("new"), digest="not published")
    assert said(known, endpoint("a")) is Reason.PROGRAMMED
    assert said(known, endpoint("c")) is Reason.PENDING


def test_equal_objects_are_shared_with_the_configuration_before() -> None:
    again = shared(msgspec.structs.replace(NEW, endpoints=(endpoint("a"), endpoint("b", 2))), OLD)
    assert again == NEW
    assert again.endpoints[0] is OLD.endpoints[0]
    assert again.endpoints[1] is not OLD.endpoints[1]


def test_only_the_latest_configurations_are_remembered() -> None:
    history = History()
    for number in range(REMEMBERED + 3):
        history.remember(str(number), index(OLD))
    history.remember("4", index(NEW))
    assert len(history.by_hash) == REMEMBERED
    assert list(history.by_hash)[-1] == "4"


def test_the_oldest_release_is_the_one_that_is_shown() -> None:
    assert fleet(member("new", version="0.2.0"), member("new", "http://h", version="0.1.0")).version == "0.1.0"


def test_a_configuration_that_cannot_be_stored_leaves_the_environment_pending_and_nothing_else() -> None:
    known = dataclasses.replace(fleet(member("new")), unstored="it needs 17 Secrets.")
    environment = EnvironmentConfig(identity=Identity(name="default"), verdict=GOOD)
    answer = known.of(Kind.ENVIRONMENT, environment, "default")
    assert answer.reason is Reason.PENDING
    assert "17 Secrets" in answer.message
    assert said(known, endpoint("a")) is Reason.PROGRAMMED
    assert known.programmed == 1


@pytest.mark.parametrize(
    ("versions", "oldest"),
    [
        (("0.10.0", "0.9.0"), "0.9.0"),
        (("1.0.0", "1.0.0rc1"), "1.0.0rc1"),
        (("1.0.1", "1.0"), "1.0"),
        (("", "2.0.0"), "2.0.0"),
        ((), ""),
    ],
)
def test_the_oldest_release_is_told_by_number(versions: tuple[str, ...], oldest: str) -> None:
    members = [member("new", f"http://{place}", version=version) for place, version in enumerate(versions)]
    assert fleet(*members).version == oldest
