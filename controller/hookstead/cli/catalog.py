"""`hookstead catalog`: the event catalog of manifests or of a running gateway, as a page or as a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.cli.assemble import Raw, assemble, is_ours, namespace_of
from hookstead.cli.client import Gateway
from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.hooks.connection import CONNECTION, connect
from hookstead.cli.outcome import FINDINGS, OK, CommandError, say
from hookstead.cli.validate import read_texts
from hookstead.config.catalog import compile_event_types
from hookstead.config.catalog_documents import asyncapi_document, catalog_item, openapi_document
from hookstead.config.catalog_pages import html_page, markdown_page
from hookstead.config.model import EventTypeConfig, Identity
from hookstead.config.verdicts import GOOD
from hookstead.resources.kinds import ENVIRONMENT_NAME, Environment, Kind, Lifecycle
from hookstead.resources.manifests import Unreadable, read_manifests

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="hookstead catalog",
    summary=(
        "Print the event catalog for the people who receive webhooks: as a Markdown page, an HTML page that needs\n"
        "nothing beside itself, OpenAPI 3.1 `webhooks`, AsyncAPI 3, or a JSON list."
    ),
    epilog=(
        "The event types are those of the manifests; without PATH those that a gateway runs: the one at --server, or\n"
        "the one that is found in the namespace, as `kubectl hooks` finds it. An event type that would not be\n"
        "Accepted is not in the catalog: it is named on stderr, and the exit code is 1."
    ),
    arguments=(
        Argument(name="PATH", nargs="*", help="file, folder (.yaml and .yml, subfolders included), or - for stdin"),
    ),
    flags=(
        Flag(
            name="output",
            short="o",
            choices=("markdown", "html", "openapi", "asyncapi", "json"),
            default="markdown",
            help="output format",
        ),
        Flag(name="title", help="the page's title", default_text="after the environment"),
        *CONNECTION,
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Accepted entries by type, what they are called together, and a line for each type that is not among them."""

    entries: Sequence[EventTypeConfig]
    title: str
    missing: Sequence[str] = ()


def run(given: argparse.Namespace) -> int:
    """Print the catalog; 1 where an event type is missing from it."""
    if given.path and given.server is not None:
        raise UsageError(
            "hookstead catalog: PATH is for manifests and --server for a running gateway: give one of the two\n"
            "See 'hookstead catalog --help'."
        )
    if given.path:
        found = of_manifests(given.path, namespace=given.namespace)
    else:
        with connect(given) as gateway:
            found = of_gateway(gateway)
    print(RENDER[given.output](found.entries, given.title or found.title), end="")
    for line in found.missing:
        say(line)
    return FINDINGS if found.missing else OK


def _json(document: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


RENDER: Final[Mapping[str, Callable[[Sequence[EventTypeConfig], str], str]]] = {
    "markdown": lambda entries, title: markdown_page(entries, title=title),
    "html": lambda entries, title: html_page(entries, title=title),
    "openapi": lambda entries, title: _json(openapi_document(entries, title=title)),
    "asyncapi": lambda entries, title: _json(asyncapi_document(entries, title=title)),
    "json": lambda entries, title: _json({"title": title, "items": [catalog_item(entry) for entry in entries]}),
}


# ------------------------------------------------------------------------------------------------------- manifests


def of_manifests(paths: Sequence[str], *, namespace: str | None) -> Found:
    """The catalog that these manifests make, in one namespace. Raises CommandError for a file that cannot be read."""
    objects = [(number, raw) for number, raw in enumerate(_objects(paths)) if is_ours(raw)]
    chosen = namespace or _only_namespace([raw for _, raw in objects])
    wanted = [(number, raw) for number, raw in objects if (namespace_of(raw) or chosen) == chosen]
    inputs = assemble(wanted, namespace=chosen).inputs(allow_loopback=True)
    compiled = compile_event_types(inputs.event_types, precedence=inputs.precedence, environment_exists=True)
    named = (
        item.spec.display_name
        for item in inputs.environments
        if isinstance(item, Environment) and item.meta.name == ENVIRONMENT_NAME
    )
    return Found(
        entries=sorted((entry for entry in compiled if entry.verdict.is_accepted), key=lambda entry: entry.type),
        title=f"{next(named, None) or chosen} webhooks",
        missing=[_complaint(entry) for entry in compiled if not entry.verdict.is_accepted],
    )


def _objects(paths: Sequence[str]) -> list[Raw]:
    objects: list[Raw] = []
    for name, text in read_texts(paths):
        if isinstance(text, ValueError):
            raise CommandError(f"{name}: {text}")
        for one in read_manifests(text, source=name):
            if isinstance(one, Unreadable):
                raise CommandError(f"{name}:{one.position.line}:{one.position.column}: {one.message}")
            objects.append(one.obj)
    return objects


def _only_namespace(objects: Sequence[Raw]) -> str:
    """The namespace of the event types; raises UsageError where they have several."""
    types = [raw for raw in objects if raw.get("kind") == Kind.EVENT_TYPE.value]
    names = sorted({found for raw in types if (found := namespace_of(raw))})
    if len(names) > 1:
        raise UsageError(
            f"hookstead catalog: these manifests have event types of the namespaces {', '.join(names)}: "
            "choose one with --namespace"
        )
    return names[0] if names else "default"


def _complaint(entry: EventTypeConfig) -> str:
    finding = entry.verdict.accepted
    return f"not in the catalog: {Kind.EVENT_TYPE.value} {entry.identity.name}: {finding.reason}: {finding.message}"


# --------------------------------------------------------------------------------------------------------- gateway


class _Item(msgspec.Struct, frozen=True, rename="camel"):
    """One item of `GET /v1/catalog`."""

    type: str
    description: str
    group: str | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    replaced_by: str | None = None
    schema: dict[str, Any] | None = None
    sample: dict[str, Any] | None = None


def of_gateway(gateway: Gateway) -> Found:
    """The catalog of the configuration that the gateway runs. Raises CommandError."""
    items = [_item(raw, gateway.url) for raw in gateway.items("catalog", limit=None)]
    title = gateway.get("catalog", format="openapi").get("info", {}).get("title", "Webhooks")
    entries = [
        EventTypeConfig(
            identity=Identity(name=item.type),
            verdict=GOOD,
            type=item.type,
            description=item.description,
            group=item.group,
            lifecycle=item.lifecycle,
            replaced_by=item.replaced_by,
            schema=item.schema,
            sample=item.sample,
        )
        for item in items
    ]
    return Found(entries=entries, title=title)


def _item(raw: dict[str, Any], url: str) -> _Item:
    try:
        return msgspec.convert(raw, _Item)
    except msgspec.ValidationError as problem:
        raise CommandError(
            f"{url}/v1/catalog: no catalog item: {problem}. Is the gateway of another version?"
        ) from problem
