"""Writes what is generated of the charts: the CRDs of hookstead-crds, the READMEs, a part of hookstead's schema.

    python tests/charts/generate.py crds|readme|schema CHART OUT

`crds`: crds/*.yaml as templates that Helm keeps on deletion. `readme`: from the comments of values.yaml and the types
of values.schema.json. `schema`: the schema with `definitions.environment` taken from the CRD, so that both refuse the
same.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP: Final = Path(__file__).resolve().parents[2]
CRDS: Final = TOP / "crds"
CHARTS: Final = TOP / "charts"
ENVIRONMENT: Final = "webhookenvironments.yaml"

_KEEP: Final = "  annotations:\n    helm.sh/resource-policy: keep\n"
_LABELS: Final = "    {{- with .Values.commonLabels }}\n    {{- toYaml . | nindent 4 }}\n    {{- end }}\n"
_COPIED: Final = frozenset(
    {"type", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems", "description"}
)


# ------------------------------------------------------------------------------------------------- CRDs


def crd_templates() -> dict[str, str]:
    """File name: the CRD as a template. Its text stays as it is; the annotation and the common labels are added."""
    return {file.name: _template(file.read_text(encoding="utf-8")) for file in sorted(CRDS.glob("*.yaml"))}


def _template(text: str) -> str:
    if "{{" in text:
        raise ValueError("a CRD has {{ in it, which Helm would take for its own: escape it here first")
    head, labels, rest = text.partition("    app.kubernetes.io/component: crds\n")
    if not labels or "\n  annotations:" in head:
        raise ValueError("expected metadata with labels, app.kubernetes.io/component last, and no annotations")
    return head.replace("\nmetadata:\n", f"\nmetadata:\n{_KEEP}", 1) + labels + _LABELS + rest


# ------------------------------------------------------------------------------------------------- schema


def schema(chart: str) -> str:
    """The chart's schema with the environment's fields as the CRD has them now."""
    document = json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))
    crd = yaml.safe_load((CRDS / ENVIRONMENT).read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    environment = _closed(spec)
    environment["properties"]["create"] = {
        "description": "create is whether the release renders the WebhookEnvironment.",
        "type": "boolean",
    }
    environment["required"] = ["create", "state"]
    document["definitions"]["environment"] = environment
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _closed(node: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as draft 7, closed: the API server would drop what it does not know."""
    made = {key: value for key, value in node.items() if key in _COPIED}
    if "properties" in node:
        made["additionalProperties"] = False
        made["properties"] = {name: _closed(child) for name, child in node["properties"].items()}
    if "items" in node:
        made["items"] = _closed(node["items"])
    if node.get("x-kubernetes-list-type") == "set":
        made["uniqueItems"] = True
    return made


# ------------------------------------------------------------------------------------------------- README


@dataclass(frozen=True, slots=True)
class Value:
    """One documented key of values.yaml."""

    path: tuple[str, ...]
    default: Any
    description: str


def documented(chart: str) -> Iterator[Value]:
    """Every key with a comment above it, in the file's order; the comment of the file's head is not one."""
    text = (CHARTS / chart / "values.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text)
    assert root is not None
    yield from _walk(root, text.splitlines(), ())


def undocumented(chart: str) -> list[str]:
    """Leaves without a comment of their own or of the map that they stand in."""
    text = (CHARTS / chart / "values.yaml").read_text(encoding="utf-8")
    known = {value.path for value in documented(chart)}
    return [
        ".".join(path)
        for path in _leaves(yaml.safe_load(text), ())
        if not any(path[:length] in known for length in range(1, len(path) + 1))
    ]


def _walk(node: yaml.Node, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        here = (*path, key.value)
        description = _comment(lines, key.start_mark.line)
        if description:
            yield Value(here, yaml.safe_load(yaml.serialize(value)), description)
        elif isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _walk(value, lines, here)


def _comment(lines: list[str], line: int) -> str:
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("# "):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("# "))
    return " ".join(found)


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path


def typed(chart: str, path: tuple[str, ...]) -> str:
    """What values.schema.json takes at a path, for people."""
    document = json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))
    node = document
    for name in path:
        node = _resolved(document, node)["properties"][name]
    node = _resolved(document, node)
    if "enum" in node:
        return ", ".join(f"`{one}`" for one in node["enum"])
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return " or ".join(kinds)


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def readme(chart: str) -> str:
    """The chart's README: what it is, and a table of its values."""
    about = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text(encoding="utf-8"))
    lines = [
        f"<!-- Generated from Chart.yaml, values.yaml and values.schema.json of {chart}: `make generate`. -->",
        "",
        f"# {chart}",
        "",
        about["description"],
        "",
        f"Version {about['version']}, of Hookstead {about['appVersion']}. Kubernetes `{about['kubeVersion']}`.",
        "How to install, upgrade and remove it: [docs/install.md](../../docs/install.md).",
        "",
        "## Values",
        "",
        "`values.schema.json` refuses every other key, so that a slip is an error and not a default.",
        "",
        "| key | type | default | |",
        "| --- | --- | --- | --- |",
    ]
    for value in documented(chart):
        name = ".".join(value.path)
        lines.append(
            f"| `{name}` | {typed(chart, value.path)} | `{_shown(value.default)}` | {_cell(value.description)} |"
        )
    files = sorted(file.name for file in (CHARTS / chart).glob("values-*.yaml"))
    if files:
        lines += ["", "Values for usual environments, each a file beside this one: " + ", ".join(files) + "."]
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


def _cell(text: str) -> str:
    return re.sub(r"<(\S+?)>", r"&lt;\1&gt;", text.replace("|", "\\|"))


def main(what: str, chart: str, out: str) -> int:
    target = Path(out)
    match what:
        case "crds":
            target.mkdir(parents=True, exist_ok=True)
            for name, text in crd_templates().items():
                (target / name).write_text(text, encoding="utf-8")
        case "schema":
            target.write_text(schema(chart), encoding="utf-8")
        case "readme":
            target.write_text(readme(chart), encoding="utf-8")
        case _:
            raise SystemExit(f"unknown: {what}; crds, readme or schema")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
