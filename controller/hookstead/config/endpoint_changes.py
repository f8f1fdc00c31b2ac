"""What changes about endpoints: what they receive, which keys sign, and what becomes of what waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from hookstead.config.changes import (
    EndpointChange,
    Fate,
    FieldChange,
    KeyChange,
    PendingFate,
    Side,
    fate_of,
    fields_of,
    new_problem,
    paired,
)
from hookstead.config.endpoint import SIGNING_KEY, signing_secret_name
from hookstead.config.model import DeliveryConfig, DeliveryPolicy, EndpointConfig
from hookstead.config.receiving import Comparison, reach_of
from hookstead.config.times import format_time, parse_time
from hookstead.resources.kinds import EndpointSpec, EndpointState, Header, SecretKeyRef, TlsSpec
from hookstead.resources.secret import Secret


def endpoint_changes(old: Side, new: Side, now_ms: int) -> Iterator[EndpointChange]:
    """By name. Keys that have expired at `now_ms` do not sign."""
    comparison = Comparison(old.config, new.config)
    for name, before, after in paired(old.config.endpoints, new.config.endpoints):
        reach, new_reach = reach_of(before, old.config), reach_of(after, new.config)
        unreadable = any(
            one is not None and one.identity.name not in side.endpoints for one, side in ((before, old), (after, new))
        )
        started, stopped = (
            ((), ())
            if unreadable
            else _keys(_signing(old, before, now_ms), _signing(new, after, now_ms), assumed=old.assumed | new.assumed)
        )
        change = EndpointChange(
            name=name,
            fate=fate_of(before, after),
            received_nothing=reach.nothing,
            receives_nothing=new_reach.nothing,
            event_types=comparison.types(reach, new_reach),
            channels=comparison.channels(reach, new_reach),
            keys_started=started,
            keys_stopped=stopped,
            fields=tuple(_endpoint_fields(name, old, new, before, after)),
            pending=_pending(before, after, old.config, new.config),
            problem=new_problem(before, after),
        )
        if change.fate is not Fate.CHANGED or _says_something(change):
            yield change


def _says_something(change: EndpointChange) -> bool:
    return bool(
        change.received_nothing != change.receives_nothing
        or change.event_types.started
        or change.event_types.stopped
        or change.channels.started
        or change.channels.stopped
        or change.keys_started
        or change.keys_stopped
        or change.fields
        or change.pending
        or change.problem
    )


def _pending(
    before: EndpointConfig | None, after: EndpointConfig | None, old: DeliveryConfig, new: DeliveryConfig
) -> PendingFate | None:
    """What becomes of what waits: contract, section 2."""
    if before is None:
        return None
    if after is None or (after.state is EndpointState.DISABLED and before.state is not EndpointState.DISABLED):
        return PendingFate.CANCELLED
    held, holds = _holds(before, old), _holds(after, new)
    if held == holds:
        return None
    return PendingFate.HELD if holds else PendingFate.RELEASED


def _holds(endpoint: EndpointConfig, config: DeliveryConfig) -> bool:
    return not config.enabled or endpoint.hold is not None or endpoint.state is EndpointState.PAUSED


def _endpoint_fields(
    name: str, old: Side, new: Side, before: EndpointConfig | None, after: EndpointConfig | None
) -> Iterator[FieldChange]:
    """Fields of spec but for the selection and the keys, which are told by themselves."""
    own, others = old.endpoints.get(name), new.endpoints.get(name)
    if before is None and after is not None and others is not None:
        yield from _first_fields(after, others, new.assumed)
    if before is None or after is None:
        return
    if own is None or others is None:  # one of the two does not parse: its problem is told
        return
    assumed = old.assumed | new.assumed
    unknown_url = bool(_secret_names(own, others) & assumed)
    for change in fields_of(_endpoint_values(before), _endpoint_values(after)):
        if change.field != "host" or not unknown_url:
            yield change
    if (where := _url_source(own)) != (other := _url_source(others)):
        yield FieldChange(field="url", before=where, after=other)
    elif before.host == after.host and before.url != after.url and not unknown_url:
        yield FieldChange(field="url", before=f"{before.host}/…", after=f"{after.host}/… (another path or query)")
    yield from _header_fields(own, others, before, after, assumed)
    yield from _tls_fields(own, others, before, after, assumed)


def _first_fields(endpoint: EndpointConfig, spec: EndpointSpec, assumed: frozenset[str]) -> Iterator[FieldChange]:
    """What a reviewer wants to know of an endpoint that comes: where it leads, and what stands between."""
    where = _url_source(spec) if _secret_names(spec) & assumed else endpoint.host
    yield FieldChange(field="host", before=None, after=where)
    if endpoint.state is not EndpointState.ENABLED:
        yield FieldChange(field="state", before=None, after=endpoint.state.value)
    if endpoint.filter is not None:
        yield FieldChange(field="filter", before=None, after=endpoint.filter)


_DELIVERY_FIELDS: Final = msgspec.structs.fields(DeliveryPolicy)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else list(value) if isinstance(value, tuple) else value


def _endpoint_values(endpoint: EndpointConfig) -> dict[str, Any]:
    return {
        "host": endpoint.host,
        "state": endpoint.state.value,
        "description": endpoint.description,
        "filter": endpoint.filter,
        "payloadFormat": endpoint.payload_format.value,
        **{f"delivery.{one.encode_name}": _plain(getattr(endpoint.delivery, one.name)) for one in _DELIVERY_FIELDS},
    }


def _url_source(spec: EndpointSpec) -> str:
    return "spec.url" if spec.url_from is None else _place(spec.url_from.secret_key_ref)


def _secret_names(*specs: EndpointSpec) -> set[str]:
    return {spec.url_from.secret_key_ref.name for spec in specs if spec.url_from is not None}


def _header_fields(
    own: EndpointSpec, others: EndpointSpec, before: EndpointConfig, after: EndpointConfig, assumed: frozenset[str]
) -> Iterator[FieldChange]:
    """By name; a value is told as where it comes from, since it may be a password."""
    values = ({header.name: header.value for header in before.headers}, {h.name: h.value for h in after.headers})
    was = {header.name: header for header in own.headers}
    becomes = {header.name: header for header in others.headers}
    for name in sorted({*was, *becomes}):
        first, second = was.get(name), becomes.get(name)
        places = tuple(None if one is None else _header_source(one) for one in (first, second))
        secrets = {one.value_from.secret_key_ref.name for one in (first, second) if one and one.value_from}
        if places[0] != places[1]:
            yield FieldChange(field=f"headers.{name}", before=places[0], after=places[1])
        elif values[0].get(name) != values[1].get(name) and not secrets & assumed:
            yield FieldChange(field=f"headers.{name}", before=places[0], after=f"{places[1]} (another value)")


def _header_source(header: Header) -> str:
    return "a value" if header.value_from is None else _place(header.value_from.secret_key_ref)


def _tls_fields(
    own: EndpointSpec, others: EndpointSpec, before: EndpointConfig, after: EndpointConfig, assumed: frozenset[str]
) -> Iterator[FieldChange]:
    refs = tuple(_tls_refs(spec.tls) for spec in (own, others))
    changed = list(fields_of(*refs))
    yield from changed
    names = {name for ref in refs for name in ref.values()}
    if not changed and before.tls != after.tls and not names & assumed:
        yield FieldChange(field="tls", before="certificates", after="other certificates")


def _tls_refs(tls: TlsSpec | None) -> dict[str, Any]:
    if tls is None:
        return {}
    refs = {"tls.caSecretRef": tls.ca_secret_ref, "tls.clientCertSecretRef": tls.client_cert_secret_ref}
    return {field: ref.name for field, ref in refs.items() if ref is not None}


# ---------------------------------------------------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    ref: SecretKeyRef
    material: Secret | None
    not_after_ms: int | None

    def is_the_same_as(self, other: _Key, assumed: frozenset[str]) -> bool:
        """Whether both sign alike, as far as that can be known: content decides where both contents are there."""
        if {self.ref.name, other.ref.name} & assumed:
            return self.ref == other.ref
        return self.material is not None and self.material == other.material

    def told(self, note: str = "") -> KeyChange:
        return KeyChange(id=self.id, secret=_place(self.ref), note=note)


def _keys(
    before: list[_Key], after: list[_Key], *, assumed: frozenset[str]
) -> tuple[tuple[KeyChange, ...], tuple[KeyChange, ...]]:
    """The keys that start and those that stop to sign; one that gets or loses an end is among them with a note."""
    started = [key.told() for key in after if not any(key.is_the_same_as(other, assumed) for other in before)]
    stopped = [key.told() for key in before if not any(key.is_the_same_as(other, assumed) for other in after)]
    for key in after:
        twin = next((other for other in before if key.is_the_same_as(other, assumed)), None)
        if twin is None or twin.not_after_ms == key.not_after_ms:
            continue
        if key.not_after_ms is None:
            started.append(key.told("for good"))
        else:
            stopped.append(key.told(f"at {format_time(key.not_after_ms)}"))
    return tuple(started), tuple(stopped)


def _signing(side: Side, endpoint: EndpointConfig | None, now_ms: int) -> list[_Key]:
    spec = None if endpoint is None else side.endpoints.get(endpoint.identity.name)
    if spec is None or endpoint is None:
        return []
    name = endpoint.identity.name
    material = {key.id: key for key in endpoint.keys}
    if spec.signing is None:
        refs = {SIGNING_KEY: SecretKeyRef(name=signing_secret_name(name), key=SIGNING_KEY)}
        ends: dict[str, int | None] = {}
    else:
        refs = {key.id: key.secret_key_ref for key in spec.signing.keys}
        ends = {
            key.id: None if key.not_after_time is None else parse_time(key.not_after_time) for key in spec.signing.keys
        }
    return [
        _Key(id_, ref, material[id_].material if id_ in material else None, ends.get(id_))
        for id_, ref in refs.items()
        if (end := ends.get(id_)) is None or end > now_ms
    ]


def _place(ref: SecretKeyRef) -> str:
    return f"Secret {ref.name}, key {ref.key}"
