"""From the objects of manifests to what `compile_environment` takes, without an API server in between.

Pure. What the API server would have refused on its own (a Secret that is no base64, a second object of one name)
is told as a complaint, with the number of the object that it is about.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from hookstead.cli.ledger import Key, Sighting
from hookstead.config.compile import Inputs, Rejected, SecretObject, signing_secret_name
from hookstead.config.lint import Notice, Severity
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import GROUP, SECRET_LABEL, Kind, Meta, Resource, kind_of
from hookstead.resources.parse import parse
from hookstead.resources.problem import Problem
from hookstead.resources.secret import Secret

Raw: TypeAlias = Mapping[str, Any]
Item: TypeAlias = Resource | Rejected

SECRET: Final = "Secret"  # noqa: S105  (a kind, no password)
_SECRET_SIZE_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Complaint:
    """A notice about the object with that number."""

    index: int
    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The objects of one namespace. `places`: the number of each object, by kind and name."""

    namespace: str
    items: tuple[Item, ...] = ()
    secrets: Mapping[str, SecretObject] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()
    places: Mapping[tuple[str, str], int] = field(default_factory=dict)
    digests: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def sightings(self) -> tuple[Sighting, ...]:
        """What a ledger wants to know: every object with the digest of its effective spec."""
        return tuple(
            Sighting(Key(_kind(item), self.namespace, item.meta.name), self.digests[_kind(item).value, item.meta.name])
            for item in self.items
        )

    def inputs(
        self,
        *,
        metas: Mapping[tuple[Kind, str], Meta] = {},
        generated: Mapping[str, SecretObject] = {},
        allow_loopback: bool,
        last_environment: Any = None,
    ) -> Inputs:
        """For the compiler. `metas` are put in place of the manifests' own metadata; `generated` are signing
        Secrets by name, which a Secret of the manifests hides. Who comes first in the manifests is the older."""
        by_kind: dict[Kind, list[Any]] = {kind: [] for kind in Kind}
        for item in self.items:
            kind = _kind(item)
            by_kind[kind].append(_with_meta(item, metas.get((kind, item.meta.name), item.meta)))
        return Inputs(
            namespace=self.namespace,
            environments=by_kind[Kind.ENVIRONMENT],
            endpoints=by_kind[Kind.ENDPOINT],
            channels=by_kind[Kind.CHANNEL],
            event_types=by_kind[Kind.EVENT_TYPE],
            replays=by_kind[Kind.REPLAY],
            secrets={**generated, **self.secrets},
            last_environment=last_environment,
            allow_loopback=allow_loopback,
            precedence={
                (_kind(item), item.meta.name): self.places[_kind(item).value, item.meta.name] for item in self.items
            },
        )


def is_ours(raw: Raw) -> bool:
    """Whether it is one of our kinds, whatever its version."""
    version = raw.get("apiVersion")
    return isinstance(version, str) and (version == GROUP or version.startswith(f"{GROUP}/"))


def is_secret(raw: Raw) -> bool:
    """Whether it is a core Secret."""
    return raw.get("apiVersion") == "v1" and raw.get("kind") == SECRET


def namespace_of(raw: Raw) -> str | None:
    """The namespace that the object names; None where it names none."""
    metadata = raw.get("metadata")
    named = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return named if isinstance(named, str) and named else None


def assemble(objects: Iterable[tuple[int, Raw]], *, namespace: str) -> Assembled:
    """Parse the objects of one namespace, in the order of the manifests; others than ours and Secrets are skipped."""
    items: list[Item] = []
    secrets: dict[str, SecretObject] = {}
    complaints: list[Complaint] = []
    places: dict[tuple[str, str], int] = {}
    digests: dict[tuple[str, str], str] = {}
    for index, raw in objects:
        if not (is_ours(raw) or is_secret(raw)):
            continue
        kind, name = str(raw.get("kind")), _name(raw)
        if (kind, name) in places:
            complaints.append(_complain(index, raw, "metadata.name", _second(kind, name), rule=DUPLICATE))
            continue
        if name:
            places[kind, name] = index
        if is_secret(raw):
            secret, found = _secret(index, raw, name)
            secrets |= {} if secret is None else {name: secret}
        else:
            item, found = _item(index, raw, name, namespace)
            if item is not None:
                items.append(item)
                digests[kind, name] = _digest(item, raw)
        complaints += found
    return Assembled(
        namespace=namespace,
        items=tuple(items),
        secrets=secrets,
        complaints=tuple(complaints),
        places=places,
        digests=digests,
    )


def _digest(item: Item, raw: Raw) -> str:
    """Of the spec with its defaults, so that writing one out is no edit; of the raw one where it does not parse."""
    if isinstance(item, Rejected):
        return hashlib.sha256(repr(raw.get("spec")).encode("utf-8", "surrogatepass")).hexdigest()
    return hashlib.sha256(msgspec.json.encode(item.spec, order="sorted")).hexdigest()


def generated_secret(endpoint: str, *, uid: str, key: Secret) -> SecretObject:
    """The signing Secret as the operator generates it."""
    return SecretObject(name=signing_secret_name(endpoint), permitted=True, data={"key": key}, owner_uid=uid)


DUPLICATE: Final = "DuplicateObject"
INVALID_SECRET: Final = "InvalidSecret"  # noqa: S105  (a rule, no password)


def _item(index: int, raw: Raw, name: str, namespace: str) -> tuple[Item | None, list[Complaint]]:
    """The typed value, or its rejection; an object without a usable kind and name can only be complained about."""
    parsed = parse(raw, namespace=namespace)
    if not isinstance(parsed, list):
        return parsed, []
    kind = next((kind for kind in Kind if kind.value == raw.get("kind")), None)
    if kind is None or not name:
        return None, [Complaint(index, _notice(problem)) for problem in parsed]
    meta = Meta(name=name, namespace=namespace)
    return Rejected(kind=kind, meta=meta, problems=tuple(parsed)), []


def _notice(problem: Problem) -> Notice:
    return Notice(severity=Severity.ERROR, rule=problem.reason.value, problem=problem)


def _secret(index: int, raw: Raw, name: str) -> tuple[SecretObject | None, list[Complaint]]:
    complaints: list[Complaint] = []

    def complain(where: str, message: str) -> None:
        complaints.append(_complain(index, raw, where, message, rule=INVALID_SECRET))

    if not name:
        complain("metadata.name", "is required: add it")
        return None, complaints
    data: dict[str, Secret] = {}
    for section, decode in (("data", _from_base64), ("stringData", _from_text)):
        entries = raw.get(section)
        if entries is not None and not isinstance(entries, Mapping):
            complain(section, "must be a mapping of keys to strings")
            continue
        for key, value in (entries or {}).items():
            try:
                data[str(key)] = Secret(decode(value))
            except ValueError as problem:
                complain(f"{section}.{key}", str(problem))
    if sum(len(value.reveal()) for value in data.values()) > _SECRET_SIZE_LIMIT:
        complain("data", "must be at most 1 MiB in all")
    if complaints:
        return None, complaints
    labels = (raw.get("metadata") or {}).get("labels")
    permitted = isinstance(labels, Mapping) and labels.get(SECRET_LABEL) == "true"
    return SecretObject(name=name, permitted=permitted, data=data if permitted else {}), []


def _from_base64(value: object) -> bytes:
    if value is None:
        return b""
    try:
        # As encoding/json does in the API server: line ends are skipped, all else must be base64.
        return base64.b64decode(str(value).replace("\n", "").replace("\r", ""), validate=isinstance(value, str))
    except (binascii.Error, ValueError) as problem:
        raise ValueError("must be base64: encode it, or write it as it is under stringData") from problem


def _from_text(value: object) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise ValueError("must be a string: put it in quotes")
    return value.encode("utf-8", "surrogatepass")


def _second(kind: str, name: str) -> str:
    return f"a {kind} called {name!r} comes earlier in these manifests: delete one of the two, or rename it"


def _complain(index: int, raw: Raw, where: str, message: str, *, rule: str) -> Complaint:
    problem = Problem(
        kind=str(raw.get("kind")),
        name=_name(raw),
        namespace=namespace_of(raw) or "",
        field=where,
        message=message,
        reason=Reason.INVALID_SPEC,
    )
    return Complaint(index, Notice(severity=Severity.ERROR, rule=rule, problem=problem))


def _name(raw: Raw) -> str:
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""


def _kind(item: Item) -> Kind:
    return item.kind if isinstance(item, Rejected) else kind_of(item)


def _with_meta(item: Item, meta: Meta) -> Item:
    if isinstance(item, Rejected):
        return Rejected(kind=item.kind, meta=meta, problems=item.problems)
    return msgspec.structs.replace(item, meta=meta)
