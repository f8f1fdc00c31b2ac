"""What is new, and what has changed, while somebody watches.

The newest page is read again and again; the gateway's activity stream says when, and which older deliveries to look at
again. Without the stream (a gateway that ends, several behind a pooler) the page alone tells, somewhat later.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hookstead.cli.client import PAGE, Gateway, RefusedError
from hookstead.cli.outcome import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hookstead.cli.hooks.listing import Listing
    from hookstead.cli.table import Item, Rows

POLL_SECONDS: Final = 2.0
"""How long nothing may be heard before somebody looks anyway."""
SETTLE_SECONDS: Final = 0.2
"""So that a burst is looked at once."""
PAGES: Final = 20
"""Of what is new since the last look; more than that is not shown one by one."""
BY_ID: Final = 50
REMEMBERED: Final = 20_000


class Changes:
    """What was shown last of each item, to tell what is worth showing now."""

    def __init__(
        self, gateway: Gateway, listing: Listing, query: dict[str, Any], endpoints: Sequence[str] | None
    ) -> None:
        self.gateway = gateway
        """May be replaced by another one: what was shown stays known."""
        self.looked_at = time.monotonic()
        """When the gateway answered last."""
        self._listing: Final = listing
        self._query: Final = {name: value for name, value in query.items() if name != "until"}
        self._endpoints: Final = None if endpoints is None else frozenset(endpoints)
        self._seen: Final[OrderedDict[str, object]] = OrderedDict()

    def begin(self, items: Iterable[Item]) -> list[Item]:
        """The items, read now, oldest first; what else was there before counts as seen."""
        self._look(pages=1)  # before the items are read: what comes between the two is among them, or new afterwards
        first = list(items)
        for item in first:
            self._is_news(item)
        return first[::-1]

    def since_last(self, touched: Iterable[str]) -> list[Item]:
        """What is new or has changed, oldest first. `touched`: ids of deliveries that something happened to."""
        found, known = self._look()
        missing = [one for one in dict.fromkeys(touched) if one not in known][:BY_ID]
        return [*self._by_id(missing), *reversed(found)]

    def _look(self, *, pages: int = PAGES) -> tuple[list[Item], set[str]]:
        """News among the newest, newest first, and every id that was looked at."""
        news: list[Item] = []
        known: set[str] = set()
        cursor = None
        for _ in range(pages):
            page = self.gateway.get(self._listing.path, **self._query, limit=PAGE, cursor=cursor)
            items = page.get("items", [])
            unknown = sum(item["id"] not in self._seen for item in items)
            known.update(str(item["id"]) for item in items)
            news += [item for item in items if self._is_news(item) and self._is_wanted(item)]
            cursor = page.get("nextCursor")
            if cursor is None or unknown < len(items):
                break
        self.looked_at = time.monotonic()
        return news, known

    def _by_id(self, identifiers: Iterable[str]) -> list[Item]:
        admits = self._listing.admits
        if admits is None:
            return []
        found: list[Item] = []
        for identifier in identifiers:
            with contextlib.suppress(RefusedError):  # gone, or none of ours
                item = self.gateway.get(self._listing.path, identifier)
                item.pop("attempts", None)
                if self._is_wanted(item) and admits(item, self._query) and self._is_news(item):
                    found.append(item)
        return found

    def _is_wanted(self, item: Item) -> bool:
        return self._endpoints is None or item.get("endpoint") in self._endpoints

    def _is_news(self, item: Item) -> bool:
        """Whether it is not as it was when it was looked at last; remembers how it is now."""
        identifier, state = str(item["id"]), self._listing.state(item)
        if self._seen.get(identifier, _NEVER) == state:
            return False
        self._seen[identifier] = state
        self._seen.move_to_end(identifier)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


_NEVER: Final = object()


def follow(changes: Changes, rows: Rows) -> NoReturn:
    """Print changes until interrupted. Raises CommandError when the gateway is gone."""
    activity = Activity(changes.gateway)
    while True:
        rows.add(changes.since_last(activity.next()))


class Activity:
    """The gateway's activity stream, read beside us; opened anew when it ends."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway: Final = gateway
        self._touched: Final[queue.SimpleQueue[str]] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None

    def next(self) -> list[str]:
        """Ids of the deliveries that something happened to since the last call; waits a while for the first."""
        if self._reader is None or not self._reader.is_alive():
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        touched: list[str] = []
        with contextlib.suppress(queue.Empty):
            touched.append(self._touched.get(timeout=POLL_SECONDS))
            time.sleep(SETTLE_SECONDS)
            while True:
                touched.append(self._touched.get_nowait())
        return [one for one in touched if one.startswith("dlv_")]

    def _read(self) -> None:
        with contextlib.suppress(CommandError):  # the pages tell whether the gateway is there
            for line in self._gateway.lines("activity", "stream"):
                if line.startswith("data: "):
                    self._touched.put(str(json.loads(line[6:]).get("id", "")))
        time.sleep(SETTLE_SECONDS)
