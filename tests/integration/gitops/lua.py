"""JSON values as Lua expressions, for checks that a real Lua runs."""

from __future__ import annotations

from typing import Any


def lua(value: Any) -> str:
    """A JSON value as a Lua expression; null is nil, as Argo CD has it."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            escaped = "".join(f"\\{byte:03d}" for byte in value.encode())
            return f'"{escaped}"'
        case list():
            return "{" + ", ".join(lua(item) for item in value) + "}"
        case dict():
            return "{" + ", ".join(f"[{lua(key)}] = {lua(item)}" for key, item in value.items()) + "}"
        case _:
            raise TypeError(value)
