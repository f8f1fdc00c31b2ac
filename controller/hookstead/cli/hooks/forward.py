"""A local port that leads to a pod's, as long as `kubectl port-forward` runs beside us."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, Final

from hookstead.cli.hooks.kubectl import Kubectl, KubectlError, absent, environment, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hookstead.cli.hooks.discovery import Target

_READY_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 2.0
_FORWARDING: Final = re.compile(r"^Forwarding from 127\.0\.0\.1:(\d+) ")


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, target: Target) -> Iterator[str]:
    """The URL under which the pod's port answers here. Raises KubectlError where it cannot be reached."""
    command = kubectl.command(
        "port-forward",
        f"--namespace={target.namespace}",
        "--address=127.0.0.1",
        f"pod/{target.pod}",
        f":{target.port}",
    )
    # A file, not a pipe, for stderr: a line for each connection that breaks must never fill anything up.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment(),
                encoding="utf-8",
            )
        except OSError as problem:
            raise absent(kubectl.program, problem) from problem
        reader = threading.Thread(target=_drain, args=(child,), daemon=True)
        try:
            port = _local_port(child)
            if port is None:
                slow = child.wait() < 0  # we killed it
                stderr.seek(0)
                what = f"kubectl port-forward was not ready within {_READY_SECONDS:g} s"
                raise _unreachable(target, refusal("" if slow else stderr.read(), what=what))
            reader.start()
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(child, reader)


def _local_port(child: subprocess.Popen[str]) -> int | None:
    """The port that kubectl chose; None once it has ended without any, or was too slow."""
    assert child.stdout is not None, "a pipe was asked for"
    patience = threading.Timer(_READY_SECONDS, child.kill)
    patience.daemon = True
    patience.start()
    try:
        for line in child.stdout:
            found = _FORWARDING.match(line)
            if found is not None:
                return int(found[1])
        return None
    finally:
        patience.cancel()


def _drain(child: subprocess.Popen[str]) -> None:
    """Read on: kubectl tells of every connection, and must never wait for somebody to listen."""
    assert child.stdout is not None, "a pipe was asked for"
    for _ in child.stdout:
        pass


def _unreachable(target: Target, why: KubectlError) -> KubectlError:
    remedy = " RBAC must allow `get` and `create` on `pods/portforward`." if why.reason == "Forbidden" else ""
    return KubectlError(f"no way to pod {target.namespace}/{target.pod}: {why.sentence}{remedy}", reason=why.reason)


def _end(child: subprocess.Popen[str], reader: threading.Thread) -> None:
    child.terminate()
    try:
        child.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if reader.ident is not None:
        reader.join(timeout=_GRACE_SECONDS)
    if child.stdout is not None and not reader.is_alive():
        child.stdout.close()
