"""The mass-deletion guard: a vanished CRD, or half a list, never empties a running environment.

When a pass would drop more than half of the published objects of one kind, it is not believed at once: the API
server must first confirm, by discovery, that the kinds are served in full (a CRD under deletion loses the verb
`create`), and by consistent lists that the objects are gone. Where each was reported as deleted, or they are few, one
confirmation is enough; where many vanished in silence a second one is asked for a while later. Until then the last
good configuration stays in force.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

VANISHED_SHARE: Final = 0.5
"""More than this share of the published objects of a kind gone in one pass is a mass deletion."""
FIRST_LOOK_SECONDS: Final = 1.0
"""After the pass that saw it: time for discovery to show a CRD that is being deleted."""
SMALL_LOSS: Final = 20
"""So many objects at most cannot be half a list: one confirmation is enough."""
SECOND_LOOK_SECONDS: Final = 15.0
"""Between the two confirmations of a silent loss."""
RETRY_SECONDS: Final = 5.0
"""Between looks while the API server does not confirm."""
_VERBS: Final = frozenset({"create", "delete", "get", "list", "patch", "update", "watch"})


class Published(NamedTuple):
    """One object of the published configuration."""

    kind: Kind
    name: str
    uid: str


class Decision(Enum):
    """What to do with a compiled configuration."""

    PUBLISH = "publish"
    LOOK_AGAIN = "look again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A loss that waits for confirmation: the objects that it is about, and the looks so far.

    `silent`: not each of them was reported as deleted. `look_at`: monotonic seconds of the next look.
    """

    lost: frozenset[Published]
    silent: bool
    confirmations: int
    look_at: float

    @property
    def wanted(self) -> int:
        return 2 if self.silent and len(self.lost) > SMALL_LOSS else 1


def lost_objects(published: Collection[Published], present: Collection[Published]) -> frozenset[Published]:
    """Those that would vanish, of the kinds that lose more than what is let through without a question.

    Replays end and are cleaned up in numbers; losing them cancels nothing.
    """
    before = Counter(item.kind for item in published)
    gone: dict[Kind, set[Published]] = {}
    for item in frozenset(published) - frozenset(present):
        gone.setdefault(item.kind, set()).add(item)
    lost: set[Published] = set()
    for kind, items in gone.items():
        if kind is not Kind.REPLAY and len(items) > VANISHED_SHARE * before[kind]:
            lost |= items
    return frozenset(lost)


def still_lost(before: Suspicion | None, present: Collection[Published]) -> frozenset[Published]:
    """Of an open suspicion, what has not come back.

    What was lost by a mistake comes back one by one; that half of it is there again is no reason to drop the rest.
    """
    return frozenset() if before is None else before.lost - frozenset(present)


def suspect(
    before: Suspicion | None,
    lost: frozenset[Published],
    *,
    announced: Collection[Published],
    now: float,
) -> Suspicion:
    """Open a suspicion, or keep an open one; a loss that grew, or of which some came back, starts again."""
    if before is not None and lost == before.lost:
        return before
    return Suspicion(
        lost=lost,
        silent=not lost <= frozenset(announced),
        confirmations=0,
        look_at=now + FIRST_LOOK_SECONDS,
    )


def after_look(suspicion: Suspicion, *, confirmed: bool, now: float) -> Suspicion:
    """Count a look. One that did not confirm starts the count again."""
    if not confirmed:
        return Suspicion(lost=suspicion.lost, silent=suspicion.silent, confirmations=0, look_at=now + RETRY_SECONDS)
    return Suspicion(
        lost=suspicion.lost,
        silent=suspicion.silent,
        confirmations=suspicion.confirmations + 1,
        look_at=now + SECOND_LOOK_SECONDS,
    )


def decide(suspicion: Suspicion | None) -> Decision:
    """Publish what nobody doubts, or what was confirmed as often as it takes."""
    if suspicion is None or suspicion.confirmations >= suspicion.wanted:
        return Decision.PUBLISH
    return Decision.LOOK_AGAIN


def served_in_full(discovery: Mapping[str, Any]) -> bool:
    """Whether the API server serves all five kinds with every verb (its APIResourceList)."""
    verbs = {
        resource.get("name"): frozenset(resource.get("verbs") or ()) for resource in discovery.get("resources") or ()
    }
    return all(verbs.get(kind.plural, frozenset()) >= _VERBS for kind in Kind)
