"""The custom resource definitions in `crds/`, which are the source of truth: loaded once, offline.

An installed wheel carries them as `hookstead/crds`; a checkout has them at its top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from hookstead.resources.kinds import VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

_CHECKOUT: Final = Path(__file__).resolve().parents[3] / "crds"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Definition:
    """One kind's definition. `schema` is `openAPIV3Schema` of the version that we speak."""

    kind: Kind
    document: Mapping[str, Any]
    schema: Mapping[str, Any]


def folder() -> Traversable:
    """Where the definitions are. Raises FileNotFoundError where neither place has them."""
    packaged = files("hookstead") / "crds"
    if packaged.is_dir():
        return packaged
    if _CHECKOUT.is_dir():
        return _CHECKOUT
    raise FileNotFoundError("the custom resource definitions are missing: reinstall hookstead")


@cache
def definitions() -> Mapping[Kind, Definition]:
    """Every kind's definition. Takes some 50 ms the first time."""
    loaded = (_load(folder() / f"{kind.plural}.yaml", kind) for kind in Kind)
    return {definition.kind: definition for definition in loaded}


def _load(file: Traversable, kind: Kind) -> Definition:
    document = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506  (a safe loader, ours)
    version = next(entry for entry in document["spec"]["versions"] if entry["name"] == VERSION)
    return Definition(kind, document, version["schema"]["openAPIV3Schema"])
