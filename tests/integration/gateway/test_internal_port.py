"""The internal port as the operator uses it: push, report by long poll, and TLS that is renewed while it runs."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builders import config, endpoint
from hookstead.config import serial
from hookstead.config.model import DeliveryConfig
from hookstead.config.report import Report, Running
from hookstead.gateway import internal_secret
from hookstead.resources.secret import Secret
from integration.gateway.gateway_bench import Answer, Bench, running

TOKEN = "internal-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
OPEN = {"internal_listen": ("127.0.0.1", 0), "internal_token": Secret(TOKEN.encode())}


async def push(bench: Bench, content: DeliveryConfig, epoch: str, **changes: str) -> Answer:
    document = serial.encode(content)
    headers = {
        **AUTH,
        "Content-Encoding": "gzip",
        "hookstead-epoch": epoch,
        "hookstead-hash": serial.digest(document),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return await bench.call(
        "PUT", f"{bench.internal}/internal/v1/config", data=serial.compress(document), headers=headers
    )


async def report(bench: Bench, query: str = "") -> Report:
    answer = await bench.get(f"{bench.internal}/internal/v1/report{query}", headers=AUTH)
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=Report)


async def test_a_push_makes_the_gateway_ready_and_is_told_in_reports(tmp_path: Path) -> None:
    async with running(tmp_path, **OPEN) as bench:
        assert (await bench.get(f"{bench.admin}/readyz")).status == 503
        answer = await push(bench, config(endpoint("all", url=bench.receiver.url)), "4.2")
        pushed = msgspec.json.decode(answer.body, type=Running)
        assert (answer.status, pushed.epoch.term, pushed.epoch.sequence) == (200, 4, 2)
        assert (await bench.get(f"{bench.admin}/readyz")).status == 200
        first = await report(bench)
        assert first.running == pushed
        assert [one.name for one in first.endpoints] == ["all"]
        assert (await report(bench, f"?after={first.cursor}")).endpoints == ()
        await bench.publish()
        await bench.finished()
        later = await report(bench, f"?after={first.cursor}")
        assert later.endpoints[0].activity.succeeded == 1
        assert later.environment.accepted == 1


async def test_a_stale_push_is_answered_with_what_runs(tmp_path: Path) -> None:
    async with running(tmp_path, **OPEN) as bench:
        await push(bench, config(endpoint("a")), "4.2")
        stale = await push(bench, config(endpoint("b")), "4.1")
        assert (stale.status, stale.json["epoch"]) == (409, {"term": 4, "sequence": 2})
        assert [one["name"] for one in (await bench.get("/v1/endpoints")).json["items"]] == ["a"]


async def test_a_push_that_is_not_whole_is_a_400(tmp_path: Path) -> None:
    async with running(tmp_path, **OPEN) as bench:
        content = config(endpoint("a"))
        for changes in ({"hookstead_hash": "sha256:0"}, {"hookstead_epoch": "new"}, {"hookstead_hash": ""}):
            assert (await push(bench, content, "1.1", **changes)).status == 400
        assert (await push(bench, content, "1.1", Content_Encoding="identity")).status == 400
        assert (await push(bench, content, "1.1", Content_Encoding="br")).status == 415
        assert (await push(bench, content, "1.1")).status == 200


async def test_only_the_token_opens_the_port(tmp_path: Path) -> None:
    async with running(tmp_path, **OPEN) as bench:
        for path in ("config", "report", "running"):
            method = "PUT" if path == "config" else "GET"
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
                answer = await bench.call(method, f"{bench.internal}/internal/v1/{path}", headers=headers)
                assert (answer.status, answer.problem) == (401, "unauthenticated")


async def test_a_long_poll_answers_when_something_happens_or_when_its_time_is_up(tmp_path: Path) -> None:
    async with running(tmp_path, **OPEN) as bench:
        await push(bench, config(endpoint("all", url=bench.receiver.url)), "1.1")
        cursor = (await report(bench)).cursor
        started = time.monotonic()
        await report(bench, f"?after={cursor}&waitSeconds=1")
        assert time.monotonic() - started >= 0.9
        cursor = (await report(bench)).cursor
        waiting = asyncio.create_task(report(bench, f"?after={cursor}&waitSeconds=30"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await push(bench, config(endpoint("all", url=bench.receiver.url), endpoint("new")), "1.2")
        assert (await asyncio.wait_for(waiting, 5)).running.epoch.sequence == 2
        for bad in ("?waitSeconds=31", "?waitSeconds=-1", "?since=1"):
            answer = await bench.get(f"{bench.internal}/internal/v1/report{bad}", headers=AUTH)
            assert answer.status == 400


async def test_without_a_token_the_port_stays_closed(tmp_path: Path) -> None:
    async with running(tmp_path, internal_listen=("127.0.0.1", 0)) as bench:
        assert bench.process.internal is None


# -------------------------------------------------------------------------------------------------------- TLS


def certificate(folder: Path, serial_number: int) -> None:
    """A self-signed certificate for the name that both sides agree on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hookstead-internal")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hookstead-internal")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "tls.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "tls.crt").write_bytes(signed.public_bytes(pem))
    (folder / "ca.crt").write_bytes(signed.public_bytes(pem))


async def ask_over_tls(bench: Bench, folder: Path, token: str) -> tuple[int, int]:
    """Status, and the serial number of the certificate that was shown; 0, 0 when it was not trusted."""
    assert bench.process.internal is not None
    trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    port = bench.process.internal.port
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust, server_hostname="hookstead-internal"
        )
    except ssl.SSLError:
        return 0, 0
    shown = writer.get_extra_info("ssl_object").getpeercert(True)
    ask = "GET /internal/v1/running HTTP/1.1\r\nHost: hookstead-internal\r\nConnection: close\r\n"
    writer.write(f"{ask}Authorization: Bearer {token}\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), x509.load_der_x509_certificate(shown).serial_number


async def test_the_port_speaks_tls_and_follows_a_renewal(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(internal_secret, "LOOK_SECONDS", 0.05)
    folder = tmp_path / "internal"
    folder.mkdir()
    certificate(folder, 1001)
    (folder / "token").write_text("first\n")
    async with running(tmp_path, internal_listen=("127.0.0.1", 0), internal_dir=folder) as bench:
        assert await ask_over_tls(bench, folder, "first") == (200, 1001)
        assert (await ask_over_tls(bench, folder, "other"))[0] == 401
        certificate(folder, 1002)
        (folder / "token").write_text("second\n")

        async def renewed() -> bool:
            return await ask_over_tls(bench, folder, "second") == (200, 1002)

        assert await bench.until(renewed)
        assert (await ask_over_tls(bench, folder, "first"))[0] == 401


async def test_a_renewal_that_is_half_there_leaves_the_former_certificate_in_use(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(internal_secret, "LOOK_SECONDS", 0.02)
    folder, renewed = tmp_path / "internal", tmp_path / "renewed"
    for number, place in enumerate((folder, renewed)):
        place.mkdir()
        certificate(place, 1001 + number)
    (folder / "token").write_text("first")
    async with running(tmp_path, internal_listen=("127.0.0.1", 0), internal_dir=folder) as bench:
        (folder / "tls.crt").write_bytes((renewed / "tls.crt").read_bytes())
        await asyncio.sleep(0.2)
        assert await ask_over_tls(bench, folder, "first") == (200, 1001)
        (folder / "tls.key").write_bytes((renewed / "tls.key").read_bytes())

        async def whole() -> bool:
            return await ask_over_tls(bench, renewed, "first") == (200, 1002)

        assert await bench.until(whole)
