"""One connection to one receiver: a request out, one bounded answer in, over and over."""

from __future__ import annotations

import asyncio
import os
import re
import select
import ssl
from typing import TYPE_CHECKING, Final, cast

import httptools

from hookstead.delivery.ports import RESPONSE_BODY_LIMIT, ErrorCode, SendResult

if TYPE_CHECKING:
    import socket

HEAD_LIMIT: Final = 32 * 1024
"""Bytes of status line and headers, interim answers included."""
RAW_LIMIT: Final = 256 * 1024
"""Bytes of one answer in any form: bounds the chunk framing and trailers around 16 KiB of body."""
INTERIM_LIMIT: Final = 16
"""1xx answers before the final one."""
RETRY_AFTER_LIMIT: Final = 256

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,\s])timeout\s*=\s*([0-9]{1,6})", re.IGNORECASE)
_UNUSABLE_EVENTS: Final = select.POLLIN | getattr(select, "POLLRDHUP", 0)


class Connection(asyncio.Protocol):
    """Carries one exchange at a time. Every way to end it sets the one result; nothing is raised.

    `reusable` is true between exchanges, while the peer keeps its side open and silent.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_complete",
        "_delimited",
        "_fault",
        "_head_bytes",
        "_head_size",
        "_headers_done",
        "_interim",
        "_parser",
        "_poll",
        "_raw_bytes",
        "_retry_after",
        "_status",
        "_transport",
        "_waiter",
        "idle_limit",
        "idle_since",
        "opened",
        "reusable",
        "timeout_seconds",
    )

    def __init__(self, sock: socket.socket, *, opened: float) -> None:
        """`opened` is on the loop's clock. The socket is only polled here; the transport owns it."""
        self.opened = opened
        self.idle_since = opened
        self.idle_limit: float | None = None
        """Seconds that the peer keeps an idle connection, by its Keep-Alive header."""
        self.timeout_seconds = 0.0
        self.reusable = True
        self._poll = select.poll()
        self._poll.register(sock.fileno(), _UNUSABLE_EVENTS)
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[SendResult] | None = None
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._retry_after: str | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._head_bytes = 0
        self._head_size = 0
        self._raw_bytes = 0
        self._interim = 0
        self._headers_done = False
        self._delimited = False
        self._complete = False
        self._fault = ""

    # ------------------------------------------------------------------------------------------- for the pool

    def exchange(self, data: bytes, timeout_seconds: float) -> asyncio.Future[SendResult]:
        """Write a request; the future gets the result. `timeout_seconds` is only for the message."""
        assert self._waiter is None, "one exchange at a time"
        transport = self._transport
        waiter: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        self._reset()
        self.timeout_seconds = timeout_seconds
        self._waiter = waiter
        if transport is None or transport.is_closing():
            self._finish(ErrorCode.CONNECT, "the connection was closed before the request was sent")
        else:
            transport.write(data)
        return waiter

    def is_quiet(self) -> bool:
        """Whether the peer has neither closed nor spoken, up to this instant; asks the kernel (0.6 µs)."""
        return self.reusable and not self._poll.poll(0)

    def expire(self) -> None:
        """The attempt's time is up."""
        if self._waiter is not None:
            stage = "the answer was incomplete" if self._raw_bytes else "no answer"
            self._finish(ErrorCode.TIMEOUT, f"{stage} after {self.timeout_seconds:g} s")

    def abort(self) -> None:
        """Close at once. An exchange under way is the caller's to forget."""
        self.reusable = False
        self._waiter = None
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------------------------------- for the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            # Nobody asked: an answer ahead of its request must never be taken for the next one's.
            self.abort()
            return
        self._raw_bytes += len(data)
        if not self._headers_done:
            self._head_bytes += len(data)
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fault = self._fault or "the receiver switched protocols"
        except httptools.HttpParserError:
            # After a complete answer the rest is noise, and the connection is not used again.
            self.reusable = False
            self._fault = self._fault or "the answer is not valid HTTP/1.1"
        self._judge()

    def _judge(self) -> None:
        if self._complete:
            self._finish(None, "")
        elif self._body_size >= RESPONSE_BODY_LIMIT:
            self.reusable = False
            self._finish(None, "")
        elif self._fault:
            self._finish(ErrorCode.PROTOCOL, self._fault)
        elif not self._headers_done and self._head_bytes > HEAD_LIMIT:
            self._finish(ErrorCode.PROTOCOL, _GIANT_HEAD)
        elif self._raw_bytes > RAW_LIMIT:
            self._finish(ErrorCode.PROTOCOL, "the answer's chunks carry more framing than content")

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self._transport = None
        self._parser = None

    def _ended(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waiter is None:
            return
        if isinstance(exc, ssl.SSLError) and not self._raw_bytes:
            self._finish(ErrorCode.TLS, f"TLS: {reason_of(exc)}")
        elif not self._raw_bytes:
            how = "closed" if exc is None else "reset"
            self._finish(ErrorCode.CONNECT, f"the receiver {how} the connection before an answer")
        elif not self._headers_done:
            self._finish(ErrorCode.PROTOCOL, "the answer broke off within its headers")
        elif not self._delimited and exc is None:
            self._finish(None, "")
        else:
            self._finish(ErrorCode.PROTOCOL, f"the answer's body broke off after {self._body_size} bytes")

    # ----------------------------------------------------------------------------------------- for the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete or self._headers_done:
            return
        self._head_size += len(name) + len(value)
        lowered = name.lower()
        if lowered in _INTERESTING:
            if lowered == b"retry-after":
                if self._retry_after is None and len(value) <= RETRY_AFTER_LIMIT:
                    self._retry_after = value.decode("latin-1").strip()
            elif lowered == b"keep-alive":
                match = _KEEP_ALIVE_TIMEOUT.search(value)
                self.idle_limit = None if match is None else float(match[1])
            else:
                self._delimited = lowered == b"content-length" or value.lower().endswith(b"chunked")

    def on_headers_complete(self) -> None:
        if self._complete or self._fault:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._head_size > HEAD_LIMIT:
            self._fault = _GIANT_HEAD
        elif 200 <= status <= 599:
            self._status = status
            self._headers_done = True
        elif not 100 <= status <= 199:
            self._fault = "the answer's status is not between 100 and 599"
        elif status == 101:
            self._fault = "the receiver switched protocols"

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        room = RESPONSE_BODY_LIMIT - self._body_size
        if room > 0:
            self._body.append(body[:room])
            self._body_size += min(len(body), room)

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False

    def on_message_complete(self) -> None:
        if self._headers_done:
            if not self._complete:
                assert self._parser is not None
                self._complete = True
                if not self._parser.should_keep_alive():
                    self.reusable = False
            return
        self._interim += 1
        self._retry_after = None
        self._delimited = False
        if self._interim > INTERIM_LIMIT:
            self._fault = self._fault or "the receiver sent too many interim (1xx) answers"

    # ------------------------------------------------------------------------------------------------ the end

    def _finish(self, error: ErrorCode | None, message: str) -> None:
        waiter, self._waiter = self._waiter, None
        transport = self._transport
        if error is not None:
            self.reusable = False
        elif transport is None or transport.get_write_buffer_size():
            # An answer before the whole request was taken: the rest would be read as the next request.
            self.reusable = False
        if not self.reusable and transport is not None:
            transport.abort()
        if waiter is not None and not waiter.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            waiter.set_result(
                SendResult(
                    status_code=self._status,
                    error=error,
                    message=message or f"HTTP {self._status}",
                    retry_after=self._retry_after,
                    body=body,
                )
            )


_GIANT_HEAD: Final = f"the answer's headers exceed {HEAD_LIMIT} bytes"
_INTERESTING: Final = frozenset({b"retry-after", b"keep-alive", b"content-length", b"transfer-encoding"})


def reason_of(error: BaseException) -> str:
    """One line on why the network refused: no addresses of ours, no paths, no certificate content."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
