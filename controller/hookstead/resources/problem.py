"""What is wrong with an object, in a sentence that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hookstead.resources.conditions import Reason

_PLAIN: Final = re.compile(r"[A-Za-z_$][\w$-]*")


def field_path(parts: Iterable[str | int]) -> str:
    """`("spec", "channelRefs", 1, "name")` as `spec.channelRefs[1].name`; odd names as `["a.b"]`."""
    return "".join(_step(part) for part in parts).removeprefix(".")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if _PLAIN.fullmatch(part) else f'["{part}"]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding about one object. `message` says what was expected and what to do."""

    kind: str
    """As the manifest spells it; empty where it has none."""
    name: str
    """`metadata.name`; empty where it has none."""
    namespace: str = ""
    field: str = ""
    """A path such as `spec.channelRefs[1].name`; empty for the object as a whole."""
    message: str
    reason: Reason = Reason.INVALID_SPEC

    def __str__(self) -> str:
        """`WebhookEndpoint acme-orders: spec.channelRefs[1].name: …`"""
        subject = " ".join(part for part in (self.kind or "object", self.name) if part)
        return ": ".join(part for part in (subject, self.field, self.message) if part)
