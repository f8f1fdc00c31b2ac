"""TLS contexts: one for everybody who brings nothing, one per set of certificates that an endpoint brings."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hookstead.config.model import TlsMaterial

CONTEXT_LIMIT: Final = 512


class TlsMaterialError(Exception):
    """An endpoint's own certificates cannot be used. Its text names the part, never its content."""


class TlsContexts:
    """Contexts by material, the least recently used dropped first.

    Building one takes 0.1 ms with a private CA and 22 ms with the system's, so it happens in a thread:
    OpenSSL releases the GIL for it, and nothing of it can stall.
    """

    def __init__(self, *, limit: int = CONTEXT_LIMIT) -> None:
        self._limit = limit
        self._default: ssl.SSLContext | None = None
        self._own: OrderedDict[TlsMaterial, ssl.SSLContext] = OrderedDict()

    async def get(self, material: TlsMaterial | None) -> ssl.SSLContext:
        """The context for this material; raises TlsMaterialError."""
        if material is None or (material.ca is None and material.certificate is None):
            if self._default is None:
                self._default = await asyncio.to_thread(build_context, None)
            return self._default
        context = self._own.get(material)
        if context is None:
            context = self._own[material] = await asyncio.to_thread(build_context, material)
            while len(self._own) > self._limit:
                self._own.popitem(last=False)
        else:
            self._own.move_to_end(material)
        return context


def build_context(material: TlsMaterial | None) -> ssl.SSLContext:
    """A client context: TLS 1.2 or later, the host verified. A private CA stands instead of the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if material is None or material.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cadata=material.ca.reveal().decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsMaterialError("ca.crt is not a list of PEM certificates") from error
    if material is not None and material.certificate is not None:
        if material.key is None:
            raise TlsMaterialError("tls.key is missing beside tls.crt")
        _load_pair(context, material.certificate.reveal(), material.key.reveal())
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module takes file names only; memory files keep the key off every disk.
    try:
        with _memory_file(certificate) as certificate_path, _memory_file(key) as key_path:
            # A password function keeps OpenSSL from asking the terminal for one.
            context.load_cert_chain(certificate_path, key_path, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise TlsMaterialError("tls.crt and tls.key are not a PEM certificate and its unencrypted key") from error


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
