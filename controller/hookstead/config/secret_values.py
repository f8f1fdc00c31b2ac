"""Reading the Secrets that an endpoint mentions: a value, or the finding that says why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from hookstead.config.key_material import KeyMaterialError, parse_key_material
from hookstead.config.model import Finding, TlsMaterial
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import SECRET_LABEL, SecretKeyRef, TlsSpec
from hookstead.resources.secret import Secret
from hookstead.resources.suggestion import did_you_mean

_HEADER_VALUE: Final = re.compile(rb"[\t\x20-\x7e]{0,1024}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretObject:
    """A Secret of the namespace. `data` is empty unless the Secret is labelled for endpoints (`permitted`).

    `owner_uid` is the uid of its controller owner, None without one.
    """

    name: str
    permitted: bool
    data: Mapping[str, Secret] = field(default_factory=dict)
    owner_uid: str | None = None


class Unresolved(Exception):
    """A reference that gives no value; `finding` says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(reason=reason, message=message)


@dataclass(frozen=True, slots=True)
class SecretReader:
    """Looks values up in the namespace's Secrets. Every method raises Unresolved, its message naming `where`."""

    namespace: str
    secrets: Mapping[str, SecretObject]

    def value(self, ref: SecretKeyRef, *, where: str) -> Secret:
        """The bytes under the reference, as they are."""
        found = self.permitted(ref.name, where=where)
        if ref.key in found.data:
            return found.data[ref.key]
        raise Unresolved(
            Reason.SECRET_KEY_MISSING,
            f"{where}.key: Secret {ref.name!r} has no key {ref.key!r}{did_you_mean(ref.key, found.data)}. Add the "
            "key to the Secret or name one that it has.",
        )

    def permitted(self, name: str, *, where: str) -> SecretObject:
        """The Secret, if it exists and is labelled for endpoints."""
        found = self.secrets.get(name)
        if found is None:
            usable = [secret.name for secret in self.secrets.values() if secret.permitted]
            raise Unresolved(
                Reason.SECRET_NOT_FOUND,
                f"{where}.name: no Secret {name!r} in namespace {self.namespace}{did_you_mean(name, usable)}. "
                f'Create it with the label {SECRET_LABEL}: "true".',
            )
        if not found.permitted:
            raise Unresolved(
                Reason.SECRET_NOT_PERMITTED,
                f"{where}.name: Secret {name!r} is not labelled for endpoints. Whoever may write the Secret allows "
                f'it with the label {SECRET_LABEL}: "true".',
            )
        return found

    def signing_key(self, ref: SecretKeyRef, *, where: str) -> Secret:
        """A key that can sign, trimmed."""
        text = self.value(ref, where=where).reveal().strip()
        try:
            parse_key_material(text)
        except KeyMaterialError as error:
            raise Unresolved(
                Reason.SECRET_INVALID, f"{where}: Secret {ref.name!r}, key {ref.key!r}: {error}."
            ) from None
        return Secret(text)

    def header_value(self, ref: SecretKeyRef, *, where: str) -> Secret:
        """A header value, trimmed; RFC 9110 ignores white space around a field value."""
        text = self.value(ref, where=where).reveal().strip()
        if _HEADER_VALUE.fullmatch(text):
            return Secret(text)
        raise Unresolved(
            Reason.SECRET_INVALID,
            f"{where}: Secret {ref.name!r}, key {ref.key!r}: expected a header value of at most 1024 printable ASCII "
            "characters or tabs.",
        )

    def text(self, ref: SecretKeyRef, *, where: str) -> Secret:
        """A value without the white space around it."""
        return Secret(self.value(ref, where=where).reveal().strip())

    def tls(self, spec: TlsSpec, *, where: str) -> TlsMaterial:
        """PEM texts that parse, and a private key that belongs to its certificate."""
        authority = certificate = key = None
        if spec.ca_secret_ref is not None:
            field_path = f"{where}.caSecretRef"
            ref = SecretKeyRef(name=spec.ca_secret_ref.name, key="ca.crt")
            authority = self.value(ref, where=field_path)
            _certificates(authority, where=field_path, ref=ref)
        if spec.client_cert_secret_ref is not None:
            field_path = f"{where}.clientCertSecretRef"
            ref = SecretKeyRef(name=spec.client_cert_secret_ref.name, key="tls.crt")
            certificate = self.value(ref, where=field_path)
            key = self.value(SecretKeyRef(name=ref.name, key="tls.key"), where=field_path)
            _check_pair(certificate, key, where=field_path, ref=ref)
        return TlsMaterial(ca=authority, certificate=certificate, key=key)


def _certificates(pem: Secret, *, where: str, ref: SecretKeyRef) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.reveal())
    except ValueError:
        raise Unresolved(
            Reason.SECRET_INVALID,
            f"{where}: Secret {ref.name!r}, key {ref.key!r}: expected PEM certificates.",
        ) from None


def _check_pair(certificate: Secret, key: Secret, *, where: str, ref: SecretKeyRef) -> None:
    leaf = _certificates(certificate, where=where, ref=ref)[0]
    try:
        private = load_pem_private_key(key.reveal(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unresolved(
            Reason.SECRET_INVALID,
            f"{where}: Secret {ref.name!r}, key 'tls.key': expected an unencrypted PEM private key.",
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise Unresolved(
            Reason.SECRET_INVALID, f"{where}: Secret {ref.name!r}: 'tls.key' does not belong to 'tls.crt'."
        )
