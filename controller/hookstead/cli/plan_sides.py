"""The two states that a plan compares: manifests from a folder, a file, stdin, a Git revision or a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hookstead.cli.assemble import Assembled, Raw, assemble, is_ours, is_secret, namespace_of
from hookstead.cli.assumed_secrets import assumed_secrets, without_unknown_tls
from hookstead.cli.flags import UsageError
from hookstead.cli.hooks.kubectl import Kubectl, KubectlError
from hookstead.cli.kustomize import build
from hookstead.cli.outcome import CommandError
from hookstead.cli.validate import read_texts
from hookstead.config.changes import Side
from hookstead.config.compile import Inputs, compile_environment
from hookstead.config.model import EnvironmentConfig
from hookstead.resources.kinds import (
    ENVIRONMENT_NAME,
    GROUP,
    Endpoint,
    Environment,
    EnvironmentSpec,
    EnvironmentState,
    EventType,
    Kind,
    Meta,
)
from hookstead.resources.manifests import Unreadable, read_manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The objects of one side by namespace, how a person calls it, and which files could not be read."""

    label: str
    objects: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------------------- from manifests


def from_path(path: str, *, namespace: str, kustomize: bool, label: str | None = None) -> Source:
    """From a file, a folder, or `-` for stdin. Raises UsageError where it does not exist."""
    texts = [(path, build(Path(path)))] if kustomize else list(read_texts([path]))
    objects: dict[str, list[Raw]] = defaultdict(list)
    unreadable: list[str] = []
    for name, text in texts:
        if isinstance(text, ValueError):
            unreadable.append(f"{name}: {text}")
            continue
        for found in read_manifests(text, source=name):
            if isinstance(found, Unreadable):
                unreadable.append(str(found))
            elif is_ours(found.obj) or is_secret(found.obj):
                objects[namespace_of(found.obj) or namespace].append(found.obj)
    return Source(label=label or path, objects=objects, unreadable=tuple(unreadable))


# ------------------------------------------------------------------------------------------------------------ from Git


def from_revision(path: str, revision: str, *, namespace: str, kustomize: bool) -> Source:
    """The same path as it is at a Git revision; nothing where it is not there. Raises CommandError, UsageError.

    The repository is only read: the files go to a temporary folder through an index of its own.
    """
    place = Path(path).resolve()
    folder = nearest_folder(place)
    commit = resolve(revision, folder)
    if commit is None:
        raise UsageError(
            f"hookstead plan: --against {revision}: is neither `live`, nor a Git revision here, nor a file or folder. "
            "In CI a shallow clone may lack it: fetch it first (actions/checkout: fetch-depth: 0)."
        )
    top = Path(_git(["rev-parse", "--show-toplevel"], folder).strip())
    label = revision if commit.startswith(revision) else f"{revision} ({commit[:8]})"
    inside = place.relative_to(top.resolve())
    with _checked_out(top, commit, only=None if kustomize else inside) as files:
        there = files / inside
        if not there.exists():
            return Source(label=f"{label}, where {inside} is not")
        source = from_path(str(there), namespace=namespace, kustomize=kustomize, label=label)
    shown = tuple(text.replace(f"{files}{os.sep}", f"{label}:") for text in source.unreadable)
    return replace(source, unreadable=shown)


def nearest_folder(place: Path) -> Path:
    """The folder of a path, or the nearest above it that is there: the path may have been deleted."""
    return next(one for one in (place, *place.parents) if one.is_dir())


def resolve(revision: str, folder: Path) -> str | None:
    """The commit that a revision names; None if it names none, or this is no repository.

    Raises CommandError where git refuses to look: a repository of another user's, as in a job's container.
    """
    if revision.startswith("-") or shutil.which("git") is None:
        return None
    found = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if "dubious ownership" in found.stderr:
        raise CommandError(f"git: {found.stderr.strip()}")
    return found.stdout.strip() or None if found.returncode == 0 else None


@contextmanager
def _checked_out(top: Path, commit: str, *, only: Path | None) -> Iterator[Path]:
    """A temporary folder with the files of a commit; `only` those at one path, since trees may be large."""
    with tempfile.TemporaryDirectory(prefix="hookstead-plan-") as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _git(["read-tree", commit], top, index)
        wanted = [] if only in (None, Path()) else [str(only)]
        names = _git(["ls-files", "-z", "--", *wanted], top, index)
        _git(["checkout-index", "-z", "--stdin", f"--prefix={files}{os.sep}"], top, index, given=names)
        yield files


def _git(arguments: Sequence[str], folder: Path, extra: Mapping[str, str] = {}, *, given: str = "") -> str:
    """What git says. Raises CommandError with its own words where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **extra},
            input=given,
        )
    except FileNotFoundError as error:
        raise CommandError("git is not on PATH, which --against a revision needs: install it.") from error
    if done.returncode:
        raise CommandError(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout


# ------------------------------------------------------------------------------------------------------ from a cluster


def from_cluster(kubectl: Kubectl, namespaces: Sequence[str]) -> Source:
    """The objects of our kinds in these namespaces; Secrets are not read. Raises CommandError."""
    kinds = ",".join(f"{kind.plural}.{GROUP}" for kind in Kind)
    objects = {
        namespace: kubectl.json("get", kinds, f"--namespace={namespace}").get("items", []) for namespace in namespaces
    }
    return Source(label=f"the cluster, namespace {', '.join(namespaces)}", objects=objects)


def namespace_of_context(kubectl: Kubectl) -> str:
    """The namespace that kubectl uses where none is said; `default` where there is no context to tell it."""
    try:
        return kubectl.run("config", "view", "--minify", "--output=jsonpath={..namespace}").strip() or "default"
    except KubectlError:  # no kubeconfig, as in a pod: if there is no way to a cluster, the next call says so
        return "default"


def pending_of(objects: Sequence[Raw]) -> dict[str, int]:
    """Deliveries that are pending by endpoint, as the operator wrote them into status."""
    found: dict[str, int] = {}
    for raw in objects:
        status = raw.get("status") or {}
        if raw.get("kind") == Kind.ENDPOINT.value and status.get("observedGeneration", -1) >= 0:
            found[raw["metadata"]["name"]] = (status.get("activity") or {}).get("pending", 0)
    return found


def merged(old: Sequence[Raw], new: Sequence[Raw]) -> list[Raw]:
    """What is there once `new` was applied to `old` without pruning."""

    def key(raw: Raw) -> tuple[str, str]:
        return str(raw.get("kind")), str((raw.get("metadata") or {}).get("name"))

    replaced = {key(raw) for raw in new}
    return [*(raw for raw in old if key(raw) not in replaced), *new]


# ------------------------------------------------------------------------------------------------------------- compiled


def sides(old: Sequence[Raw], new: Sequence[Raw], *, namespace: str) -> tuple[Side, Side, Assembled, bool]:
    """Both states of one namespace, the new one's objects, and whether an environment was assumed on both sides."""
    before, after = (assemble(list(enumerate(raws)), namespace=namespace) for raws in (old, new))
    inputs = [one.inputs(allow_loopback=True) for one in (before, after)]
    is_assumed = not any(one.environments for one in inputs)
    if is_assumed:
        inputs = [replace(one, environments=[_environment(namespace)]) for one in inputs]
    first = _side(inputs[0], before)
    kept = first.config.environment
    usable = kept if kept is not None and kept.verdict.is_accepted else None
    return first, _side(inputs[1], after, last_environment=usable), after, is_assumed


def _environment(namespace: str) -> Environment:
    return Environment(
        meta=Meta(name=ENVIRONMENT_NAME, namespace=namespace), spec=EnvironmentSpec(state=EnvironmentState.ENABLED)
    )


def _side(inputs: Inputs, assembled: Assembled, last_environment: EnvironmentConfig | None = None) -> Side:
    endpoints = [item for item in inputs.endpoints if isinstance(item, Endpoint)]
    types = [item for item in assembled.items if isinstance(item, EventType)]
    assumed = assumed_secrets(inputs.endpoints, inputs.secrets)
    completed = replace(
        inputs,
        endpoints=[without_unknown_tls(item, assumed) for item in inputs.endpoints],
        secrets={**assumed, **inputs.secrets},
        last_environment=last_environment,
    )
    return Side(
        config=compile_environment(completed).config,
        endpoints={item.meta.name: item.spec for item in endpoints},
        annotations={item.meta.name: item.meta.annotations for item in types},
        assumed=frozenset(assumed),
    )
