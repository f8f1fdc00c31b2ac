"""The kinds as JSON Schema files, for editors and kubeconform, generated from `crds/` so that they cannot drift.

`python -m hookstead.cli.json_schemas CRDS OUT` writes `OUT/<group>/<kind>_<version>.json`, in lower case: the layout of
kubeconform's `-schema-location '…/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json'`. `all_<version>.json`
takes an object of any of the kinds, for files that have several. Rules in CEL have no counterpart here:
`hookstead validate` judges those.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""What the YAML language server and kubeconform both read in full."""
_KEPT: Final = (
    "description",
    "type",
    "default",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
)
_TEXTS: Final = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
_METADATA: Final[Mapping[str, Any]] = {
    "description": "metadata is that of every Kubernetes object; name is required.",
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 63},
        "namespace": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
    },
}


def files(crds: Path) -> dict[str, str]:
    """Path below the output folder: content. `crds` is the folder of the definitions."""
    written: dict[str, str] = {}
    together: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(crds.glob("*.yaml")):
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        spec = definition["spec"]
        for version in spec["versions"]:
            name = f"{spec['names']['kind'].lower()}_{version['name']}.json"
            written[f"{spec['group']}/{name}"] = _text(schema_of(spec, version))
            together.setdefault((spec["group"], version["name"]), {})[spec["names"]["kind"]] = name
    for (group, version_name), kinds in together.items():
        written[f"{group}/all_{version_name}.json"] = _text(_any_of(group, version_name, kinds))
    return written


def schema_of(spec: Mapping[str, Any], version: Mapping[str, Any]) -> dict[str, Any]:
    """One kind in one version; unknown fields are refused, as kubectl does it."""
    root = version["schema"]["openAPIV3Schema"]
    kind, group = spec["names"]["kind"], spec["group"]
    properties = root["properties"]
    return {
        "$schema": DIALECT,
        "title": kind,
        "description": _inline(root["description"]),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", *(name for name in root.get("required", ()) if name == "spec")],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": f"{group}/{version['name']}"},
            "kind": {"const": kind},
            "metadata": dict(_METADATA),
            "spec": _node(properties["spec"]),
            "status": {"description": "status is written by the operator; what stands here is ignored."},
        },
    }


def _node(schema: Mapping[str, Any]) -> dict[str, Any]:
    """One place of a structural schema, without what only an API server understands."""
    node = {key: schema[key] for key in _KEPT if key in schema}
    if "description" in node:
        node["description"] = _inline(node["description"])
    if schema.get("format") == "date-time":
        node["format"] = "date-time"
    if "properties" in schema:
        node["properties"] = {name: _node(part) for name, part in schema["properties"].items()}
    if "items" in schema:
        node["items"] = _node(schema["items"])
        if schema.get("x-kubernetes-list-type") == "set":
            node["uniqueItems"] = True
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        node["additionalProperties"] = False
    return node


def _any_of(group: str, version: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    """By kind, so that an editor tells what is wrong with that kind and not with all of them."""
    return {
        "$schema": DIALECT,
        "title": f"Objects of {group}/{version}",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": list(kinds)}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": name}}
            for kind, name in kinds.items()
        ],
    }


def _inline(text: str) -> str:
    return " ".join(text.split())


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write the files; those of kinds that no longer exist are removed."""
    if len(argv) != 2:
        print("usage: python -m hookstead.cli.json_schemas CRDS OUT", file=sys.stderr)
        return 2
    out = Path(argv[1])
    wanted = files(Path(argv[0]))
    for stale in set(out.rglob("*.json")) - {out / name for name in wanted}:
        stale.unlink()
    for name, content in wanted.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
