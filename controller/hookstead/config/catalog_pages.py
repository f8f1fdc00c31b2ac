"""The event catalog for people: a Markdown page, and an HTML page that needs nothing beside itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from hookstead.config.catalog_documents import HEADERS, payload_sample
from hookstead.config.model import EventTypeConfig
from hookstead.config.schema_fields import Field, fields
from hookstead.resources.kinds import Lifecycle

OTHERS: Final = "Other events"
"""The heading of types without a group, where there are groups at all."""

_RECEIVING: Final = (
    "Each event is one HTTP POST with a JSON body, signed as Standard Webhooks has it: verify the signature with the "
    "public libraries before you trust the body, answer 2xx within the time-out, and drop a webhook-id that you have "
    "seen. Anything but 2xx is tried again."
)


def markdown_page(entries: Iterable[EventTypeConfig], *, title: str) -> str:
    """The whole page; ends in a line feed."""
    entries = list(entries)
    lines = [f"# {_md(title)}", "", _RECEIVING, "", "| header | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in HEADERS]
    lines += ["", "| event type | description |", "| --- | --- |"]
    lines += [f"| [`{entry.type}`](#{anchor(entry)}) | {_md(_summary(entry))} |" for entry in entries]
    for group, members in grouped(entries):
        lines += ["", f"## {_md(group)}"]
        for entry in members:
            lines += ["", *_markdown_entry(entry)]
    return "\n".join(lines) + "\n"


def html_page(entries: Iterable[EventTypeConfig], *, title: str) -> str:
    """One file: style inside, no script, nothing fetched."""
    entries = list(entries)
    groups = grouped(entries)
    contents = "".join(
        f"<h2>{escape(group)}</h2><ul>"
        + "".join(f'<li><a href="#{escape(one.type)}"><code>{escape(one.type)}</code></a></li>' for one in members)
        + "</ul>"
        for group, members in groups
    )
    headers = "".join(f"<tr><td><code>{name}</code></td><td>{escape(text)}</td></tr>" for name, text in HEADERS)
    body = "".join(
        f"<section><h2>{escape(group)}</h2>{''.join(_html_entry(one) for one in members)}</section>"
        for group, members in groups
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Event types">{contents}</nav>\n'
        f"<main>\n<h1>{escape(title)}</h1>\n<p>{escape(_RECEIVING)}</p>\n"
        f"<table><thead><tr><th>Header</th><th>Meaning</th></tr></thead><tbody>{headers}</tbody></table>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def grouped(entries: Sequence[EventTypeConfig]) -> list[tuple[str, list[EventTypeConfig]]]:
    """By group, groups by name and those without one at the end; entries keep their order."""
    named: dict[str, list[EventTypeConfig]] = {}
    for entry in entries:
        named.setdefault(entry.group or "", []).append(entry)
    without = named.pop("", [])
    groups = sorted(named.items())
    return [*groups, (OTHERS if groups else "Events", without)] if without else groups


def anchor(entry: EventTypeConfig) -> str:
    """The fragment of an entry's heading: what GitHub and GitLab make of the type's name as a heading."""
    return "".join(letter for letter in entry.type.lower() if letter.isalnum() or letter in "-_")


def _summary(entry: EventTypeConfig) -> str:
    mark = _lifecycle(entry)
    return f"{mark} {entry.description}" if mark else entry.description


def _lifecycle(entry: EventTypeConfig) -> str:
    """A sentence where the type is on its way out; else nothing."""
    if entry.lifecycle is Lifecycle.ACTIVE:
        return ""
    instead = f"; use {entry.replaced_by} instead" if entry.replaced_by else ""
    no_more = ": not sent any more" if entry.lifecycle is Lifecycle.ARCHIVED else ""
    return f"{entry.lifecycle.value}{no_more}{instead}."


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


# -------------------------------------------------------------------------------------------------------- Markdown


def _markdown_entry(entry: EventTypeConfig) -> Iterator[str]:
    yield f"### {_md(entry.type)}"
    yield ""
    mark = _lifecycle(entry)
    if mark:
        yield from (f"**{_md(mark)}**", "")
    yield _md(entry.description)
    rows = fields(entry.schema)
    if rows:
        yield from ("", "| field of `data` | type | required | description |", "| --- | --- | --- | --- |")
        for row in rows:
            yield f"| `{_code(row.path)}` | {_md(row.type)} | {_required(row)} | {_md(row.description)} |"
    if entry.sample is not None:
        yield from ("", "Sample:", "", *_fenced(payload_sample(entry)))
    if entry.schema is not None:
        yield from ("", "<details><summary>JSON Schema of <code>data</code></summary>", "")
        yield from (*_fenced(entry.schema), "", "</details>")


def _fenced(value: Any) -> list[str]:
    """A code block; its fence is longer than any run of backticks within."""
    text, fence = _pretty(value), "```"
    while fence in text:
        fence += "`"
    return [f"{fence}json", text, fence]


_MARKUP: Final = {letter: f"\\{letter}" for letter in "\\`*_[]#|~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def _md(text: str) -> str:
    """Text of one line in which nothing is markup: whoever writes a description does not write the page."""
    plain = " ".join(text.split())
    return "".join(_MARKUP.get(letter, letter) for letter in plain)


def _code(text: str) -> str:
    return text.replace("`", "'").replace("|", "\\|")


def _required(row: Field) -> str:
    return "yes" if row.required else ""


# ------------------------------------------------------------------------------------------------------------ HTML


def _html_entry(entry: EventTypeConfig) -> str:
    mark = _lifecycle(entry)
    parts = [f'<article id="{escape(entry.type)}"><h3><code>{escape(entry.type)}</code></h3>']
    if mark:
        parts.append(f'<p class="mark">{escape(mark)}</p>')
    parts.append(f"<p>{escape(entry.description)}</p>")
    rows = fields(entry.schema)
    if rows:
        cells = "".join(
            f"<tr><td><code>{escape(row.path)}</code></td><td>{escape(row.type)}</td><td>{_required(row)}</td>"
            f"<td>{escape(row.description)}</td></tr>"
            for row in rows
        )
        parts.append(
            "<table><thead><tr><th>Field of <code>data</code></th><th>Type</th><th>Required</th>"
            f"<th>Description</th></tr></thead><tbody>{cells}</tbody></table>"
        )
    if entry.sample is not None:
        parts.append(f"<h4>Sample</h4><pre>{escape(_pretty(payload_sample(entry)))}</pre>")
    if entry.schema is not None:
        parts.append(
            "<details><summary>JSON Schema of <code>data</code></summary>"
            f"<pre>{escape(_pretty(entry.schema))}</pre></details>"
        )
    return "".join(parts) + "</article>"


_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0; display: grid; grid-template-columns: 17rem minmax(0, 1fr); }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.5rem; border-right: 1px solid var(--line); }
nav h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .06em; margin: 1.2rem 0 .4rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li { margin: .25rem 0; overflow-wrap: anywhere; }
main { padding: 1.5rem 2.5rem 6rem; max-width: 62rem; }
article { border-top: 1px solid var(--line); padding: 1rem 0; scroll-margin-top: 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--line); }
pre { background: var(--soft); padding: .9rem; overflow: auto; border-radius: 6px; }
code, pre { font: .92em ui-monospace, monospace; }
.mark { font-weight: 600; }
summary { cursor: pointer; }
@media (max-width: 50rem) { body { display: block; } nav { position: static; height: auto; border: 0; } }
"""
