"""`make demo-kubernetes`: the same story on a real API server, with operator, gateway, kubectl and RBAC.

The API server is the tests' own (etcd, kube-apiserver); there is no kubelet, so operator and gateway run as processes
here, and what a kubelet would mount is written into folders. Nothing but loopback is used.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from receivers import Receivers
from story import PATHS, ROOT, Story, eventually, free_port, kubectl, manifests, ready, run_command, say, stop

from cluster.apiserver import ApiServer

NAMESPACE = "prod"
ROLE = ROOT / "tests" / "cluster" / "rbac" / "operator.yaml"
ACCOUNT = "hookstead-operator"


def secret(server: ApiServer, name: str) -> dict[str, bytes]:
    """The decoded data of a Secret; empty while it does not exist."""
    listed = json.loads(server.kubectl("get", "secrets", "-o", "json", namespace=NAMESPACE))["items"]
    found = next((item for item in listed if item["metadata"]["name"] == name), {})
    return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}


async def mounted(server: ApiServer, name: str, folder: Path) -> Path:
    """What a kubelet does: the Secret's keys as files, once it exists."""
    data: dict[str, bytes] = {}

    async def exists() -> bool:
        data.update(await asyncio.to_thread(secret, server, name))
        return bool(data)

    await eventually(f"the operator creates Secret {name}", exists)
    target = folder / name
    target.mkdir()
    for key, value in data.items():
        (target / key).write_bytes(value)
    return target


@asynccontextmanager
async def programs(server: ApiServer, folder: Path) -> AsyncIterator[str]:
    """Operator and gateway, each as in production; yields the gateway's public address."""
    port, admin, internal = free_port(), free_port(), free_port()
    token = server.service_account_token(NAMESPACE, ACCOUNT)
    say(f"\n$ hookstead operator --namespace {NAMESPACE} --gateway https://127.0.0.1:{internal}")
    operator = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hookstead.cli.main", "operator", "--namespace", NAMESPACE, "--allow-loopback"),
        *("--kubeconfig", str(server.kubeconfig(token=token, namespace=NAMESPACE))),
        *("--gateway", f"https://127.0.0.1:{internal}"),
        stderr=(folder / "operator.log").open("w"),
    )
    gateway = None
    try:
        certificate = await mounted(server, "hookstead-internal", folder)
        say(f"$ hookstead gateway --store sqlite:gateway.db --internal-listen 127.0.0.1:{internal}")
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hookstead.cli.main", "gateway", "--namespace", NAMESPACE, "--auth", "none"),
            *("--store", f"sqlite:{folder / 'gateway.db'}", "--internal-dir", str(certificate), "--allow-loopback"),
            *("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"),
            *("--internal-listen", f"127.0.0.1:{internal}"),
            stderr=(folder / "gateway.log").open("w"),
        )
        await ready(f"http://127.0.0.1:{admin}/readyz", gateway)
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in (gateway, operator):
            if process is not None:
                await stop(process)


async def show(*arguments: str) -> str:
    """One kubectl command, as a person would type it; the kubeconfig and namespace come from the environment."""
    return await run_command(kubectl(), *arguments)


async def story(server: ApiServer, folder: Path) -> None:
    receivers = Receivers(lambda name: secret(server, f"{name}-signing")["key"].decode().strip(), PATHS)
    await receivers.start()
    try:
        server.kubectl("apply", "-f", str(ROLE), namespace=NAMESPACE)
        await show("apply", "--server-side", "-f", str(manifests(folder, receivers.port)))
        async with programs(server, folder) as address:
            await show("wait", "--for=condition=Ready", "webhookendpoints", "--all", "--timeout=30s")
            await show("get", "webhooks")
            await Story(address, receivers).tell()

            async def reported() -> bool:
                listed = await asyncio.to_thread(server.kubectl, "get", "whep", "-o", "json", namespace=NAMESPACE)
                return all(_healthy(item["status"]) for item in json.loads(listed)["items"])

            say("\nWhat happened comes back into status (the first deliveries at once, then once a period):")
            await eventually("every endpoint is Healthy, with recent deliveries", reported)
            await show("get", "webhooks")
            await show("describe", "whep", "audit-log")
    finally:
        await receivers.stop()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hookstead-demo-") as name:
        folder = Path(name)
        say("Starting etcd and kube-apiserver …")
        with ApiServer(directory=folder / "cluster", controller_manager=True) as server:
            server.apply_crds(ROOT / "crds")
            server.create_namespace(NAMESPACE)
            with_cluster(server)
            try:
                asyncio.run(story(server, folder))
            except BaseException:
                for log in ("operator.log", "gateway.log"):
                    if (folder / log).exists():
                        say(f"\n{log}:\n{(folder / log).read_text()[-4000:]}")
                raise
    say("\nDone.")


def _healthy(status: dict[str, Any]) -> bool:
    conditions = {item["type"]: item["status"] for item in status.get("conditions", ())}
    return conditions.get("Healthy") == "True" and bool(status.get("recentDeliveries"))


def with_cluster(server: ApiServer) -> None:
    """Point this process' kubectl at the cluster, as a person's KUBECONFIG would."""
    os.environ.update(server.environment(namespace=NAMESPACE))


if __name__ == "__main__":
    main()
