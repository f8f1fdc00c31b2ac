"""The API server as the gateway needs it: to decide who may. A few GETs and POSTs, each soon answered or given up."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import aiohttp
import msgspec

from hookstead import __version__

log = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 5.0
"""For one exchange, the wait for a free connection included: a producer waits for it."""
CONNECTIONS: Final = 16
PAUSE_SECONDS: Final = 0.5
"""After a failure nobody is kept waiting for the next one: for so long the answer is at once that there is none."""
MAX_PAUSE_SECONDS: Final = 5.0
"""However long the API server asks to be left alone."""
_TRIES: Final = 2
"""A kept connection may be one that a restarted server knows nothing of; asking again is harmless."""

Answer = TypeVar("Answer")


class Access(Protocol):
    """Where the API server is and the credentials for it, from a kubeconfig or the pod's own."""

    @property
    def server(self) -> str:
        """Its URL, without a trailing slash."""

    @property
    def server_name(self) -> str | None:
        """The name in its certificate, where that is another one than the URL's."""

    def bearer(self) -> str | None:
        """The present token; read again each time, because it is renewed. Raises OSError."""

    def tls(self) -> ssl.SSLContext:
        """Raises OSError, ssl.SSLError for material that is none."""


class Undecided(Exception):
    """The API server did not say; ask again in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = PAUSE_SECONDS) -> None:
        super().__init__(message)
        self.retry_after: Final = retry_after


class Misunderstood(Undecided):
    """It did answer, but not to this question: what it says to others is another matter."""


class ApiServer:
    """One API server with one identity. `now` is monotonic, in seconds."""

    def __init__(self, access: Access, *, now: Callable[[], float]) -> None:
        """Raises OSError, ssl.SSLError where the access's certificates cannot be used."""
        self._access: Final = access
        self._now: Final = now
        self._tls: Final = access.tls() if access.server.startswith("https:") else None
        self._session: aiohttp.ClientSession | None = None
        self._paused_until = 0.0
        self._complaint = ""

    async def get(self, path: str, kind: type[Answer]) -> Answer:
        """The decoded answer. Raises Undecided."""
        return await self._request("GET", path, None, kind)

    async def post(self, path: str, body: object, kind: type[Answer]) -> Answer:
        """The decoded answer to a review, which the API server does not keep. Raises Undecided."""
        return await self._request("POST", path, msgspec.json.encode(body), kind)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _request(self, method: str, path: str, body: bytes | None, kind: type[Answer]) -> Answer:
        left = self._paused_until - self._now()
        if left > 0:
            raise Undecided(self._complaint, retry_after=left)
        try:
            answer = await self._exchange(method, path, body, kind)
        except Undecided as undecided:
            if not isinstance(undecided, Misunderstood):
                self._paused_until = self._now() + undecided.retry_after
            self._complain(str(undecided))
            raise
        self._recovered()
        return answer

    async def _exchange(self, method: str, path: str, body: bytes | None, kind: type[Answer]) -> Answer:
        what = f"{method} {path}"
        # Keys are application/jwk-set+json, all else application/json: a list of both is not understood by all servers.
        headers = {"accept": "*/*"} | ({} if body is None else {"content-type": "application/json"})
        try:
            token = self._access.bearer()
            if token:
                headers["authorization"] = f"Bearer {token}"
            status, raw, retry_after = await self._send(method, path, body, headers)
        except TimeoutError as error:
            raise Undecided(f"{what}: no answer within {TIMEOUT_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Undecided(f"{what}: {error}") from error
        if status >= 500 or status in (401, 403, 404, 429):
            raise Undecided(f"{what}: {status} {_words(raw)}{_REMEDIES.get(status, '')}", retry_after=retry_after)
        if not 200 <= status < 300:
            raise Misunderstood(f"{what}: {status} {_words(raw)}")
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise Undecided(f"{what}: an answer that is none of this API's: {error}") from error

    async def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, float]:
        """Status, body and Retry-After of the answer. Raises aiohttp.ClientError, OSError, TimeoutError."""
        for left in reversed(range(_TRIES)):
            try:
                async with self._connected().request(
                    method,
                    self._access.server + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    server_hostname=self._access.server_name,
                ) as response:
                    return response.status, await response.read(), _seconds(response.headers.get("retry-after", ""))
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or False, limit=CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                headers={"user-agent": f"hookstead-gateway/{__version__}"},
                trust_env=False,
            )
        return self._session

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning(
                "the API server does not say who may: %s; callers that it did not judge lately are answered 503",
                complaint,
                extra={"action": "authorization_unavailable"},
            )

    def _recovered(self) -> None:
        if self._complaint:
            self._complaint = ""
            log.info("the API server says again who may", extra={"action": "authorization_available"})


_REMEDIES: Final = {
    401: ": the gateway's own credentials are not taken; look at --kubeconfig, or at the pod's ServiceAccount",
    403: ": the gateway's ServiceAccount lacks this right; bind the Role of the documentation (docs/security.md)",
    404: ": this API server does not serve it",
}


def _words(raw: bytes) -> str:
    """What a Status object says, else the beginning of whatever came."""
    try:
        message = msgspec.json.decode(raw, type=dict[str, Any]).get("message")
    except msgspec.MsgspecError:
        message = None
    return str(message or raw[:200].decode("utf-8", "replace")).strip()


def _seconds(text: str) -> float:
    plain = text.isascii() and text.isdigit() and len(text) <= 6
    return min(float(text), MAX_PAUSE_SECONDS) if plain else PAUSE_SECONDS
