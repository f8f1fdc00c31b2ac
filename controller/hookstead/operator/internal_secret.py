"""The Secret `hookstead-internal`: the token and the certificate of the internal port.

Created when it is absent and renewed when we created it; one that somebody else gave is read and never touched.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
import ssl
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.certificates import issue, needs_renewal
from hookstead.operator.gateways import INTERNAL_NAME, Credentials
from hookstead.operator.kube import Conflict, KubeClient, NotFound, core_path

if TYPE_CHECKING:
    from collections.abc import Mapping

GENERATED: Final = "hookstead.dev/generated"
"""Annotation of what the operator made itself and may therefore renew."""
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "hookstead"}
TOKEN_BYTES: Final = 32

log: Final = logging.getLogger(__name__)


async def ensure_internal_secret(kube: KubeClient, *, namespace: str, name: str, now: datetime) -> Credentials:
    """Read the Secret, creating or renewing it where that is ours to do. Raises KubeError."""
    path = core_path("secrets", namespace, name)
    try:
        body = await kube.get(path)
    except NotFound:
        try:
            body = await kube.create(core_path("secrets", namespace), _fresh(name, now))
            log.info("created the internal Secret", extra={"action": "internal-secret", "secret": name})
        except Conflict:
            body = await kube.get(path)
    texts = _texts(body)
    ours = GENERATED in (body["metadata"].get("annotations") or {})
    if ours and needs_renewal(texts.get("tls.crt", ""), now=now):
        made = issue(INTERNAL_NAME, now=now, former_authorities=texts.get("ca.crt", ""))
        body = await kube.merge_patch(path, {"data": _data(made.authorities, made.certificate, made.key)})
        texts = _texts(body)
        log.info("renewed the internal certificate", extra={"action": "internal-secret", "secret": name})
    return credentials(texts)


def credentials(texts: Mapping[str, str]) -> Credentials:
    """From the Secret's texts; without a usable `ca.crt` only loopback is reachable."""
    authorities = texts.get("ca.crt", "").strip()
    tls = None
    if authorities:
        try:
            tls = ssl.create_default_context(cadata=authorities)
        except (ssl.SSLError, ValueError) as error:
            log.warning("ca.crt is unusable", extra={"action": "internal-secret", "error": str(error)})
    return Credentials(token=texts.get("token", "").strip(), tls=tls)


def _fresh(name: str, now: datetime) -> dict[str, Any]:
    made = issue(INTERNAL_NAME, now=now)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": MANAGED_BY, "annotations": {GENERATED: "true"}},
        "type": "Opaque",
        "data": {
            "token": _encoded(secrets.token_urlsafe(TOKEN_BYTES)),
            **_data(made.authorities, made.certificate, made.key),
        },
    }


def _data(authorities: str, certificate: str, key: str) -> dict[str, str]:
    return {"ca.crt": _encoded(authorities), "tls.crt": _encoded(certificate), "tls.key": _encoded(key)}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


def _texts(body: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in (body.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            log.warning("unreadable key", extra={"action": "internal-secret", "key": key})
    return found
