"""What is worth showing again while somebody watches, and how it is printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from hypothesis import given
from hypothesis import strategies as st

from hookstead.cli.client import PAGE, Gateway, RefusedError
from hookstead.cli.hooks.deliveries import LISTING
from hookstead.cli.hooks.following import Changes
from hookstead.cli.table import Column, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def delivery(number: int, *, status: str = "Pending", attempts: int = 0, endpoint: str = "acme") -> dict[str, Any]:
    return {
        "id": f"dlv_{number:06}",
        "endpoint": endpoint,
        "status": status,
        "attemptCount": attempts,
        "createdTime": "2026-01-01T00:00:00Z",
    }


@dataclass
class History:
    """A gateway that knows deliveries by id, the newest with the highest number."""

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    pages: int = 0

    def put(self, *items: dict[str, Any]) -> None:
        self.known.update({item["id"]: item for item in items})

    def get(self, *path: str, **query: Any) -> dict[str, Any]:
        if len(path) > 1:
            self.asked.append(path[1])
            if path[1] not in self.known:
                raise RefusedError("no", status=404)
            return {**self.known[path[1]], "attempts": []}
        self.pages += 1
        ordered = sorted(self.known.values(), key=lambda item: str(item["id"]), reverse=True)
        start, size = int(query["cursor"] or 0), int(query["limit"])
        more = len(ordered) > start + size
        return {"items": ordered[start : start + size], "nextCursor": str(start + size) if more else None}


def changes(history: History, *, endpoints: tuple[str, ...] | None = None, **query: Any) -> Changes:
    return Changes(cast("Gateway", history), LISTING, query, endpoints)


def ids(items: list[dict[str, Any]]) -> list[int]:
    return [int(item["id"].removeprefix("dlv_")) for item in items]


def test_what_was_there_is_shown_oldest_first_and_then_only_what_is_new_or_different() -> None:
    history = History()
    history.put(*(delivery(number) for number in range(5)))
    watched = changes(history)
    assert ids(watched.begin([delivery(4), delivery(3)])) == [3, 4]
    assert watched.since_last([]) == []
    history.put(delivery(5), delivery(6), delivery(1, status="Delivered", attempts=1))
    assert ids(watched.since_last([])) == [1, 5, 6]
    assert watched.since_last([]) == []


def test_what_comes_while_the_first_items_are_read_is_shown_as_well() -> None:
    history = History()
    history.put(delivery(0))
    watched = changes(history)

    def arriving() -> Iterator[dict[str, Any]]:
        history.put(delivery(1))
        yield delivery(1)
        history.put(delivery(2))

    assert ids(watched.begin(arriving())) == [1]
    assert ids(watched.since_last([])) == [2]


def test_more_news_than_a_page_holds_are_all_shown() -> None:
    history = History()
    history.put(*(delivery(number) for number in range(PAGE)))
    watched = changes(history)
    watched.begin([])
    history.put(*(delivery(number) for number in range(PAGE, 4 * PAGE)))
    assert ids(watched.since_last([])) == list(range(PAGE, 4 * PAGE))


def test_a_delivery_that_is_older_than_the_page_is_looked_up_when_something_happens_to_it() -> None:
    history = History()
    history.put(*(delivery(number) for number in range(2 * PAGE)))
    watched = changes(history, status="Delivered")
    watched.begin([])
    history.put(delivery(1, status="Delivered", attempts=1), delivery(2, status="DeadLettered", attempts=1))
    shown = watched.since_last(["dlv_000001", "dlv_000002", "dlv_gone", f"dlv_{2 * PAGE - 1:06}"])
    assert ids(shown) == [1]
    assert "attempts" not in shown[0]
    assert history.asked == ["dlv_000001", "dlv_000002", "dlv_gone"]
    assert watched.since_last(["dlv_000001"]) == []


def test_only_endpoints_that_were_selected_are_shown() -> None:
    history = History()
    watched = changes(history, endpoints=("acme",))
    watched.begin([])
    history.put(delivery(1), delivery(2, endpoint="other"))
    assert ids(watched.since_last([])) == [1]


def test_other_endpoints_deliveries_are_looked_at_once_only() -> None:
    history = History()
    history.put(*(delivery(number, endpoint="other") for number in range(3 * PAGE)))
    watched = changes(history, endpoints=("acme",))
    watched.begin([])
    before = history.pages
    watched.since_last([])
    watched.since_last([])
    assert history.pages == before + 2


@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=8), max_size=8))
def test_every_state_that_is_looked_at_is_shown_once(rounds: list[list[tuple[int, int]]]) -> None:
    history = History()
    watched = changes(history)
    watched.begin([])
    shown: dict[str, int] = {}
    for changed in rounds:
        history.put(*(delivery(number, attempts=attempts) for number, attempts in changed))
        for item in watched.since_last([]):
            assert shown.get(item["id"]) != item["attemptCount"]
            shown[item["id"]] = item["attemptCount"]
        assert shown == {name: item["attemptCount"] for name, item in history.known.items()}


def test_columns_keep_the_widest_cell_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows((Column("A", lambda item: item["a"]), Column("B", lambda item: item["b"])), output=None, name=str)
    rows.add([])
    rows.add([{"a": "long one", "b": 1}])
    rows.add([{"a": "x", "b": 2}])
    assert capsys.readouterr().out.splitlines() == ["A          B", "long one   1", "x          2"]


def test_what_goes_on_can_be_read_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for output, printed in (("json", '{\n    "a": 1\n}\n'), ("yaml", "---\na: 1\n"), ("name", "n/1\n")):
        rows = Rows((), output=output, name=lambda item: f"n/{item['a']}")
        rows.add([{"a": 1}])
        assert capsys.readouterr().out == printed
