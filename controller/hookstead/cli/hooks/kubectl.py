"""kubectl as a child process: it knows kubeconfig files, contexts, exec plugins, impersonation and proxies.

Whoever runs `kubectl hooks` has it (docs/decisions/0008-kubectl-child.md).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.outcome import CommandError

if TYPE_CHECKING:
    import argparse

_REQUEST_SECONDS: Final = 20
_CALL_SECONDS: Final = 60.0
"""A whole call; an exec plugin of the kubeconfig may have to ask somebody to log in."""
_REASON: Final = re.compile(r"^Error from server \((\w+)\)", re.MULTILINE)
_NOISE: Final = re.compile(r"Warning: |[EWI]\d{4} \d\d:")
"""Warnings, and the log of the client library."""
_WITHHELD: Final = ("HOOKSTEAD_TOKEN",)


class KubectlError(CommandError):
    """kubectl said no. `reason` is the API server's (`NotFound`, `Forbidden`), "" where it gave none."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason: Final = reason

    @property
    def sentence(self) -> str:
        """The message, fit for others to follow it."""
        text = str(self)
        return text if text.endswith((".", "?", "!")) else f"{text}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """Runs kubectl for one cluster, user and namespace: `flags` go in front of every call's own."""

    flags: tuple[str, ...] = ()
    namespace: str | None = None
    """As the person gave it; None leaves it to the kubeconfig's context."""
    program: str = "kubectl"

    @property
    def place(self) -> str:
        """The namespace, for messages."""
        return f"namespace {self.namespace}" if self.namespace else "the namespace of the kubeconfig's context"

    def run(self, *arguments: str, stdin: str = "") -> str:
        """stdout of one call. Raises KubectlError with kubectl's own words."""
        command = self.command(f"--request-timeout={_REQUEST_SECONDS}s", *arguments)
        try:
            ended = subprocess.run(
                command,
                input=stdin,
                env=environment(),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_CALL_SECONDS,
                check=False,
            )
        except OSError as problem:
            raise absent(self.program, problem) from problem
        except subprocess.TimeoutExpired as problem:
            raise KubectlError(f"kubectl {arguments[0]}: no answer within {_CALL_SECONDS:.0f} s") from problem
        if ended.returncode:
            raise refusal(ended.stderr, what=f"kubectl {arguments[0]} failed and did not say why")
        return ended.stdout

    def json(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        """The document of one call with `-o json`. Raises KubectlError."""
        document: dict[str, Any] = json.loads(self.run(*arguments, "--output=json", stdin=stdin))
        return document

    def command(self, *arguments: str) -> list[str]:
        """The command line of one call."""
        return [self.program, *self.flags, *arguments]


def from_flags(given: argparse.Namespace) -> Kubectl:
    """The cluster that the flags name."""
    named = {
        "kubeconfig": given.kubeconfig,
        "context": given.context,
        "as": getattr(given, "as"),
        "namespace": given.namespace,
    }
    flags = tuple(f"--{name}={value}" for name, value in named.items() if value is not None)
    return Kubectl(flags=flags, namespace=given.namespace)


def environment() -> dict[str, str]:
    """What kubectl, and with it every exec plugin, sees of our variables: all but the gateway's token."""
    return {name: value for name, value in os.environ.items() if name not in _WITHHELD}


def absent(program: str, problem: OSError) -> KubectlError:
    """kubectl cannot be started."""
    return KubectlError(
        f"{program} cannot be run: {problem.strerror}. Install kubectl, or name a gateway with --server URL."
    )


def refusal(stderr: str, *, what: str) -> KubectlError:
    """What kubectl said, less its warnings, as one error; `what` where it said nothing."""
    said = [line for line in stderr.strip().splitlines() if line and not _NOISE.match(line)]
    found = _REASON.search(stderr)
    words = " ".join(line.removeprefix("error: ") for line in said) or what
    return KubectlError(words, reason=found[1] if found else "")
