"""Lanes that change hands: what a process does with the lanes of slots that it gets and of those that it gives away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from hookstead.delivery.lane import Lane
from hookstead.delivery.memory import Memory, memories
from hookstead.delivery.ports import Boot, EndpointKey, slot_of
from hookstead.delivery.recorder import Recorder
from hookstead.delivery.roster import Hands, Roster
from hookstead.delivery.versions import Versions
from hookstead.resources.kinds import EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """Runs on the dispatcher's event loop; does no I/O of its own.

    `resume` takes a resume request that was not handled yet, `pump` starts what may start.
    """

    roster: Roster
    hands: Hands
    recorder: Recorder
    versions: Versions
    resume: Callable[[Lane], None]
    pump: Callable[[Lane], None]

    @property
    def held(self) -> set[int]:
        """The slots whose lanes this process drives."""
        owned = self.roster.owned
        assert owned is not None, "the store has one process only"
        return owned

    def expect(self, slots: Collection[int]) -> None:
        """Their memory is about to be read: what is known of their backlogs is in it."""
        for lane in self._of(slots):
            lane.backlog = False

    def take(self, slots: Collection[int], boot: Boot) -> list[EndpointKey]:
        """Drive the lanes of these slots from here on, as a starting engine would; endpoints that are gone or disabled
        and have pending deliveries are returned."""
        found = memories(boot)
        for key in [key for key in self.roster.memories if slot_of(key) in slots]:
            del self.roster.memories[key]
        self.held.update(slots)
        taken = list(self._of(slots))
        for lane in taken:
            self.roster.restore(lane, found.pop(lane.key, Memory()))
        self.roster.memories.update(found)
        for lane in taken:
            self.resume(lane)
            self.hands.changed(lane)
            self.pump(lane)
        gone = [key for key, memory in found.items() if memory.counts.pending]
        return [*gone, *(lane.key for lane in taken if is_disabled(lane) and lane.activity.counts.pending)]

    def stand_back(self, slots: Collection[int]) -> None:
        """Start nothing of theirs any more, and give back what is claimed; what is under way ends by itself."""
        self.held.difference_update(slots)
        for lane in self._of(slots):
            lane.owned = False
            self.hands.retire(lane)
            self.hands.release(lane)

    def busy(self, slots: Collection[int]) -> set[int]:
        """Those of them that have something under way, claimed or unrecorded."""
        roster = self.roster
        roster.dropped[:] = [lane for lane in roster.dropped if lane.is_busy]
        lanes = (*roster.lanes.values(), *roster.departed.values(), *roster.dropped)
        busy = {lane.slot for lane in lanes if lane.slot in slots and lane.is_busy}
        return busy | ({slot_of(key) for key in self.recorder.unrecorded()} & set(slots))

    def yielded(self, slots: Collection[int]) -> None:
        """They are another process's now: reports say so once."""
        for lane in self._of(slots):
            lane.version = lane.yielded = self.versions.next()
        self.versions.transition()

    def arrived(self, key: EndpointKey, deliveries: int) -> bool:
        """Another process made this many deliveries of an endpoint (0: something else is to be claimed). Whether they
        may have to be cancelled, since this process has no such endpoint, or has it disabled."""
        if not self.roster.owns(key):
            return False
        lane = self.roster.present(key)
        if lane is None:
            counts = self.roster.memories.setdefault(key, Memory()).counts
            self.roster.memories[key].counts = counts._replace(pending=counts.pending + deliveries)
            return True
        lane.activity.added(deliveries)
        lane.manual_requested = lane.manual_requested or not deliveries
        lane.backlog = True
        lane.arrivals += 1
        lane.version = self.versions.next()
        self.pump(lane)
        return is_disabled(lane)

    def unplaced(self, key: EndpointKey) -> bool:
        """Whether the endpoint's pending deliveries are to be cancelled, and by this process."""
        lane = self.roster.present(key)
        return self.roster.owns(key) and (lane is None or is_disabled(lane))

    def abroad(self, names: Collection[str] | None) -> set[int]:
        """The slots of these endpoints (None: of all) that are another process's."""
        lanes = self.roster.lanes
        chosen = lanes.values() if names is None else (lanes[name] for name in names if name in lanes)
        return {lane.slot for lane in chosen if _is_abroad(lane)}

    def show(self, slots: Collection[int], boot: Boot) -> None:
        """Let the lanes of these slots tell what is remembered, where they are another process's."""
        found = memories(boot)
        for lane in self._of(slots):
            if _is_abroad(lane):
                self.roster.show(lane, found.get(lane.key, Memory()))

    def _of(self, slots: Collection[int]) -> Iterator[Lane]:
        return (lane for lane in tuple(self.roster.lanes.values()) if lane.slot in slots)


def is_disabled(lane: Lane) -> bool:
    return lane.config.state is EndpointState.DISABLED


def _is_abroad(lane: Lane) -> bool:
    """Another process's, or nobody's: while it is being let go it still is this one's."""
    return lane.yielded is not None
