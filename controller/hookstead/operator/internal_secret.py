"""The Secret `hookstead-internal`: the token and the certificate of the internal port.

Created when it is absent and renewed when we created it; one that somebody else gave is read and never touched.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import secrets
import ssl
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.certificates import ServerCertificate, issue, needs_renewal
from hookstead.operator.gateways import INTERNAL_NAME, Credentials
from hookstead.operator.kube import Conflict, KubeClient, KubeError, NotFound, core_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GENERATED: Final = "hookstead.dev/generated"
"""Annotation of what the operator made itself and may therefore renew."""
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "hookstead"}
TOKEN_BYTES: Final = 32
FORMER_SECONDS: Final = 300.0
"""A kubelet brings a changed Secret into its mounts within two minutes or so."""

LOOK_SECONDS: Final = 30.0
ASKED_SECONDS: Final = 0.3
"""Between a look and the next that is asked for: well within the time after which a gateway counts as unavailable.
Longer each time that nothing new was found."""
ASKED_CEILING_SECONDS: Final = 5.0

log: Final = logging.getLogger(__name__)


class InternalSecret:
    """Follows the Secret, creating and renewing it where that is ours to do, without a moment in which a gateway that
    still runs on what its mount held before is shut out: for FORMER_SECONDS the former CA and token are good as well.
    """

    def __init__(self, kube: KubeClient, *, namespace: str, name: str, monotonic: Callable[[], float]) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._name: Final = name
        self._monotonic: Final = monotonic
        self._ours = True
        self._known: Mapping[str, str] = {}
        self._former: Mapping[str, str] = {}
        self._changed_at = float("-inf")
        self._credentials: Credentials | None = None

    async def look(self, *, now: datetime) -> Credentials:
        """What is to be used from now on; the same object while nothing has changed. Raises KubeError."""
        body = await self._read(now)
        if body is None:
            return self._use(self._known)
        self._ours = GENERATED in (body["metadata"].get("annotations") or {})
        texts = _texts(body)
        if self._ours and needs_renewal(texts.get("tls.crt", ""), now=now):
            made = issue(INTERNAL_NAME, now=now, former_authorities=texts.get("ca.crt", ""))
            path = core_path("secrets", self._namespace, self._name)
            texts = _texts(await self._kube.merge_patch(path, {"data": _data(made)}))
            log.info("renewed the internal certificate", extra={"action": "internal-secret", "secret": self._name})
        return self._use(texts)

    async def follow(
        self,
        asked: asyncio.Event,
        *,
        now: Callable[[], datetime],
        may_look: Callable[[], None],
        found: Callable[[Credentials], None],
    ) -> None:
        """Look again and again, for ever: soon where `asked`, since a gateway and we do not believe each other. `found`
        gets what is to be used; `may_look` raises where somebody else leads."""
        pause = ASKED_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await asked.wait()
            was_asked, before = asked.is_set(), self._credentials
            asked.clear()
            may_look()
            try:
                found(await self.look(now=now()))
            except KubeError as error:
                log.warning(
                    "the internal Secret was not read", extra={"action": "internal-secret", "error": str(error)}
                )
            in_vain = was_asked and self._credentials is before
            pause = min(2 * pause, ASKED_CEILING_SECONDS) if in_vain else ASKED_SECONDS
            await asyncio.sleep(pause)

    async def _read(self, now: datetime) -> dict[str, Any] | None:
        """The Secret, made where it is absent; None where the one that somebody gave has gone."""
        path = core_path("secrets", self._namespace, self._name)
        try:
            found: dict[str, Any] = await self._kube.get(path)
            return found
        except NotFound:
            if not self._ours:
                log.warning(
                    "the internal Secret is gone; what it held stays in use",
                    extra={"action": "internal-secret", "secret": self._name},
                )
                return None
        try:
            made: dict[str, Any] = await self._kube.create(
                core_path("secrets", self._namespace), _fresh(self._name, now, known=self._known)
            )
        except Conflict:
            made = await self._kube.get(path)
        else:
            log.info("created the internal Secret", extra={"action": "internal-secret", "secret": self._name})
        return made

    def _use(self, texts: Mapping[str, str]) -> Credentials:
        before, at = self._credentials, self._monotonic()
        if before is not None and texts != self._known:
            self._former, self._changed_at = self._known, at
        elif self._former and at - self._changed_at > FORMER_SECONDS:
            self._former = {}
        elif before is not None:
            return before
        self._known = texts
        self._credentials = credentials(texts, former=self._former)
        return self._credentials


def credentials(texts: Mapping[str, str], *, former: Mapping[str, str] | None = None) -> Credentials:
    """From the Secret's texts, and those of before; without a usable `ca.crt` only loopback is reachable."""
    before = former or {}
    tls = None
    present = texts.get("ca.crt", "").strip()
    if present:
        try:
            tls = ssl.create_default_context(cadata="\n".join([present, before.get("ca.crt", "").strip()]))
        except (ssl.SSLError, ValueError) as error:
            log.warning("ca.crt is unusable", extra={"action": "internal-secret", "error": str(error)})
    token, old = texts.get("token", "").strip(), before.get("token", "").strip()
    return Credentials(token=token, tls=tls, former_token=old if old != token else "")


def _fresh(name: str, now: datetime, *, known: Mapping[str, str]) -> dict[str, Any]:
    """A new Secret; one that was deleted while we run keeps its token and the authorities that gateways still show."""
    made = issue(INTERNAL_NAME, now=now, former_authorities=known.get("ca.crt", ""))
    token = known.get("token", "").strip() or secrets.token_urlsafe(TOKEN_BYTES)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": MANAGED_BY, "annotations": {GENERATED: "true"}},
        "type": "Opaque",
        "data": {"token": _encoded(token), **_data(made)},
    }


def _data(made: ServerCertificate) -> dict[str, str]:
    return {
        "ca.crt": _encoded(made.authorities),
        "tls.crt": _encoded(made.certificate),
        "tls.key": _encoded(made.key),
    }


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
