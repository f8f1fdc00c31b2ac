"""What a user may in one namespace: asked of RBAC by LocalSubjectAccessReview, and remembered."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from hookstead.gateway.authorize import Permission
from hookstead.gateway.decisions import Decision, Decisions
from hookstead.gateway.kubernetes_api import ApiServer, Undecided
from hookstead.gateway.problems import Problem, ProblemKind
from hookstead.resources.kinds import GROUP, VERSION

GRANT_SECONDS: Final = 60.0
"""How long a right is relied on without asking again: the contract's bound."""
REFUSAL_SECONDS: Final = 5.0
"""How long a refusal is repeated without asking again: somebody may be mending the Role right now."""
_OBJECT_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class User:
    """Whom RBAC is asked about, as the API server itself would see them."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class _AccessStatus(msgspec.Struct):
    allowed: bool = False
    denied: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus


_Question: TypeAlias = tuple[User, Permission, str]
"""Who wants to do what to which object; "" is every one."""


class AccessReviews:
    """Asks RBAC what users may in one namespace, and remembers the answers."""

    def __init__(self, api: ApiServer, *, namespace: str, now: Callable[[], float]) -> None:
        self._api: Final = api
        self._namespace: Final = namespace
        self._path: Final = f"/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"
        self._decisions: Final[Decisions[_Question, Problem | None]] = Decisions(now=now)

    async def permit(self, user: User, permission: Permission, name: str) -> Problem | None:
        """None when allowed, else a 403; a 503 when it cannot be decided."""
        question = (user, permission, name)
        known = self._decisions.fresh(question)
        if known is not None:
            return known.value
        if not _OBJECT_NAME.fullmatch(name):
            # No object has such a name, so only a right to all of them can cover it.
            question = (user, permission, "")
        try:
            return await self._decisions.get(question, lambda: self._ask(*question))
        except Undecided as undecided:
            return undecided_problem(undecided)

    async def close(self) -> None:
        await self._decisions.close()

    async def _ask(self, user: User, permission: Permission, name: str) -> Decision[Problem | None]:
        body = review_body(user, permission, name, namespace=self._namespace)
        status = (await self._api.post(self._path, body, _AccessReview)).status
        if status.allowed and not status.denied:
            return Decision(None, True, GRANT_SECONDS)
        return Decision(not_allowed(user, permission, name, namespace=self._namespace), False, REFUSAL_SECONDS)


def review_body(user: User, permission: Permission, name: str, *, namespace: str) -> dict[str, Any]:
    """The LocalSubjectAccessReview that asks it."""
    attributes = {
        "namespace": namespace,
        "group": GROUP,
        "version": VERSION,
        "verb": permission.verb,
        "resource": permission.resource,
        "subresource": permission.subresource,
        "name": name,
    }
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": namespace},
        "spec": {
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
            "user": user.name,
            "groups": user.groups,
            "uid": user.uid,
            "extra": dict(user.extra),
        },
    }


def not_allowed(user: User, permission: Permission, name: str, *, namespace: str) -> Problem:
    """A 403 that says which rule of RBAC would allow it."""
    scope = f"for the name {name!r} or for all" if name else "without resourceNames"
    why = " (no WebhookEventType declares this type)" if permission is Permission.PUBLISH and not name else ""
    return Problem(
        kind=ProblemKind.FORBIDDEN,
        detail=f"{user.name} may not do this in namespace {namespace}: RBAC must allow {permission.verb!r} on "
        f"{permission.rbac_resource!r} in {GROUP} {scope}{why}.",
        extra={
            "namespace": namespace,
            "verb": permission.verb,
            "resource": permission.rbac_resource,
            **({"name": name} if name else {}),
        },
    )


def undecided_problem(undecided: Undecided) -> Problem:
    """A 503. What the API server said is in the log, for those who run the gateway."""
    return Problem(
        kind=ProblemKind.AUTHORIZATION_UNAVAILABLE,
        detail="The API server does not say now whether this is allowed: try again.",
        retry_after_seconds=max(1, math.ceil(undecided.retry_after)),
    )
