"""One test's corner of a shared process: names, types and paths that nobody else uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contract.processes import WAIT_SECONDS, Answer, Environment, Received, Receiver, manifest, until

if TYPE_CHECKING:
    from collections.abc import Mapping


class Site:
    """Endpoints are `<tag>-<name>`, get events of the types `<tag>.*`, and send to `/<tag>/<name>`."""

    def __init__(self, dev: Environment, receiver: Receiver, tag: str) -> None:
        self.dev = dev
        self.receiver = receiver
        self.tag = tag

    # ------------------------------------------------------------------------------------------ manifests

    def name(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def type(self, name: str) -> str:
        return f"{self.tag}.{name}"

    def path(self, name: str) -> str:
        return f"/{self.tag}/{name}"

    def endpoint(self, name: str = "a", *, annotations: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
        """A manifest; without `eventTypes` it gets every type of this site (None: no such field)."""
        spec = {"url": self.receiver.url + self.path(name), "eventTypes": [f"{self.tag}.*"], **spec}
        kept = {key: value for key, value in spec.items() if value is not None}
        return manifest("WebhookEndpoint", self.name(name), kept, annotations=dict(annotations or {}))

    def channel(self, name: str, **spec: Any) -> dict[str, Any]:
        """A manifest of the channel whose wire name is `<tag>_<name>`."""
        return manifest("WebhookChannel", self.name(name), {"channelName": self.channel_name(name), **spec})

    def channel_name(self, name: str) -> str:
        return f"{self.tag}_{name}"

    def event_type(self, name: str, **spec: Any) -> dict[str, Any]:
        """A manifest of the event type `<tag>.<name>`."""
        spec = {"type": self.type(name), "description": "For tests.", **spec}
        return manifest("WebhookEventType", self.name(name.replace(".", "-").replace("_", "-").lower()), spec)

    def apply(self, *objects: dict[str, Any], file: str = "") -> None:
        """Put these objects in force, in place of what `file` held before."""
        self.dev.apply(self.tag + file, *objects)

    def clear(self) -> None:
        """Delete what was applied; waits for nothing."""
        for path in self.dev.folder.glob(f"{self.tag}*.yaml"):
            path.unlink()

    # ------------------------------------------------------------------------------------------ events

    def answers(self, name: str, *answers: Answer | int) -> None:
        """What the endpoint's receiver says."""
        self.receiver.on(self.path(name), *answers)

    def publish(self, data: Any = None, *, event: str = "order.created", **members: Any) -> dict[str, Any]:
        """Publish an event of this site."""
        return self.dev.publish(self.type(event), data, **members)

    def wait(self, name: str = "a", count: int = 1, *, seconds: float = WAIT_SECONDS) -> list[Received]:
        """What the endpoint's receiver got, once it is `count` or more."""
        return self.receiver.wait(self.path(name), count, seconds=seconds)

    def received(self, name: str = "a") -> list[Received]:
        return self.receiver.received(self.path(name))

    # ------------------------------------------------------------------------------------------ looking

    def deliveries(self, name: str = "a", **query: Any) -> list[dict[str, Any]]:
        """Of one endpoint, newest first."""
        return self.dev.list("/v1/deliveries", endpoint=self.name(name), **query)

    def delivery(self, delivery_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.dev.get(f"/v1/deliveries/{delivery_id}")
        return found

    def only(self, name: str = "a") -> dict[str, Any]:
        """The endpoint's one delivery, with attempts."""
        (found,) = self.deliveries(name)
        return self.delivery(found["id"])

    def settled(self, status: str, name: str = "a", *, attempts: int = 0, seconds: float = WAIT_SECONDS) -> Any:
        """The endpoint's one delivery, once it has this status and at least so many attempts."""

        def look() -> Any:
            found = self.deliveries(name)
            if len(found) != 1 or found[0]["status"] != status or found[0]["attemptCount"] < attempts:
                return None
            return self.delivery(found[0]["id"])

        try:
            return until(look, what=f"{name} {status}", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; deliveries: {self.deliveries(name)}") from None

    def attempted(self, count: int = 1, name: str = "a", *, seconds: float = WAIT_SECONDS) -> Any:
        """The endpoint's one delivery, once it has so many attempts."""

        def look() -> Any:
            found = self.deliveries(name)
            return found and found[0]["attemptCount"] >= count and self.delivery(found[0]["id"])

        return until(look, what=f"{count} attempts of {name}", seconds=seconds)

    def status(self, name: str = "a") -> dict[str, Any]:
        """The endpoint in status form."""
        found: dict[str, Any] = self.dev.get(f"/v1/endpoints/{self.name(name)}")
        return found

    def condition(self, kind: str, name: str = "a") -> tuple[str, str]:
        """Status and reason of one of its conditions; empty when it is absent."""
        for one in self.status(name)["conditions"]:
            if one["type"] == kind:
                return one["status"], one["reason"]
        return "", ""

    def redeliver(self, delivery_id: str) -> Any:
        return self.dev.post(f"/v1/deliveries/{delivery_id}/redeliver")

    def test(self, name: str = "a", body: bytes = b"") -> Any:
        return self.dev.post(f"/v1/endpoints/{self.name(name)}/test", body)


class Slot:
    """An endpoint of a site that is there already, and gets the events of its own name only: saves a look at the
    folder for each case of a table."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name

    def manifest(self, **spec: Any) -> dict[str, Any]:
        return self.site.endpoint(self.name, eventTypes=[self.site.type(self.name)], **spec)

    def answers(self, *answers: Answer | int) -> None:
        self.site.answers(self.name, *answers)

    def publish(self, data: Any = None) -> dict[str, Any]:
        return self.site.publish(data, event=self.name)

    def received(self) -> list[Received]:
        return self.site.received(self.name)

    def wait(self, count: int = 1, *, seconds: float = WAIT_SECONDS) -> list[Received]:
        return self.site.wait(self.name, count, seconds=seconds)

    def attempted(self, count: int = 1) -> Any:
        return self.site.attempted(count, self.name)

    def settled(self, status: str, *, attempts: int = 0, seconds: float = WAIT_SECONDS) -> Any:
        return self.site.settled(status, self.name, attempts=attempts, seconds=seconds)
