"""`metadata` as the API server judges it, and what the product keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from hookstead.resources.kinds import GROUP, Meta
from hookstead.resources.schema_messages import kind_of_value, unknown_name

Path: TypeAlias = tuple[str | int, ...]
Finding: TypeAlias = tuple[Path, str]

FIELDS: Final = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_PART: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SUBDOMAIN_WORDS: Final = (
    "lower-case letters, digits, - and ., with a letter or digit at both ends, at most 253 characters long"
)
_ANNOTATIONS_LIMIT: Final = 262_144


def findings(metadata: Any) -> Iterator[Finding]:
    """What is wrong with `metadata`. A name is required: `kubectl apply` takes no generateName."""
    if not isinstance(metadata, Mapping):
        yield ("metadata",), "must be a mapping with a name: add it"
        return
    for name in metadata:
        if name not in FIELDS:
            yield ("metadata", str(name)), unknown_name(str(name), FIELDS, "is not a field of metadata")
    yield from _name_findings(metadata.get("name"))
    yield from _namespace_findings(metadata.get("namespace"))
    for field in ("labels", "annotations"):
        yield from _string_map_findings(field, metadata.get(field))


def _name_findings(name: Any) -> Iterator[Finding]:
    path = ("metadata", "name")
    if name is None or name == "":
        yield path, "is required: add it"
    elif not isinstance(name, str):
        yield path, f"must be a string, not {kind_of_value(name)}: put it in quotes"
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield path, f'must be {_SUBDOMAIN_WORDS}, not "{name[:80]}": correct it'


def _namespace_findings(namespace: Any) -> Iterator[Finding]:
    path = ("metadata", "namespace")
    if namespace is None or namespace == "":
        return
    if not isinstance(namespace, str):
        yield path, f"must be a string, not {kind_of_value(namespace)}: put it in quotes"
    elif len(namespace) > 63 or not _LABEL.fullmatch(namespace):
        yield path, f'must be the name of a namespace, not "{namespace[:80]}": correct it'


def _string_map_findings(field: str, value: Any) -> Iterator[Finding]:
    if value is None:
        return
    if not isinstance(value, Mapping):
        yield ("metadata", field), f"must be a mapping of strings, not {kind_of_value(value)}"
        return
    for key, item in value.items():
        path = ("metadata", field, str(key))
        if not _is_qualified_name(str(key) if field == "labels" else str(key).lower()):
            yield path, "must be a name of at most 63 letters, digits, -, _ and ., after an optional domain and /"
        if item is None:
            continue
        if not isinstance(item, str):
            yield path, f"must be a string, not {kind_of_value(item)}: put it in quotes"
        elif field == "labels" and not (item == "" or (len(item) <= 63 and _NAME_PART.fullmatch(item))):
            yield (
                path,
                f'must be at most 63 letters, digits, -, _ and ., not "{item[:80]}": a longer text is an annotation',
            )
    if field == "annotations" and _size(value) > _ANNOTATIONS_LIMIT:
        yield ("metadata", field), f"must be at most {_ANNOTATIONS_LIMIT} bytes in all: shorten them"


def _is_qualified_name(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    if slash and not (0 < len(domain) <= 253 and _SUBDOMAIN.fullmatch(domain)):
        return False
    return len(name) <= 63 and _NAME_PART.fullmatch(name) is not None


def _size(annotations: Mapping[Any, Any]) -> int:
    pairs = ((str(key), item) for key, item in annotations.items() if isinstance(item, str))
    return sum(len(key.encode("utf-8", "replace")) + len(item.encode("utf-8", "replace")) for key, item in pairs)


def to_meta(metadata: Mapping[str, Any], *, namespace: str) -> Meta:
    """What the product keeps of metadata that has no findings. `namespace` is for objects that name none."""
    generation = metadata.get("generation")
    annotations = metadata.get("annotations") or {}
    return Meta(
        name=metadata["name"],
        namespace=metadata.get("namespace") or namespace,
        uid=_text(metadata.get("uid")),
        generation=generation if isinstance(generation, int) and not isinstance(generation, bool) else 1,
        creation_time=_text(metadata.get("creationTimestamp")) or None,
        resource_version=_text(metadata.get("resourceVersion")),
        annotations={
            key: value for key, value in annotations.items() if key.startswith(f"{GROUP}/") and value is not None
        },
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
