"""Everything that ever stood in the statuses of a namespace: a watch per kind, kept from its beginning to its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cluster.apiserver import ApiServer
from cluster.kstatus import faults

KINDS: Final = {
    "WebhookEnvironment": "webhookenvironments",
    "WebhookEndpoint": "webhookendpoints",
    "WebhookChannel": "webhookchannels",
    "WebhookEventType": "webhookeventtypes",
    "WebhookReplay": "webhookreplays",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a watch: when it arrived (monotonic seconds), and the object."""

    at: float
    event: str
    body: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.body["kind"], self.body["metadata"]["name"]

    @property
    def version(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])


@dataclass
class StatusJournal:
    """Entries of all kinds in the order in which they arrived; of one object in the order in which they happened."""

    server: ApiServer
    namespace: str
    entries: list[Entry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def seen(self) -> list[Entry]:
        """A copy of what there is so far."""
        with self._lock:
            return list(self.entries)

    def of(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The forms of one object, oldest first."""
        return [entry.body for entry in self.seen() if entry.key == (kind, name) and entry.event != "DELETED"]

    def faults(self) -> list[str]:
        """What is wrong with any form of any object (`kstatus.faults`)."""
        found: list[str] = []
        before: dict[tuple[str, str], dict[str, Any]] = {}
        for entry in self.seen():
            if entry.event == "DELETED":
                before.pop(entry.key, None)
                continue
            was = before.get(entry.key)
            found += [
                f"{'/'.join(entry.key)}: {one}; {_told(was)} -> {_told(entry.body)}" for one in faults(entry.body, was)
            ]
            before[entry.key] = entry.body
        return found

    def follow(self, plural: str) -> None:
        """One kind, until it is closed; a watch that ends goes on where it stopped."""
        root = f"/apis/hookstead.dev/v1alpha1/namespaces/{self.namespace}/{plural}"
        version = "0"
        known: dict[tuple[str, str], str] = {}
        while not self._closing.is_set():
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException, json.JSONDecodeError):
                for line in self._stream(f"{root}?watch=1&resourceVersion={version}&timeoutSeconds=60"):
                    told = json.loads(line)
                    if told["type"] == "ERROR":  # the version is too old by now: from the beginning, some of it again
                        version = "0"
                        break
                    entry = Entry(time.monotonic(), told["type"], told["object"])
                    version = entry.version
                    if known.get(entry.key) != version:  # else a watch that was begun anew repeats it
                        known[entry.key] = version
                        with self._lock:
                            self.entries.append(entry)
            self._closing.wait(0.1)

    def _stream(self, path: str) -> Iterator[bytes]:
        context = ssl.create_default_context(cafile=str(self.server.ca_file))
        host = self.server.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=context, timeout=2.0)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.server.admin_token}"})
            response = connection.getresponse()
            if response.status != 200:
                return
            rest = b""
            while not self._closing.is_set():
                try:
                    chunk = response.read1(65536)
                except TimeoutError:
                    # The response cannot be read on after a time-out: a new watch goes on where this one stopped.
                    return
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines

    def close(self) -> None:
        self._closing.set()


def _told(body: dict[str, Any] | None) -> str:
    """For a failure: the version, and what the conditions say since when."""
    if body is None:
        return "nothing"
    said = (body.get("status") or {}).get("conditions") or ()
    words = ", ".join(f"{item['type']}={item['reason']}@{item['lastTransitionTime'][11:19]}" for item in said)
    meta = body["metadata"]
    return f"{meta['resourceVersion']} (generation {meta['generation']}: {words})"


@contextlib.contextmanager
def status_journal(server: ApiServer, namespace: str) -> Iterator[StatusJournal]:
    """A running journal; its threads end within two seconds of the block."""
    journal = StatusJournal(server, namespace)
    for plural in KINDS.values():
        threading.Thread(target=journal.follow, args=(plural,), daemon=True).start()
    try:
        yield journal
    finally:
        journal.close()
