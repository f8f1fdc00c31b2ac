"""The gateway's options as values, and what must hold between them. Parsing flags is the command line's work."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from hookstead.delivery.ports import Clock
from hookstead.gateway.authorize import (
    Authorizer,
    KeysUnreadable,
    OpenAuthorizer,
    StaticAuthorizer,
    StaticKey,
    read_keys,
)
from hookstead.gateway.kubernetes_api import Access
from hookstead.gateway.kubernetes_auth import kubernetes_authorizer
from hookstead.gateway.loopback import is_loopback_host
from hookstead.gateway.server import Address
from hookstead.resources.secret import Secret
from hookstead.store.opening import PATIENCE_SECONDS

KIB: Final = 1024
MIB: Final = 1024 * KIB
MIN_BODY_BYTES: Final = 64 * KIB
TOKEN_VARIABLE: Final = "HOOKSTEAD_INTERNAL_TOKEN"  # noqa: S105  (a variable's name, no token)
LOOPBACK: Final = "127.0.0.1"
AUDIENCE: Final = "hookstead.dev"


class AuthMode(StrEnum):
    KUBERNETES = "kubernetes"
    STATIC = "static"
    NONE = "none"


class OptionsError(ValueError):
    """These options do not go together; the message names the flag and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Everything that can be chosen about one gateway process. Sizes in bytes, times in seconds.

    An address' host "" is every interface, its port 0 a free one. `internal_listen` None: no internal port.
    `min_free_bytes` None: the larger of 256 MiB and a tenth of the disk. `resolver`: name servers, as
    `egress.resolver.parse_server` gives them; none means those of the system. `api_server` is asked under `kubernetes`.
    `replays_come_back`: a deleted replay may return under its old uid, after any time (in `dev`).
    `share_port`: other processes of this host take connections on the same public port.
    `store_patience_seconds`: for how long a database that does not answer at the start is tried.
    """

    store: str = field(repr=False)
    """May hold a password."""
    listen: Address = ("", 8080)
    admin_listen: Address = ("", 9090)
    internal_listen: Address | None = ("", 9443)
    auth: AuthMode = AuthMode.KUBERNETES
    auth_keys: Path | None = None
    auth_audience: str = AUDIENCE
    token_review: bool = False
    namespace: str = "default"
    api_server: Access | None = None
    config_dir: Path | None = None
    internal_dir: Path | None = None
    internal_token: Secret | None = None
    drain_seconds: float = 25.0
    resolver: tuple[str, ...] = ()
    allow_loopback: bool = False
    min_free_bytes: int | None = None
    ingest_per_second: int | None = None
    max_event_bytes: int = MIB
    max_batch_bytes: int = 16 * MIB
    replays_come_back: bool = False
    store_patience_seconds: float = PATIENCE_SECONDS
    share_port: bool = False

    @property
    def local_only(self) -> bool:
        """Whether only this machine may ask."""
        return self.auth is AuthMode.NONE

    @property
    def has_certificate(self) -> bool:
        return self.internal_dir is not None and (self.internal_dir / "tls.crt").is_file()


def settle(options: GatewayOptions, environ: Mapping[str, str] = os.environ) -> GatewayOptions:
    """The options with what follows from them: loopback where only loopback is allowed, the token from its variable.

    Raises OptionsError where they contradict each other.
    """
    for flag, size in (("--max-event-bytes", options.max_event_bytes), ("--max-batch-bytes", options.max_batch_bytes)):
        if size < MIN_BODY_BYTES:
            raise OptionsError(f"{flag} must be at least {MIN_BODY_BYTES}, found {size}")
    if options.local_only:
        options = replace(
            options,
            listen=_local("--listen", options.listen, "--auth none"),
            admin_listen=_local("--admin-listen", options.admin_listen, "--auth none"),
        )
    token = environ.get(TOKEN_VARIABLE, "").strip()
    if options.internal_token is None and token:
        options = replace(options, internal_token=Secret(token.encode()))
    if options.internal_listen is not None and not options.has_certificate:
        reason = "an internal port without a certificate (tls.crt and tls.key in --internal-dir)"
        options = replace(options, internal_listen=_local("--internal-listen", options.internal_listen, reason))
    return options


def make_authorizer(options: GatewayOptions, clock: Clock) -> Authorizer:
    """The authorizer of the chosen mode. Raises OptionsError."""
    match options.auth:
        case AuthMode.NONE:
            return OpenAuthorizer()
        case AuthMode.STATIC:
            return StaticAuthorizer(_read_keys(options.auth_keys))
        case AuthMode.KUBERNETES:
            return _ask_kubernetes(options, clock)


def _ask_kubernetes(options: GatewayOptions, clock: Clock) -> Authorizer:
    if options.api_server is None:
        raise OptionsError("--auth kubernetes needs an API server: give --kubeconfig FILE, or run in a pod")
    try:
        return kubernetes_authorizer(
            options.api_server,
            namespace=options.namespace,
            audience=options.auth_audience,
            token_review=options.token_review,
            now=clock.monotonic,
            wall=lambda: clock.now_ms() / 1000,
        )
    except (OSError, ssl.SSLError) as error:
        raise OptionsError(f"--kubeconfig: its certificates cannot be used: {error}") from error


def _read_keys(path: Path | None) -> tuple[StaticKey, ...]:
    if path is None:
        raise OptionsError("--auth static needs --auth-keys FILE: a JSON or YAML file of key digests and scopes")
    try:
        return read_keys(path)
    except KeysUnreadable as error:
        raise OptionsError(f"--auth-keys {error}") from error
    except OSError as error:
        raise OptionsError(f"--auth-keys {path} cannot be read: {error.strerror}") from error


def _local(flag: str, address: Address, reason: str) -> Address:
    """The address, on loopback; an open choice of interface becomes 127.0.0.1."""
    host, port = address
    if not host:
        return (LOOPBACK, port)
    if not is_loopback_host(host):
        raise OptionsError(
            f"{flag} {host}:{port} is not loopback, and {reason} listens on loopback only: use {LOOPBACK}:{port}"
        )
    return address
