"""What the operator is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOptions:
    """Flags of `hookstead operator`; parsing them is the command line's.

    Exactly one of `gateways` (base URLs of internal ports) and `gateway_selector` (labels of pods) is given.
    `kubeconfig`: None looks at KUBECONFIG, then the pod's ServiceAccount, then `~/.kube/config`.
    `admin_listen`: host and port of /healthz, /readyz and /metrics; None opens nothing, port 0 a free one.
    """

    namespace: str
    kubeconfig: Path | None = None
    gateways: tuple[str, ...] = ()
    gateway_selector: str | None = None
    leader_elect: bool = False
    internal_secret: str = "hookstead-internal"  # noqa: S105  (a Secret's name, no password)
    drain_seconds: float = 25.0
    allow_loopback: bool = False
    admin_listen: tuple[str, int] | None = None
