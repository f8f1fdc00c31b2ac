"""Kustomizations: whether a folder is one, and what `kubectl kustomize` makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Arity, Flag, UsageError
from hookstead.cli.hooks.kubectl import Kubectl

if TYPE_CHECKING:
    from pathlib import Path

NAMES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")


def flag(help_text: str) -> Flag:
    """`--kustomize` of a command."""
    return Flag(name="kustomize", arity=Arity.SWITCH, default=False, help=help_text)


def is_kustomization(folder: Path) -> bool:
    """Whether kubectl would build it."""
    return any((folder / name).is_file() for name in NAMES)


def require(folder: Path, *, prog: str) -> None:
    """Raise UsageError where there is nothing to build."""
    if not is_kustomization(folder):
        raise UsageError(f"{prog}: --kustomize: {folder} has no kustomization.yaml")


def build(folder: Path) -> str:
    """The manifests. Raises CommandError with kubectl's words."""
    return Kubectl().run("kustomize", str(folder))
