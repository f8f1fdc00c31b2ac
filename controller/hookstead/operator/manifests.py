"""From an object of the API server to a typed value, or to the list of what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hookstead.config.compile import Rejected
from hookstead.resources.metadata import to_meta
from hookstead.resources.parse import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hookstead.resources.kinds import Kind, Resource


def read_manifest(kind: Kind, body: Mapping[str, Any]) -> Resource | Rejected:
    """Never raises: whatever is wrong with the object becomes its verdict.

    The API server has validated it; but a CRD of another version may let through what this one does not know.
    Status is not judged: it is ours, and what a release of tomorrow wrote into it makes no spec invalid.
    """
    parsed = parse({name: part for name, part in body.items() if name != "status"})
    if isinstance(parsed, list):
        meta = to_meta(body["metadata"], namespace="default")
        return Rejected(kind=kind, meta=meta, problems=tuple(parsed))
    return parsed
