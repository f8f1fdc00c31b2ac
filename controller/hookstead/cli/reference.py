"""The reference pages of the kinds, one per file of `crds/`, generated so that they cannot drift from it.

`python -m hookstead.cli.reference CRDS OUT` writes `OUT/<kind>.md` and `OUT/README.md`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Schema = dict[str, Any]

_ORDER: Final = (
    "WebhookEnvironment",
    "WebhookEndpoint",
    "WebhookChannel",
    "WebhookEventType",
    "WebhookReplay",
)
_BANNER: Final = "<!-- Generated from crds/ by `make generate`. Edit the descriptions there. -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One field of a page: its path under the object, its schema, whether its parent requires it."""

    path: str
    schema: Schema
    required: bool


def pages(crds: Path) -> dict[str, str]:
    """File name: content, of every page. `crds` is the folder of the definitions."""
    definitions = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(crds.glob("*.yaml"))]
    definitions.sort(key=lambda definition: _ORDER.index(definition["spec"]["names"]["kind"]))
    written = {_file(definition): page(definition) for definition in definitions}
    return {"README.md": _index(definitions), **written}


def page(definition: Mapping[str, Any]) -> str:
    """One kind's page, in Markdown."""
    names = definition["spec"]["names"]
    version = definition["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    parts = [
        _BANNER,
        f"# {names['kind']}\n",
        _prose(schema["description"], names["kind"]) + "\n",
        _facts(definition),
        _rules(schema),
        _section("spec", schema["properties"]["spec"]),
        _section("status", schema["properties"]["status"]),
        _columns(version["additionalPrinterColumns"]),
    ]
    return "\n".join(part for part in parts if part)


def rows(schema: Schema, path: str) -> Iterator[Row]:
    """Every field below `schema`, in the order of the definition, parents before children."""
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield Row(below, field, name in required)
        inner = field.get("items", field) if field.get("type") == "array" else field
        yield from rows(inner, f"{below}[]" if field.get("type") == "array" else below)


def _index(definitions: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        _BANNER,
        "# Reference\n",
        "The five kinds, field by field.\n",
        "| kind | short name | what it is |",
        "| --- | --- | --- |",
    ]
    for definition in definitions:
        names = definition["spec"]["names"]
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        sentence = _prose(schema["description"], names["kind"]).split(". ")[0].rstrip(".")
        lines.append(f"| [{names['kind']}]({_file(definition)}) | `{names['shortNames'][0]}` | {_cell(sentence)}. |")
    return "\n".join(lines) + "\n"


def _file(definition: Mapping[str, Any]) -> str:
    return f"{definition['spec']['names']['singular']}.md"


def _facts(definition: Mapping[str, Any]) -> str:
    spec, names = definition["spec"], definition["spec"]["names"]
    version = spec["versions"][0]
    selectable = [f"`{field['jsonPath'].removeprefix('.')}`" for field in version.get("selectableFields", ())]
    facts = [
        ("API version", f"`{spec['group']}/{version['name']}`"),
        ("Scope", spec["scope"]),
        ("kubectl", f"`{names['plural']}`, `{names['shortNames'][0]}`, category `{names['categories'][0]}`"),
        ("Field selectors", ", ".join(selectable) or "none"),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts)]) + "\n"


def _rules(schema: Schema) -> str:
    found = schema.get("x-kubernetes-validations", ())
    if not found:
        return ""
    return "\n".join(["Rules:\n", *(f"- {_inline(rule['message'])}" for rule in found)]) + "\n"


def _section(name: str, schema: Schema) -> str:
    parts = [f"## {name}\n", _inline(schema["description"]) + "\n"]
    own = _rules(schema)
    if own:
        parts.append(own)
    parts += [_field(row) for row in rows(schema, name)]
    return "\n".join(parts)


def _field(row: Row) -> str:
    facts = [_type(row.schema), *(["required"] if row.required else []), *_bounds(row.schema)]
    lines = [f"### `{row.path}`\n", f"*{', '.join(facts)}*\n", _prose_of_field(row) + "\n"]
    rules = _rules(row.schema)
    return "\n".join([*lines, rules] if rules else lines)


def _prose_of_field(row: Row) -> str:
    return _inline(row.schema.get("description", ""))


def _type(schema: Schema) -> str:
    if schema.get("enum"):
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any value")
    if kind == "array":
        listed = {"set": "set", "map": f"map by {', '.join(schema.get('x-kubernetes-list-map-keys', ()))}"}
        of = listed.get(schema.get("x-kubernetes-list-type", "atomic"), "list")
        return f"{of} of {schema['items'].get('type', 'value')}s"
    form = schema.get("format")
    return form if form in ("date-time", "byte") else str(kind)


def _bounds(schema: Schema) -> list[str]:
    bounds = []
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
    ):
        if low in schema and high in schema:
            bounds.append(f"{schema[low]}–{schema[high]}{unit}")
        elif high in schema:
            bounds.append(f"at most {schema[high]}{unit}")
    if "pattern" in schema:
        bounds.append(f"matches `{schema['pattern']}`")
    if "default" in schema and schema["default"] not in ({}, []):
        bounds.append(f"default `{_plain(schema['default'])}`")
    return bounds


def _plain(value: object) -> str:
    match value:
        case list():
            return ", ".join(map(str, value))
        case dict():
            return ", ".join(f"{key}: {inner}" for key, inner in value.items())
        case _:
            return str(value)


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    lines = ["## Columns of `kubectl get`\n", "| column | shows |", "| --- | --- |"]
    for column in columns:
        wide = " (`-o wide`)" if column.get("priority", 0) else ""
        lines.append(f"| {column['name']}{wide} | {_cell(column.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _prose(description: str, kind: str) -> str:
    """The description without the kind's name in front: the heading has it."""
    told = _inline(description)
    for lead in (f"{kind} is ", f"{kind} "):
        if told.startswith(lead):
            rest = told.removeprefix(lead)
            return rest[:1].upper() + rest[1:]
    return told


def _inline(text: str) -> str:
    """One paragraph; what Markdown would take for an element or emphasis is escaped."""
    joined = " ".join(text.split())
    for char in ("<", "*"):
        joined = joined.replace(char, "\\" + char)
    return joined


def _cell(text: str) -> str:
    return _inline(text).replace("|", "\\|")


def main(argv: Sequence[str]) -> int:
    """Write the pages; pages of kinds that no longer exist are removed."""
    if len(argv) != 2:
        print("usage: python -m hookstead.cli.reference CRDS OUT", file=sys.stderr)
        return 2
    out = Path(argv[1])
    out.mkdir(parents=True, exist_ok=True)
    wanted = pages(Path(argv[0]))
    for stale in set(out.glob("*.md")) - {out / name for name in wanted}:
        stale.unlink()
    for name, content in wanted.items():
        (out / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
