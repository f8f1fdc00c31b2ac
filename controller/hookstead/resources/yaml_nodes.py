"""YAML text as a tree of JSON values that know their places, built from the parser's events.

Without recursion and within stated bounds, since a manifest may come from anybody: nesting, and the nodes that a
document has once its aliases are expanded, are limited.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from hookstead.resources.yaml_scalars import ScalarError, resolve, surprise

DEPTH_LIMIT: Final = 200
NODE_LIMIT: Final = 500_000
"""Nodes of one document with every alias expanded; the largest object that etcd takes has fewer."""
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "<<"


class YamlError(Exception):
    """Text that is no manifest, at a place: `line` and `column` count from 1."""

    def __init__(self, message: str, *, line: int, column: int) -> None:
        super().__init__(message)
        self.line: Final = line
        self.column: Final = column


@dataclass(slots=True)
class Node:
    """One value with its place. `value` is a scalar, or None beside `members` or `items`."""

    line: int
    column: int
    value: Any = None
    members: dict[str, Node] | None = None
    items: list[Node] | None = None
    size: int = 1
    note: str | None = None
    key_notes: list[tuple[int, int, str]] = field(default_factory=list)
    key_place: tuple[int, int] | None = None
    """Line and column of the key that it is the value of."""
    is_merge_key: bool = False
    is_open: bool = False
    pending: Node | None = None

    def to_json(self) -> Any:
        """The plain value: a copy that shares nothing."""
        if self.members is not None:
            return {name: node.to_json() for name, node in self.members.items()}
        if self.items is not None:
            return [node.to_json() for node in self.items]
        return self.value


def parse_document(text: str, *, first_line: int = 1) -> Node | None:
    """The tree of one document, or None where it is empty. Raises YamlError. `text` starts at `first_line`."""
    try:
        return _Builder(first_line).build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (first_line, 1) if mark is None else (mark.line + first_line, mark.column + 1)
        raise YamlError(f"is not YAML: {_words(error)}", line=line, column=column) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow: its place is an offset
        position = getattr(error, "position", 0) or 0
        before = text[:position]
        line = first_line + before.count("\n")
        reason = getattr(error, "reason", None) or str(error)
        raise YamlError(f"is not YAML: {reason}", line=line, column=position - before.rfind("\n")) from error
    except UnicodeError as error:
        raise YamlError("has an escape that stands for no character", line=first_line, column=1) from error


def _words(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(str(part) for part in (error.context, error.problem) if part) or "it cannot be read"


class _Builder:
    def __init__(self, first_line: int) -> None:
        self._first_line: Final = first_line
        self._stack: list[Node] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._documents = 0

    def build(self, text: str) -> Node | None:
        for event in yaml.parse(text, Loader=_LOADER):
            self._take(event)
        return self._root

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error("must be one document: put --- on a line of its own between two", event)
        elif isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event), event)
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._aliased(event), event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node = self._stack.pop()
            node.is_open = False
            self._add(node, event)

    def _error(self, message: str, event: Any) -> YamlError:
        mark = event.start_mark
        return YamlError(message, line=mark.line + self._first_line, column=mark.column + 1)

    def _node(self, event: Any, **fields: Any) -> Node:
        node = Node(line=event.start_mark.line + self._first_line, column=event.start_mark.column + 1, **fields)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        is_plain = event.style is None or event.style == ""
        tag = None if event.tag in (None, "!") else event.tag
        try:
            value = resolve(event.value, tag=tag, is_plain=is_plain and event.tag is None)
        except ScalarError as error:
            raise self._error(str(error), event) from error
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self._error("has an escape that stands for no character", event)
        plain = is_plain and tag is None
        return self._node(
            event,
            value=value,
            note=surprise(event.value, value) if plain else None,
            is_merge_key=plain and event.value == _MERGE,
        )

    def _aliased(self, event: Any) -> Node:
        target = self._anchors.get(event.anchor)
        if target is None:
            raise self._error(f"refers to *{event.anchor}, which is not defined before it", event)
        if target.is_open:
            raise self._error(f"refers to *{event.anchor} within itself: JSON cannot hold that", event)
        return Node(
            line=event.start_mark.line + self._first_line,
            column=event.start_mark.column + 1,
            value=target.value,
            members=target.members,
            items=target.items,
            size=target.size,
        )

    def _open(self, event: Any) -> None:
        if len(self._stack) >= DEPTH_LIMIT:
            raise self._error(f"must nest at most {DEPTH_LIMIT} deep", event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = self._node(event, members={} if is_mapping else None, items=None if is_mapping else [])
        node.is_open = True
        self._stack.append(node)

    def _add(self, node: Node, event: Any) -> None:
        """Put a finished node where it belongs: into the innermost open collection, or at the root."""
        if not self._stack:
            self._root = None if node.members is None and node.items is None and node.value is None else node
            return
        parent = self._stack[-1]
        parent.size += node.size
        if parent.size > NODE_LIMIT:
            raise self._error(f"must have at most {NODE_LIMIT} values, aliases expanded", event)
        if parent.items is not None:
            parent.items.append(node)
        elif parent.pending is None:
            parent.pending = node
        else:
            key, parent.pending = parent.pending, None
            self._set(parent, key, node)

    def _set(self, parent: Node, key: Node, node: Node) -> None:
        members = parent.members if parent.members is not None else {}
        if key.is_merge_key and self._merge(members, node):
            return
        name = _key_of(key)
        if key.note is not None:
            parent.key_notes.append((key.line, key.column, key.note))
        earlier = members.get(name)
        if earlier is not None and not earlier.is_merge_key:
            raise YamlError(
                f'has the key "{name}" twice, first on line {earlier.line}: remove one of the two',
                line=key.line,
                column=key.column,
            )
        node.key_place = (key.line, key.column)
        members[name] = node

    def _merge(self, members: dict[str, Node], node: Node) -> bool:
        """Take over the members of `<<`; those written out win, whichever comes first."""
        sources = node.items if node.items is not None else [node]
        if any(source.members is None for source in sources):
            return False
        for source in sources:
            for name, member in (source.members or {}).items():
                if name not in members:
                    members[name] = _as_merged(member)
        return True


def _as_merged(node: Node) -> Node:
    return Node(
        line=node.line,
        column=node.column,
        value=node.value,
        members=node.members,
        items=node.items,
        size=node.size,
        is_merge_key=True,
    )


def _key_of(key: Node) -> str:
    if key.members is not None or key.items is not None or key.value is None:
        raise YamlError("must have a string as key: put it in quotes", line=key.line, column=key.column)
    if isinstance(key.value, bool):
        return str(key.value).lower()
    return f"{key.value:g}" if isinstance(key.value, float) else str(key.value)
