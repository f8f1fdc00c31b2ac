"""Manifests as kubectl reads them: several documents in a file, `List` kinds, YAML as Go's library has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from hookstead.resources.problem import field_path
from hookstead.resources.yaml_nodes import Node, YamlError, parse_document

_SEPARATOR: Final = re.compile(r"---\s*(?:#.*)?")
_STEP: Final = re.compile(r'\.?([A-Za-z_$][\w$-]*)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    source: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is read otherwise than it looks: a warning."""

    position: Position
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A document, or an entry of a List, that is no object. `is_foreign`: it does not even look like one."""

    position: Position
    message: str
    is_foreign: bool = False

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of any kind, as JSON, and where it stands."""

    source: str
    line: int
    obj: dict[str, Any]
    node: Node = field(repr=False, compare=False)

    def position(self, path: str = "", *, of_key: bool = False) -> Position:
        """The place of a field such as `spec.channelRefs[1].name`, or of the nearest thing around it.

        `of_key`: of its name instead of its value, where it has one.
        """
        node = self.node
        for name, index, quoted in _STEP.findall(path):
            found = _step_into(node, name or quoted, index)
            if found is None:
                break
            node = found
        line, column = node.key_place if of_key and node.key_place else (node.line, node.column)
        return Position(self.source, line, column)

    def notes(self) -> list[Note]:
        """Every scalar and key that is read otherwise than it looks, such as an unquoted `no`."""
        return list(_notes(self.source, self.node, ()))


def read_manifests(content: str | bytes, *, source: str) -> list[Manifest | Unreadable]:
    """Every object of a file, in order; what is no object is Unreadable. Never raises on bad content.

    Lists are taken apart. Empty documents are left out. `source` is the file's name for messages.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [Unreadable(Position(source, line, 1), "is not UTF-8: save it as UTF-8")]
    found: list[Manifest | Unreadable] = []
    for first_line, document in _documents(text.removeprefix("\ufeff")):
        try:
            node = parse_document(document, first_line=first_line)
        except YamlError as error:
            found.append(Unreadable(Position(source, error.line, error.column), str(error)))
            continue
        if node is not None:
            found.extend(_objects(source, node))
    return found


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """Each document with the number of its first line; kubectl cuts before it parses, and so do we."""
    first, lines = 1, list[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("---") and _SEPARATOR.fullmatch(line.rstrip("\r")):
            yield first, "\n".join([*lines, ""])
            first, lines = number + 1, []
        else:
            lines.append(line)
    yield first, "\n".join(lines)


def _objects(source: str, node: Node, *, in_list: bool = False) -> Iterator[Manifest | Unreadable]:
    position = Position(source, node.line, node.column)
    members = node.members
    if members is None:
        yield Unreadable(position, "must be an object with apiVersion, kind and metadata")
        return
    kind = members["kind"].value if "kind" in members else None
    if not isinstance(kind, str) or not kind:
        is_foreign = not in_list and not {"apiVersion", "kind", "metadata", "spec"} & members.keys()
        yield Unreadable(position, "kind: is required: say what the object is, such as WebhookEndpoint", is_foreign)
        return
    items = members.get("items")
    if kind.endswith("List") and items is not None and items.items is not None:
        if in_list:
            yield Unreadable(position, "must not be a List within a List: put its items into the outer one")
            return
        for item in items.items:
            yield from _objects(source, item, in_list=True)
        return
    if kind == "List" and items is not None and items.to_json() is not None:
        # Taken for an object of a foreign kind it would vanish without a word, and everything in it.
        yield Unreadable(Position(source, items.line, items.column), "items: must be a list of objects")
        return
    yield Manifest(source=source, line=node.line, obj=node.to_json(), node=node)


def _step_into(node: Node, name: str, index: str) -> Node | None:
    if index:
        items = node.items or []
        return items[int(index)] if int(index) < len(items) else None
    return (node.members or {}).get(name)


def _notes(source: str, node: Node, path: tuple[str | int, ...]) -> Iterator[Note]:
    if node.note is not None:
        yield Note(Position(source, node.line, node.column), field_path(path), node.note)
    for line, column, message in node.key_notes:
        yield Note(Position(source, line, column), field_path(path), f"the key {message}")
    for name, member in (node.members or {}).items():
        yield from _notes(source, member, (*path, name))
    for index, item in enumerate(node.items or ()):
        yield from _notes(source, item, (*path, index))
