"""Mode `kubernetes`: the API server knows who calls and what they may (contract, section 3, "Who may").

No cluster-scoped permission is needed: tokens are verified against published keys, and a *Local*SubjectAccessReview is
a namespaced right. With TokenReview instead, the gateway needs a ClusterRole for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hookstead.gateway.access_reviews import AccessReviews, User, undecided_problem
from hookstead.gateway.authorize import Caller, Permission, bearer_token, token_digest, unauthenticated
from hookstead.gateway.decisions import Decision, Decisions
from hookstead.gateway.kubernetes_api import Access, ApiServer, Undecided
from hookstead.gateway.problems import Problem
from hookstead.gateway.service_account_tokens import BadToken
from hookstead.gateway.token_judges import KeyJudge, ReviewJudge, TokenJudge

REFUSAL_SECONDS: Final = 5.0
"""How long a token that was not taken is refused without looking at it again."""


@dataclass(frozen=True, slots=True)
class KubernetesCaller:
    """A user whose rights are asked for one by one."""

    user: User
    reviews: AccessReviews

    @property
    def name(self) -> str:
        return self.user.name

    def refusal(self, permission: Permission) -> Problem | None:
        """None: only a review knows."""
        return None

    async def permit(self, permission: Permission, name: str = "") -> Problem | None:
        return await self.reviews.permit(self.user, permission, name)


class KubernetesAuthorizer:
    """Knows callers by tokens that the API server vouches for. Of a token only its digest is kept."""

    def __init__(
        self, api: ApiServer, *, judge: TokenJudge, namespace: str, audience: str, now: Callable[[], float]
    ) -> None:
        self._api: Final = api
        self._judge: Final = judge
        self._audience: Final = audience
        self._reviews: Final = AccessReviews(api, namespace=namespace, now=now)
        self._callers: Final[Decisions[bytes, Caller | Problem]] = Decisions(now=now)

    async def identify(self, authorization: str | None) -> Caller | Problem:
        token = bearer_token(authorization)
        if token is None:
            return unauthenticated(
                f"This gateway wants a ServiceAccount token for the audience {self._audience}: send "
                "'Authorization: Bearer TOKEN'."
            )
        digest = token_digest(token)
        known = self._callers.fresh(digest)
        if known is not None:
            return known.value
        try:
            return await self._callers.get(digest, lambda: self._ask(token))
        except Undecided as undecided:
            return undecided_problem(undecided)

    async def close(self) -> None:
        await self._callers.close()
        await self._reviews.close()
        await self._api.close()

    async def _ask(self, token: str) -> Decision[Caller | Problem]:
        identity = await self._judge.judge(token) if token.isascii() else BadToken("it is not ASCII")
        if isinstance(identity, BadToken):
            problem = unauthenticated(
                f"The token is not taken: {identity.reason}. Ask for one with `kubectl create token NAME --audience "
                f"{self._audience}`, or mount a projected one.",
                'error="invalid_token"',
            )
            return Decision(problem, False, REFUSAL_SECONDS)
        return Decision(KubernetesCaller(identity.user, self._reviews), True, identity.seconds)


def kubernetes_authorizer(
    access: Access,
    *,
    namespace: str,
    audience: str,
    token_review: bool,
    now: Callable[[], float],
    wall: Callable[[], float],
) -> KubernetesAuthorizer:
    """The mode's authorizer. `now` is monotonic, `wall` in Unix seconds.

    Raises OSError, ssl.SSLError where the access's certificates cannot be used.
    """
    api = ApiServer(access, now=now)
    judge: TokenJudge = (
        ReviewJudge(api, audience=audience) if token_review else KeyJudge(api, audience=audience, now=now, wall=wall)
    )
    return KubernetesAuthorizer(api, judge=judge, namespace=namespace, audience=audience, now=now)
