"""The API server that the other tests of this folder stand on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.apiserver import ApiError, ApiServer, KubectlError
from cluster.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = "rbac.authorization.k8s.io/v1"


def eventually(holds: Callable[[], bool], *, seconds: float = 20) -> bool:
    """Whether it holds within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def config_map(name: str, **metadata: object) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}})


def test_kubectl_returns_what_the_command_prints(api_server: ApiServer, namespace: str) -> None:
    assert api_server.kubectl("apply", "-f", "-", input=config_map("a"), namespace=namespace) == "configmap/a created\n"
    assert api_server.kubectl("get", "configmap", "a", "-o", "name", namespace=namespace) == "configmap/a\n"


def test_a_failing_kubectl_raises_with_what_it_said(api_server: ApiServer, namespace: str) -> None:
    with pytest.raises(KubectlError, match='configmaps "absent" not found') as caught:
        api_server.kubectl("get", "configmap", "absent", namespace=namespace)
    assert caught.value.code == 1


def test_each_test_has_a_namespace_of_its_own(api_server: ApiServer, namespace: str) -> None:
    other = api_server.create_namespace(f"{namespace}-other")
    api_server.kubectl("apply", "-f", "-", input=config_map("a"), namespace=namespace)
    assert "configmap/a" not in api_server.kubectl("get", "configmaps", "-o", "name", namespace=other)


def test_a_static_user_may_nothing_until_a_role_is_bound(api_server: ApiServer, namespace: str) -> None:
    with pytest.raises(KubectlError, match=r'User "alice" cannot list resource "secrets"'):
        api_server.kubectl("get", "secrets", namespace=namespace, user="alice")
    api_server.kubectl("create", "rolebinding", "alice", "--clusterrole=admin", "--user=alice", namespace=namespace)
    # The role has rules since a real controller manager aggregates them; the authorizer follows soon.
    assert eventually(lambda: _may_list_secrets(api_server, namespace, user="alice"))
    assert api_server.kubectl("get", "secrets", "-o", "name", namespace=namespace, user="alice") == ""


def _may_list_secrets(server: ApiServer, namespace: str, *, user: str) -> bool:
    try:
        return server.kubectl("auth", "can-i", "list", "secrets", namespace=namespace, user=user) == "yes\n"
    except KubectlError:
        return False


def test_a_service_accounts_token_authenticates_as_it(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("create", "serviceaccount", "producer", namespace=namespace)
    token = api_server.service_account_token(namespace, "producer")
    said = api_server.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", token=token)
    assert said == f"system:serviceaccount:{namespace}:producer"


def test_a_token_for_another_audience_does_not_open_the_api_server(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("create", "serviceaccount", "producer", namespace=namespace)
    token = api_server.service_account_token(namespace, "producer", audiences=["hookstead.dev"])
    with pytest.raises(ApiError, match="401"):
        api_server.request("GET", "/api/v1/namespaces", token=token)


def test_the_audit_log_tells_who_wrote_what_after_a_mark(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("create", "configmap", "before", namespace=namespace)
    mark = api_server.audit_mark()
    api_server.kubectl("create", "configmap", "after", namespace=namespace)
    written = [
        (entry.user, entry.verb, entry.resource, entry.name, entry.code)
        for entry in api_server.audit_entries(since=mark)
        if entry.writes and entry.namespace == namespace and entry.resource == "configmaps" and entry.user == "admin"
    ]
    assert written == [("admin", "create", "configmaps", "after", 201)]


def test_an_owned_object_goes_with_its_owner(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("create", "configmap", "owner", namespace=namespace)
    uid = api_server.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}", namespace=namespace)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = config_map("owned", ownerReferences=[owner])
    api_server.kubectl("apply", "-f", "-", input=owned, namespace=namespace)
    api_server.kubectl("delete", "configmap", "owner", namespace=namespace)
    assert eventually(lambda: "owned" not in api_server.kubectl("get", "configmaps", "-o", "name", namespace=namespace))


def test_what_was_stored_survives_a_crash_and_old_watches_get_410(tmp_path: Path) -> None:
    with ApiServer(directory=tmp_path, controller_manager=False) as server:
        server.create_namespace("kept")
        url = server.url
        server.kill()
        with pytest.raises(OSError, match="refused"):
            server.request("GET", "/api/v1/namespaces/kept")
        server.restart()
        assert server.url == url
        assert server.request("GET", "/api/v1/namespaces/kept")["metadata"]["name"] == "kept"
        event = server.request("GET", "/api/v1/namespaces?watch=1&resourceVersion=1&timeoutSeconds=5")
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from cluster.child import Child\n"
        "child = Child(['sleep', '600'], log=pathlib.Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "log")]
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": tests}
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    """Dead, and not yet reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while true; do sleep 0.1; done"
    child = Child(["sh", "-c", script], log=tmp_path / "log")
    assert eventually(lambda: "ready" in child.last_words())
    assert child.terminate(grace_seconds=0.2) == -signal.SIGKILL
    assert not child.running
