"""Contents for Secrets that are not among the manifests, so that everything else can be judged.

Two cases: a Secret that is simply elsewhere, and one that another object among the manifests makes in the cluster: an
ExternalSecret (External Secrets Operator) or a SealedSecret. The latter tells its keys and labels, so these are judged.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from hookstead.cli.assemble import Raw, generated_secret, namespace_of
from hookstead.config.compile import Rejected, SecretObject, signing_secret_name
from hookstead.resources.kinds import SECRET_LABEL, Endpoint, EndpointSpec, TlsSpec
from hookstead.resources.secret import Secret

Item: TypeAlias = Endpoint | Rejected

EXTERNAL: Final = "external-secrets.io/"
SEALED: Final = "bitnami.com/"
_URL: Final = b"https://secret.invalid/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """A Secret that an object among the manifests makes. `keys` is None where they are not known."""

    name: str
    permitted: bool
    keys: frozenset[str] | None


def promised_secrets(objects: Iterable[Raw], *, namespace: str, default_namespace: str) -> dict[str, Promised]:
    """By name, those of one namespace."""
    found: dict[str, Promised] = {}
    for raw in objects:
        if (namespace_of(raw) or default_namespace) != namespace:
            continue
        promise = _promise(raw)
        if promise is not None:
            found[promise.name] = promise
    return found


def _promise(raw: Raw) -> Promised | None:
    version, kind = str(raw.get("apiVersion", "")), raw.get("kind")
    spec, name = _mapping(raw.get("spec")), str(_mapping(raw.get("metadata")).get("name", ""))
    if kind == "ExternalSecret" and version.startswith(EXTERNAL):
        target = _mapping(spec.get("target"))
        template = _mapping(target.get("template"))
        # Without a template the operator copies the labels of the ExternalSecret itself.
        labelled = _mapping(template.get("metadata")) if "template" in target else _mapping(raw.get("metadata"))
        open_ended = bool(spec.get("dataFrom") or template.get("data") or template.get("templateFrom"))
        entries = spec.get("data") if isinstance(spec.get("data"), list) else []
        keys = {str(_mapping(entry).get("secretKey")) for entry in entries or ()}
        return Promised(
            name=str(target.get("name") or name),
            permitted=_permits(labelled),
            keys=None if open_ended else frozenset(keys),
        )
    if kind == "SealedSecret" and version.startswith(SEALED):
        template = _mapping(spec.get("template"))
        metadata = _mapping(template.get("metadata"))
        keys = {str(key) for part in (spec.get("encryptedData"), template.get("data")) for key in _mapping(part)}
        return Promised(name=str(metadata.get("name") or name), permitted=_permits(metadata), keys=frozenset(keys))
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _permits(metadata: Mapping[str, Any]) -> bool:
    return _mapping(metadata.get("labels")).get(SECRET_LABEL) == "true"


def as_secrets(promised: Mapping[str, Promised], endpoints: Sequence[Item]) -> dict[str, SecretObject]:
    """The promised Secrets as the compiler takes them: with contents for what endpoints want of their keys."""
    wanted = _wanted(endpoints)
    return {
        name: SecretObject(
            name=name,
            permitted=one.permitted,
            data={
                key: value
                for key, value in wanted.get(name, {}).items()
                if one.permitted and (one.keys is None or key in one.keys)
            },
        )
        for name, one in promised.items()
    }


def assumed_secrets(endpoints: Sequence[Item], known: Mapping[str, SecretObject]) -> dict[str, SecretObject]:
    """A Secret for each that is named and not known, with contents that will do; generated signing keys too."""
    secrets = {
        name: SecretObject(name=name, permitted=True, data=data)
        for name, data in _wanted(endpoints).items()
        if name not in known
    }
    for item in endpoints:
        name = signing_secret_name(item.meta.name)
        if isinstance(item, Endpoint) and item.spec.signing is None and name not in known:
            secrets[name] = generated_secret(item.meta.name, uid=item.meta.uid, key=_key(name))
    return secrets


def without_unknown_tls(item: Item, assumed: Iterable[str]) -> Item:
    """Certificates cannot be made up, and nothing but the connection depends on what they are."""
    if isinstance(item, Rejected) or not {*_tls_names(item.spec.tls)} & {*assumed}:
        return item
    spec: Any = msgspec.structs.replace(item.spec, tls=None)
    return msgspec.structs.replace(item, spec=spec)


def _wanted(endpoints: Sequence[Item]) -> dict[str, dict[str, Secret]]:
    """By Secret and key, a content that fits what it is used for."""
    data: dict[str, dict[str, Secret]] = defaultdict(dict)
    for item in endpoints:
        for name, key, value in () if isinstance(item, Rejected) else _contents(item.spec):
            data[name][key] = Secret(value)
    return data


def _contents(spec: EndpointSpec) -> Iterator[tuple[str, str, bytes]]:
    for name in _tls_names(spec.tls):
        yield name, "", b""
    for header in spec.headers:
        if header.value_from is not None:
            ref = header.value_from.secret_key_ref
            yield ref.name, ref.key, b"assumed"
    for key in spec.signing.keys if spec.signing is not None else ():
        ref = key.secret_key_ref
        yield ref.name, ref.key, _key(f"{ref.name}/{ref.key}").reveal()
    if spec.url_from is not None:
        ref = spec.url_from.secret_key_ref
        yield ref.name, ref.key, _URL


def _key(seed: str) -> Secret:
    """Material that is as good as any, the same for the same Secret."""
    return Secret(b"whsec_" + base64.b64encode(hashlib.sha256(seed.encode()).digest()))


def _tls_names(tls: TlsSpec | None) -> list[str]:
    refs = () if tls is None else (tls.ca_secret_ref, tls.client_cert_secret_ref)
    return [ref.name for ref in refs if ref is not None]
