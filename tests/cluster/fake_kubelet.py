"""A kubelet as far as `kubectl port-forward` needs one: the last hop of a real kubectl and a real API server.

The API server reaches it as it reaches every kubelet, at the address of the pod's Node object, and hands the bytes of
kubectl's SPDY/3.1 connection through. Per forwarded connection kubectl opens two streams, `error` and `data`, whose
headers say so (KEP-4006 and k8s.io/kubelet/pkg/cri/streaming/portforward). A pod's port is the same port on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import threading
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from cluster.contract_certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.apiserver import ApiServer

_SYN_STREAM, _SYN_REPLY, _PING, _FIN = 1, 2, 6, 1
_NAMES: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_REST: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(struct.pack(">I", len(name)) + name for name in (one.replace("_", " ").encode() for one in _NAMES.split()))
    + _REST.encode()
)
"""What SPDY/3 primes its header compression with (its specification, section 2.6.10.1)."""


class FakeKubelet:
    """Serves port-forwards on loopback from a thread of its own; `forwards` are the pods and ports asked for."""

    def __init__(self, folder: Path) -> None:
        certificate, key = Authority().issue("kubelet")
        file = folder / "kubelet.pem"
        file.write_text(certificate + key)
        self._tls: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(file)
        self._loop: Final = asyncio.new_event_loop()
        self._thread: Final = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.node: Final = f"node-{uuid.uuid4().hex[:8]}"
        self.port = 0
        self.forwards: Final[list[tuple[str, int]]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def register(self, server: ApiServer) -> None:
        """Make it a Node of the cluster."""
        body = {"metadata": {"name": self.node}}
        server.request("POST", "/api/v1/nodes", body)
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }
        node = server.request("GET", f"/api/v1/nodes/{self.node}")
        server.request("PUT", f"/api/v1/nodes/{self.node}/status", {**node, "status": status})

    def run_pod(
        self, server: ApiServer, namespace: str, name: str, *, labels: dict[str, str], port: int, ready: bool = True
    ) -> None:
        """A pod on this node whose container has a port `http`; nothing runs but what listens on that port already."""
        container = {"name": "main", "image": "none", "ports": [{"name": "http", "containerPort": port}]}
        body: dict[str, Any] = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": self.node, "containers": [container]},
        }
        server.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        status = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        server.request("PUT", f"{path}/status", {**server.request("GET", path), "status": status})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            _, _, namespace, pod = head.split()[1].partition("?")[0].split("/")
            assert "SPDY/3.1" in head
            answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            writer.write(f"{answer}X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n".encode())
            await _Session(reader, writer, lambda port: self.forwards.append((f"{namespace}/{pod}", port))).run()
        writer.close()


@dataclass
class _Session:
    """One SPDY connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: Any
    inflate: Any = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))
    deflate: Any = field(default_factory=lambda: zlib.compressobj(zdict=DICTIONARY))
    data: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self) -> None:
        try:
            while True:
                first, second = struct.unpack(">II", await self.reader.readexactly(8))
                body = await self.reader.readexactly(second & 0xFFFFFF)
                if first >> 31:
                    await self._control(first & 0xFFFF, body)
                else:
                    await self._write(first, body, fin=second >> 24 & _FIN)
        finally:
            for task in self.tasks:
                task.cancel()
            for target in self.data.values():
                target.close()

    async def _control(self, kind: int, body: bytes) -> None:
        if kind == _PING:
            self._send(_PING, body)
        if kind != _SYN_STREAM:
            return
        stream = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
        headers = self._headers(body[10:])
        if headers["streamtype"] == "data":
            port = int(headers["port"])
            self.asked(port)
            source, self.data[stream] = await asyncio.open_connection("127.0.0.1", port)
            self.tasks.append(asyncio.create_task(self._pump(stream, source)))
        block = self.deflate.compress(struct.pack(">I", 0)) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self._send(_SYN_REPLY, struct.pack(">I", stream) + block)

    def _headers(self, block: bytes) -> dict[str, str]:
        raw = self.inflate.decompress(block)
        (count,) = struct.unpack_from(">I", raw)
        at, words = 4, []
        for _ in range(2 * count):
            (size,) = struct.unpack_from(">I", raw, at)
            words.append(raw[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return dict(zip(words[::2], words[1::2], strict=True))

    async def _write(self, stream: int, body: bytes, *, fin: int) -> None:
        target = self.data.get(stream)
        if target is None:  # the client's half of an error stream, which it closes at once
            return
        target.write(body)
        await target.drain()
        if fin and target.can_write_eof():
            target.write_eof()

    async def _pump(self, stream: int, source: asyncio.StreamReader) -> None:
        while chunk := await source.read(16_384):
            self.writer.write(struct.pack(">II", stream, len(chunk)) + chunk)
            await self.writer.drain()
        self.writer.write(struct.pack(">II", stream, _FIN << 24))

    def _send(self, kind: int, body: bytes) -> None:
        self.writer.write(struct.pack(">II", 0x80030000 | kind, len(body)) + body)
