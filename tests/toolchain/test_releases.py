"""Release downloads: whole and confirmed, or nothing, and soon."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from toolchain import releases
from toolchain.cache import arriving
from toolchain.releases import Release, expected_sum, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUM = hashlib.sha256(b"program").hexdigest()


class Publisher:
    """A loopback server of the given files; every other path is 404, and `stalled` ones never answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.stalled: set[str] = set()
        self.asked: list[str] = []
        self.over = threading.Event()
        publisher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(self.path)
                if self.path in publisher.stalled:
                    publisher.over.wait(30)
                    return
                body = publisher.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *arguments: object) -> None:
                """Silence."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(releases, "_silent_hosts", set())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    publisher = Publisher()
    thread = threading.Thread(target=publisher.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield publisher
    publisher.over.set()
    publisher.server.shutdown()
    thread.join()
    publisher.server.server_close()


def release(publisher: Publisher, *, member: str | None = None) -> Release:
    return Release(url=publisher.url + "/{version}/p", checksums=publisher.url + "/{version}/sums", member=member)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SUM, True),
        (f"{SUM.upper()}\n", True),
        (f"{'0' * 64}  other\n{SUM}  p\n", True),
        (f"{SUM} *p\n", True),
        (f"{SUM}  other\n", False),
        ("<html>not found</html>", False),
        ("", False),
    ],
)
def test_a_checksum_is_found_by_the_files_name(text: str, found: bool) -> None:
    assert expected_sum(text, file="p") == (SUM if found else None)


def test_a_release_whose_checksum_holds_is_taken(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files = {"/v1/p": b"program", "/v1/sums": f"{SUM}  p\n".encode()}
    assert fetch(release(publisher), version="v1", to=tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == b"program"


def test_the_program_is_taken_out_of_its_archive(publisher: Publisher, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("p-v1/p")
        entry.size = len(b"program")
        tar.addfile(entry, io.BytesIO(b"program"))
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    publisher.files = {"/v1/p": archive.getvalue(), "/v1/sums": digest.encode()}
    assert fetch(release(publisher, member="p-{version}/p"), version="v1", to=tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == b"program"
    assert not fetch(release(publisher, member="elsewhere/p"), version="v1", to=tmp_path / "q")


@pytest.mark.parametrize(
    "files",
    [
        {"/v1/p": b"tampered", "/v1/sums": SUM.encode()},
        {"/v1/p": b"program"},
        {"/v1/sums": SUM.encode()},
        {},
    ],
    ids=["another content", "no checksum", "no program", "nothing"],
)
def test_what_is_not_confirmed_leaves_nothing(files: dict[str, bytes], publisher: Publisher, tmp_path: Path) -> None:
    publisher.files = files
    assert not fetch(release(publisher), version="v1", to=tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_does_not_answer_is_given_up_and_not_asked_again(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "ANSWER_SECONDS", 0.2)
    publisher.stalled = {"/v1/sums"}
    assert not fetch(release(publisher), version="v1", to=tmp_path / "p")
    assert not fetch(release(publisher), version="v2", to=tmp_path / "p")
    assert publisher.asked == ["/v1/sums"]


def test_an_interrupted_arrival_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    def interrupted() -> None:
        with arriving(tmp_path / "p") as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
