"""The API server's audit log as typed entries: the journal in which tests count reads and writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Metadata is enough to count and attribute. RequestReceived would show every request twice.
POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request. A watch appears twice: ResponseStarted when it opens, ResponseComplete at its end."""

    time: datetime
    """When the request was received (UTC)."""
    stage: str
    verb: str
    uri: str
    user: str
    user_agent: str
    code: int
    """The HTTP status; 0 where none was recorded."""
    group: str
    """The API group; empty for core and for what is not a resource."""
    resource: str
    subresource: str
    namespace: str
    name: str

    @property
    def writes(self) -> bool:
        """Whether the verb changes something."""
        return self.verb in WRITES


def read(log: Path, *, since: int = 0) -> Iterator[AuditEntry]:
    """The entries after byte `since`, in the order of the log; a line still being written is left out."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(since)
        for line in file:
            if line.endswith(b"\n"):
                yield _entry(json.loads(line))


def _entry(raw: dict[str, Any]) -> AuditEntry:
    target = raw.get("objectRef", {})
    return AuditEntry(
        time=datetime.fromisoformat(raw["requestReceivedTimestamp"]),
        stage=raw["stage"],
        verb=raw["verb"],
        uri=raw["requestURI"],
        user=raw["user"].get("username", ""),
        user_agent=raw.get("userAgent", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
    )
