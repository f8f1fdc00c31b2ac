"""What a kubelet does with a pod, as far as it matters here: mounts, account, process, probes, status.

The pod's own spec says what runs: command, arguments, environment, volumes, ports, probes. Three things differ from a
node. Mounted paths are folders of the test, so arguments that name them are rewritten. Every interface becomes one
address of 127.0.0.0/8, which is the pod's IP; its ports stay as they are. And KUBECONFIG, with a token of the pod's
ServiceAccount, stands for the mounted account.
"""

from __future__ import annotations

import base64
import http.client
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.apiserver import ApiError
from cluster.child import Child
from contract.processes import environment_variables, until
from toolchain.binaries import locate

if TYPE_CHECKING:
    from cluster.apiserver import ApiServer

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "hookstead": (sys.executable, "-m", "hookstead.cli.main"),
    "python": (sys.executable,),
}
"""What the image has on its PATH."""


CHANGES: Final = (
    "open,openat,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
)
"""The calls that can change a file system."""


class NotMountedError(Exception):
    """The pod stays in ContainerCreating; the message is the FailedMount event's."""


@dataclass
class Pod:
    """One pod: its object in the API server, and its process here."""

    server: ApiServer
    namespace: str
    name: str
    spec: dict[str, Any]
    labels: dict[str, str]
    folder: Path
    address: str
    process: Child | None = None
    runs: int = 0
    mounted: dict[str, Path] = field(default_factory=dict)

    @property
    def container(self) -> dict[str, Any]:
        container: dict[str, Any] = self.spec["containers"][0]
        return container

    @property
    def account(self) -> str:
        name: str = self.spec.get("serviceAccountName", "default")
        return name

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def port(self, name: str) -> int:
        """The container's port of this name."""
        (found,) = [one["containerPort"] for one in self.container["ports"] if one["name"] == name]
        return int(found)

    # Life.

    def create(self, annotations: Mapping[str, str]) -> None:
        """The object, as a workload's controller makes it; admission judges it."""
        self.server.request(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/pods",
            {
                "metadata": {"name": self.name, "labels": self.labels, "annotations": dict(annotations)},
                "spec": self.spec,
            },
        )

    def start(self, more: Mapping[str, str] | None = None, *, trace: Path | None = None) -> None:
        """Mount and run. `more`: variables for what only a test needs. Raises NotMountedError.

        `trace`: a file for what it did to files, by strace; see `written`.
        """
        for volume in self.spec.get("volumes", ()):
            self.mounted[volume["name"]] = self._mount(volume)
        variables = {one["name"]: self._variable(one) for one in self.container.get("env", ())}
        command, *rest = self.container["command"]
        words = [*rest, *self.container.get("args", ())]
        self.runs += 1
        # -D: the program stays our child, and gets the signals.
        tracer = [str(locate("strace")), "-D", "-f", "-qq", f"--trace={CHANGES}", "-o", str(trace)] if trace else []
        self.process = Child(
            [*tracer, *PROGRAMS[command], *map(self._rewritten, words)],
            log=self.folder / f"{self.name}-{self.runs}.log",
            environment=environment_variables(**self._account_variables(), **variables, **(more or {})),
        )

    def refresh(self) -> None:
        """What the kubelet does about once a minute: changed Secrets reach the mounts of the running pod."""
        for volume in self.spec.get("volumes", ()):
            self._mount(volume)

    def become_ready(self) -> None:
        """Probe as the spec says until the pod is Ready, and write that into its status."""
        until(lambda: self.probe("startupProbe"), what=f"{self.name} starts; it said:\n{self.words()}", seconds=30)
        assert self.probe("livenessProbe")
        until(lambda: self.probe("readinessProbe"), what=f"{self.name} is ready; it said:\n{self.words()}", seconds=30)
        self.report(ready=True)

    def report(self, *, ready: bool) -> None:
        """The pod's status in the API server."""
        status = {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        self.server.request("PUT", f"{self.path}/status", {**self.server.request("GET", self.path), "status": status})

    def probe(self, kind: str) -> bool:
        """One httpGet probe of the container, at the pod's address."""
        assert self.process is not None
        assert self.process.running, self.words()
        wanted = self.container[kind]["httpGet"]
        connection = http.client.HTTPConnection(self.address, self.port(wanted["port"]), timeout=5)
        try:
            connection.request("GET", wanted["path"])
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def terminate(self) -> int:
        """As on deletion: not Ready any more, its preStop hook, SIGTERM, its grace period; the exit code."""
        assert self.process is not None
        self.report(ready=False)
        before = pre_stop_seconds(self.container)
        if before:
            self._run_hook(self.container["lifecycle"]["preStop"]["exec"]["command"])
        return self.process.terminate(grace_seconds=self.spec["terminationGracePeriodSeconds"] - before)

    def _run_hook(self, command: list[str]) -> None:
        """In the container, where the program is process 1."""
        assert self.process is not None
        program, *words = (word.replace("os.kill(1,", f"os.kill({self.process.pid},") for word in command)
        subprocess.run([*PROGRAMS[program], *words], check=True, timeout=60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def written(self, trace: Path) -> set[str]:
        """Paths outside its writable mounts that it opened for writing, made or removed, by its trace."""
        writable = [str(self.mounted[one["name"]]) for one in self.container["volumeMounts"] if not one.get("readOnly")]
        found = set()
        for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
            call = re.match(r"\d+ +(\w+)\((.*)", line)
            if call is None or ("open" in call[1] and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call[2])):
                continue
            found |= {
                path for path in re.findall(r'"([^"]+)"', call[2]) if not path.startswith((*writable, "/dev/null"))
            }
        return found

    def words(self) -> str:
        """The end of the log."""
        return self.process.last_words(lines=40) if self.process is not None else ""

    # Mounts.

    def _mount(self, volume: Mapping[str, Any]) -> Path:
        target: Path = self.folder / self.name / volume["name"]
        target.mkdir(parents=True, exist_ok=True)
        match volume:
            case {"secret": secret}:
                self._project(target, [{"secret": {**secret, "name": secret["secretName"]}}])
            case {"projected": projected}:
                self._project(target, projected["sources"])
            case {"emptyDir": _} | {"persistentVolumeClaim": _}:
                pass
            case _:
                raise AssertionError(f"a volume that is not known here: {volume}")
        return target

    def _project(self, target: Path, sources: list[dict[str, Any]]) -> None:
        """Files as links into a folder that is replaced whole, as the kubelet writes them."""
        files: dict[str, bytes] = {}
        for source in sources:
            if "serviceAccountToken" in source:
                wanted = source["serviceAccountToken"]
                token = self.server.service_account_token(self.namespace, self.account, audiences=[wanted["audience"]])
                files[wanted["path"]] = token.encode()
            else:
                files |= self._secret(source["secret"])
        data = Path(tempfile.mkdtemp(prefix="..", dir=target))
        for name, content in files.items():
            (data / name).write_bytes(content)
        latest = target / "..data"
        latest.unlink(missing_ok=True)
        latest.symlink_to(data.name)
        for name in files:
            link = target / name
            link.unlink(missing_ok=True)
            link.symlink_to(f"..data/{name}")

    def _secret(self, wanted: Mapping[str, Any]) -> dict[str, bytes]:
        name, optional = wanted["name"], wanted.get("optional", False)
        try:
            body = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        except ApiError as error:
            if error.status == 404 and optional:
                return {}
            raise NotMountedError(f'secret "{name}" not found') from error
        data = {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
        missing = [item["key"] for item in wanted["items"] if item["key"] not in data]
        if missing and not optional:
            raise NotMountedError(f"references non-existent secret key: {missing[0]}")
        return {item["path"]: data[item["key"]] for item in wanted["items"] if item["key"] in data}

    def _variable(self, wanted: Mapping[str, Any]) -> str:
        """The value of one of the container's variables. Raises NotMountedError (it is CreateContainerConfigError)."""
        if "valueFrom" not in wanted:
            return self._rewritten(wanted["value"])
        reference = wanted["valueFrom"]["secretKeyRef"]
        item = {"key": reference["key"], "path": reference["key"]}
        return self._secret({"name": reference["name"], "items": [item]})[reference["key"]].decode()

    def _rewritten(self, word: str) -> str:
        places = {one["mountPath"]: self.mounted[one["name"]] for one in self.container.get("volumeMounts", ())}
        if places:
            paths = "|".join(map(re.escape, sorted(places, key=len, reverse=True)))
            word = re.sub(rf"(?<![\w/.-])({paths})(?=/|$)", lambda found: str(places[found[1]]), word)
        flag, equals, value = word.partition("=")
        return f"{flag}={self.address}{value}" if equals and flag.endswith("listen") else word

    def _account_variables(self) -> dict[str, str]:
        """The mounted account; without one a KUBECONFIG that leads nowhere, so that no file of the machine is read."""
        if not self.spec["automountServiceAccountToken"]:
            return {"HOME": str(self.folder)}
        token = self.server.service_account_token(self.namespace, self.account)
        return {"HOME": str(self.folder), "KUBECONFIG": str(self.server.kubeconfig(token=token))}


def pre_stop_seconds(container: Mapping[str, Any]) -> int:
    """How long the chart's preStop hook takes; 0 where there is none."""
    if "lifecycle" not in container:
        return 0
    words = container["lifecycle"]["preStop"]["exec"]["command"]
    (seconds,) = re.findall(r"time\.sleep\((\d+)\)", words[-1])
    return int(seconds)


def pod_of(server: ApiServer, workload: Mapping[str, Any], *, folder: Path, address: str, number: int = 0) -> Pod:
    """The pod that the controller of a Deployment, StatefulSet or Job would make, with its object in the API server."""
    template = workload["spec"]["template"]
    spec = dict(template["spec"])
    claims = [one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", ())]
    name = f"{workload['metadata']['name']}-{number}"
    spec["volumes"] = [
        *spec.get("volumes", ()),
        *({"name": one, "persistentVolumeClaim": {"claimName": f"{one}-{name}"}} for one in claims),
    ]
    pod = Pod(
        server=server,
        namespace=workload["metadata"]["namespace"],
        name=name,
        spec=spec,
        labels=template["metadata"]["labels"],
        folder=folder,
        address=address,
    )
    pod.create(template["metadata"].get("annotations", {}))
    return pod
