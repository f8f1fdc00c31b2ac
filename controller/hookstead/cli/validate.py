"""`hookstead validate PATH…`: what the operator would say of manifests, without a cluster."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli import kustomize, scan
from hookstead.cli.assemble import (
    Assembled,
    Complaint,
    Raw,
    assemble,
    generated_secret,
    is_ours,
    is_secret,
    namespace_of,
)
from hookstead.cli.assumed_secrets import Promised, as_secrets, promised_secrets, without_unknown_tls
from hookstead.cli.findings import (
    STDIN,
    Checked,
    LocatedFinding,
    as_github,
    as_gitlab,
    as_json,
    as_sarif,
    as_text,
    in_order,
)
from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError, namespace
from hookstead.cli.hazards import hazards
from hookstead.cli.outcome import FINDINGS, OK, say
from hookstead.config.compile import Inputs, compile_environment, signing_secret_name
from hookstead.config.lint import Notice, Severity, lint, missing_environment
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import ENVIRONMENT_NAME, Environment, EnvironmentSpec, EnvironmentState, Kind, Meta
from hookstead.resources.manifests import Manifest, Unreadable, read_manifests
from hookstead.resources.problem import Problem
from hookstead.resources.schema_messages import UNKNOWN_FIELD
from hookstead.resources.schema_typos import UNKNOWN_KEYWORD
from hookstead.resources.secret import Secret

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="hookstead validate",
    summary=(
        "Check manifests as the operator would judge them, without a cluster: schema, rules, references, duplicates,\n"
        "filters, samples against their schemas, and what is wrong with each environment as a whole."
    ),
    epilog=(
        "Errors exit 1, warnings 0 (1 with --strict). All paths together are taken for what will be applied; that\n"
        "nothing is there is an error. Where no Secret is among them, a missing one is a warning: Secrets usually are\n"
        "not in Git; those that an ExternalSecret or a SealedSecret among them makes are there."
    ),
    arguments=(
        Argument(name="PATH", nargs="+", help="file, folder (.yaml and .yml, subfolders included), or - for stdin"),
    ),
    flags=(
        Flag(
            name="output",
            short="o",
            choices=("text", "json", "sarif", "github", "gitlab"),
            default="text",
            help="output format; github and gitlab are the annotations of their pipelines",
        ),
        Flag(
            name="namespace",
            short="n",
            parse=namespace,
            default="default",
            help="the namespace of objects that name none",
        ),
        kustomize.flag("each PATH is a kustomization: check what `kubectl kustomize` makes of it"),
        Flag(name="strict", arity=Arity.SWITCH, default=False, help="exit 1 on warnings too"),
        Flag(
            name="allow-loopback",
            arity=Arity.SWITCH,
            default=None,
            default_text="allowed, with a warning",
            help="judge loopback ranges as an operator with that flag would, or --no-allow-loopback as one without",
        ),
    ),
)

RENDER: Final = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
    "gitlab": as_gitlab,
}
LOOPBACK_RANGE: Final = "LoopbackRange"
UNREADABLE: Final = "Unreadable"
NOTHING_FOUND: Final = "NothingFound"
NOT_A_MANIFEST: Final = "NotAManifest"
EXCERPT_LIMIT: Final = 200
"""Characters of a line that is shown; a longer one is a whole document, and what it says is not about one field."""
_STAND_IN_KEY: Final = Secret(b"whsec_" + b"A" * 44)


def run(given: argparse.Namespace) -> int:
    """Print the findings; 1 where there are errors."""
    texts = list(_built(given.path) if given.kustomize else read_texts(given.path))
    checked = check_all(given.path, texts, namespace=given.namespace, allow_loopback=given.allow_loopback)
    print(RENDER[given.output](checked))
    if not given.kustomize and checked.count(Severity.ERROR):
        _hint_at_kustomizations(given.path)
    failed = checked.count(Severity.ERROR) or (given.strict and checked.count(Severity.WARNING))
    return FINDINGS if failed else OK


def _built(paths: Sequence[str]) -> Iterator[tuple[str, str | ValueError]]:
    """What kubectl makes of each folder. Raises UsageError, CommandError."""
    for path in paths:
        kustomize.require(Path(path), prog=COMMAND.prog)
        yield path, kustomize.build(Path(path))


def _hint_at_kustomizations(paths: Sequence[str]) -> None:
    """An overlay's patches are no whole objects, which looks like a heap of errors."""
    for path in paths:
        if path != "-" and kustomize.is_kustomization(Path(path)):
            say(f"{path} is a kustomization: with --kustomize what kubectl makes of it is checked, not its parts.")


def check_all(
    paths: Sequence[str],
    texts: Sequence[tuple[str, str | ValueError]],
    *,
    namespace: str = "default",
    allow_loopback: bool | None = None,
) -> Checked:
    """As `check`; and that there is nothing to check at all is an error, or an empty pipe would pass for good."""
    checked = check(texts, namespace=namespace, allow_loopback=allow_loopback)
    if checked.manifests or checked.findings:
        return checked
    path = STDIN if paths[0] == "-" else paths[0]
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    message = f"no manifests in {path}{others}: {'is the pipe empty?' if path == STDIN else 'is the path right?'}"
    nothing = LocatedFinding(severity=Severity.ERROR, rule=NOTHING_FOUND, message=message, file=path)
    return replace(checked, findings=(nothing,))


def read_texts(paths: Sequence[str]) -> Iterator[tuple[str, str | ValueError]]:
    """Each file's name with its text, or with why it has none. Raises UsageError for a path that does not exist."""
    seen: set[str] = set()
    for path in paths:
        for name in _files(path):
            if name not in seen:
                seen.add(name)
                yield name, _text(name)


def _files(path: str) -> list[str]:
    if path == "-":
        return [STDIN]
    if not Path(path).exists():
        raise UsageError(f"hookstead validate: {path}: no such file or folder")
    if not Path(path).is_dir():
        return [path]
    return [str(Path(path) / name) for name in scan.stamps(Path(path))]


def _text(name: str) -> str | ValueError:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig") if name == STDIN else scan.read(Path(name))
    except UnicodeDecodeError:
        return ValueError("it is not UTF-8")
    except ValueError as problem:
        return problem


# ------------------------------------------------------------------------------------------------------ check


def check(
    texts: Sequence[tuple[str, str | ValueError]], *, namespace: str = "default", allow_loopback: bool | None = None
) -> Checked:
    """Everything that is wrong with the manifests in these files.

    `namespace` is for objects that name none. `allow_loopback` is the operator's flag; None warns where it matters.
    """
    manifests: list[Manifest] = []
    findings: list[LocatedFinding] = []
    for name, text in texts:
        if isinstance(text, ValueError):
            findings.append(_unreadable(name, str(text)))
            continue
        for found in read_manifests(text, source=name):
            if not isinstance(found, Unreadable):
                manifests.append(found)
            elif found.is_foreign:
                findings.append(_foreign(found))
            else:
                place = found.position
                findings.append(_unreadable(name, found.message, line=place.line, column=place.column))
    numbered = list(enumerate(manifests))
    ours = [(index, manifest) for index, manifest in numbered if is_ours(manifest.obj) or is_secret(manifest.obj)]
    for _, manifest in ours:
        if is_ours(manifest.obj):
            findings += [_locate(manifest, notice) for notice in hazards(manifest)]
    by_namespace: dict[str, list[tuple[int, Raw]]] = defaultdict(list)
    for index, manifest in ours:
        by_namespace[namespace_of(manifest.obj) or namespace].append((index, manifest.obj))
    for name, objects in by_namespace.items():
        assembled = assemble(objects, namespace=name)
        promised = promised_secrets(
            (manifest.obj for manifest in manifests), namespace=name, default_namespace=namespace
        )
        for complaint in _judge(assembled, promised, allow_loopback=allow_loopback):
            findings.append(_locate(manifests[complaint.index], complaint.notice, namespace=name))
    located = in_order(_with_excerpts(findings, dict(texts)))
    return Checked(files=len(texts), objects=len(ours), manifests=len(manifests), findings=located)


def _judge(
    assembled: Assembled, promised: Mapping[str, Promised], *, allow_loopback: bool | None
) -> Iterator[Complaint]:
    """The complaints of one namespace."""
    yield from assembled.complaints
    if not assembled.items:
        return
    inputs = assembled.inputs(allow_loopback=allow_loopback is not False)
    first = min(assembled.places.values())
    if not inputs.environments:
        yield Complaint(first, missing_environment(assembled.namespace))
    inputs = _completed(_with_promised(inputs, promised))
    notices = list(lint(inputs, compile_environment(inputs)))
    if allow_loopback is None:
        notices += _loopback_ranges(inputs)
    for notice in notices:
        index = assembled.places.get((notice.problem.kind, notice.problem.name), first)
        yield Complaint(index, _softened(notice, has_secrets=bool(assembled.secrets or promised)))


def _with_promised(inputs: Inputs, promised: Mapping[str, Promised]) -> Inputs:
    """With the Secrets that other objects make; their certificates are not known, and not judged."""
    made = {name: one for name, one in as_secrets(promised, inputs.endpoints).items() if name not in inputs.secrets}
    permitted = [name for name, one in made.items() if one.permitted]
    return replace(
        inputs,
        endpoints=[without_unknown_tls(item, permitted) for item in inputs.endpoints],
        secrets={**made, **inputs.secrets},
    )


def _loopback_ranges(inputs: Inputs) -> Iterator[Notice]:
    """`hookstead dev` opens them; a cluster refuses them, unless somebody really wanted otherwise."""
    for item in inputs.environments:
        if not isinstance(item, Environment):
            continue
        for index, cidr in enumerate(item.spec.egress.allowed_cidrs):
            if cidr.startswith(("127.", "::1/")):
                problem = Problem(
                    kind=Kind.ENVIRONMENT.value,
                    name=item.meta.name,
                    field=f"spec.egress.allowedCIDRs[{index}]",
                    message=f"{cidr} is loopback: `hookstead dev` opens it, an operator without --allow-loopback "
                    "refuses the environment for it",
                )
                yield Notice(severity=Severity.WARNING, rule=LOOPBACK_RANGE, problem=problem)


def _completed(inputs: Inputs) -> Inputs:
    """With what the cluster adds: generated signing keys, and an environment where these manifests have none."""
    stand_in = Environment(
        meta=Meta(name=ENVIRONMENT_NAME, namespace=inputs.namespace),
        spec=EnvironmentSpec(state=EnvironmentState.ENABLED),
    )
    inputs = replace(inputs, environments=inputs.environments or [stand_in])
    wanted = compile_environment(inputs).secrets_wanted
    generated = {
        signing_secret_name(endpoint.name): generated_secret(endpoint.name, uid=endpoint.uid, key=_STAND_IN_KEY)
        for endpoint in wanted
    }
    return replace(inputs, secrets={**generated, **inputs.secrets})


def _softened(notice: Notice, *, has_secrets: bool) -> Notice:
    """A missing Secret is only a warning where the manifests have no Secrets at all: they live elsewhere then."""
    if notice.rule != Reason.SECRET_NOT_FOUND.value or has_secrets:
        return notice
    problem = notice.problem
    return Notice(
        severity=Severity.WARNING,
        rule=notice.rule,
        problem=Problem(
            kind=problem.kind,
            name=problem.name,
            namespace=problem.namespace,
            field=problem.field,
            message=f"{problem.message} (No Secret is among these manifests: make sure that it exists.)",
            reason=problem.reason,
        ),
    )


def _locate(manifest: Manifest, notice: Notice, *, namespace: str = "") -> LocatedFinding:
    problem = notice.problem
    place = manifest.position(problem.field, of_key=problem.message.startswith((UNKNOWN_FIELD, UNKNOWN_KEYWORD)))
    return LocatedFinding(
        severity=notice.severity,
        rule=notice.rule,
        message=problem.message,
        file=place.source,
        line=place.line,
        column=place.column,
        kind=problem.kind,
        namespace=problem.namespace or namespace,
        name=problem.name,
        field=problem.field,
    )


_SECRET: Final = re.compile(r"""kind["']?\s*:\s*["']?Secret\b""")


def _with_excerpts(
    findings: Sequence[LocatedFinding], texts: Mapping[str, str | ValueError]
) -> Iterator[LocatedFinding]:
    """Each finding with its line. None of a Secret, nor of what may be one: a log is read by many."""
    lines: dict[str, list[str]] = {}
    for finding in findings:
        text = texts.get(finding.file)
        is_secret_like = finding.kind == "Secret" or not finding.kind
        if not finding.line or not isinstance(text, str) or (is_secret_like and _SECRET.search(text)):
            yield finding
            continue
        known = lines.setdefault(finding.file, text.split("\n"))
        line = known[finding.line - 1].rstrip() if finding.line <= len(known) else ""
        yield finding if len(line) > EXCERPT_LIMIT else replace(finding, excerpt=line)


def _foreign(found: Unreadable) -> LocatedFinding:
    return LocatedFinding(
        severity=Severity.WARNING,
        rule=NOT_A_MANIFEST,
        message="is no Kubernetes object (neither apiVersion nor kind), and was left out: is it another tool's?",
        file=found.position.source,
        line=found.position.line,
        column=found.position.column,
    )


def _unreadable(file: str, message: str, *, line: int = 0, column: int = 0) -> LocatedFinding:
    return LocatedFinding(
        severity=Severity.ERROR, rule=UNREADABLE, message=message, file=file, line=line, column=column
    )
