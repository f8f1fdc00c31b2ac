"""The conservation law: accepted = delivered + dead-lettered + pending + cancelled, and the counters are the rows'."""

from __future__ import annotations

from typing import Final

_STATUSES: Final = ("Pending", "Delivered", "DeadLettered", "Cancelled")


def conservation(endpoint: str, accepted: int, counted: tuple[int, ...], recounted: tuple[int, ...]) -> list[str]:
    """Sentences that say what does not add up for one endpoint; both tuples are in the order of the statuses."""
    wrong = []
    if accepted != sum(counted):
        wrong.append(f"endpoint {endpoint}: {accepted} deliveries were accepted, {sum(counted)} are accounted for")
    wrong += [
        f"endpoint {endpoint}: the counter of {status} says {count}, there are {found}"
        for status, count, found in zip(_STATUSES, counted, recounted, strict=True)
        if count != found
    ]
    return wrong
