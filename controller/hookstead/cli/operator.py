"""`hookstead operator`: the flags of the controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hookstead.cli.client import server_url
from hookstead.cli.flags import Arity, Command, Flag, UsageError, address
from hookstead.cli.serving import ALLOW_LOOPBACK, DRAIN, KUBECONFIG, LOG_FORMAT, NAMESPACE

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="hookstead operator",
    summary=(
        "Run the controller of one namespace: compile its resources, give the result to the gateways,\n"
        "write status. Give either --gateway-selector or --gateway."
    ),
    epilog="SIGTERM and SIGINT stop it and exit 0.",
    flags=(
        NAMESPACE,
        KUBECONFIG,
        Flag(
            name="gateway-selector",
            metavar="LABELS",
            help="label selector of the gateway's pods, such as app.kubernetes.io/component=gateway",
        ),
        Flag(
            name="gateway",
            metavar="URL",
            arity=Arity.MANY,
            parse=server_url,
            default=(),
            help="URL of a gateway's internal port, such as http://127.0.0.1:9443",
        ),
        Flag(
            name="leader-elect",
            arity=Arity.SWITCH,
            default=False,
            help="wait for a Lease, so that of several operators one works",
        ),
        Flag(
            name="internal-secret",
            metavar="NAME",
            default="hookstead-internal",
            help="the Secret whose token opens the gateways' internal ports",
        ),
        Flag(
            name="admin-listen",
            metavar="HOST:PORT",
            parse=address,
            default_text="nowhere",
            help="where /healthz, /readyz and /metrics are",
        ),
        DRAIN,
        ALLOW_LOOPBACK,
        LOG_FORMAT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Run until a signal; 0 after an orderly stop."""
    if bool(given.gateway) == bool(given.gateway_selector):
        which = "not both" if given.gateway else "one of them is required"
        raise UsageError(
            f"hookstead operator: --gateway and --gateway-selector: {which}\nSee 'hookstead operator --help'."
        )
    import asyncio

    from hookstead.gateway.logs import LogFormat, configure
    from hookstead.operator import run as operator
    from hookstead.operator.options import OperatorOptions

    options = OperatorOptions(
        namespace=given.namespace,
        kubeconfig=given.kubeconfig,
        gateways=given.gateway,
        gateway_selector=given.gateway_selector,
        leader_elect=given.leader_elect,
        internal_secret=given.internal_secret,
        drain_seconds=given.drain_seconds,
        allow_loopback=given.allow_loopback,
        admin_listen=given.admin_listen,
    )
    configure(LogFormat(given.log_format))
    return asyncio.run(operator.run(options))
