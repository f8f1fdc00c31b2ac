"""A real Kubernetes API server (etcd, kube-apiserver, kube-controller-manager) as a context manager.

    with ApiServer() as server:
        server.kubectl("apply", "-f", "-", input=manifest)

No pytest in here: `make demo-kubernetes` runs on it too. Everything listens on loopback. Kubernetes v1.34 is
ready in about 3 s and takes 250-320 MiB, the controller manager 90, etcd 45.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import secrets
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster import audit
from cluster.child import Child, free_port
from toolchain.binaries import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

ADMIN: Final = "admin"
USERS: Final[Mapping[str, Sequence[str]]] = {"alice": (), "bob": ()}
"""People without any right of their own, for tests that grant them some; name to groups."""
READY_SECONDS: Final = 60.0
PORT_CLASH: Final = "address already in use"
CONTROLLERS: Final = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
)


class ClusterError(Exception):
    """The test cluster did not do what was asked; the message has the program's own words."""


class PortClashError(ClusterError):
    """Somebody else took the port between our looking and the server's binding."""


class KubectlError(ClusterError):
    """kubectl ended with an exit code other than 0."""

    def __init__(self, command: Sequence[str], *, code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"{' '.join(command)}: exit code {code}\n{stderr.strip()}")
        self.code: Final = code
        self.stdout: Final = stdout
        self.stderr: Final = stderr


class ApiError(ClusterError):
    """The API server answered with an error status."""

    def __init__(self, request: str, *, status: int, body: str) -> None:
        super().__init__(f"{request}: {status} {body.strip()}")
        self.status: Final = status
        self.body: Final = body


class ApiServer:
    """One throw-away cluster without nodes.

    Started by `start()` or as a context manager; `stop()` kills everything at once: nothing is kept.
    Start it from a thread that outlives it (see `Child`).
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        controller_manager: bool = True,
        users: Mapping[str, Sequence[str]] = USERS,
    ) -> None:
        """`directory` holds data, keys and logs, and is kept; None: a temporary one that goes with `stop()`.

        `controller_manager`: garbage collection, namespace deletion, aggregated roles, ServiceAccounts of
        namespaces. `users`: further static identities beside the admin, for `kubeconfig(user=…)`.
        """
        self._controller_manager: Final = controller_manager
        self._temporary = None if directory else tempfile.TemporaryDirectory(prefix="hookstead-cluster-")
        self.directory: Final = directory or Path(self._temporary.name if self._temporary else "")
        self._groups: Final = {ADMIN: ("system:masters",), **users}
        self.tokens: Final = {name: secrets.token_hex(16) for name in self._groups}
        self._children: dict[str, Child] = {}
        self._etcd_port = 0
        self._port = 0

    # Where things are.

    @property
    def url(self) -> str:
        """The server's address, the same after a restart."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def etcd_url(self) -> str:
        """The store's own address, where its metrics are."""
        return f"http://127.0.0.1:{self._etcd_port}"

    @property
    def ca_file(self) -> Path:
        """The certificate that the server made for itself on its first start."""
        return self.directory / "certificates" / "apiserver.crt"

    @property
    def admin_token(self) -> str:
        """The bearer token of a member of system:masters."""
        return self.tokens[ADMIN]

    @property
    def audit_log(self) -> Path:
        """The audit log, one JSON object a line."""
        return self.directory / "audit.log"

    # Life.

    def start(self) -> Self:
        """Start everything and wait until it is ready. Raises ClusterError with the end of the guilty log."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_files()
        for attempts_left in (2, 1, 0):
            self._etcd_port, self._port = free_port(), free_port()
            try:
                self._start_all()
            except PortClashError:
                self._kill_all()
                if not attempts_left:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def stop(self) -> None:
        """Kill every process; harmless when nothing runs."""
        self._kill_all()
        if self._temporary is not None:
            self._temporary.cleanup()

    def kill(self) -> None:
        """SIGKILL the API server alone, as a crash does; etcd and the data stay."""
        self._children.pop("kube-apiserver").kill()

    def restart(self) -> None:
        """Start the API server again on the same port, killing it first if it runs; returns when it is ready.

        A watch from before may resume; one that asks for an old resourceVersion gets 410, since the server's
        watch cache starts anew.
        """
        if "kube-apiserver" in self._children:
            self.kill()
        self._start_api_server()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What one does with it.

    def kubeconfig(self, *, user: str | None = None, token: str | None = None, namespace: str = "default") -> Path:
        """Write a kubeconfig file for a static `user` (default: the admin) or any bearer `token`."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": user or "test", "user": {"token": token or self.tokens[user or ADMIN]}}],
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "test", "user": user or "test", "namespace": namespace},
                }
            ],
            "current-context": "test",
        }
        text = json.dumps(config, indent=1)
        path = self.directory / f"kubeconfig-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
        return path

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002  (the name that subprocess.run has for it)
        namespace: str = "default",
        user: str | None = None,
        token: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> str:
        """Run kubectl and return its stdout. Raises KubectlError, with stderr, when it fails."""
        command = [str(locate("kubectl")), *(str(argument) for argument in arguments)]
        result = subprocess.run(
            command,
            input=input or "",
            env=self.environment(user=user, token=token, namespace=namespace),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if result.returncode:
            raise KubectlError(
                ["kubectl", *command[1:]], code=result.returncode, stdout=result.stdout, stderr=result.stderr
            )
        return result.stdout

    def environment(
        self, *, user: str | None = None, token: str | None = None, namespace: str = "default"
    ) -> dict[str, str]:
        """Variables for a subprocess that talks to this server: kubectl, its plugins, the operator.

        HOME is ours: kubectl keeps discovery per host and port there, and a port may come back with another
        server behind it. The interpreter's folder leads PATH, for `kubectl hooks`.
        """
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        config = self.kubeconfig(user=user, token=token, namespace=namespace)
        return {**os.environ, "PATH": path, "HOME": str(self.directory), "KUBECONFIG": str(config)}

    def request(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Any:
        """One request as the admin (or the bearer of `token`); decoded JSON. Raises ApiError above 399."""
        status, text = self._exchange(method, path, body, token=token)
        if status >= 400:
            raise ApiError(f"{method} {path}", status=status, body=text)
        return json.loads(text)

    def update(self, path: str, body: dict[str, Any]) -> None:
        """Give an object that exists the parts of `body`, whoever else is writing to it (its status, mostly)."""
        for attempts_left in range(9, -1, -1):
            present = self.request("GET", path)
            meta = {**present["metadata"], **body["metadata"]}
            try:
                self.request("PUT", path, {**present, **body, "metadata": meta})
            except ApiError as error:
                if error.status != 409 or not attempts_left:
                    raise
            else:
                return

    def create_namespace(self, name: str) -> str:
        """Create the namespace and return its name."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def apply_crds(self, folder: Path) -> list[str]:
        """Apply every CRD of the folder and wait until each is served; their names. No CRD is fine."""
        files = sorted(folder.glob("*.yaml"))
        if not files:
            return []
        arguments = [part for file in files for part in ("--filename", str(file))]
        names = self.kubectl("apply", "--server-side", "--output=name", *arguments).split()
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
        return names

    def service_account_token(self, namespace: str, name: str, *, audiences: Sequence[str] = ()) -> str:
        """An hour's token of an existing ServiceAccount, by TokenRequest.

        `audiences` defaults to the API server itself.
        """
        answer = self.request(
            "POST",
            f"/api/v1/namespaces/{quote(namespace)}/serviceaccounts/{quote(name)}/token",
            {"spec": {"expirationSeconds": 3600, "audiences": list(audiences)}},
        )
        token: str = answer["status"]["token"]
        return token

    def audit_mark(self) -> int:
        """The present end of the audit log, for `audit_entries(since=…)`.

        The log is blocking: a request whose answer has arrived is in it.
        """
        return self.audit_log.stat().st_size if self.audit_log.exists() else 0

    def audit_entries(self, *, since: int = 0) -> Iterator[audit.AuditEntry]:
        """The requests after the mark `since`, oldest first."""
        return audit.read(self.audit_log, since=since)

    # How it starts.

    def _write_files(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (self.directory / "service-account.key").write_bytes(pem)
        (self.directory / "audit-policy.yaml").write_text(json.dumps(audit.POLICY), encoding="utf-8")
        rows = [f'{self.tokens[name]},{name},{name},"{",".join(groups)}"' for name, groups in self._groups.items()]
        (self.directory / "tokens.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")

    def _start_all(self) -> None:
        peer = f"http://127.0.0.1:{free_port()}"
        client = f"http://127.0.0.1:{self._etcd_port}"
        self._spawn(
            "etcd",
            f"--data-dir={self.directory / f'etcd-{self._etcd_port}'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        )
        self._start_api_server()
        if self._controller_manager:
            self._start_controller_manager()

    def _start_api_server(self) -> None:
        key = self.directory / "service-account.key"
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self.ca_file.parent}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            f"--audit-policy-file={self.directory / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=4096",  # the default of 100 MB rotates entries out from under a test
            "--profiling=false",
        )
        self._wait("the API server's /readyz", lambda: self._exchange("GET", "/readyz")[0] == 200)

    def _start_controller_manager(self) -> None:
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig()}",
            f"--service-account-private-key-file={self.directory / 'service-account.key'}",
            f"--root-ca-file={self.ca_file}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={','.join(CONTROLLERS)}",
        )
        view = "/apis/rbac.authorization.k8s.io/v1/clusterroles/view"
        self._wait("the aggregated role `view`", lambda: bool(self.request("GET", view).get("rules")))

    def _spawn(self, name: str, *flags: str) -> None:
        self._children[name] = Child([locate(name), *flags], log=self.directory / f"{name}.log")

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()
        self._children.clear()

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        """Poll until `holds()`. Raises at once when a process has ended, else after READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for name, child in self._children.items():
                if not child.running:
                    words = child.last_words()
                    raise (PortClashError if PORT_CLASH in words else ClusterError)(
                        f"{name} ended at its start:\n{words}"
                    )
            with contextlib.suppress(OSError, http.client.HTTPException, ApiError):
                if holds():
                    return
            time.sleep(0.05)
        words = self._children["kube-apiserver"].last_words()
        raise ClusterError(f"{what} was not there after {READY_SECONDS:.0f} s; the API server's log ends:\n{words}")

    def _exchange(self, method: str, path: str, body: object = None, *, token: str | None = None) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=context, timeout=15)
        headers = {"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": "application/json"}
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
