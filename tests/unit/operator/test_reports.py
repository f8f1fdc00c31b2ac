"""What several gateways told of one object, put together; its laws: tests/property/operator/test_report_laws.py."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    EnvironmentActivity,
    NamedActivity,
    ReplayReport,
    Report,
    Running,
)
from hookstead.operator.reports import ReportBook, is_blank
from hookstead.resources.conditions import Reason


def told(*endpoints: EndpointReport, instance: str = "i", **fields: Any) -> Report:
    return Report(running=Running(instance=instance, version="1"), cursor="c", endpoints=endpoints, **fields)


def view(hour: int | None = None, *, pending: int = 0, **fields: Any) -> EndpointReport:
    """Of endpoint `a`; `hour`: when it was last attempted, and how often."""
    at = None if hour is None else f"2026-01-01T{hour:02}:00:00Z"
    activity = EndpointActivity(succeeded=hour or 0, pending=pending, last_attempt_time=at)
    return EndpointReport(name="a", uid="u", activity=activity, **fields)


def let_go(**fields: Any) -> EndpointReport:
    return EndpointReport(name="a", uid="u", owner=False, **fields)


def test_what_a_report_repeats_is_no_news() -> None:
    book = ReportBook()
    report = told(view(1), environment=EnvironmentActivity(accepted=1))
    first = book.take("g", report)
    assert (first.environment, first.endpoints) == (True, ("a",))
    assert not book.take("g", report).any


def test_a_report_of_a_former_object_is_not_believed() -> None:
    book = ReportBook()
    book.take("g", told(EndpointReport(name="a", uid="old")))
    assert book.endpoint("a", "new") is None
    assert book.endpoint("a", "old") is not None


def test_the_last_view_stays_from_the_letting_go_to_the_first_word_of_the_next_owner() -> None:
    book = ReportBook()
    held = view(3, pending=2, held=Reason.CIRCUIT_OPEN)
    book.take("g", told(held))
    book.take("g", told(let_go()))
    assert book.endpoint("a", "u") == held
    book.take("h", told(view(3, pending=1)))
    assert book.endpoint("a", "u") == view(3, pending=1), "also what holds it is what the owner says"


def test_what_is_said_with_the_letting_go_is_not_looked_at() -> None:
    """After its start an operator is told everything again: what was let go hours ago is old by now."""
    book = ReportBook()
    assert not book.take("g", told(let_go(activity=view(7).activity))).endpoints
    assert book.endpoint("a", "u") is None
    book.take("h", told(view(9)))
    book.take("g", told(let_go(activity=view(7).activity)))
    assert book.endpoint("a", "u") == view(9)


def test_a_letting_go_of_a_former_object_is_not_one_of_its_successor() -> None:
    book = ReportBook()
    book.take("g", told(view(2)))
    assert not book.take("g", told(EndpointReport(name="a", uid="old", owner=False))).any
    book.take("h", told(let_go()))
    assert book.endpoint("a", "u") == view(2)


def test_of_two_that_call_it_theirs_the_later_one_is_believed() -> None:
    book = ReportBook()
    book.take("g", told(view(3, pending=5)))
    book.take("h", told(view(3, pending=4)))
    assert book.endpoint("a", "u") == view(3, pending=4), "who came last"
    book.take("g", told(view(3, pending=6)))
    assert book.endpoint("a", "u") == view(3, pending=4), "an answer that was long under way changes nothing"
    book.take("g", told(view(4)))
    assert book.endpoint("a", "u") == view(4), "it has taken the endpoint back since, and attempted"


def test_one_that_took_it_back_between_two_reports_is_believed_once_the_other_has_let_go() -> None:
    book = ReportBook()
    book.take("g", told(view(3)))
    book.take("h", told(view(3, pending=4)))
    book.take("g", told(view(3, pending=6)))
    assert book.take("h", told(let_go())).endpoints == ("a",)
    assert book.endpoint("a", "u") == view(3, pending=6)


def test_a_process_that_has_ended_owns_nothing_any_more() -> None:
    book = ReportBook()
    book.take("g", told(view(3)))
    book.take("h", told(view(3, pending=4)))
    book.take("g", told(view(3, pending=6)))
    book.take("h", told(instance="another"))
    assert book.endpoint("a", "u") == view(3, pending=6)


def test_the_late_word_of_an_owner_before_the_last_shows_nothing_older() -> None:
    book = ReportBook()
    book.take("g", told(view(3)))
    book.take("h", told(view(4)))
    book.take("h", told(let_go()))
    book.take("g", told(view(3, pending=1)))
    assert book.endpoint("a", "u") == view(4)
    assert book.take("g", told(view(5))).endpoints == ("a",)
    assert book.endpoint("a", "u") == view(5)


@pytest.mark.parametrize("restarts", [True, False])
def test_a_gateway_that_is_gone_or_restarted_shows_nothing_else_until_somebody_tells(restarts: bool) -> None:
    book = ReportBook()
    activity: dict[str, Any] = {
        "environment": EnvironmentActivity(accepted=9),
        "channels": (NamedActivity(name="c", accepted=9),),
        "event_types": (NamedActivity(name="t", accepted=9),),
        "replays": (ReplayReport(name="r", uid="u", delivered=9),),
    }
    book.take("g", told(view(4, held=Reason.GONE), **activity))
    book.take("h", told(environment=EnvironmentActivity(accepted=7), channels=(NamedActivity(name="c", accepted=7),)))
    if restarts:
        book.take("g", told(instance="another", environment=EnvironmentActivity(accepted=9)))
    else:
        book.retain(["h"])
    assert book.endpoint("a", "u") == view(4, held=Reason.GONE)
    assert book.environment == EnvironmentActivity(accepted=9)
    assert book.channel("c") == NamedActivity(name="c", accepted=9)
    assert book.event_type("t") == NamedActivity(name="t", accepted=9)
    assert book.replay("r", "u") == ReplayReport(name="r", uid="u", delivered=9)
    news = book.take("h", told(view(4), environment=EnvironmentActivity(accepted=10)))
    assert (news.environment, news.endpoints) == (True, ("a",))
    assert book.endpoint("a", "u") == view(4)


def test_where_nothing_was_accepted_since_the_later_view_counts() -> None:
    book = ReportBook()
    book.take("hangs", told(environment=EnvironmentActivity(accepted=9, pending=5)))
    book.take("g", told(environment=EnvironmentActivity(accepted=9, pending=4)))
    book.take("g", told(environment=EnvironmentActivity(accepted=9)))
    assert book.environment == EnvironmentActivity(accepted=9)
    book.retain(["hangs"])
    assert book.environment == EnvironmentActivity(accepted=9), "the last view of one that is gone"


def test_of_counts_that_only_grow_the_larger_one_counts() -> None:
    book = ReportBook()
    book.take("hangs", told(channels=(NamedActivity(name="c", rejected=1),)))
    book.take("g", told(channels=(NamedActivity(name="c", rejected=2),)))
    assert book.channel("c") == NamedActivity(name="c", rejected=2)


def test_a_store_that_was_set_back_is_believed_when_the_gateway_starts_on_it() -> None:
    book = ReportBook()
    earlier: dict[str, Any] = {
        "environment": EnvironmentActivity(accepted=9),
        "channels": (NamedActivity(name="c", accepted=9),),
    }
    book.take("g", told(view(9, held=Reason.GONE), **earlier))
    restored: dict[str, Any] = {
        "environment": EnvironmentActivity(accepted=4),
        "channels": (NamedActivity(name="c", accepted=4),),
    }
    book.take("g", told(view(4), instance="another", **restored))
    assert book.endpoint("a", "u") == view(4)
    assert book.environment == EnvironmentActivity(accepted=4)
    assert book.channel("c") == NamedActivity(name="c", accepted=4)


def test_what_is_known_stays_while_no_gateway_is_left() -> None:
    book = ReportBook()
    book.take("g", told(view(1), environment=EnvironmentActivity(accepted=1)))
    book.retain([])
    assert book.endpoint("a", "u") == view(1)
    assert book.environment == EnvironmentActivity(accepted=1)


def test_of_an_endpoint_that_was_deleted_nothing_is_kept() -> None:
    book = ReportBook()
    book.take("g", told(view(1)))
    book.retain([])
    book.take("h", told(view(1)))
    book.drop_endpoint("a")
    assert book.told_of_endpoint("a") == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (ReplayReport(name="r", uid="u", selected=1), ReplayReport(name="r", uid="u", selected=2)),
        (ReplayReport(name="r", uid="u", delivered=1), ReplayReport(name="r", uid="u", delivered=1, failed=1)),
        (ReplayReport(name="r", uid="u", failed=1), ReplayReport(name="r", uid="u", delivered=1)),
        (ReplayReport(name="r", uid="u", failed=1), ReplayReport(name="r", uid="u", phase=Reason.ENDPOINT_DISABLED)),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_of_a_replay_the_view_that_is_furthest_on_counts(
    earlier: ReplayReport, later: ReplayReport, swapped: bool
) -> None:
    book = ReportBook()
    for address, report in zip(
        "hg" if swapped else "gh", (later, earlier) if swapped else (earlier, later), strict=True
    ):
        book.take(address, told(replays=(report,)))
    assert book.replay("r", "u") == later
    assert book.replay("r", "another") is None


def test_of_two_views_of_a_replay_that_are_equally_far_the_later_word_counts() -> None:
    book = ReportBook()
    book.take("g", told(replays=(ReplayReport(name="r", uid="u", message="waits"),)))
    book.take("h", told(replays=(ReplayReport(name="r", uid="u", message="runs"),)))
    replay = book.replay("r", "u")
    assert replay is not None
    assert replay.message == "runs"


def test_channels_and_types_are_found_by_their_wire_names_and_the_most_is_shown() -> None:
    book = ReportBook()
    activity: dict[str, Any] = {
        "channels": (NamedActivity(name="c", accepted=1),),
        "event_types": (NamedActivity(name="t", accepted=2),),
    }
    book.take("g", told(**activity))
    book.take("h", told(channels=(NamedActivity(name="c", accepted=3),)))
    assert book.channel("c") == NamedActivity(name="c", accepted=3)
    assert book.event_type("t") == NamedActivity(name="t", accepted=2)
    assert book.channel("other") is None


@pytest.mark.parametrize(
    ("report", "blank"),
    [
        (EndpointReport(name="a", uid="u"), True),
        (EndpointReport(name="a", uid="u", activity=EndpointActivity(window_seconds=7)), True),
        (EndpointReport(name="a", uid="u", activity=EndpointActivity(pending=1)), False),
        (EndpointReport(name="a", uid="u", held=Reason.GONE), False),
        (EndpointReport(name="a", uid="u", handled_resume_at="x"), False),
    ],
)
def test_a_blank_report_is_no_reason_to_write(report: EndpointReport, blank: bool) -> None:
    assert is_blank(report) is blank
