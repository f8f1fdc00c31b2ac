"""The gateway's API, as the command line calls it: one connection per request, no proxy, no redirect."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from hookstead import __version__
from hookstead.cli.outcome import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_TIMEOUT_SECONDS: Final = 70
"""A test delivery may take an endpoint's whole timeout (60 s)."""
_ANSWER_LIMIT: Final = 64 * 1024 * 1024
PAGE: Final = 250
"""Items per request; the API's upper bound."""


def server_url(text: str) -> str:
    """An http(s) URL of a gateway, without a trailing slash. Raises ValueError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not a gateway's URL, such as http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a gateway's URL has no user name or password in it: use a token")
    if parts.port == 0:
        raise ValueError(f"{text!r} has port 0")
    return text.rstrip("/")


class RefusedError(CommandError):
    """The gateway answered, and it was no; `status` is the answer's."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway at a URL. Every method raises CommandError with the answer's own explanation."""

    url: str
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    """A function gives the present one: tokens that are asked for expire."""
    pod: str | None = None
    """Behind a port-forward: which pod answers. None: somebody named the URL."""

    def get(self, *path: str, **query: str | int | None) -> dict[str, Any]:
        """The JSON document at a path; its segments are escaped here, absent query values are left out."""
        wanted = {key: value for key, value in query.items() if value is not None}
        target = _target(path) + (f"?{urlencode(wanted)}" if wanted else "")
        return self._call("GET", target)

    def post(self, *path: str, body: bytes = b"") -> dict[str, Any]:
        """The JSON answer to a POST; empty when the answer has no body."""
        return self._call("POST", _target(path), body)

    def items(self, *path: str, limit: int | None, **query: str | None) -> Iterator[dict[str, Any]]:
        """The items of a list, newest first, over as many pages as it takes; None for all of them."""
        left, cursor = limit, None
        while left is None or left > 0:
            page = self.get(*path, **query, limit=PAGE if left is None else min(left, PAGE), cursor=cursor)
            found = page.get("items", [])
            yield from found
            left = None if left is None else left - len(found)
            cursor = page.get("nextCursor")
            if cursor is None:
                return

    def _call(self, method: str, target: str, body: bytes = b"") -> dict[str, Any]:
        status, content = self._exchange(method, target, body)
        answer = _parsed(content)
        if status >= 300 or answer is None:
            what = f"{method} {target.split('?')[0]}"
            raise RefusedError(_explained(status, answer, content, what=what), status=status)
        return answer

    def lines(self, *path: str) -> Iterator[str]:
        """The lines of an answer that goes on, as they come. Ends when the gateway ends it."""
        target = _target(path)
        with self._connected() as connection, self._explaining():
            answer = self._request(connection, "GET", target)
            if answer.status != 200:
                content = answer.read(_ANSWER_LIMIT)
                raise RefusedError(
                    _explained(answer.status, _parsed(content), content, what=f"GET {target}"), status=answer.status
                )
            while line := answer.readline():
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    def _exchange(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        with self._connected() as connection, self._explaining():
            answer = self._request(connection, method, target, body)
            return answer.status, answer.read(_ANSWER_LIMIT)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, target: str, body: bytes = b""
    ) -> http.client.HTTPResponse:
        path = urlsplit(self.url).path + target
        connection.request(method, path, body=body or None, headers=self._headers(body))
        return connection.getresponse()

    def _connected(self) -> contextlib.closing[http.client.HTTPConnection]:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        return contextlib.closing(
            http.client.HTTPSConnection(
                host, parts.port, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_SECONDS)
        )

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as problem:
            reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
            if self.pod is not None:
                raise CommandError(f"no answer from the gateway's pod {self.pod}: {reason}. Try again.") from problem
            raise CommandError(
                f"no answer from the gateway at {self.url}: {reason}. Is it running, and is --server right?"
            ) from problem

    def _headers(self, body: bytes) -> Mapping[str, str]:
        headers = {"accept": "application/json", "user-agent": f"kubectl-hooks/{__version__}"}
        if body:
            headers["content-type"] = "application/json"
        token = self.token() if callable(self.token) else self.token
        if token:
            headers["authorization"] = f"Bearer {token}"
        return headers


def is_loopback(url: str) -> bool:
    """Whether what is sent there stays on this machine: a literal loopback address, or `localhost`."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _target(path: tuple[str, ...]) -> str:
    return "/v1/" + "/".join(quote(segment, safe="") for segment in path)


def _parsed(content: bytes) -> dict[str, Any] | None:
    if not content:
        return {}
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _explained(status: int, answer: dict[str, Any] | None, content: bytes, *, what: str) -> str:
    """The problem document's own words, else the status with the answer's beginning."""
    if answer and (answer.get("detail") or answer.get("title")):
        return f"{answer.get('detail') or answer['title']} ({status})"
    if status == 401:
        return "the gateway wants a token: set HOOKSTEAD_TOKEN or --token-file (401)"
    start = content[:200].decode(errors="replace").strip()
    said = f": {start}" if start and not start.startswith("<") else ""  # not a page of HTML
    return f"{what}: the server answered {status}, which is no Hookstead gateway's answer{said}. Is --server right?"
