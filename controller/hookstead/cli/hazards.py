"""What a manifest holds that kubectl, an API server or a deployment tool will change on the way: warnings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from hookstead.config.lint import Notice, Severity
from hookstead.resources.kinds import Kind
from hookstead.resources.manifests import Manifest
from hookstead.resources.problem import Problem, field_path

SIZE_LIMIT: Final = 256 * 1024
"""Bytes of JSON; client-side `kubectl apply` keeps a copy in an annotation, and that is all they may have."""
NEARLY: Final = 0.9
"""Of the limit; annotations of other tools need room there, too."""

NULL: Final = "NullDropped"
SUBSTITUTION: Final = "VariableSubstitution"
OBJECT_SIZE: Final = "ObjectSize"
YAML_VALUE: Final = "YamlValue"
STATE_NOT_SET: Final = "StateNotSet"

_SUBSTITUTED: Final = re.compile(r"(?<!\$)\$\{[^}]*\}")
_FREE: Final = ("schema", "sample")
"""The fields of an event type whose content is the user's own."""

Path = tuple[str | int, ...]


def hazards(manifest: Manifest) -> Iterator[Notice]:
    """The warnings about one manifest of ours, whether or not it is valid."""
    for note in manifest.notes():
        yield _warn(manifest, note.field, YAML_VALUE, note.message)
    yield from _values(manifest)
    yield from _state(manifest)
    yield from _size(manifest)


def _size(manifest: Manifest) -> Iterator[Notice]:
    size = len(json.dumps(manifest.obj, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    remedy = "apply it with --server-side, or make it smaller"
    if size > SIZE_LIMIT:
        said = (
            f"the object is {size} bytes of JSON, more than the {SIZE_LIMIT} that client-side apply can keep: {remedy}"
        )
        yield _warn(manifest, "", OBJECT_SIZE, said)
    elif size > NEARLY * SIZE_LIMIT:
        said = (
            f"the object is {size} bytes of JSON, close to the {SIZE_LIMIT} that client-side apply can keep: {remedy}"
        )
        yield _warn(manifest, "", OBJECT_SIZE, said)


def _values(manifest: Manifest) -> Iterator[Notice]:
    for path, value in _walk(manifest.obj.get("spec"), ("spec",)):
        free = len(path) > 1 and path[1] in _FREE and manifest.obj.get("kind") == Kind.EVENT_TYPE.value
        match value:
            case None if free and len(path) > 2:
                yield _warn(
                    manifest,
                    field_path(path),
                    NULL,
                    "client-side kubectl apply drops a null: apply with --server-side to keep it",
                )
            case str() if (found := _SUBSTITUTED.search(value)) is not None:
                yield _warn(
                    manifest,
                    field_path(path),
                    SUBSTITUTION,
                    f"Flux replaces {found[0][:60]} where its postBuild substitutes variables: write "
                    f"$${found[0][1:60]} to keep it as it is",
                )
            case _:
                pass


def _state(manifest: Manifest) -> Iterator[Notice]:
    """The slip that everybody makes once."""
    spec = manifest.obj.get("spec", {})
    if manifest.obj.get("kind") != Kind.ENVIRONMENT.value or not (spec is None or isinstance(spec, dict)):
        return
    if "state" not in (spec or {}):
        yield _warn(
            manifest,
            "spec.state",
            STATE_NOT_SET,
            "is not set, so the environment is Disabled: write state: Enabled, or state: Disabled if that is meant",
        )


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every value below, without recursion: manifests may be nested as deep as their reader allows."""
    stack = [(path, value)]
    while stack:
        here, found = stack.pop()
        yield here, found
        if isinstance(found, dict):
            stack += [((*here, key), item) for key, item in reversed(found.items())]
        elif isinstance(found, list):
            stack += [((*here, index), item) for index, item in reversed(list(enumerate(found)))]


def _warn(manifest: Manifest, field: str, rule: str, message: str) -> Notice:
    metadata = manifest.obj.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    problem = Problem(
        kind=str(manifest.obj.get("kind", "")),
        name=str(named.get("name", "")),
        namespace=str(named.get("namespace") or ""),
        field=field,
        message=message,
    )
    return Notice(severity=Severity.WARNING, rule=rule, problem=problem)
