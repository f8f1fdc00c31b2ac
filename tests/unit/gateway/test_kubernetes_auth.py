"""What is remembered of the API server's judgements, how long, and what happens while it says nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import config, event_type
from hookstead.config.model import DeliveryConfig
from hookstead.gateway.access_reviews import GRANT_SECONDS, REFUSAL_SECONDS, AccessReviews, User, review_body
from hookstead.gateway.authorize import Permission
from hookstead.gateway.catalog import ObjectNames
from hookstead.gateway.decisions import RETRY_SECONDS, Decision, Decisions
from hookstead.gateway.kubernetes_api import ApiServer, Undecided
from hookstead.gateway.kubernetes_auth import KubernetesAuthorizer
from hookstead.gateway.problems import Problem
from hookstead.gateway.published_keys import KEEP_SECONDS, LOOK_SECONDS, PublishedKeys
from hookstead.gateway.service_account_tokens import BadToken
from hookstead.gateway.token_judges import REVIEWED_SECONDS, VERIFIED_SECONDS, Identity, ReviewJudge

SHOP: Final = User("system:serviceaccount:shop:checkout", ("system:serviceaccounts",), "u-1")


@dataclass
class Now:
    """A clock that stands until it is moved."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Judge:
    """Answers with `decision`, or raises it; counts the questions."""

    decision: Decision[str] | Undecided
    asked: int = 0
    gate: asyncio.Event | None = None

    async def __call__(self) -> Decision[str]:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.decision, Undecided):
            raise self.decision
        return self.decision


def yes(value: str = "yes", seconds: float = 60.0) -> Decision[str]:
    return Decision(value, True, seconds)


def no(value: str = "no", seconds: float = 5.0) -> Decision[str]:
    return Decision(value, False, seconds)


async def settle() -> None:
    """Let what was started in the background end."""
    for _ in range(5):
        await asyncio.sleep(0)


# Decisions.


async def test_a_grant_is_remembered_and_never_longer_than_it_says() -> None:
    now, judge = Now(), Judge(yes())
    decisions: Decisions[str, str] = Decisions(now=now)
    assert [await decisions.get("a", judge) for _ in range(3)] == ["yes"] * 3
    assert judge.asked == 1
    judge.decision = no()
    now.seconds += 60.0
    assert await decisions.get("a", judge) == "no"


async def test_its_time_runs_from_the_question_not_from_the_answer() -> None:
    now, judge = Now(), Judge(yes(), gate=asyncio.Event())
    decisions: Decisions[str, str] = Decisions(now=now)
    first = asyncio.create_task(decisions.get("a", judge))
    await settle()
    now.seconds += 20
    assert judge.gate is not None
    judge.gate.set()
    await first
    now.seconds += 40
    judge.decision = no()
    assert await decisions.get("a", judge) == "no"


async def test_a_refusal_is_repeated_briefly() -> None:
    now, judge = Now(), Judge(no())
    decisions: Decisions[str, str] = Decisions(now=now)
    assert [await decisions.get("a", judge) for _ in range(3)] == ["no"] * 3
    assert judge.asked == 1
    judge.decision = yes()
    now.seconds += 5
    assert await decisions.get("a", judge) == "yes"


async def test_a_grant_in_use_is_renewed_before_it_ends_without_anybody_waiting() -> None:
    now, judge = Now(), Judge(yes())
    decisions: Decisions[str, str] = Decisions(now=now)
    await decisions.get("a", judge)
    assert decisions.fresh("a") is not None
    now.seconds += 30
    judge.decision = yes("renewed")
    assert decisions.fresh("a") is None
    assert [await decisions.get("a", judge) for _ in range(3)] == ["yes"] * 3
    await settle()
    assert (await decisions.get("a", judge), judge.asked) == ("renewed", 2)
    now.seconds += 30
    judge.decision = no("revoked")
    await decisions.get("a", judge)
    await settle()
    assert await decisions.get("a", judge) == "revoked"


async def test_without_the_judge_a_grant_counts_until_it_ends_and_then_no_more() -> None:
    now, judge = Now(), Judge(yes())
    decisions: Decisions[str, str] = Decisions(now=now)
    await decisions.get("a", judge)
    judge.decision = Undecided("away")
    for _ in range(30):
        now.seconds += RETRY_SECONDS
        assert await decisions.get("a", judge) == "yes"
    for _ in range(29):
        assert await decisions.get("a", judge) == "yes"
        await settle()
        now.seconds += RETRY_SECONDS
    assert judge.asked <= 1 + 30
    now.seconds += RETRY_SECONDS
    with pytest.raises(Undecided):
        await decisions.get("a", judge)
    judge.decision = yes()
    assert await decisions.get("a", judge) == "yes"


async def test_of_many_who_want_the_same_answer_one_asks_and_its_leaving_harms_nobody() -> None:
    judge = Judge(yes(), gate=asyncio.Event())
    decisions: Decisions[str, str] = Decisions(now=Now())
    callers = [asyncio.create_task(decisions.get("a", judge)) for _ in range(10)]
    await settle()
    callers[0].cancel()
    await settle()
    assert judge.gate is not None
    judge.gate.set()
    assert await asyncio.gather(*callers[1:]) == ["yes"] * 9
    assert judge.asked == 1


async def test_the_open_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookstead.gateway.decisions.ASKING_LIMIT", 3)
    judge = Judge(yes(), gate=asyncio.Event())
    decisions: Decisions[str, str] = Decisions(now=Now())
    waiting = [asyncio.create_task(decisions.get(key, judge)) for key in "abc"]
    await settle()
    with pytest.raises(Undecided):
        await decisions.get("d", judge)
    await decisions.close()
    assert all(
        isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*waiting, return_exceptions=True)
    )


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_its_size_is_bounded_and_refusals_displace_no_grant(calls: list[tuple[int, bool]]) -> None:
    async def play() -> None:
        decisions: Decisions[str, str] = Decisions(now=Now(), granted_limit=3, refused_limit=2)
        kept = Judge(yes())
        await decisions.get("mine", kept)
        for key, granted in calls:
            await decisions.get(f"{granted}-{key}", Judge(yes() if granted else no()))
            assert len(decisions) <= 5
            await decisions.get("mine", kept)
        assert kept.asked == 1

    asyncio.run(play())


# Published keys.


@dataclass
class FakeApi:
    """Answers each path with a document, or raises it."""

    answers: dict[str, Any]
    asked: list[tuple[str, Any]] = field(default_factory=list)
    closed: bool = False

    async def get(self, path: str, kind: type[Any]) -> Any:
        return await self.post(path, None, kind)

    async def post(self, path: str, body: object, kind: type[Any]) -> Any:
        self.asked.append((path, body))
        answer = self.answers[path.rpartition("/")[2]]
        answer = answer(body) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return msgspec.convert(answer, kind)

    async def close(self) -> None:
        self.closed = True


def api(fake: FakeApi) -> ApiServer:
    return cast("ApiServer", fake)


def key_set(*kids: str) -> dict[str, Any]:
    return {"keys": [{"kid": kid, "kty": "EC", "crv": "P-256", **_POINT} for kid in kids]}


_POINT: Final = {
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
"""The point of RFC 7517, appendix A.1."""


def test_a_withdrawn_key_opens_nothing_for_more_than_a_minute() -> None:
    assert KEEP_SECONDS + VERIFIED_SECONDS <= 60
    assert max(GRANT_SECONDS, REVIEWED_SECONDS) <= 60


async def test_keys_are_fetched_now_and_then_and_on_an_unknown_key_but_not_for_every_made_up_one() -> None:
    now = Now()
    fake = FakeApi({"openid-configuration": {"issuer": "i"}, "jwks": key_set("a")})
    published = PublishedKeys(api(fake), now=now)
    assert [list((await published.for_key("a")).keys) for _ in range(3)] == [["a"]] * 3
    assert [path for path, _ in fake.asked] == ["/.well-known/openid-configuration", "/openid/v1/jwks"]
    fake.answers["jwks"] = key_set("a", "b")
    await published.for_key("made-up")
    assert len(fake.asked) == 2
    now.seconds += LOOK_SECONDS
    assert list((await published.for_key("b")).keys) == ["a", "b"]
    fake.answers["jwks"] = key_set("b")
    now.seconds += KEEP_SECONDS - 0.1
    assert list((await published.for_key("a")).keys) == ["a", "b"]
    now.seconds += 0.1
    assert list((await published.for_key("a")).keys) == ["b"]


async def test_keys_that_are_too_old_count_no_more_while_new_ones_cannot_be_had() -> None:
    now = Now()
    fake = FakeApi({"openid-configuration": {"issuer": "i"}, "jwks": key_set("a")})
    published = PublishedKeys(api(fake), now=now)
    await published.for_key("a")
    fake.answers["jwks"] = Undecided("away")
    now.seconds += KEEP_SECONDS
    with pytest.raises(Undecided):
        await published.for_key("a")


# Access reviews.


async def test_a_review_asks_what_rbac_would_be_asked() -> None:
    body = review_body(SHOP, Permission.REDELIVER, "acme", namespace="prod")
    assert body["metadata"] == {"namespace": "prod"}
    assert body["spec"] == {
        "user": "system:serviceaccount:shop:checkout",
        "groups": ("system:serviceaccounts",),
        "uid": "u-1",
        "extra": {},
        "resourceAttributes": {
            "namespace": "prod",
            "group": "hookstead.dev",
            "version": "v1alpha1",
            "verb": "redeliver",
            "resource": "webhookendpoints",
            "subresource": "deliveries",
            "name": "acme",
        },
    }
    everything = review_body(SHOP, Permission.READ, "", namespace="prod")["spec"]["resourceAttributes"]
    assert not {"name", "subresource"} & everything.keys()


def reviewing(*allowed: tuple[str, str]) -> FakeApi:
    """An API server that allows these verbs on these names."""

    def judge(body: Any) -> dict[str, Any]:
        attributes = body["spec"]["resourceAttributes"]
        return {"status": {"allowed": (attributes["verb"], attributes.get("name", "")) in allowed}}

    return FakeApi({"localsubjectaccessreviews": judge})


async def test_rights_are_asked_once_per_user_verb_and_name() -> None:
    now, fake = Now(), reviewing(("publish", "order-created"))
    reviews = AccessReviews(api(fake), namespace="prod", now=now)
    for _ in range(3):
        assert await reviews.permit(SHOP, Permission.PUBLISH, "order-created") is None
        refusal = await reviews.permit(SHOP, Permission.PUBLISH, "user-born")
        assert refusal is not None
        assert (refusal.status, refusal.extra["name"]) == (403, "user-born")
    assert len(fake.asked) == 2
    now.seconds += REFUSAL_SECONDS
    await reviews.permit(SHOP, Permission.PUBLISH, "user-born")
    assert len(fake.asked) == 3
    fake.answers["localsubjectaccessreviews"] = {"status": {"allowed": False}}
    now.seconds += GRANT_SECONDS - REFUSAL_SECONDS
    refusal = await reviews.permit(SHOP, Permission.PUBLISH, "order-created")
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("status", [{}, {"allowed": False}, {"allowed": True, "denied": True}])
async def test_anything_but_a_plain_yes_is_a_no(status: dict[str, bool]) -> None:
    reviews = AccessReviews(api(FakeApi({"localsubjectaccessreviews": {"status": status}})), namespace="n", now=Now())
    refusal = await reviews.permit(SHOP, Permission.READ, "")
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("name", ["A", "a/b", "a b", "x" * 300, "é", "-a", "a\n"])
async def test_a_name_that_no_object_can_have_needs_the_right_to_all(name: str) -> None:
    fake = reviewing()
    await AccessReviews(api(fake), namespace="n", now=Now()).permit(SHOP, Permission.READ_DELIVERIES, name)
    assert "name" not in fake.asked[0][1]["spec"]["resourceAttributes"]


async def test_what_cannot_be_decided_is_a_503_that_says_when_to_come_again() -> None:
    fake = FakeApi({"localsubjectaccessreviews": Undecided("away: https://10.0.0.1", retry_after=2.5)})
    problem = await AccessReviews(api(fake), namespace="n", now=Now()).permit(SHOP, Permission.READ, "")
    assert problem is not None
    assert (problem.status, dict(problem.all_headers())["Retry-After"]) == (503, "3")
    assert "10.0.0.1" not in problem.detail


# Who.


@dataclass
class Tokens:
    """A judge that knows some tokens."""

    known: dict[str, Identity]
    asked: int = 0

    async def judge(self, token: str) -> Identity | BadToken:
        self.asked += 1
        return self.known.get(token, BadToken("it is unknown"))


def authorizer(judge: Any, fake: FakeApi, now: Now) -> KubernetesAuthorizer:
    return KubernetesAuthorizer(api(fake), judge=judge, namespace="prod", audience="hookstead.dev", now=now)


async def test_a_token_is_looked_at_once_while_it_is_good_and_never_after_its_end() -> None:
    now, judge = Now(), Tokens({"t": Identity(SHOP, 20.0)})
    who = authorizer(judge, reviewing(("get", "")), now)
    for _ in range(3):
        caller = await who.identify("Bearer t")
        assert not isinstance(caller, Problem)
        assert caller.name == SHOP.name
        assert caller.refusal(Permission.READ) is None
        assert await caller.permit(Permission.READ) is None
    assert judge.asked == 1
    judge.known.clear()
    now.seconds += 20
    refused = await who.identify("Bearer t")
    assert isinstance(refused, Problem)
    assert (refused.status, "unknown" in refused.detail) == (401, True)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer ", "Basic eDp5", "Bearer \udcff", "Bearer é", "Bearer " + "x" * 9000]
)
async def test_without_a_token_there_is_nothing_to_ask(header: str | None) -> None:
    fake, judge = reviewing(), Tokens({})
    refused = await authorizer(judge, fake, Now()).identify(header)
    assert isinstance(refused, Problem)
    assert (refused.status, judge.asked, fake.asked) == (401, 0, [])


async def test_closing_lets_go_of_the_api_server() -> None:
    fake = reviewing()
    await authorizer(Tokens({}), fake, Now()).close()
    assert fake.closed


# TokenReview.


def review(name: str | None, audiences: list[str] | None = None, **user: Any) -> dict[str, Any]:
    if name is None:
        return {"status": {"error": "no"}}
    return {"status": {"authenticated": True, "audiences": audiences or [], "user": {"username": name, **user}}}


@pytest.mark.parametrize(
    ("ours", "theirs", "taken"),
    [
        (review("system:serviceaccount:a:b", ["hookstead.dev"]), None, True),
        (review("system:serviceaccount:a:b"), None, False),  # a server that knows nothing of audiences
        (review(None), review("system:serviceaccount:a:b", ["https://kubernetes.default.svc"]), False),
        (review(None), review("alice", ["https://kubernetes.default.svc"]), True),
        (review(None), review("alice"), True),
        (review(None), review(None), False),
        (review(None), review(""), False),
    ],
)
async def test_under_token_review_people_come_with_the_api_servers_audience_and_accounts_with_ours(
    ours: dict[str, Any], theirs: dict[str, Any] | None, taken: bool
) -> None:
    def answer(body: Any) -> dict[str, Any]:
        return ours if "audiences" in body["spec"] else theirs or ours

    found = await ReviewJudge(api(FakeApi({"tokenreviews": answer})), audience="hookstead.dev").judge("t")
    assert isinstance(found, Identity) is taken


async def test_a_reviewed_user_is_passed_on_whole_and_not_relied_on_for_long() -> None:
    user = review("alice", ["hookstead.dev"], uid="7", groups=["a", "b"], extra={"scopes": ["x", "y"]})
    found = await ReviewJudge(api(FakeApi({"tokenreviews": user})), audience="hookstead.dev").judge("t")
    assert found == Identity(User("alice", ("a", "b"), "7", (("scopes", ("x", "y")),)), REVIEWED_SECONDS)


# Event types.


def test_an_event_type_is_asked_by_the_name_of_the_object_that_declares_it() -> None:
    running: DeliveryConfig | None = None
    names = ObjectNames(lambda: running)
    assert names.of_type("order.created") == ""
    running = config(
        event_type("order-created", "order.created"),
        event_type("usurper", "order.created", created="2026-01-02T00:00:00Z"),
        event_type("faulty", "user.born", schema={"type": "nonsense"}),
    )
    assert names.of_type("order.created") == "order-created"
    assert names.of_type("user.born") == "faulty"
    assert names.of_type("order.creatd") == ""
    running = config(event_type("usurper", "order.created"))
    assert names.of_type("order.created") == "usurper"
