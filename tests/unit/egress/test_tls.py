"""TLS as the contract has it, against servers with certificates made for the test."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest

from faults.receivers.certificates import Authority, Pair, server_context
from faults.receivers.sending import LOOPBACK, RecordingDialler, outbound, sending
from faults.receivers.server import answering, http_answer, receiver
from hookstead.config.model import TlsMaterial
from hookstead.delivery.ports import ErrorCode, SendResult
from hookstead.egress.tls import TlsContexts, TlsMaterialError, build_context
from hookstead.resources.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from faults.receivers.server import Receiver
    from hookstead.egress.transport import HttpTransport

HOST = "hooks.example.com"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def trusting(authority: Authority, client: Pair | None = None) -> TlsMaterial:
    return TlsMaterial(
        ca=Secret(authority.certificate),
        certificate=Secret(client.certificate) if client else None,
        key=Secret(client.key) if client else None,
    )


@contextlib.asynccontextmanager
async def tls_receiver(context: ssl.SSLContext) -> AsyncIterator[tuple[Receiver, HttpTransport]]:
    """A TLS receiver, and a transport for which HOST lies there."""
    async with receiver(answering(http_answer()), tls=context) as running:
        dialler = RecordingDialler(to_port=running.port)
        async with sending(names={HOST: ("8.8.8.8",)}, dialler=dialler) as transport:
            yield running, transport


async def attempt(context: ssl.SSLContext, tls: TlsMaterial | None, *, host: str = HOST) -> SendResult:
    async with tls_receiver(context) as (_, transport):
        return await transport.send(outbound(f"https://{host}/secret-path", tls=tls, policy=LOOPBACK))


async def test_a_private_authority_is_trusted_where_the_endpoint_brings_it(
    authority: Authority, tmp_path: Path
) -> None:
    context = server_context(authority.issue(HOST), tmp_path)
    async with tls_receiver(context) as (running, transport):
        for _ in range(3):
            result = await transport.send(outbound(f"https://{HOST}/", tls=trusting(authority)))
            assert (result.error, result.status_code) == (None, 200), result
        assert running.connections == 1


async def test_an_address_in_the_url_is_verified_as_one(authority: Authority, tmp_path: Path) -> None:
    context = server_context(authority.issue("127.0.0.1"), tmp_path)
    assert (await attempt(context, trusting(authority), host="127.0.0.1")).status_code == 200
    context = server_context(authority.issue("127.0.0.2"), tmp_path)
    assert (await attempt(context, trusting(authority), host="127.0.0.1")).error is ErrorCode.TLS


@pytest.mark.parametrize(
    ("names", "days", "says"),
    [
        (("other.example.com",), 30, "Hostname mismatch"),
        (("8.8.8.8",), 30, "Hostname mismatch"),
        ((HOST,), -1, "expired"),
    ],
)
async def test_a_certificate_that_does_not_fit_is_a_tls_error(
    authority: Authority, tmp_path: Path, names: tuple[str, ...], days: int, says: str
) -> None:
    context = server_context(authority.issue(*names, days=days), tmp_path)
    result = await attempt(context, trusting(authority))
    assert (result.error, result.status_code) == (ErrorCode.TLS, 0)
    assert says in result.message
    assert "secret-path" not in result.message
    assert "\n" not in result.message


async def test_an_unknown_authority_is_a_tls_error_with_or_without_a_private_one(
    authority: Authority, tmp_path: Path
) -> None:
    context = server_context(authority.issue(HOST), tmp_path)
    assert (await attempt(context, None)).error is ErrorCode.TLS
    assert (await attempt(context, trusting(Authority("Another")))).error is ErrorCode.TLS


async def test_the_host_of_the_url_is_what_the_server_is_asked_for(authority: Authority, tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = server_context(authority.issue(HOST), tmp_path)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    await attempt(context, trusting(authority))
    assert asked == [HOST]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_shown_where_the_endpoint_brings_one(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = server_context(authority.issue(HOST), tmp_path, client_authority=authority)
    context.minimum_version = context.maximum_version = version
    client = authority.issue("hookstead", client=True)
    assert (await attempt(context, trusting(authority, client))).status_code == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shown", ["none", "of another authority"])
async def test_a_client_certificate_that_is_demanded_and_not_accepted_is_a_tls_error(
    authority: Authority, tmp_path: Path, version: ssl.TLSVersion, shown: str
) -> None:
    context = server_context(authority.issue(HOST), tmp_path, client_authority=authority)
    context.minimum_version = context.maximum_version = version
    client = None if shown == "none" else Authority("Another").issue("hookstead", client=True)
    with alerting_server(context) as port:
        dialler = RecordingDialler(to_port=port)
        async with sending(names={HOST: ("8.8.8.8",)}, dialler=dialler) as transport:
            result = await transport.send(outbound(f"https://{HOST}/", tls=trusting(authority, client)))
    assert (result.error, result.status_code) == (ErrorCode.TLS, 0), result


@contextlib.contextmanager
def alerting_server(context: ssl.SSLContext) -> Iterator[int]:
    """One connection, in a thread: asyncio's servers drop it without the alert that real ones send."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer, context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False) as tls:
                tls.settimeout(5)
                with contextlib.suppress(ssl.SSLError):
                    tls.do_handshake()
                # Take what the client sent, so that closing sends no reset ahead of the alert.
                raw = socket.socket(fileno=tls.detach())
                raw.settimeout(5)
                with raw:
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.close()
            thread.join()


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    context = build_context(None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_plain_http_behind_an_https_url_is_a_tls_error() -> None:
    async def speaks_plainly(reader: object, writer: object) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[attr-defined] # a StreamWriter

    async with receiver(speaks_plainly) as running, sending() as transport:
        result = await transport.send(outbound(running.url(scheme="https")))
    assert result.error is ErrorCode.TLS


async def test_a_receiver_that_hangs_up_within_the_handshake_is_a_connect_error() -> None:
    async def hangs_up(reader: object, writer: object) -> None:
        await reader.read(10)  # type: ignore[attr-defined] # a StreamReader

    async with receiver(hangs_up) as running, sending() as transport:
        result = await transport.send(outbound(running.url(scheme="https")))
    assert result.error is ErrorCode.CONNECT, result


async def test_a_handshake_that_stalls_is_a_timeout() -> None:
    async def stalls(reader: object, writer: object) -> None:
        while await reader.read(1000):  # type: ignore[attr-defined] # a StreamReader
            pass

    async with receiver(stalls) as running, sending() as transport:
        result = await transport.send(outbound(running.url(scheme="https"), timeout_seconds=2))
    assert result.error is ErrorCode.TIMEOUT
    assert "handshake" in result.message


@pytest.mark.parametrize("part", ["ca", "certificate", "key", "missing key", "encrypted key"])
async def test_material_that_cannot_be_used_is_a_tls_error_without_its_content(authority: Authority, part: str) -> None:
    client = authority.issue("hookstead", client=True)
    certificate, key = Secret(client.certificate), Secret(client.key)
    garbage = Secret(b"hunter2")
    material = {
        "ca": TlsMaterial(ca=garbage),
        "certificate": TlsMaterial(certificate=garbage, key=key),
        "key": TlsMaterial(certificate=certificate, key=garbage),
        "missing key": TlsMaterial(certificate=certificate),
        "encrypted key": TlsMaterial(certificate=certificate, key=Secret(_encrypted(client.key))),
    }[part]
    dialler = RecordingDialler()
    async with sending(names={HOST: ("8.8.8.8",)}, dialler=dialler) as transport:
        result = await transport.send(outbound(f"https://{HOST}/", tls=material))
    assert (result.error, dialler.dialled) == (ErrorCode.TLS, [])
    assert "hunter2" not in result.message


def _encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )


async def test_contexts_are_shared_by_equal_material_and_bounded(authority: Authority) -> None:
    contexts = TlsContexts(limit=2)
    first = await contexts.get(trusting(authority))
    assert await contexts.get(trusting(authority)) is first
    assert await contexts.get(None) is await contexts.get(TlsMaterial())
    for name in ("b", "c"):
        await contexts.get(trusting(Authority(name)))
    assert await contexts.get(trusting(authority)) is not first
    with pytest.raises(TlsMaterialError, match=r"ca\.crt"):
        await contexts.get(TlsMaterial(ca=Secret(b"")))
