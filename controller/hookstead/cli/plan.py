"""`hookstead plan PATH --against REF|live`: what a change of manifests does to deliveries, before it is merged."""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli import kustomize, plan_traffic
from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError, namespace, whole
from hookstead.cli.hooks.connection import (
    AS,
    AUDIENCE,
    CONTEXT,
    KUBECONFIG,
    RELEASE,
    SERVER,
    TOKEN_FILE,
    connect,
    point,
)
from hookstead.cli.hooks.kubectl import from_flags
from hookstead.cli.outcome import FINDINGS, OK
from hookstead.cli.plan_gateway import NOTE, observed, opened
from hookstead.cli.plan_report import EnvironmentPlan, Plan, PlanFinding, as_json, findings_of
from hookstead.cli.plan_sides import (
    Source,
    from_cluster,
    from_path,
    from_revision,
    merged,
    namespace_of_context,
    nearest_folder,
    pending_of,
    resolve,
    sides,
)
from hookstead.cli.plan_text import as_markdown, as_text
from hookstead.config.changes import Difference
from hookstead.config.difference import difference
from hookstead.config.lint import Severity

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hookstead.cli.assemble import Assembled, Raw
    from hookstead.cli.client import Gateway
    from hookstead.config.changes import Side
    from hookstead.delivery.forecast import Forecast

LIVE: Final = "live"
UNREADABLE: Final = "Unreadable"


def _duration(text: str) -> str:
    if not re.fullmatch(r"(?:\d{1,6}[smhdw])+", text):
        raise ValueError(f"{text!r} is not a duration such as 24h, 90m or 7d")
    return text


COMMAND: Final = Command(
    prog="hookstead plan",
    summary=(
        "Say what a change of manifests does to deliveries: endpoints that come, go and change, which event types and\n"
        "channels they start and stop to get, keys that stop signing, pending deliveries that end, schemas that break."
    ),
    epilog=(
        "PATH is what shall be, --against what is: `live` (the cluster's namespace, or the gateway at --server where\n"
        "no --kubeconfig or --context is given), a Git revision, or a file or folder (write ./name where a revision\n"
        "has the same name). Exit codes: 0, 1 where something breaks, 2 usage."
    ),
    arguments=(Argument(name="PATH", help="file, folder (.yaml and .yml, subfolders included), or - for stdin"),),
    flags=(
        Flag(name="against", required=True, metavar="REF|live", help="what to compare with"),
        Flag(name="output", short="o", choices=("text", "json", "markdown"), default="text", help="output format"),
        Flag(
            name="namespace",
            short="n",
            parse=namespace,
            default_text="`default`, with live the context's",
            help="the namespace of objects that name none",
        ),
        kustomize.flag("PATH is a kustomization: build both sides with `kubectl kustomize` first"),
        Flag(
            name="prune",
            arity=Arity.SWITCH,
            default=True,
            help="what is not in PATH goes; --no-prune: it stays as it is",
        ),
        KUBECONFIG,
        CONTEXT,
        AS,
        SERVER,
        TOKEN_FILE,
        RELEASE,
        AUDIENCE,
        Flag(
            name="with-traffic",
            metavar="DURATION",
            parse=_duration,
            help="replay what the gateway saw for so long, such as 24h, and count deliveries; the gateway is that of "
            "--server, else the namespace's",
        ),
        Flag(
            name="traffic-limit",
            metavar="EVENTS",
            parse=whole(minimum=1, maximum=10_000_000, unit="events"),
            default=100_000,
            help="replay at most the newest so many events",
        ),
    ),
)

RENDER: Final = {"text": as_text, "json": as_json, "markdown": as_markdown}


def run(given: argparse.Namespace) -> int:
    """Print the plan; 1 where it breaks something."""
    plan = make(given, now_ms=time.time_ns() // 1_000_000)
    print(RENDER[given.output](plan))
    return FINDINGS if plan.has_errors else OK


def make(given: argparse.Namespace, *, now_ms: int) -> Plan:
    """The plan that the flags ask for. Raises UsageError, CommandError."""
    if given.namespace is None:
        asks_kubectl = given.against == LIVE and not _is_told_by_gateway(given)
        given.namespace = namespace_of_context(from_flags(given)) if asks_kubectl else "default"
    new = _wanted(given)
    old = _present(given, sorted(new.objects) or [given.namespace])
    if not _is_there(given.path) and not old.objects:
        raise UsageError(f"hookstead plan: {given.path}: no such file or folder, neither now nor at {given.against}")
    spaces = sorted({*old.objects, *new.objects}) or [given.namespace]
    asks_a_gateway = given.server is not None or given.with_traffic is not None
    if asks_a_gateway and len(spaces) > 1:
        raise UsageError(
            f"hookstead plan: a gateway serves one namespace, and these are {', '.join(spaces)}: plan one at a time"
        )
    if asks_a_gateway and spaces:
        given.namespace = spaces[0]
    notes = [f"{text} (before the change: left out)" for text in old.unreadable]
    if not given.kustomize and given.path != "-" and kustomize.is_kustomization(Path(given.path)):
        notes.append(f"{given.path} is a kustomization: --kustomize plans what kubectl makes of it, not its parts.")
    findings = [PlanFinding(severity=Severity.ERROR, rule=UNREADABLE, message=text) for text in new.unreadable]
    environments = []
    with connect(given) if asks_a_gateway else contextlib.nullcontext() as gateway:
        for name in spaces:
            one = _Space(name, old.objects.get(name, ()), new.objects.get(name, ()), is_pruned=given.prune)
            if gateway is not None and _is_told_by_gateway(given):
                one.ask(gateway)
            changes = difference(one.old, one.new, now_ms=now_ms)
            traffic = None if gateway is None else _traffic(given, gateway, one, notes, now_ms)
            pending = _pending(changes, one, gateway)
            environments.append(EnvironmentPlan(changes=changes, pending=pending, traffic=traffic))
            findings += [*one.complaints(), *findings_of(changes, traffic)]
            notes += one.notes(is_live=given.against == LIVE)
    return Plan(
        before=old.label,
        after=new.label,
        environments=tuple(environments),
        findings=tuple(sorted(findings, key=lambda one: one.severity is not Severity.ERROR)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _is_there(path: str) -> bool:
    return path == "-" or Path(path).exists()


def _wanted(given: argparse.Namespace) -> Source:
    """What shall be; nothing where the path is gone, which a revision may still have."""
    if not _is_there(given.path):
        if given.against == LIVE or _is_path(given.against):
            raise UsageError(f"hookstead plan: {given.path}: no such file or folder")
        return Source(label=f"{given.path}, which is gone")
    if given.kustomize:
        kustomize.require(Path(given.path), prog=COMMAND.prog)
    return from_path(given.path, namespace=given.namespace, kustomize=given.kustomize)


def _present(given: argparse.Namespace, spaces: Sequence[str]) -> Source:
    against = given.against
    if _is_told_by_gateway(given):
        return Source(label=f"what the gateway at {given.server} runs")
    if against == LIVE:
        return from_cluster(from_flags(given), spaces)
    folder = nearest_folder(Path(given.path).resolve())
    if not _is_path(against) and given.path != "-" and resolve(against, folder) is not None:
        return from_revision(given.path, against, namespace=given.namespace, kustomize=given.kustomize)
    if Path(against).exists():
        return from_path(against, namespace=given.namespace, kustomize=given.kustomize)
    if given.path == "-":
        raise UsageError(f"hookstead plan: --against {against}: with - for PATH it must be `live`, or a file or folder")
    return from_revision(given.path, against, namespace=given.namespace, kustomize=given.kustomize)


def _is_told_by_gateway(given: argparse.Namespace) -> bool:
    """Whether `live` is a gateway by itself, such as `hookstead dev`: where it is named, and no cluster is."""
    return given.against == LIVE and given.server is not None and not (given.kubeconfig or given.context)


def _is_path(against: str) -> bool:
    """Whether it is written as a path, so that it can be nothing else."""
    return against.startswith(("./", "../", "/")) or against in (".", "..")


class _Space:
    """One namespace on its way through."""

    def __init__(self, name: str, old: Sequence[Raw], new: Sequence[Raw], *, is_pruned: bool) -> None:
        self.name: Final = name
        self._old_objects: Final = old
        self.old: Side
        self.new: Side
        self._assembled: Assembled
        self._is_told_by_gateway = False
        kept = new if is_pruned else merged(old, new)
        self.old, self.new, self._assembled, self._is_assumed = sides(old, kept, namespace=name)

    def ask(self, gateway: Gateway) -> None:
        """Take for the old side what a gateway tells of itself."""
        self.old, self.new = observed(gateway, self.new), opened(self.new)
        self._is_told_by_gateway, self._is_assumed = True, False

    def complaints(self) -> list[PlanFinding]:
        """What the new manifests hold that no API server would take as it is, and that is no object of ours."""
        return [
            PlanFinding(
                severity=complaint.notice.severity,
                rule=complaint.notice.rule,
                namespace=self.name,
                kind=complaint.notice.problem.kind,
                name=complaint.notice.problem.name,
                message=": ".join(
                    part for part in (complaint.notice.problem.field, complaint.notice.problem.message) if part
                ),
            )
            for complaint in self._assembled.complaints
        ]

    def notes(self, *, is_live: bool) -> list[str]:
        """What was assumed."""
        notes = []
        if self._is_assumed:
            notes.append(f"Namespace {self.name} has no WebhookEnvironment here: an Enabled one was assumed.")
        if self._is_told_by_gateway:
            return [NOTE]
        if is_live:
            notes.append("Secrets in the cluster were not read: whether their content changes is not known.")
        named = sorted(name for name in self.new.assumed if not name.endswith("-signing"))
        if named and not is_live:
            shown = ", ".join(named[:5]) + (" …" if len(named) > 5 else "")
            notes.append(f"Secrets that are not among the manifests were assumed to exist: {shown}.")
        return notes

    @property
    def live_pending(self) -> dict[str, int]:
        return pending_of(self._old_objects)


def _pending(changes: Difference, space: _Space, gateway: Gateway | None) -> dict[str, int | None]:
    touched = [change.name for change in changes.endpoints if change.pending is not None]
    if not touched:
        return {}
    known = space.live_pending if gateway is None else plan_traffic.pending(gateway)
    return {name: known.get(name) for name in touched}


def _traffic(
    given: argparse.Namespace, gateway: Gateway, space: _Space, notes: list[str], now_ms: int
) -> Forecast | None:
    if given.with_traffic is None:
        return None
    now = datetime.fromtimestamp(now_ms / 1000, tz=UTC)
    forecast, is_cut = plan_traffic.replay(
        gateway,
        space.old.config,
        space.new.config,
        since=point(now)(given.with_traffic),
        limit=given.traffic_limit,
        as_it_was=_is_told_by_gateway(given),
    )
    if is_cut:
        notes.append(f"There were more than {given.traffic_limit} events: only the newest were replayed.")
    return forecast
