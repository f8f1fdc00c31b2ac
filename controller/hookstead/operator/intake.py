"""What the feed and the sweeps bring: kept, and told to whom it concerns."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.feed import PODS, SECRETS
from hookstead.operator.schedule import Key
from hookstead.resources.kinds import SECRET_LABEL, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from hookstead.operator.objects import ObjectStore, SecretStore
    from hookstead.operator.pods import PodStore
    from hookstead.operator.reconcile import Reconciler
    from hookstead.operator.reporter import Reporter
    from hookstead.operator.reports import ReportBook
    from hookstead.operator.resolve import Resolver
    from hookstead.operator.sweep import Sweeper

log: Final = logging.getLogger(__name__)
_BY_PLURAL: Final = {kind.plural: kind for kind in Kind}


class Intake:
    """Where every object that is watched comes in.

    `pods_changed` is called when the live gateways may be others. Until `synchronised` is set nothing asks for a pass:
    it would compile half of what there is.
    """

    def __init__(
        self,
        *,
        objects: ObjectStore,
        secrets: SecretStore,
        pods: PodStore,
        reports: ReportBook,
        reconciler: Reconciler,
        reporter: Reporter,
        resolver: Resolver,
        sweeper: Sweeper,
        synchronised: asyncio.Event,
        pods_changed: Callable[[], None],
    ) -> None:
        self._objects: Final = objects
        self._secrets: Final = secrets
        self._pods: Final = pods
        self._reports: Final = reports
        self._reconciler: Final = reconciler
        self._reporter: Final = reporter
        self._resolver: Final = resolver
        self._sweeper: Final = sweeper
        self._synchronised: Final = synchronised
        self._pods_changed: Final = pods_changed

    def observe(self, plural: str, event: str | None, body: dict[str, Any]) -> None:
        """One event of the feed. Never raises: what goes wrong here is made good by a sweep."""
        try:
            if plural == PODS:
                if self._pods.observe(event, body):
                    self._pods_changed()
            elif plural == SECRETS:
                seen = self._secrets.observe(event, body)
                self._seen(changed=seen.changed, relisted=seen.relisted)
            else:
                self._observe_object(_BY_PLURAL[plural], event, body)
        except Exception:  # Kopf would log and lose it; the sweep that is asked for brings the object in
            log.exception("an event could not be taken in", extra={"action": "observe", "resource": plural})
            self._sweeper.ask()

    def _observe_object(self, kind: Kind, event: str | None, body: dict[str, Any]) -> None:
        meta = body["metadata"]
        key = Key(kind, meta["name"])
        seen = self._objects.observe(kind, event, body)
        if seen.deleted:
            self._reconciler.deleted(kind, meta["name"], meta["uid"])
            if seen.changed:
                self._reporter.gone(key)
            if kind is Kind.ENDPOINT and meta["name"] not in self._objects.kinds[kind]:
                self._reports.drop_endpoint(meta["name"])
        if seen.changed:
            self._reporter.changed(key)
        if seen.requested:
            self._resolver.forget()
        if seen.status:
            self._reporter.look_at([key])
        self._seen(changed=seen.changed, relisted=seen.relisted)

    def _seen(self, *, changed: bool, relisted: bool) -> None:
        if not self._synchronised.is_set():
            return
        if changed:
            self._reconciler.mark()
        if relisted:
            self._sweeper.ask()

    def swept(self) -> None:
        """A sweep has removed something."""
        self._pods_changed()
        self._reconciler.mark()

    def bring(self, plural: str, body: dict[str, Any]) -> None:
        """An object that the feed has lost. Of Secrets only those with the label concern us, as in the watch."""
        labels = body["metadata"].get("labels") or {}
        if plural != SECRETS or labels.get(SECRET_LABEL) == "true":
            self.observe(plural, "MODIFIED", body)
