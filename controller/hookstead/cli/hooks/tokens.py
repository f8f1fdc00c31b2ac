"""Tokens of the release's ServiceAccounts, by TokenRequest: RBAC on `serviceaccounts/token` decides who gets one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from hookstead.cli.hooks.kubectl import Kubectl, KubectlError

if TYPE_CHECKING:
    from hookstead.cli.hooks.discovery import Target

LIFE_SECONDS: Final = 600
"""The shortest that the API server gives; a command that goes on for longer asks again."""
RENEW_SECONDS: Final = 300.0


class Account(Enum):
    """As whom a command asks the gateway; the value ends the ServiceAccount's name."""

    READER = "reader"
    OPERATOR = "operator-user"


@dataclass(slots=True)
class RequestedToken:
    """A token that renews itself half-way through its life."""

    kubectl: Kubectl
    target: Target
    account: Account
    audience: str
    _token: str = field(default="", repr=False)
    _asked: float = 0.0

    def bearer(self) -> str:
        """The present token. Raises KubectlError."""
        now = time.time()  # a machine that slept has an older token than the monotonic clock says
        if not self._token or now - self._asked > RENEW_SECONDS:
            self._token, self._asked = self._request(), now
        return self._token

    def _request(self) -> str:
        name = self.target.account(self.account.value)
        try:
            return self.kubectl.run(
                "create",
                "token",
                name,
                f"--namespace={self.target.namespace}",
                f"--audience={self.audience}",
                f"--duration={LIFE_SECONDS}s",
            ).strip()
        except KubectlError as refused:
            raise KubectlError(
                f"no token of ServiceAccount {self.target.namespace}/{name}: {refused.sentence}"
                f"{self._remedy(refused, name)}",
                reason=refused.reason,
            ) from refused

    def _remedy(self, refused: KubectlError, name: str) -> str:
        match refused.reason:
            case "Forbidden":
                what = "look at" if self.account is Account.READER else "act on"
                return (
                    f" Who may {what} this environment is who may `create` `serviceaccounts/token` with the "
                    f"resourceName {name}: ask for that right."
                )
            case "NotFound":
                return " The chart creates it; with another kind of --auth, set HOOKSTEAD_TOKEN or --token-file."
            case _:
                return ""
