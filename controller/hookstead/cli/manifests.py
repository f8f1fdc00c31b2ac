"""The objects of one manifest file, for programs that take a file as a whole or not at all."""

from __future__ import annotations

from typing import Any

from hookstead.resources.manifests import Unreadable, read_manifests


def read_objects(text: str, source: str) -> list[dict[str, Any]]:
    """Every object, Lists taken apart. Raises ValueError with the place and what is wrong there."""
    objects: list[dict[str, Any]] = []
    for found in read_manifests(text, source=source):
        if isinstance(found, Unreadable):
            raise ValueError(str(found))
        objects.append(found.obj)
    return objects
