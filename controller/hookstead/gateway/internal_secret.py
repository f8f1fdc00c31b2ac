"""`hookstead-internal` as it is mounted: the token and the certificate of the internal port, renewed while we run."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from hookstead.resources.secret import Secret

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0


class InternalSecret:
    """Reads the folder at start and looks for a renewal every few seconds. A token handed in stays for good."""

    def __init__(self, folder: Path | None, *, token: Secret | None = None) -> None:
        self._folder: Final = folder
        self._fixed: Final = token
        self._token = token
        self._seen: tuple[bytes, ...] = ()
        self._context: ssl.SSLContext | None = None
        self.refresh()

    @property
    def token(self) -> bytes:
        """Empty while there is none: then nobody is let in."""
        return b"" if self._token is None else self._token.reveal()

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The server's context; None without a certificate. A renewed one is loaded into the same context."""
        return self._context

    def refresh(self) -> None:
        """Read what changed. Raises nothing: a half-written renewal is read again at the next look."""
        if self._folder is None:
            return
        try:
            if self._fixed is None:
                self._token = Secret((self._folder / "token").read_bytes().strip())
            self._load_certificate(self._folder)
        except (OSError, ssl.SSLError) as error:
            log.warning("the internal Secret cannot be read: %s", error, extra={"action": "internal_secret_unreadable"})

    async def watch(self) -> None:
        """Look for renewals until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.refresh()

    def _load_certificate(self, folder: Path) -> None:
        if not (folder / "tls.crt").is_file():
            return
        # A kubelet replaces the folder behind the links at once; so both are read behind them, out of one folder.
        certificate, key = (folder / "tls.crt").resolve(), (folder / "tls.key").resolve()
        seen = (certificate.read_bytes(), key.read_bytes())
        if seen == self._seen:
            return
        # Tried in a context of its own: a certificate whose key is still the former one would leave the running context
        # without any key, and nobody could connect until the next look.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        if self._context is None:
            self._context = context
        else:
            self._context.load_cert_chain(certificate, key)
        self._seen = seen
