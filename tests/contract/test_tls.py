"""Contract, section 1: `spec.tls`, and https receivers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import secret
from faults.receivers.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.site import Site

LONG = {"retry": {"scheduleSeconds": [600]}, "timeoutSeconds": 5}


class TlsReceiver:
    """Answers 204 to everything over TLS; with `client` an authority whose clients alone are let in."""

    def __init__(
        self, folder: Path, authority: Authority, *names: str, client: Authority | None = None, days: int = 30
    ) -> None:
        pair = authority.issue(*names, days=days)
        for name, data in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (folder / name).write_bytes(data)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        if client is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client.certificate.decode())
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.requests = 0
        threading.Thread(target=self._serve, args=(context,), daemon=True).start()

    def _serve(self, context: ssl.SSLContext) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as connection:
                if connection.recv(65536):
                    self.requests += 1
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Any]:
    made: list[TlsReceiver] = []

    def make(authority: Authority, *names: str, **more: Any) -> TlsReceiver:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(TlsReceiver(folder, authority, *names, **more))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def pem(site: Site, name: str, **values: bytes) -> dict[str, Any]:
    texts: dict[str, Any] = {key.replace("_", "."): value.decode() for key, value in values.items()}
    return secret(site.name(name), **texts)


def test_a_private_authority_is_trusted_where_the_endpoint_names_it(
    site: Site, authority: Authority, receivers: Any
) -> None:
    receiver = receivers(authority, "127.0.0.1")
    url = f"https://127.0.0.1:{receiver.port}/"
    site.apply(
        pem(site, "ca", ca_crt=authority.certificate),
        pem(site, "other", ca_crt=Authority("Another").certificate),
        site.endpoint("a", url=url, tls={"caSecretRef": {"name": site.name("ca")}}, delivery=LONG),
        site.endpoint("b", url=url, delivery=LONG),
        site.endpoint("c", url=url, tls={"caSecretRef": {"name": site.name("other")}}, delivery=LONG),
    )
    site.publish({})
    site.settled("Delivered", "a")
    for name in "bc":
        row = site.attempted(1, name)["attempts"][0]
        assert (row["errorCode"], row["statusCode"]) == ("tls", 0)
    assert receiver.requests == 1


@pytest.mark.parametrize(("names", "days"), [(("receiver.example.com",), 30), (("127.0.0.1",), -1)])
def test_a_certificate_for_another_name_or_one_that_has_expired_is_tls(
    site: Site, authority: Authority, receivers: Any, names: tuple[str, ...], days: int
) -> None:
    receiver = receivers(authority, *names, days=days)
    site.apply(
        pem(site, "ca", ca_crt=authority.certificate),
        site.endpoint(
            "a",
            url=f"https://127.0.0.1:{receiver.port}/",
            tls={"caSecretRef": {"name": site.name("ca")}},
            delivery=LONG,
        ),
    )
    site.publish({})
    assert site.attempted(1)["attempts"][0]["errorCode"] == "tls"
    assert receiver.requests == 0


def test_a_client_certificate_is_shown_where_the_endpoint_names_one(
    site: Site, authority: Authority, receivers: Any
) -> None:
    clients = Authority("Clients")
    pair = clients.issue("hookstead", client=True)
    receiver = receivers(authority, "127.0.0.1", client=clients)
    url = f"https://127.0.0.1:{receiver.port}/"
    ca = {"caSecretRef": {"name": site.name("ca")}}
    site.apply(
        pem(site, "ca", ca_crt=authority.certificate),
        pem(site, "client", tls_crt=pair.certificate, tls_key=pair.key),
        site.endpoint("a", url=url, tls={**ca, "clientCertSecretRef": {"name": site.name("client")}}, delivery=LONG),
        site.endpoint("b", url=url, tls=ca, delivery=LONG),
    )
    site.publish({})
    site.settled("Delivered", "a")
    assert site.attempted(1, "b")["attempts"][0]["outcome"] == "Failed"
    assert receiver.requests == 1


def test_material_that_is_none_is_secret_invalid_and_what_is_missing_is_told_apart(site: Site) -> None:
    site.apply(
        pem(site, "bad", ca_crt=b"rubbish"),
        secret(site.name("empty"), x="y"),
        site.endpoint("a", tls={"caSecretRef": {"name": site.name("bad")}}),
        site.endpoint("b", tls={"caSecretRef": {"name": site.name("empty")}}),
        site.endpoint("c", tls={"clientCertSecretRef": {"name": site.name("nobody")}}),
    )
    assert site.condition("ResolvedRefs", "a") == ("False", "SecretInvalid")
    assert site.condition("ResolvedRefs", "b") == ("False", "SecretKeyMissing")
    assert site.condition("ResolvedRefs", "c") == ("False", "SecretNotFound")


def test_a_receiver_on_the_ipv6_loopback_is_reached(site: Site) -> None:
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", 0))
        except OSError:
            return  # no IPv6 here
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        site.apply(site.endpoint("a", url=f"http://[::1]:{server.getsockname()[1]}/x", delivery=LONG))
        site.publish({})
        site.settled("Delivered")
