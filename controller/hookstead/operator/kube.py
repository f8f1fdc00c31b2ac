"""A thin client for the API server: JSON in, JSON out, errors by what the caller can do about them.

The status path is hot: 180 µs of CPU for a patch here, 780 µs with the generated client (measured).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import aiohttp
import msgspec

from hookstead import __version__
from hookstead.resources.kinds import GROUP, VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from hookstead.operator.access import Access

MERGE_PATCH: Final = "application/merge-patch+json"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
TIMEOUT_SECONDS: Final = 30.0
PAGE_SIZE: Final = 500
CONNECTIONS: Final = 24
WATCH_SECONDS: Final = 60.0
"""The API server ends a watch of ours after so long."""


class KubeError(Exception):
    """The API server did not do it. `status` is 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status: Final = status


class Unavailable(KubeError):
    """No answer, or a 5xx: try again later."""


class Throttled(Unavailable):
    """429: try again, no earlier than after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, status=429)
        self.retry_after: Final = retry_after


class NotFound(KubeError):
    """404: the object, or its whole kind, does not exist."""


class Conflict(KubeError):
    """409: it exists already, or has changed, or is another object of that name."""


class Expired(KubeError):
    """410: the resourceVersion or list position is too old: start the list anew."""


class Forbidden(KubeError):
    """401 or 403: the Role does not allow it, or the token is not taken."""


class Invalid(KubeError):
    """400 or 422: the request itself is wrong; trying again does not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a metadata list."""

    name: str
    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A consistent metadata list: what existed at `resource_version`."""

    resource_version: int
    items: Mapping[str, Listed]


def listed_object(raw: Mapping[str, Any]) -> Listed:
    """What a sweep compares of an object or its metadata."""
    meta = raw["metadata"]
    return Listed(name=meta["name"], uid=meta["uid"], resource_version=int(meta["resourceVersion"]))


class KubeClient:
    """Requests to one API server with one identity. Use as an async context manager."""

    def __init__(self, access: Access) -> None:
        self._access: Final = access
        self._session: aiohttp.ClientSession | None = None
        self._decoder: Final = msgspec.json.Decoder()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self._access.tls() if self._access.server.startswith("https:") else False, limit=CONNECTIONS
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            headers={"user-agent": f"hookstead-operator/{__version__}"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, accept: str = "") -> Any:
        """The decoded object. Raises KubeError."""
        return await self.request("GET", path, params=params, accept=accept)

    async def create(self, path: str, body: object) -> Any:
        """POST to a collection. Raises KubeError, Conflict where the name is taken."""
        return await self.request("POST", path, body=body)

    async def replace(self, path: str, body: object) -> Any:
        """PUT an object; with a resourceVersion in it, only if it is still that one. Raises KubeError."""
        return await self.request("PUT", path, body=body)

    async def merge_patch(self, path: str, body: object) -> Any:
        """JSON merge patch (RFC 7386). Raises KubeError."""
        return await self.request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def list_metadata(self, path: str, *, label_selector: str = "") -> Listing:
        """Names, uids and versions of a collection at one moment, read consistently. Raises KubeError."""
        items: dict[str, Listed] = {}
        version = 0
        async for page in self.list_pages(path, label_selector=label_selector, accept=METADATA_LIST):
            for raw in page.get("items") or ():
                listed = listed_object(raw)
                items[listed.name] = listed
            version = int(page["metadata"]["resourceVersion"])
        return Listing(resource_version=version, items=items)

    async def list_pages(self, path: str, *, label_selector: str = "", accept: str = "") -> AsyncIterator[Any]:
        """A collection at one moment, read consistently, PAGE_SIZE objects at a time. Raises KubeError.

        The next page is asked for while the caller works on this one.
        """
        params = {"limit": str(PAGE_SIZE)}
        if label_selector:
            params["labelSelector"] = label_selector
        page = await self.get(path, params=params, accept=accept)
        while position := page["metadata"].get("continue"):
            following = asyncio.create_task(self.get(path, params={**params, "continue": position}, accept=accept))
            try:
                yield page
                page = await following
            finally:
                following.cancel()
        yield page

    async def watch(
        self, path: str, *, version: int, label_selector: str = ""
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """What happened in a collection after `version`, with the type of each event. Ends after WATCH_SECONDS at most.

        Raises KubeError, Expired where the version is too old.
        """
        params = {"watch": "1", "resourceVersion": str(version), "timeoutSeconds": f"{WATCH_SECONDS:.0f}"}
        if label_selector:
            params["labelSelector"] = label_selector
        what = f"watch of {path}"
        limits = aiohttp.ClientTimeout(total=WATCH_SECONDS + TIMEOUT_SECONDS)
        try:
            async with self._open().get(
                self._access.server + path,
                params=params,
                headers=self._headers(),
                timeout=limits,
                allow_redirects=False,
                server_hostname=self._access.server_name,
            ) as response:
                if response.status != 200:
                    raise _failure(what, response.status, await response.read(), response.headers)
                async for line in _lines(response.content):
                    event = self._decoder.decode(line)
                    if event["type"] == "ERROR":
                        code = event["object"].get("code", 0)
                        raise _BY_STATUS.get(code, KubeError)(f"{what}: {event['object'].get('message')}", status=code)
                    yield event["type"], event["object"]
        except (TimeoutError, aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            raise Unavailable(f"{what}: {error}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable("the client is closed")
        return self._session

    def _headers(self, accept: str = "") -> dict[str, str]:
        token = self._access.bearer()
        return {"accept": accept or "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        accept: str = "",
    ) -> Any:
        """One exchange, at most TIMEOUT_SECONDS long. Raises KubeError."""
        session = self._open()
        data = None if body is None else msgspec.json.encode(body)
        what = f"{method} {path}"
        try:
            headers = self._headers(accept) | ({"content-type": content_type} if body is not None else {})
            async with session.request(
                method,
                self._access.server + path,
                params=params,
                data=data,
                headers=headers,
                allow_redirects=False,
                server_hostname=self._access.server_name,
            ) as response:
                raw = await response.read()
                status, answer_headers = response.status, response.headers
        except TimeoutError as error:
            raise Unavailable(f"{what}: no answer within {TIMEOUT_SECONDS:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{what}: {error}") from error
        if status < 300:
            try:
                return self._decoder.decode(raw) if raw else {}
            except msgspec.DecodeError as error:
                raise Unavailable(f"{what}: the answer is not JSON: {error}", status=status) from error
        raise _failure(what, status, raw, answer_headers)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, however long."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


def _failure(what: str, status: int, raw: bytes, headers: Mapping[str, str]) -> KubeError:
    try:
        words = msgspec.json.decode(raw, type=dict[str, Any]).get("message") or ""
    except msgspec.DecodeError:
        words = raw[:200].decode("utf-8", errors="replace")
    message = f"{what}: {status} {words}".strip()
    if status == 429:
        return Throttled(message, retry_after=_seconds(headers.get("retry-after", "")))
    if status >= 500:
        return Unavailable(message, status=status)
    kind = _BY_STATUS.get(status, KubeError)
    return kind(message, status=status)


_BY_STATUS: Final[Mapping[int, type[KubeError]]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    422: Invalid,
}


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 30.0)
    except ValueError:
        return 1.0


# Paths.


def kind_path(kind: Kind, namespace: str, name: str = "", *, status: bool = False) -> str:
    """Of one of our kinds: the collection, an object, or its status."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace)}/{kind.plural}"
    if name:
        path += f"/{quote(name)}"
    return path + "/status" if status else path


def core_path(plural: str, namespace: str, name: str = "") -> str:
    """Of a core kind: Secrets, pods, events."""
    path = f"/api/v1/namespaces/{quote(namespace)}/{plural}"
    return f"{path}/{quote(name)}" if name else path


def lease_path(namespace: str, name: str = "") -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace)}/leases"
    return f"{path}/{quote(name)}" if name else path


DISCOVERY_PATH: Final = f"/apis/{GROUP}/{VERSION}"
