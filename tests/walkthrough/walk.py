"""Walks through README and quickstart as a newcomer: every command, in the pages' order, on a machine of its own.

    python -m walkthrough.walk FOLDER

FOLDER is a clone whose `.venv` has the package. It runs in a network namespace where nothing is up but loopback, so
that the pages' ports are free and nothing leaves. It prints what it did, and exits 1 where a page is wrong.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cluster.apiserver import ApiServer
from toolchain.binaries import locate
from walkthrough.pages import Step, differences, steps
from walkthrough.terminal import Shell, WalkError, Window

PATIENCE_SECONDS: Final = 60.0
"""How long a page's output may take to come; the machine may be busy."""
WINDOWS: Final = ("examples/receiver.py", "hookstead dev")
INSTALL: Final = ("pip install",)
"""Done before, outside of the namespace: it needs the package index."""
MAKE: Final = {"make demo": "python examples/demo/embedded.py"}
"""What these targets run once the environment exists; `make test` runs this walk."""
CLUSTER: Final = "On a cluster"
_PLACEHOLDER: Final = re.compile(r"\b(dlv|msg)_…")


class Walk:
    """One newcomer: a folder, a shell, and windows for what keeps running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = (folder / ".venv/bin", locate("kubectl").parent, *os.environ["PATH"].split(os.pathsep))
        self._environment = {
            "PATH": os.pathsep.join(map(str, paths)),
            "HOME": str(folder.parent),
            "LANG": "C.UTF-8",
            "VIRTUAL_ENV": str(folder / ".venv"),
        }
        self._shell = Shell(folder, self._environment)
        self._windows: list[Window] = []
        self._seen: dict[str, str] = {}
        self.done: list[str] = []

    def step(self, step: Step) -> None:
        """Do what the page says, and compare what it shows. Raises WalkError."""
        command = _PLACEHOLDER.sub(lambda found: self._seen[found[1]], step.command)
        if any(part in command for part in INSTALL) or command.startswith("make test"):
            return
        for target, recipe in MAKE.items():
            command = recipe if command.split("#")[0].strip() == target else command
        say(f"$ {command}")
        if any(part in command for part in WINDOWS):
            self._open(command, step)
        else:
            self._type(command, step)
        self.done.append(step.command)

    def _open(self, command: str, step: Step) -> None:
        window = Window(command, self._folder, self._environment)
        self._windows.append(window)
        wanted = step.shown or ("listening on …",)
        self._until(lambda: not differences(wanted, window.printed), window, wanted)

    def _type(self, command: str, step: Step) -> None:
        printed = self._shell.run(command)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while step.shown and (missing := differences(step.shown, printed)):
            if not re.match(r"kubectl(-hooks (status|deliveries)| .*(get|describe))", command):
                raise WalkError(f"{command}\nprinted\n{printed}\nwhere the page shows\n" + "\n".join(missing))
            if time.monotonic() > deadline:
                raise WalkError(f"{command}\nprinted in the end\n{printed}\nThe page shows\n" + "\n".join(missing))
            time.sleep(0.5)
            printed = self._shell.run(command)
        for kind, found in re.findall(r"\b((?:dlv|msg)_)([0-9a-f]{32})\b", printed):
            self._seen[kind.rstrip("_")] = kind + found

    def edit(self, file: str, old: str, new: str, *, told: str) -> None:
        """Edit a file, and wait until the first window but one tells of it."""
        path = self._folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))
        dev = next(window for window in self._windows if "hookstead dev" in window.command)
        self._until(lambda: not differences((told,), dev.printed), dev, (told,))
        path.write_text(text)

    def _until(self, holds: Callable[[], bool], window: Window, wanted: tuple[str, ...]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if window.ended or time.monotonic() > deadline:
                lines = "\n".join(wanted)
                raise WalkError(f"{window.command}\nprinted\n{window.printed}\nThe page shows\n{lines}")
            time.sleep(0.1)

    def clear(self) -> None:
        """Ctrl-C in every window."""
        for window in reversed(self._windows):
            window.interrupt()
        self._windows.clear()

    def cluster(self, server: ApiServer) -> None:
        """From here on kubectl reaches this cluster; its context's namespace is the page's."""
        kubeconfig = server.kubeconfig(namespace="shop")
        self._environment["KUBECONFIG"] = str(kubeconfig)
        self._shell.run(f"export KUBECONFIG={kubeconfig}")

    def close(self) -> None:
        self.clear()
        self._shell.close()


def laptop(walk: Walk, page: list[Step]) -> None:
    """The quickstart up to the cluster, with the edits that its prose asks for."""
    for step in page:
        if step.command.startswith("hookstead validate"):
            endpoints = "examples/quickstart/4-endpoints.yaml"
            head = "kind: WebhookEndpoint\nmetadata:\n  name: acme-orders\nspec:\n"
            changed = "14:08:40 WebhookEndpoint acme-orders changed (generation 2)"
            walk.edit(endpoints, head, f"{head}  state: Paused\n", told=changed)
            broken = f"error: {endpoints}:7:1: … Its last readable version is used further (3 objects)."
            walk.edit(endpoints, head, "{" + head, told=broken)
        walk.step(step)
    walk.clear()


def on_a_cluster(walk: Walk, page: list[Step], *, send: Step, readme: list[Step]) -> None:
    """The rest of the quickstart, and README's commands before the page's last line cleans up."""
    with ApiServer() as server:
        walk.cluster(server)
        for step in page:
            if step.command.startswith("kubectl -n shop get webhookendpoints"):
                walk.step(send)  # "Send an event as before"
            walk.step(step)
        for step in (*readme, Step(CLUSTER, "kill %1 %2")):
            walk.step(step)
        walk.clear()


def say(line: str) -> None:
    print(line, flush=True)


def main(folder: Path) -> int:
    quickstart = list(steps((folder / "docs/quickstart.md").read_text()))
    first = next(number for number, step in enumerate(quickstart) if step.heading == CLUSTER)
    known = {step.command for step in quickstart}
    send = next(step for step in quickstart if "send order.created" in step.command)
    readme = [step for step in steps((folder / "README.md").read_text()) if step.command not in known]
    walk = Walk(folder)
    try:
        for step in readme:
            if step.command.startswith("make "):
                walk.step(step)
        laptop(walk, quickstart[:first])
        rest = [step for step in readme if not step.command.startswith("make ")]
        on_a_cluster(walk, quickstart[first:], send=send, readme=rest)
    except WalkError as wrong:
        say(f"\nwrong: {wrong}")
        return 1
    finally:
        walk.close()
    say(f"{len(walk.done)} commands of README and quickstart did what the pages say")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
