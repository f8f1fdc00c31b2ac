"""Which event types an entry of `eventTypes` covers: a wire name, or `prefix.*`. Contract, section 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

WILDCARD: Final = ".*"


def prefix_of(pattern: str) -> str | None:
    """What a covered type begins with, its dot included; None for an exact name."""
    return pattern[:-1] if pattern.endswith(WILDCARD) else None


def covers(patterns: Iterable[str] | None, event_type: str) -> bool:
    """Whether a list of wire names and `prefix.*` covers a type; None covers everything.

    `prefix.*` covers every type that begins with `prefix.`, at any depth, and not `prefix` itself.
    """
    if patterns is None:
        return True
    return any(
        event_type == pattern if (prefix := prefix_of(pattern)) is None else event_type.startswith(prefix)
        for pattern in patterns
    )


def covered(patterns: Iterable[str] | None, event_types: frozenset[str]) -> frozenset[str]:
    """Those of the types that the list covers; as `covers`, for many types at once."""
    if patterns is None:
        return event_types
    names, prefixes = set[str](), list[str]()
    for pattern in patterns:
        prefix = prefix_of(pattern)
        if prefix is None:
            names.add(pattern)
        else:
            prefixes.append(prefix)
    exact = event_types & names
    if not prefixes:
        return exact
    return exact | {event_type for event_type in event_types if event_type.startswith(tuple(prefixes))}
