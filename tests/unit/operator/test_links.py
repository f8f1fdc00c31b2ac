"""The operator's link to a gateway, where it must outlive a fault."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from hookstead.config.model import Epoch
from hookstead.config.report import Report, Running
from hookstead.operator import link
from hookstead.operator.certificates import issue
from hookstead.operator.gateways import INTERNAL_NAME, Credentials, Gateways, Listeners, Package
from hookstead.operator.lease import LeaseLost


async def test_a_link_goes_on_pushing_when_the_lease_is_renewed_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RETRY_FLOOR_SECONDS", 0.0)
    asked, again = 0, asyncio.Event()

    def may_write() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise LeaseLost("stopped for longer than the Lease")
        again.set()

    fleet = Gateways(
        credentials=Credentials,
        listeners=Listeners(
            changed=lambda: None, reported=lambda *_: None, superseded=lambda _: None, refused=lambda: None
        ),
        monotonic=lambda: 0.0,
        may_write=may_write,
    )
    fleet.set_live(["http://127.0.0.1:1"])
    fleet.publish(Package(body=b"", digest="sha256:0", epoch=Epoch(term=1, sequence=1)))
    try:
        await asyncio.wait_for(again.wait(), 5)
    finally:
        await fleet.close()


async def test_a_link_asks_for_the_rest_of_a_report_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BREATHER_SECONDS", "PAGE_BREATHER_SECONDS"):
        monkeypatch.setattr(link, name, 0.0)
    pages = {"": ("1", True), "1": ("2", True), "2": ("3", False)}
    asked: list[str] = []
    done = asyncio.Event()
    fleet = Gateways(
        credentials=Credentials,
        listeners=Listeners(
            changed=lambda: None, reported=lambda *_: None, superseded=lambda _: None, refused=lambda: None
        ),
        monotonic=lambda: 0.0,
        may_write=lambda: None,
    )

    async def exchange(_method: str, url: str, **_: object) -> tuple[int, bytes]:
        query = parse_qs(urlsplit(url).query)
        after, wait = query.get("after", [""])[0], query.get("waitSeconds", ["0"])[0]
        asked.append(f"{after}:{wait}")
        if after not in pages:
            done.set()
            await asyncio.Event().wait()
        cursor, more = pages[after]
        report = Report(running=Running(instance="i", version="1"), cursor=cursor, more=more)
        return 200, msgspec.json.encode(report)

    monkeypatch.setattr(fleet, "exchange", exchange)
    fleet.set_live(["http://127.0.0.1:1"])
    try:
        await asyncio.wait_for(done.wait(), 5)
    finally:
        await fleet.close()
    assert asked == [":0", "1:0", "2:0", "3:5"]


async def test_a_certificate_of_an_unknown_authority_asks_for_the_internal_secret_anew(tmp_path: Path) -> None:
    """Somebody else may have replaced the Secret, and the gateway's mount may have followed before we looked."""
    known, replaced = (issue(INTERNAL_NAME, now=datetime.now(UTC)) for _ in range(2))
    (tmp_path / "tls.crt").write_text(replaced.certificate)
    (tmp_path / "tls.key").write_text(replaced.key)
    shows = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shows.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    served = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=shows)
    port = served.sockets[0].getsockname()[1]
    refused = asyncio.Event()
    credentials = Credentials(token="t", tls=ssl.create_default_context(cadata=known.authorities))
    fleet = Gateways(
        credentials=lambda: credentials,
        listeners=Listeners(
            changed=lambda: None, reported=lambda *_: None, superseded=lambda _: None, refused=refused.set
        ),
        monotonic=lambda: 0.0,
        may_write=lambda: None,
    )
    fleet.set_live([f"https://127.0.0.1:{port}"])
    try:
        await asyncio.wait_for(refused.wait(), 5)
        refused.clear()
        credentials = Credentials(token="t", tls=ssl.create_default_context(cadata=replaced.authorities))
        await asyncio.sleep(0.5)
        assert not refused.is_set(), "it closes without a word, which is nothing that the Secret could mend"
    finally:
        await fleet.close()
        served.close()
