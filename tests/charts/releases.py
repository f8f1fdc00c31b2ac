"""A release on a real API server, whose pods run as processes: only what the chart renders decides how."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from charts.helm import ENVIRONMENT, install
from charts.kubelet import NotMountedError, Pod, pod_of
from cluster.contract_site import conditions
from contract.processes import Reply, ask, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.apiserver import ApiServer
    from cluster.audit import AuditEntry

HOOKS: Final = "/apis/hookstead.dev/v1alpha1"
TEST_ONLY: Final = {"HOOKSTEAD_ALLOW_LOOPBACK": "true"}
"""The chart never sets it; the receivers of a test are on loopback."""
LOOPBACK: Final[Mapping[str, Any]] = {
    "plaintextHTTP": "Allow",
    "privateNetworks": "Allow",
    "allowedCIDRs": ["127.0.0.0/8"],
}
COMMON: Final[dict[str, Any]] = {
    "environment": {
        "egress": dict(LOOPBACK),
        "deliveryDefaults": {"timeoutSeconds": 5, "retry": {"scheduleSeconds": [1, 1]}},
        "statusReporting": {"periodSeconds": 30},
    }
}
_addresses: Final = itertools.count(1)


def pod_address() -> str:
    """A loopback address of a pod's own: the ports that the chart renders are fixed, and others run beside us."""
    return f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.{next(_addresses)}"


@dataclass
class Release:
    """One release in a namespace of its own that enforces pod security `restricted`."""

    server: ApiServer
    namespace: str
    name: str
    folder: Path
    files: tuple[str, ...]
    values: dict[str, Any]
    gateway_address: str = field(default_factory=pod_address)
    pods: dict[str, Pod] = field(default_factory=dict)

    # Helm.

    def create_namespace(self) -> None:
        levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        self.server.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": levels}})

    def upgrade(self, **values: Any) -> str:
        """Install, or upgrade with these values over those of before; what helm said."""
        self.values = merged(self.values, values)
        return install(
            self.server, ENVIRONMENT, *self.files, values=self.values, release=self.name, namespace=self.namespace
        )

    # Pods.

    def operator_pod(self, number: int = 0) -> Pod:
        workload = self.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}-operator")
        return self._pod(workload, address=pod_address(), number=number)

    def gateway_pod(self, number: int = 0) -> Pod:
        """The StatefulSet's one pod, or one of the Deployment's where the store is shared."""
        shared = self.values.get("store", {}).get("type") == "postgresql"
        kind = "deployments" if shared else "statefulsets"
        workload = self.get(f"/apis/apps/v1/namespaces/{self.namespace}/{kind}/{self.name}-gateway")
        address = pod_address() if number else self.gateway_address
        return self._pod(workload, address=address, number=number)

    def _pod(self, workload: dict[str, Any], *, address: str, number: int = 0) -> Pod:
        pod = pod_of(self.server, workload, folder=self.folder, address=address, number=number)
        self.pods[pod.name] = pod
        return pod

    def run_all(self) -> None:
        """Operator, then gateway as soon as it can be mounted, until the environment is Ready."""
        operator = self.operator_pod()
        operator.start(TEST_ONLY)
        gateway = self.gateway_pod()
        self.start_when_mounted(gateway)
        gateway.become_ready()
        operator.become_ready()
        self.expect("webhookenvironments", "default", Ready=("True", "Ready"))

    def start_when_mounted(self, pod: Pod, *, trace: Path | None = None) -> None:
        """As the kubelet does: try again until every volume can be had."""

        def started() -> bool:
            try:
                pod.start(TEST_ONLY, trace=trace)
            except NotMountedError:
                return False
            return True

        until(started, what=f"{pod.name} is mounted; the operator said:\n{self.words()}", pause=0.1)

    def close(self) -> None:
        for pod in self.pods.values():
            pod.kill()

    def words(self) -> str:
        return "\n".join(f"{name}:\n{pod.words()}" for name, pod in self.pods.items())

    # Objects.

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.request("GET", path)
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.server.kubectl("apply", "--server-side", "--filename", "-", input=text, namespace=self.namespace)

    def expect(self, plural: str, name: str, **said: tuple[str, str]) -> None:
        """Wait until the conditions of the present generation say so."""

        def holds() -> bool:
            body = self.get(f"{HOOKS}/namespaces/{self.namespace}/{plural}/{name}")
            last.update(body["status"])
            if body["status"].get("observedGeneration") != body["metadata"]["generation"]:
                return False
            found = conditions(body)
            return all(found.get(key) == value for key, value in said.items())

        last: dict[str, Any] = {}
        try:
            until(holds, what=f"{plural} {name}: {said}", seconds=40, pause=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}\nstatus: {last}\n{self.words()}") from None

    # Callers.

    def token(self, account: str) -> str:
        """Of a ServiceAccount of the namespace, for the gateway."""
        return self.server.service_account_token(self.namespace, account, audiences=["hookstead.dev"])

    def ask(self, method: str, path: str, *, token: str, body: object = None) -> Reply:
        """One call of the gateway's http port, at its pod's address."""
        gateway = self.pods[f"{self.name}-gateway-0"]
        return ask(
            f"{gateway.address}:{gateway.port('http')}",
            method,
            path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )

    def requests_of(self, component: str, *, since: int = 0) -> list[AuditEntry]:
        """What a component's ServiceAccount asked the API server for, the opening of a watch once."""
        user = f"system:serviceaccount:{self.namespace}:{self.name}-{component}"
        return [one for one in self.server.audit_entries(since=since) if one.user == user]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm puts values over values: maps key by key, all else whole."""
    both = dict(below)
    for key, value in above.items():
        before = both.get(key)
        both[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return both
