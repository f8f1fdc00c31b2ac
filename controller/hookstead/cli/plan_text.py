"""A plan as text for a terminal, and as Markdown for a comment on a pull request: the same lines in two dresses."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.plan_report import BREAKING_SCHEMA, EnvironmentPlan, Plan
from hookstead.cli.table import aligned, counted, printable
from hookstead.config.changes import EndpointChange, EventTypeChange, Fate, FieldChange, KeyChange, PendingFate
from hookstead.config.difference import BREAKING_CHANGE
from hookstead.config.receiving import EVERY_OTHER, NameChanges
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from hookstead.delivery.forecast import Forecast

MARKER: Final = "<!-- hookstead plan -->"
"""First line of the Markdown: by it a job finds the comment that it wrote before."""
COMMENT_LIMIT: Final = 60_000
"""Characters; a comment may have 65,536 on GitHub, and more elsewhere."""
_SHOWN: Final = 12
_SIGN: Final = {Fate.GAINED: "+", Fate.LOST: "-", Fate.CHANGED: "~"}


def as_text(plan: Plan) -> str:
    """For a terminal."""
    lines = [printable(f"hookstead plan: {plan.before} → {plan.after}")]
    for one in plan.environments:
        told = [printable(line) for line in _environment(one)]
        if told or one.traffic:
            lines += ["", printable(f"Namespace {one.changes.namespace}"), *told]
        if one.traffic is not None:
            lines += ["", *(printable(f"  {line}") for line in _traffic(one.traffic))]
    if plan.findings:
        lines += ["", "Findings"]
        lines += [f"  {one.severity.value}: {printable(str(one))} [{one.rule}]" for one in plan.findings]
        lines += [f"  {_remedy(plan)}"] if _remedy(plan) else []
    lines += ["", "Notes", *(f"  {printable(note)}" for note in plan.notes)] if plan.notes else []
    return "\n".join([*lines, "", summary(plan)])


def as_markdown(plan: Plan) -> str:
    """For a comment. Lines of a diff colour what comes and goes."""
    lines = [MARKER, f"### Hookstead plan: {summary(plan)}", "", f"{_cell(plan.before)} → {_cell(plan.after)}"]
    if plan.findings:
        lines += ["", "| | what | rule |", "| --- | --- | --- |"]
        lines += [
            f"| {':x:' if one.severity.value == 'error' else ':warning:'} | {_cell(str(one))} | `{one.rule}` |"
            for one in plan.findings
        ]
        lines += ["", _remedy(plan, code="`")] if _remedy(plan) else []
    for one in plan.environments:
        told = [printable(line) for line in _environment(one)]
        if told:
            body = [_diff_line(line) for line in told]
            name = html.escape(printable(one.changes.namespace))
            lines += ["", f"<details open><summary>Namespace <code>{name}</code></summary>", ""]
            lines += ["```diff", *body, "```", "", "</details>"]
        if one.traffic is not None:
            lines += ["", *_traffic_markdown(one.traffic)]
    lines += ["", *(f"> {_cell(note)}  " for note in plan.notes)] if plan.notes else []
    return _cut("\n".join(lines))


def summary(plan: Plan) -> str:
    """The whole plan in one line."""
    if not plan.changes_something and not plan.findings:
        return "nothing changes for deliveries"
    parts = [f"{counted(count, 'endpoint')} {fate.value.lower()}" for fate in Fate if (count := plan.count(fate))]
    parts += [f"{plan.cancelled} pending deliveries cancelled"] if plan.cancelled else []
    for severity in ("error", "warning"):
        count = sum(one.severity.value == severity for one in plan.findings)
        parts += [counted(count, severity)] if count else []
    return ", ".join(parts) or "no endpoint is touched"


def _remedy(plan: Plan, code: str = "") -> str:
    failing = {
        change.schema_digest
        for one in plan.environments
        for change in one.changes.event_types
        if change.breaks and change.schema_digest
    }
    if not failing or not any(one.rule == BREAKING_SCHEMA for one in plan.findings):
        return ""
    digest = next(iter(failing)) if len(failing) == 1 else "allowed"
    return (
        "A new event type beside the old one breaks nobody. If this change is meant, annotate the type: "
        f"{code}{BREAKING_CHANGE}: {digest}{code}"
    )


# --------------------------------------------------------------------------------------------------------- what changes


def _environment(one: EnvironmentPlan) -> Iterator[str]:
    changes = one.changes
    for change in changes.objects:
        yield f"{_SIGN[change.fate]} {change.kind} {change.name}"
        yield from _fields(change.fields)
    for endpoint in changes.endpoints:
        yield f"{_SIGN[endpoint.fate]} {Kind.ENDPOINT.value} {endpoint.name}"
        yield from _endpoint(endpoint, one.pending.get(endpoint.name))
    for entry in changes.event_types:
        yield f"{_SIGN[entry.fate]} {Kind.EVENT_TYPE.value} {entry.name} ({entry.type})"
        yield from _event_type(entry)


def _endpoint(change: EndpointChange, pending: int | None) -> Iterator[str]:
    if change.receives_nothing and change.fate is not Fate.LOST:
        yield f"    receives  nothing: {change.receives_nothing}"
    elif change.received_nothing and change.fate is Fate.CHANGED:
        yield f"    receives  again (before: nothing, {change.received_nothing})"
    yield from _names("types", change.event_types)
    yield from _names("channels", change.channels)
    yield from _keys(change)
    yield from _fields(change.fields)
    if change.pending is not None:
        yield f"    pending   {_pending(change.pending, pending)}"


def _pending(fate: PendingFate, count: int | None) -> str:
    how_many = "how many deliveries wait cannot be known from here" if count is None else counted(count, "delivery")
    how_many = how_many.replace("deliverys", "deliveries")
    match fate:
        case PendingFate.CANCELLED:
            return f"cancelled ({how_many})"
        case PendingFate.HELD:
            return f"held ({how_many})"
        case PendingFate.RELEASED:
            return f"go on ({how_many})"


def _names(what: str, names: NameChanges) -> Iterator[str]:
    if names.started:
        yield f"  + {what:<9} {_listed(names.started)}"
    if names.stopped:
        yield f"  - {what:<9} {_listed(names.stopped)}"


def _listed(names: Sequence[str]) -> str:
    shown = ["every other" if name == EVERY_OTHER else name for name in names[:_SHOWN]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _keys(change: EndpointChange) -> Iterator[str]:
    for key in change.keys_started:
        yield f"  + key       {_key(key)} signs"
    for key in change.keys_stopped:
        yield f"  - key       {_key(key)} stops signing"


def _key(key: KeyChange) -> str:
    return f"{key.id} ({key.secret})" + (f" {key.note}:" if key.note else "")


def _event_type(entry: EventTypeChange) -> Iterator[str]:
    yield from _fields(entry.fields)
    for note in entry.schema:
        mark = "!" if note.breaking else " "
        yield f"  {mark} schema    {note.path}: {note.message}"
    if not entry.schema and entry.fate is Fate.CHANGED and not entry.fields and not entry.problem:
        yield "    schema    changes in nothing that matters to data"


def _fields(fields: Sequence[FieldChange]) -> Iterator[str]:
    for one in fields:
        yield f"    {one.field}: {_value(one.before)} → {_value(one.after)}"


def _value(value: Any) -> str:
    match value:
        case None:
            return "none"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return printable(str(value))


# -------------------------------------------------------------------------------------------------------------- traffic


def _traffic(traffic: Forecast) -> list[str]:
    head = f"Of {counted(traffic.events, 'event')} that the gateway saw"
    if traffic.undecided:
        head += f" ({traffic.undecided} more left out: their payload, which decides, is gone)"
    rows = _traffic_rows(traffic)
    if len(rows) == 1:
        return [f"{head}, no delivery would be added or lost."]
    return [f"{head}:", *aligned(rows)]


def _traffic_rows(traffic: Forecast) -> list[list[str]]:
    rows = [["ENDPOINT", "BEFORE", "AFTER", "ADDED", "LOST"]]
    rows += [
        [one.name, *(str(count) for count in (one.before, one.after, one.added, one.lost))]
        for one in traffic.endpoints
        if one.added or one.lost
    ]
    return rows


def _traffic_markdown(traffic: Forecast) -> list[str]:
    first = _traffic(traffic)[0]
    rows = _traffic_rows(traffic)
    if len(rows) == 1:
        return [first]
    table = ["| endpoint | before | after | added | lost |", "| --- | ---: | ---: | ---: | ---: |"]
    return [first, "", *table, *(f"| {' | '.join(map(_cell, row))} |" for row in rows[1:])]


# ------------------------------------------------------------------------------------------------------------- Markdown


def _diff_line(line: str) -> str:
    """The sign in the first column, where a diff colours it; nothing may end the block."""
    stripped = line.lstrip()
    sign = stripped[:1] if stripped[:2] in ("+ ", "- ", "~ ", "! ") else " "
    body = stripped[2:] if sign != " " else stripped
    indent = " " * (len(line) - len(stripped))
    return f"{'!' if sign == '~' else sign} {indent}{body}".replace("```", "'''")


def _cell(text: str) -> str:
    """Text that no Markdown of its own comes out of."""
    for char in "\\`*_<>|[]":
        text = text.replace(char, "\\" + char)
    return " ".join(printable(text.replace("\n", " ")).split())


def _cut(text: str) -> str:
    if len(text) <= COMMENT_LIMIT:
        return text
    kept = text[:COMMENT_LIMIT].rsplit("\n", 1)[0]
    closing = "\n```\n\n</details>" if kept.count("\n```") % 2 else ""
    return f"{kept}{closing}\n\n*The plan is longer than a comment may be: see the job's log for the rest.*"
