"""`hookstead gateway`: the flags of the data plane."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli import outcome
from hookstead.cli.flags import Arity, Command, Flag, UsageError, address, whole
from hookstead.cli.outcome import CommandError
from hookstead.cli.serving import (
    ALLOW_LOOPBACK,
    DRAIN,
    KUBECONFIG,
    LOG_FORMAT,
    NAMESPACE,
    RESOLVER,
    listen,
    no_password,
    size,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hookstead.gateway.options import GatewayOptions
    from hookstead.operator.access import Access

MIB: Final = 1024 * 1024


def _address_or_none(text: str) -> tuple[str, int] | None:
    return None if text == "none" else address(text)


def _audience(text: str) -> str:
    if not text or not text.isprintable() or " " in text or len(text) > 1024:
        raise ValueError("expected an audience of ServiceAccount tokens, such as hookstead.dev")
    return text


COMMAND: Final = Command(
    prog="hookstead gateway",
    summary="Run the data plane of one environment: accept events, store them, deliver signed webhooks.",
    epilog=(
        "A database's password comes from the variable HOOKSTEAD_STORE, or from PGPASSWORD or PGPASSFILE, never from\n"
        "the flag: every user of the machine reads command lines. Behind a pooler in transaction mode add\n"
        "?pooler=transaction to the URL, and &direct=HOST:PORT if the database behind it can be reached.\n"
        "The internal port's token comes from --internal-dir or the variable HOOKSTEAD_INTERNAL_TOKEN.\n"
        "SIGTERM and SIGINT drain and exit 0; a second signal does not wait."
    ),
    flags=(
        Flag(
            name="store",
            metavar="URL",
            required=True,
            on_command_line=no_password,
            help="where events live, such as sqlite:/var/lib/hookstead/store.db or "
            "postgresql://hookstead@db.example:5432/hookstead",
        ),
        listen("listen", ":8080", "where events and queries are taken"),
        listen("admin-listen", ":9090", "where /healthz, /readyz and /metrics are"),
        Flag(
            name="internal-listen",
            metavar="HOST:PORT|none",
            parse=_address_or_none,
            default=("", 9443),
            default_text=":9443",
            help="where the operator calls; without a certificate on loopback only; none opens nothing",
        ),
        Flag(
            name="auth",
            choices=("kubernetes", "static", "none"),
            default="kubernetes",
            help="who may call: none is for loopback only",
        ),
        Flag(
            name="auth-keys",
            metavar="FILE",
            parse=Path,
            help="with --auth static: digests of keys and their scopes, as JSON or YAML",
        ),
        Flag(
            name="auth-audience",
            metavar="AUDIENCE",
            parse=_audience,
            default="hookstead.dev",
            help="with --auth kubernetes: whom the callers' ServiceAccount tokens must be for",
        ),
        Flag(
            name="token-review",
            arity=Arity.SWITCH,
            default=False,
            help="with --auth kubernetes: ask the API server about every token, which takes any kind and needs a "
            "ClusterRole, instead of verifying ServiceAccount tokens by its published keys",
        ),
        NAMESPACE,
        KUBECONFIG,
        Flag(
            name="config-dir",
            metavar="DIR",
            parse=Path,
            help="folder of the mounted configuration Secrets, read at the start",
        ),
        Flag(
            name="internal-dir",
            metavar="DIR",
            parse=Path,
            help="folder of the mounted Secret hookstead-internal: token, and perhaps tls.crt and tls.key",
        ),
        DRAIN,
        RESOLVER,
        ALLOW_LOOPBACK,
        Flag(
            name="ingest-per-second",
            metavar="EVENTS",
            parse=whole(minimum=1, maximum=10_000_000, unit="events"),
            default_text="unlimited",
            help="events that are accepted per second; more are answered 429",
        ),
        size(
            "min-free-bytes",
            minimum=0,
            shown="the larger of 256 MiB and 10 % of the disk",
            help_text="free disk space below which events are refused with 507; for an SQLite store only",
        ),
        size("max-event-bytes", minimum=64 * 1024, default=MIB, help_text="the largest event"),
        size("max-batch-bytes", minimum=64 * 1024, default=16 * MIB, help_text="the largest batch"),
        Flag(
            name="processes",
            metavar="N",
            parse=whole(minimum=1, maximum=256, unit="processes"),
            default=1,
            default_text="1",
            help="processes that share the port of --listen, for a host with many cores; each has an admin and an "
            "internal port of its own, counted up from those given. Needs a PostgreSQL store",
        ),
        LOG_FORMAT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Serve until a signal; 0 after a drain."""
    from hookstead.gateway.logs import LogFormat, configure
    from hookstead.gateway.processes import numbered, serve_many

    configure(LogFormat(given.log_format))
    options = _options(given)
    if given.processes == 1:
        return _serve(options)
    with _explaining():
        shares = [numbered(options, number) for number in range(given.processes)]
    return serve_many(len(shares), lambda number, lifeline: outcome.run(lambda: _serve(shares[number], lifeline)))


def _serve(options: GatewayOptions, lifeline: int | None = None) -> int:
    """One process. Raises UsageError, CommandError."""
    from hookstead.gateway import process

    try:
        with _explaining():
            return process.run(process.serve(options, lifeline=lifeline))
    except process.StartError as problem:
        raise CommandError(str(problem)) from problem


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    from hookstead.gateway.options import OptionsError

    try:
        yield
    except OptionsError as problem:
        raise UsageError(f"hookstead gateway: {problem}\nSee 'hookstead gateway --help'.") from problem


def _options(given: argparse.Namespace) -> GatewayOptions:
    from hookstead.gateway.options import AuthMode, GatewayOptions

    return GatewayOptions(
        store=given.store,
        listen=given.listen,
        admin_listen=given.admin_listen,
        internal_listen=given.internal_listen,
        auth=AuthMode(given.auth),
        auth_keys=given.auth_keys,
        auth_audience=given.auth_audience,
        token_review=given.token_review,
        namespace=given.namespace,
        api_server=_api_server(given.kubeconfig) if given.auth == AuthMode.KUBERNETES else None,
        config_dir=given.config_dir,
        internal_dir=given.internal_dir,
        drain_seconds=given.drain_seconds,
        resolver=given.resolver,
        allow_loopback=given.allow_loopback,
        min_free_bytes=given.min_free_bytes,
        ingest_per_second=given.ingest_per_second,
        max_event_bytes=given.max_event_bytes,
        max_batch_bytes=given.max_batch_bytes,
    )


def _api_server(kubeconfig: Path | None) -> Access:
    """How to reach the API server. Raises UsageError."""
    from hookstead.operator.access import AccessError, load_access

    try:
        return load_access(kubeconfig)
    except AccessError as error:
        raise UsageError(
            f"hookstead gateway: --auth kubernetes: {error}\nOutside of a cluster use --auth static or --auth none."
        ) from error
