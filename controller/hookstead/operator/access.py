"""How to reach the API server: from a kubeconfig file, or from inside a pod."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessError(Exception):
    """There is no usable way to the API server; the message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """An API server and the credentials for it. PEM texts; `token_file` is read again when a token has expired."""

    server: str
    ca: str | None = field(default=None, repr=False)
    insecure: bool = False
    server_name: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    def bearer(self) -> str | None:
        """The present token. Projected tokens are replaced on disk long before they expire. Raises OSError."""
        if self.token_file is not None:
            return self.token_file.read_text(encoding="utf-8").strip()
        return self.token

    def tls(self) -> ssl.SSLContext:
        """A context that verifies the server by the CA given, and shows the client's certificate if there is one."""
        context = ssl.create_default_context(cadata=self.ca)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.key:
            # load_cert_chain reads files only; this one lives for the length of the call, readable by us alone.
            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as pem:
                pem.write(f"{self.certificate}\n{self.key}\n")
                pem.flush()
                context.load_cert_chain(pem.name)
        return context


def load_access(kubeconfig: Path | None, *, environment: Mapping[str, str] = os.environ) -> Access:
    """`kubeconfig`, else the first file of KUBECONFIG that exists; without both the pod's account, else ~/.kube/config.

    Raises AccessError.
    """
    if kubeconfig is not None:
        return from_kubeconfig(kubeconfig)
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    for path in named:
        if path.exists():
            return from_kubeconfig(path)
    if named:  # a slip there must never lead to the cluster of another file
        raise AccessError(f"KUBECONFIG: no such file: {', '.join(map(str, named))}: correct it, or give --kubeconfig.")
    if "KUBERNETES_SERVICE_HOST" in environment and (SERVICE_ACCOUNT / "token").exists():
        return in_cluster(environment)
    return from_kubeconfig(Path.home() / ".kube" / "config")


def in_cluster(environment: Mapping[str, str], *, folder: Path = SERVICE_ACCOUNT) -> Access:
    """The pod's ServiceAccount. Raises AccessError."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise AccessError("KUBERNETES_SERVICE_HOST is not set: give --kubeconfig outside of a pod.")
    name = f"[{host}]" if ":" in host else host
    return Access(
        server=f"https://{name}:{port}",
        ca=_read(folder / "ca.crt"),
        token_file=folder / "token",
    )


def from_kubeconfig(path: Path) -> Access:
    """The current context of the file. Raises AccessError."""
    document = _document(path)
    context = _named(document, "contexts", document.get("current-context"), path).get("context", {})
    cluster = _named(document, "clusters", context.get("cluster"), path).get("cluster", {})
    user = _named(document, "users", context.get("user"), path).get("user", {}) or {}
    server = cluster.get("server")
    if not isinstance(server, str):
        raise AccessError(f"{path}: cluster {context.get('cluster')!r} has no server.")
    unsupported = next((name for name in ("exec", "auth-provider", "username") if name in user), None)
    if unsupported is not None:
        raise AccessError(
            f"{path}: user {context.get('user')!r} authenticates by {unsupported!r}, which is not supported here: "
            "use a token (`kubectl create token`) or a client certificate."
        )
    return Access(
        server=server.rstrip("/"),
        ca=_material(cluster, "certificate-authority", path),
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        server_name=cluster.get("tls-server-name"),
        token=user.get("token"),
        token_file=_relative(path, user["tokenFile"]) if user.get("tokenFile") else None,
        certificate=_material(user, "client-certificate", path),
        key=_material(user, "client-key", path),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AccessError(f"{path}: {error.strerror}: give --kubeconfig or set KUBECONFIG.") from error
    except yaml.YAMLError as error:
        raise AccessError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise AccessError(f"{path}: not a kubeconfig.")
    return document


def _named(document: dict[str, Any], section: str, name: object, path: Path) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    raise AccessError(f"{path}: {section} has no entry {name!r}.")


def _material(section: dict[str, Any], name: str, path: Path) -> str | None:
    """PEM text of `name-data` (base64) or of the file `name`, relative to the kubeconfig."""
    inline = section.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise AccessError(f"{path}: {name}-data is not base64 of PEM text.") from error
    named = section.get(name)
    return _read(_relative(path, named)) if named else None


def _relative(path: Path, name: str) -> Path:
    return path.parent / name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise AccessError(f"{path}: {error.strerror}") from error
