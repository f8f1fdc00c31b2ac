"""The internal port's certificate: a CA that signs one server certificate and is then forgotten.

No CA key is kept anywhere, so nobody can sign a second server. A renewal makes a new CA; the old one stays in
`ca.crt` beside it until it has expired, so that a gateway that still shows its old certificate is still believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = timedelta(days=365)
RENEW_BEFORE: Final = timedelta(days=120)
BACKDATED: Final = timedelta(minutes=10)
"""Clocks of nodes differ."""
BUNDLED_AUTHORITIES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """PEM texts for `ca.crt`, `tls.crt`, `tls.key`."""

    authorities: str
    certificate: str
    key: str = field(repr=False)


def issue(name: str, *, now: datetime, former_authorities: str = "") -> ServerCertificate:
    """A new CA and a server certificate for the DNS name, valid for LIFETIME from `now` (aware)."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name(f"{name} CA {now:%Y%m%d%H%M%S}")
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name(name), authority_name, server_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    former = [item for item in _parsed(former_authorities) if item.not_valid_after_utc > now]
    bundle = [authority, *former][:BUNDLED_AUTHORITIES]
    return ServerCertificate(
        authorities="".join(_pem(item) for item in bundle),
        certificate=_pem(certificate),
        key=server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode("ascii"),
    )


def needs_renewal(certificate: str, *, now: datetime) -> bool:
    """Whether less than RENEW_BEFORE of its life is left, or it cannot be read."""
    parsed = _parsed(certificate)
    return not parsed or parsed[0].not_valid_after_utc - now < RENEW_BEFORE


def _parsed(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode("utf-8")) if pem.strip() else []
    except ValueError:
        return []


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
