"""Endpoints go from gateway to gateway while their reports come late and in any order: what status is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    ReplayReport,
    Report,
    Running,
)
from hookstead.operator.reports import ReportBook
from hookstead.resources.conditions import Reason

ENDPOINTS: Final = ("a", "b")
GATEWAYS: Final = ("http://g", "http://h", "http://i")
endpoints = st.sampled_from(ENDPOINTS)
gateways = st.sampled_from(GATEWAYS)


@dataclass
class Truth:
    """What the store has of one endpoint, and of a replay for it. An attempt is an hour."""

    owner: str | None = None
    attempts: int = 0
    queued: int = 0
    selected: int = 0
    ended: bool = False

    def view(self, name: str) -> EndpointReport:
        at = f"2026-01-{1 + self.attempts // 24:02}T{self.attempts % 24:02}:00:00Z" if self.attempts else None
        activity = EndpointActivity(succeeded=self.attempts, pending=self.queued, last_attempt_time=at)
        return EndpointReport(name=name, uid="u", activity=activity)

    def replay(self, name: str) -> ReplayReport:
        return ReplayReport(
            name=name,
            uid="u",
            phase=Reason.COMPLETED if self.ended else Reason.RUNNING,
            selected=self.selected,
            delivered=self.selected,
        )


@dataclass
class Gateway:
    """One process; `told` is what its cursor stands for, `under_way` an answer that the operator does not have yet."""

    life: int = 0
    live: bool = True
    told: dict[str, EndpointReport] = field(default_factory=dict)
    replays: dict[str, ReplayReport] = field(default_factory=dict)
    under_way: Report | None = None

    def restart(self) -> None:
        self.life += 1
        self.forgotten()

    def forgotten(self) -> None:
        """The operator will ask for everything."""
        self.told, self.replays, self.under_way = {}, {}, None


class HandOvers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = ReportBook()
        self.truth = {name: Truth() for name in ENDPOINTS}
        self.gateways = {name: Gateway() for name in GATEWAYS}
        self.known = dict.fromkeys(ENDPOINTS, (-1, -1, -1))

    @initialize(count=st.integers(1, len(GATEWAYS)))
    def begin(self, count: int) -> None:
        self.gateways = {name: Gateway() for name in GATEWAYS[:count]}

    # What happens.

    @rule(name=endpoints, of=gateways)
    def take_over(self, name: str, of: str) -> None:
        if self.truth[name].owner is None and of in self.gateways and self.gateways[of].live:
            self.truth[name].owner = of

    @rule(name=endpoints)
    def let_go(self, name: str) -> None:
        self.truth[name].owner = None

    @rule(name=endpoints)
    def attempt(self, name: str) -> None:
        if self.truth[name].owner is not None:
            self.truth[name].attempts += 1

    @rule(name=endpoints)
    def queue(self, name: str) -> None:
        self.truth[name].queued += 1

    @rule(name=endpoints, ends=st.booleans())
    def replay(self, name: str, ends: bool) -> None:
        truth = self.truth[name]
        if truth.owner is not None and not truth.ended:
            truth.selected, truth.ended = truth.selected + 1, ends

    @rule(of=gateways)
    def restart(self, of: str) -> None:
        if of in self.gateways:
            self._leaves(of)
            self.gateways[of].restart()

    @rule(of=gateways, restarts=st.booleans())
    def turn(self, of: str, restarts: bool) -> None:
        """Its pod comes to be Ready, or ceases to be; as the same process or another."""
        if of in self.gateways:
            self._leaves(of)
            gateway = self.gateways[of]
            gateway.live = not gateway.live
            gateway.forgotten()
            gateway.life += restarts
            self.book.retain([name for name, one in self.gateways.items() if one.live])

    def _leaves(self, of: str) -> None:
        for truth in self.truth.values():
            if truth.owner == of:
                truth.owner = None

    # What is told.

    @rule(of=gateways, content=st.sampled_from(["present", "blank"]))
    def answer(self, of: str, content: str) -> None:
        """A gateway puts an answer on its way: what it owns and the cursor does not have, and what it has let go."""
        gateway = self.gateways.get(of)
        if gateway is None or not gateway.live or gateway.under_way is not None:
            return
        owned = {name: truth.view(name) for name, truth in self.truth.items() if truth.owner == of}
        news = [view for name, view in owned.items() if gateway.told.get(name) != view]
        let_go = [
            EndpointReport(name=name, uid="u", owner=False, activity=view.activity)
            if content == "present"
            else EndpointReport(name=name, uid="u", owner=False)
            for name, view in gateway.told.items()
            if name not in owned
        ]
        replays = {name: self.truth[name].replay(name) for name in owned}
        changed = tuple(item for name, item in replays.items() if gateway.replays.get(name) != item)
        gateway.told = owned
        gateway.replays.update(replays)
        running = Running(instance=f"{of} {gateway.life}", version="1")
        gateway.under_way = Report(running=running, cursor="", endpoints=(*let_go, *news), replays=changed)

    @rule(of=gateways)
    def arrive(self, of: str) -> None:
        gateway = self.gateways.get(of)
        if gateway is not None and gateway.under_way is not None:
            self.book.take(of, gateway.under_way)
            gateway.under_way = None

    # What holds.

    @invariant()
    def never_shows_less_than_it_knew(self) -> None:
        for name in ENDPOINTS:
            view, replay = self.book.endpoint(name, "u"), self.book.replay(name, "u")
            shown = (
                -1 if view is None else view.activity.succeeded,
                -1 if replay is None else replay.selected,
                0 if replay is None else int(replay.phase is not Reason.RUNNING),
            )
            assert all(now >= before for now, before in zip(shown, self.known[name], strict=True)), name
            self.known[name] = shown

    @precondition(lambda self: any(truth.owner for truth in self.truth.values()))
    @rule(order=st.permutations(GATEWAYS))
    def once_all_has_arrived_it_is_what_the_owner_told(self, order: list[str]) -> None:
        for _ in range(2):
            for of in order:
                self.answer(of, "blank")
                self.arrive(of)
                self.never_shows_less_than_it_knew()
        for name, truth in self.truth.items():
            if truth.owner is not None:
                assert self.book.endpoint(name, "u") == truth.view(name)
                assert self.book.replay(name, "u") == truth.replay(name)


HandOvers.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_hand_overs = HandOvers.TestCase
