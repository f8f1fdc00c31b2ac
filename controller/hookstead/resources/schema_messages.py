"""What is said about a value that its schema refuses: the expectation, what was found, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from hookstead.resources.suggestion import closest

_Explain: TypeAlias = Callable[[Mapping[str, Any], Any], str]

_ARTICLES: Final = {
    "array": "a list",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "object": "a mapping",
    "string": "a string",
}
_NAME: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_PATTERNS: Final = {
    r"^https?://[^/?#\s][!-~]*$": "must begin with https:// (or http://), then a host, and have no spaces",
    _NAME: "must be an object's name: lower-case letters, digits, - and ., with a letter or digit at both ends",
    r"^[-._a-zA-Z0-9]+$": "must be a key of a Secret: letters, digits, -, _ and .",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "must be letters, digits, ., _ and -, with a letter or digit first",
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$": "must be a wire name such as order.created: letters, digits, _ and -, in "
    "parts joined by dots",
    r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?$": "must be a wire name such as order.created, or a prefix such as "
    "order.*",
    r"^[a-z0-9!#$%&'*+.^_`|~-]+$": "must be a header's name in lower case, without spaces and colons",
    r"^[\t -~]*$": "must be printable ASCII and tabs, on one line",
}
_FORMATS: Final = {
    "date-time": "must be a time such as 2026-01-31T12:00:00Z (RFC 3339, years 1000 to 2999)",
    "cidr": "must be a range in CIDR notation such as 10.20.0.0/16 or fd00:1::/64",
}


UNKNOWN_FIELD: Final = "is not a field"
"""How every message about a name that is not known begins."""


def explain(keyword: str, node: Mapping[str, Any], value: Any) -> str:
    """Why `value` does not satisfy `keyword` of the schema `node`."""
    return _EXPLANATIONS.get(keyword, _other)(node, value)


def unknown_field(name: str, known: Mapping[str, Any]) -> str:
    """About a field that the schema does not have."""
    return unknown_name(name, known, "is not a field here")


def unknown_name(name: str, known: Mapping[str, Any] | tuple[str, ...], complaint: str) -> str:
    """`complaint`, and the field that was probably meant, or else all that there are."""
    meant = closest(name, known)
    if meant is not None:
        return f'{complaint} (did you mean "{meant}"?): correct the name'
    return f"{complaint} ({', '.join(known) or 'there are none'}): remove it"


def missing_field(node: Mapping[str, Any]) -> str:
    """About a required field that is absent; `node` is its schema."""
    description = str(node.get("description", ""))
    hint = description.split(". ", 1)[0].split("; ", 1)[0].rstrip(".")
    return f"is required: add it ({hint})" if hint else "is required: add it"


def kind_of_value(value: Any) -> str:
    """What a person would call the value: `a string ("5")`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, str):
        return f"a string ({_quoted(value)})"
    if isinstance(value, int | float):
        return f"a number ({value})" if abs(value) < 1e30 else "a number"
    return "a list" if isinstance(value, list) else "a mapping"


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:78]}…{text[-1]}"


def _type(node: Mapping[str, Any], value: Any) -> str:
    wanted = node.get("type", "")
    remedy = ""
    if wanted == "string" and isinstance(value, bool | int | float):
        remedy = ": put it in quotes"
    elif wanted == "integer" and isinstance(value, str) and value.isdecimal():
        remedy = ": write it without quotes"
    elif wanted == "array" and value is not None and not isinstance(value, dict):
        remedy = ": write it as a list of one"
    return f"must be {_ARTICLES.get(wanted, wanted)}, not {kind_of_value(value)}{remedy}"


def _enum(node: Mapping[str, Any], value: Any) -> str:
    allowed = [str(item) for item in node["enum"]]
    meant = closest(str(value), allowed)
    hint = "" if meant is None else f' (did you mean "{meant}"?)'
    return f"must be {_either(allowed)}, not {_quoted(value)}{hint}"


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _pattern(node: Mapping[str, Any], value: Any) -> str:
    pattern = node["pattern"]
    words = _FORMATS.get(node.get("format", "")) or _PATTERNS.get(pattern) or f"must match {pattern}"
    return f"{words}, not {_quoted(value)}"


def _format(node: Mapping[str, Any], value: Any) -> str:
    return f"{_FORMATS.get(node['format'], 'must be a ' + node['format'])}, not {_quoted(value)}"


def _minimum(node: Mapping[str, Any], value: Any) -> str:
    return f"must be at least {node['minimum']}, not {value}"


def _maximum(node: Mapping[str, Any], value: Any) -> str:
    return f"must be at most {node['maximum']}, not {value if abs(value) < 1e30 else 'that much'}"


def _min_length(node: Mapping[str, Any], value: Any) -> str:
    if node["minLength"] == 1:
        return "must not be empty: write something, or remove it"
    return f"must be at least {node['minLength']} characters long, not {len(value)}"


def _max_length(node: Mapping[str, Any], value: Any) -> str:
    return f"must be at most {node['maxLength']} characters long, not {len(value)}: shorten it"


def _min_items(node: Mapping[str, Any], value: Any) -> str:
    return f"must have at least {_entries(node['minItems'])}, not {len(value)}: add one, or remove the field"


def _max_items(node: Mapping[str, Any], value: Any) -> str:
    return f"must have at most {_entries(node['maxItems'])}, not {len(value)}: remove some"


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _other(_node: Mapping[str, Any], value: Any) -> str:
    return f"has a value that is not allowed: {_quoted(value)}"


_EXPLANATIONS: Final[Mapping[str, _Explain]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "format": _format,
    "minimum": _minimum,
    "maximum": _maximum,
    "minLength": _min_length,
    "maxLength": _max_length,
    "minItems": _min_items,
    "maxItems": _max_items,
}
