"""What exists in the namespace, as the feed and the sweeps have told: typed objects, Secrets, and their versions.

In memory and rebuilt at each start. Nothing here talks to anybody.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hookstead.config.compile import Rejected, SecretObject
from hookstead.operator.compact import canonical
from hookstead.operator.manifests import read_manifest
from hookstead.resources.kinds import RECONCILE_ANNOTATION, SECRET_LABEL, Kind
from hookstead.resources.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hookstead.operator.kube import Listing
    from hookstead.resources.kinds import Meta, Resource

_NO_STATUS: Final = b"{}"


@dataclass(slots=True)
class Entry:
    """One object as it was last seen. `status` is what `compact.canonical` made of it.

    `resource_version` orders what was seen of it.
    """

    item: Resource | Rejected
    resource_version: int
    status: bytes

    @property
    def meta(self) -> Meta:
        return self.item.meta

    @property
    def reconcile_requested_at(self) -> str | None:
        return self.item.meta.annotations.get(RECONCILE_ANNOTATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an observation came to.

    `changed`: the object is new, another, gone, or was edited; a status alone never is a change.
    `status`: somebody else wrote the status. `deleted`: the API server said that it is gone.
    `relisted`: it came from a list, so a watch was (re)started. `requested`: a reconcile is asked for.
    """

    changed: bool = False
    status: bool = False
    requested: bool = False
    deleted: bool = False
    relisted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep came to: entries that no longer exist, and names that the feed has not brought yet."""

    ghosts: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class ObjectStore:
    """Typed objects by kind and name. Reads are cheap; every mutation says whether anything changed."""

    namespace: str
    kinds: dict[Kind, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in Kind})

    def observe(self, kind: Kind, event: str | None, body: dict[str, Any]) -> Seen:
        """Take in one event of the feed; older news than what is known is ignored."""
        entries = self.kinds[kind]
        meta = body["metadata"]
        name, version = meta["name"], int(meta["resourceVersion"])
        known = entries.get(name)
        relisted = event is None
        if known is not None and version < known.resource_version:
            return Seen(relisted=relisted)
        if event == "DELETED":
            if known is not None and known.meta.uid == meta["uid"]:
                del entries[name]
            return Seen(changed=known is not None, deleted=True)
        echo = known is not None and _is_echo(known, meta)
        if known is not None and echo and version == known.resource_version:
            return Seen(relisted=relisted)  # to the byte what is known: our own write, or a list after another
        status = _status_of(body)
        if known is not None and echo:
            known.resource_version = version
            foreign = status != known.status
            if foreign:
                known.status = status
            return Seen(status=foreign, relisted=relisted)
        entry = entries[name] = Entry(item=read_manifest(kind, body), resource_version=version, status=status)
        asked = entry.reconcile_requested_at
        requested = asked is not None and known is not None and asked != known.reconcile_requested_at
        return Seen(changed=True, relisted=relisted, requested=requested)

    def sweep(self, kind: Kind, listing: Listing) -> Swept:
        """Remove what the list does not know and what is older than the list; say what the list has beyond us."""
        return _swept(
            self.kinds[kind],
            listing,
            version=lambda entry: entry.resource_version,
            uid=lambda entry: entry.meta.uid,
        )

    def items(self, kind: Kind) -> list[Any]:
        """The typed objects and the rejected ones, in no particular order."""
        return [entry.item for entry in self.kinds[kind].values()]

    def count(self) -> int:
        return sum(len(entries) for entries in self.kinds.values())


def _is_echo(known: Entry, meta: Mapping[str, Any]) -> bool:
    """Whether only what we do not act on differs: status, labels, other people's annotations."""
    return (
        known.meta.uid == meta["uid"]
        and known.meta.generation == meta.get("generation", 1)
        and known.meta.annotations == _ours(meta.get("annotations") or {})
    )


def _ours(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key.startswith("hookstead.dev/")}


def _status_of(body: Mapping[str, Any]) -> bytes:
    status = body.get("status")
    return canonical(dict(status)) if status else _NO_STATUS


@dataclass(slots=True)
class KnownSecret:
    secret: SecretObject
    resource_version: int
    uid: str


@dataclass(slots=True)
class SecretStore:
    """The labelled Secrets (fed by a watch) and what look-ups by name told of the others.

    `unlabelled` holds names that exist without the label; `absent` names that do not exist. Both go stale, so
    they are looked up again for as long as an endpoint waits for them.
    """

    labelled: dict[str, KnownSecret] = field(default_factory=dict)
    unlabelled: dict[str, SecretObject] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)

    def observe(self, event: str | None, body: dict[str, Any]) -> Seen:
        """Take in one event of the label-selected watch: a Secret that loses its label arrives as DELETED."""
        meta = body["metadata"]
        name, version = meta["name"], int(meta["resourceVersion"])
        known = self.labelled.get(name)
        relisted = event is None
        if known is not None and version < known.resource_version:
            return Seen(relisted=relisted)
        if event == "DELETED":
            # Deleted or unlabelled: a look-up will tell.
            self.labelled.pop(name, None)
            self.unlabelled.pop(name, None)
            self.absent.discard(name)
            return Seen(changed=known is not None, deleted=True)
        secret = secret_object(body)
        if known is not None and known.secret == secret:
            secret = known.secret  # the very one: what was compiled with it stays good
        self.labelled[name] = KnownSecret(secret=secret, resource_version=version, uid=meta["uid"])
        self.unlabelled.pop(name, None)
        self.absent.discard(name)
        return Seen(changed=known is None or known.secret != secret, relisted=relisted)

    def learn(self, name: str, found: SecretObject | None) -> bool:
        """Take in a look-up by name (None: no such Secret); True when that is news."""
        if name in self.labelled:
            return False
        before = self.unlabelled.get(name)
        if found is None:
            self.unlabelled.pop(name, None)
            news = before is not None or name not in self.absent
            self.absent.add(name)
            return news
        self.unlabelled[name] = found
        self.absent.discard(name)
        return before != found

    def sweep(self, listing: Listing) -> Swept:
        """As `ObjectStore.sweep`, for the labelled ones."""
        return _swept(
            self.labelled,
            listing,
            version=lambda known: known.resource_version,
            uid=lambda known: known.uid,
        )

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Names that were never looked up, sorted."""
        return sorted(
            name
            for name in names
            if name not in self.labelled and name not in self.unlabelled and name not in self.absent
        )

    def unresolved(self, names: Iterable[str]) -> list[str]:
        """Names to look up again, sorted: absent, or there without the label."""
        return sorted(name for name in names if name not in self.labelled)

    def forget_unmentioned(self, names: Iterable[str]) -> None:
        """Drop look-ups that no endpoint needs any more."""
        mentioned = frozenset(names)
        self.absent &= mentioned
        for name in [name for name in self.unlabelled if name not in mentioned]:
            del self.unlabelled[name]

    def snapshot(self) -> dict[str, SecretObject]:
        """For the compiler: what exists, by name."""
        return {**self.unlabelled, **{name: known.secret for name, known in self.labelled.items()}}


def secret_object(body: Mapping[str, Any]) -> SecretObject:
    """A Secret, or the metadata of one; data is taken only from a labelled one."""
    meta = body["metadata"]
    permitted = (meta.get("labels") or {}).get(SECRET_LABEL) == "true"
    data = body.get("data") or {} if permitted else {}
    return SecretObject(
        name=meta["name"],
        permitted=permitted,
        data={key: _decoded(value) for key, value in data.items()},
        owner_uid=next((ref["uid"] for ref in meta.get("ownerReferences") or () if ref.get("controller")), None),
    )


def _decoded(value: str | None) -> Secret:
    try:
        return Secret(base64.b64decode(value or "", validate=True))
    except binascii.Error:
        return Secret(b"")


def _swept(entries: dict[str, Any], listing: Listing, *, version: Any, uid: Any) -> Swept:
    ghosts = []
    for name, entry in list(entries.items()):
        listed = listing.items.get(name)
        gone = listed is None or listed.uid != uid(entry)
        if gone and version(entry) <= listing.resource_version:
            del entries[name]
            ghosts.append(name)
    missing = [
        name
        for name, listed in listing.items.items()
        if name not in entries or version(entries[name]) < listed.resource_version
    ]
    return Swept(ghosts=tuple(ghosts), missing=tuple(missing))
