"""The address policy at the dial, with the shared vectors whole: what would have been dialled, and what never is.

No test here leaves loopback: the dialler notes the address and goes to a local receiver instead.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import hookstead
from faults.receivers.sending import LOOPBACK, RecordingDialler, outbound, sending
from faults.receivers.server import answering, http_answer, receiver
from hookstead.config.model import EgressPolicy
from hookstead.delivery.ports import ErrorCode, SendResult
from hookstead.egress.dial import dial, dial_any
from hookstead.egress.gate import DialDeniedError, Gate, belongs_to_this_host

if TYPE_CHECKING:
    from collections.abc import Mapping

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "ssrf.json").read_text("utf-8"))
PLAIN = EgressPolicy(plaintext_http=True)
WIDE = EgressPolicy(
    plaintext_http=True,
    allowed_cidrs=("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "127.0.0.0/8"),
)


async def attempt(
    url: str,
    *,
    policy: EgressPolicy = PLAIN,
    names: Mapping[str, tuple[str, ...]] | None = None,
    loopback: bool = False,
) -> tuple[SendResult, list[tuple[str, int]]]:
    """The result, and every address that would have been dialled."""
    dialler = RecordingDialler()
    async with sending(names=names, dialler=dialler, allow_loopback=loopback) as transport:
        result = await transport.send(outbound(url, policy=policy))
    return result, dialler.dialled


@pytest.mark.parametrize("address", VECTORS["block_addresses"])
async def test_a_denied_literal_is_not_dialled(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    result, dialled = await attempt(f"http://{host}/")
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


@pytest.mark.parametrize("address", VECTORS["block_addresses"])
async def test_a_name_that_resolves_to_a_denied_address_is_not_dialled(address: str) -> None:
    result, dialled = await attempt("http://hooks.example.com/", names={"hooks.example.com": (address,)})
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


@pytest.mark.parametrize("address", VECTORS["block_addresses"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_mixed_answer_is_refused_whole(address: str, first: bool) -> None:
    answer = (address, "8.8.8.8") if first else ("8.8.8.8", address)
    result, dialled = await attempt("http://hooks.example.com/", names={"hooks.example.com": answer})
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


@pytest.mark.parametrize("address", VECTORS["allow_addresses"])
async def test_a_public_address_would_be_dialled(address: str) -> None:
    _, dialled = await attempt("http://hooks.example.com:81/", names={"hooks.example.com": (address,)})
    assert dialled == [(address, 81)]


@pytest.mark.parametrize("host", VECTORS["block_hosts_at_dial"])
async def test_a_host_that_a_local_resolver_could_mean_is_neither_looked_up_nor_dialled(host: str) -> None:
    result, dialled = await attempt(f"http://{host}:9700/", policy=WIDE, names={host: ("8.8.8.8",)}, loopback=True)
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


@pytest.mark.parametrize("url", VECTORS["reject_urls"])
async def test_a_url_outside_the_contract_is_not_dialled(url: str) -> None:
    result, dialled = await attempt(url, policy=WIDE, loopback=True)
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])
    assert "pw" not in result.message


async def test_a_private_address_is_dialled_only_where_the_policy_opens_it() -> None:
    names = {"inner.example.com": ("10.20.30.40",)}
    opened = EgressPolicy(plaintext_http=True, allowed_cidrs=("10.20.0.0/16",))
    assert (await attempt("http://inner.example.com/", policy=opened, names=names))[1] == [("10.20.30.40", 80)]
    other = EgressPolicy(plaintext_http=True, allowed_cidrs=("10.21.0.0/16",))
    result, dialled = await attempt("http://inner.example.com/", policy=other, names=names)
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


async def test_loopback_needs_the_flag_whatever_the_policy_says() -> None:
    assert (await attempt("http://127.0.0.1:9700/", policy=LOOPBACK, loopback=False))[1] == []
    assert (await attempt("http://127.0.0.1:9700/", policy=PLAIN, loopback=True))[1] == []
    assert (await attempt("http://127.0.0.1:9700/", policy=LOOPBACK, loopback=True))[1] == [("127.0.0.1", 9700)]


async def test_plain_http_is_refused_where_the_policy_denies_it() -> None:
    result, dialled = await attempt("http://8.8.8.8/", policy=EgressPolicy())
    assert (result.error, dialled) == (ErrorCode.ADDRESS_DENIED, [])


async def test_a_rebound_name_is_judged_again_at_the_next_dial() -> None:
    """First public, then loopback: the kept connection stays where it was pinned, the next dial is refused."""
    table = {"hooks.example.com": ("8.8.8.8",)}
    async with receiver(answering(http_answer())) as running:
        dialler = RecordingDialler(to_port=running.port)
        async with sending(names=table, dialler=dialler) as transport:
            request = outbound("http://hooks.example.com/")
            assert (await transport.send(request)).status_code == 200
            table["hooks.example.com"] = ("127.0.0.1",)
            denied = outbound("http://hooks.example.com/", policy=PLAIN)
            assert (await transport.send(denied)).error is ErrorCode.ADDRESS_DENIED
    assert dialler.dialled == [("8.8.8.8", 80)]


async def test_the_addresses_of_a_name_are_tried_in_turn() -> None:
    names = {"hooks.example.com": ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888")}
    result, dialled = await attempt("http://hooks.example.com/", names=names)
    assert result.error is ErrorCode.CONNECT
    assert dialled == [("8.8.8.8", 80), ("8.8.4.4", 80), ("2001:4860:4860::8888", 80)]


# --------------------------------------------------------------------------------------------------- own listeners


@pytest.mark.parametrize(
    ("listener", "denied"),
    [
        (("127.0.0.1", 9700), True),
        (("0.0.0.0", 9700), True),
        (("", 9700), True),
        (("::", 9700), True),
        (("localhost", 9700), True),
        (("::ffff:127.0.0.1", 9700), True),
        (("127.0.0.2", 9700), False),
        (("::1", 9700), False),
        (("127.0.0.1", 9701), False),
        (("0.0.0.0", 9701), False),
    ],
)
async def test_the_processs_own_listeners_are_never_dialled(listener: tuple[str, int], denied: bool) -> None:
    dialler = RecordingDialler()
    async with sending(dialler=dialler, listeners=[listener]) as transport:
        result = await transport.send(outbound("http://127.0.0.1:9700/"))
    assert (result.error is ErrorCode.ADDRESS_DENIED) == denied
    assert dialler.dialled == ([] if denied else [("127.0.0.1", 9700)])


def gate(*listeners: tuple[str, int], local: tuple[str, ...] = ()) -> Gate:
    return Gate(allowed=(), allow_loopback=False, listeners=lambda: listeners, is_local=lambda ip: ip in local)


def test_a_wildcard_listener_means_every_address_of_this_host_and_no_other() -> None:
    for host in ("0.0.0.0", "::", "", "gateway.internal"):
        wildcard = gate((host, 8080), local=("8.8.8.8",))
        assert wildcard.denial("8.8.8.8", 8080) is not None
        assert wildcard.denial("8.8.8.8", 8081) is None
        assert wildcard.denial("8.8.4.4", 8080) is None


def test_the_kernel_knows_which_addresses_are_ours() -> None:
    assert belongs_to_this_host("127.0.0.1")
    assert belongs_to_this_host("127.9.9.9")
    assert not belongs_to_this_host("8.8.8.8")


# ----------------------------------------------------------------------------------------------------- choke point


async def test_the_dial_asks_again_itself() -> None:
    dialler = RecordingDialler()
    for address in ("127.0.0.1", "169.254.169.254", "hooks.example.com"):
        with pytest.raises(DialDeniedError):
            await dial(address, 80, gate=gate(), connect=dialler)
    with pytest.raises(DialDeniedError):
        await dial_any(("169.254.169.254", "127.0.0.1"), 80, gate=gate(), connect=dialler)
    assert dialler.dialled == []


OPENERS = {"connect", "sock_connect", "open_connection", "create_datagram_endpoint", "ClientSession", "urlopen"}


def test_the_data_plane_opens_connections_in_one_place() -> None:
    """Delivery and egress: `sock_connect` in dial.py, `create_connection` only around a socket from there."""
    root = Path(hookstead.__file__).parent
    found = []
    for path in sorted([*root.glob("egress/**/*.py"), *root.glob("delivery/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name == "create_connection":
                assert "sock" in {keyword.arg for keyword in node.keywords}
                found.append((path.name, name))
            elif name in OPENERS:
                found.append((path.name, name))
    assert found == [("dial.py", "connect"), ("dial.py", "sock_connect"), ("transport.py", "create_connection")]
