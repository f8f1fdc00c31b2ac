"""Finds, downloads or builds the programs that the tests run beside Hookstead.

    python3.11 tests/toolchain/binaries.py [NAME…]     prints "NAME<tab>PATH" per program

Needs nothing but the standard library, so that it runs before any virtual environment exists. The order for
each program: the folder KUBEBUILDER_ASSETS (as envtest has it); for kubectl and helm the one on PATH, if
recent; our cache; a release download, if its host answers within seconds (HOOKSTEAD_OFFLINE=1 leaves that
out); `go build` from the published module that a go.mod beside this file pins. The versions stand in those
go.mod files and nowhere else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script: `toolchain` is our parent

from toolchain import debian, postgres, releases
from toolchain.cache import arriving, cache_home, exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE: Final = Path(__file__).resolve().parent
VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)\S*")


class ProgramMissingError(Exception):
    """A program is not there and could not be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program built from a published Go module."""

    name: str
    folder: str
    """Of the go.mod, beside this file; also the first word of its folder in the cache."""
    module: str
    package: str
    oldest: tuple[int, int] | None = None
    """The oldest version that will do when it is found on PATH; None: PATH is not looked at."""
    version_arguments: tuple[str, ...] = ()
    release: releases.Release | None = None
    version_package: str | None = None
    """The Go package whose gitVersion, gitMajor and gitMinor carry the version, where the module has one."""
    stamps: tuple[tuple[str, str], ...] = ()
    """More variables that its makers' own builds set, and their values."""

    @property
    def version(self) -> str:
        """As the go.mod pins it, for example `v1.34.4`."""
        text = (HERE / self.folder / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^(?:require|)\s*{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ProgramMissingError(f"tests/toolchain/{self.folder}/go.mod: no requirement of {self.module}.")
        return found[1]

    @property
    def cached(self) -> Path:
        """Where it is, or will be, in the cache."""
        stamped = "-" + hashlib.sha256(repr(self.stamps).encode()).hexdigest()[:8] if self.stamps else ""
        return cache_home() / "bin" / f"{self.folder}-{self.version}-{releases.SYSTEM}{stamped}" / self.name


def _of_kubernetes(name: str, *, oldest: tuple[int, int] | None = None) -> Program:
    return Program(
        name,
        folder="kubernetes",
        module="k8s.io/kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        oldest=oldest,
        version_arguments=("version", "--client"),
        release=releases.Release(
            url=f"https://dl.k8s.io/release/{{version}}/bin/{{os}}/{{arch}}/{name}",
            checksums=f"https://dl.k8s.io/release/{{version}}/bin/{{os}}/{{arch}}/{name}.sha256",
        ),
        version_package="k8s.io/component-base/version",
    )


def _kubernetes_of_helm() -> tuple[tuple[str, str], ...]:
    """The Kubernetes that `helm template` takes for granted; unstamped it is 1.20, which our charts refuse."""
    text = (HERE / "helm" / "go.mod").read_text(encoding="utf-8")
    client = re.search(r"k8s\.io/client-go v0\.(\d+)\.", text)
    minor = client[1] if client is not None else ""
    packages = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
    return tuple((f"{package}.k8sVersionMinor", minor) for package in packages if minor)


_ETCD: Final = "https://github.com/etcd-io/etcd/releases/download/{version}"
PROGRAMS: Final[dict[str, Program]] = {
    program.name: program
    for program in (
        Program(
            "etcd",
            folder="etcd",
            module="go.etcd.io/etcd/server/v3",
            package="go.etcd.io/etcd/server/v3",
            release=releases.Release(
                url=_ETCD + "/etcd-{version}-{os}-{arch}.tar.gz",
                checksums=_ETCD + "/SHA256SUMS",
                member="etcd-{version}-{os}-{arch}/etcd",
            ),
        ),
        _of_kubernetes("kube-apiserver"),
        _of_kubernetes("kube-controller-manager"),
        _of_kubernetes("kubectl", oldest=(1, 28)),
        Program(
            "helm",
            folder="helm",
            module="helm.sh/helm/v3",
            package="helm.sh/helm/v3/cmd/helm",
            oldest=(3, 14),
            version_arguments=("version", "--short"),
            stamps=_kubernetes_of_helm(),
            release=releases.Release(
                url="https://get.helm.sh/helm-{version}-{os}-{arch}.tar.gz",
                checksums="https://get.helm.sh/helm-{version}-{os}-{arch}.tar.gz.sha256sum",
                member="{os}-{arch}/helm",
            ),
        ),
        Program(
            "kubeconform",
            folder="kubeconform",
            module="github.com/yannh/kubeconform",
            package="github.com/yannh/kubeconform/cmd/kubeconform",
            oldest=(0, 6),
            version_arguments=("-v",),
        ),
    )
}
DEBIAN: Final[dict[str, str]] = {
    "strace": "the test that no 202 precedes its fsync",
    "lua5.4": "the tests of Argo CD's health checks",
    "postgres": "the tests of the PostgreSQL store",
    "pgbouncer": "the test of the PostgreSQL store behind a pooler",
}
"""Programs of the distribution, each with what it is for. Their absence only skips a test."""
USUAL: Final = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm", "kubeconform"),
    *("strace", "lua5.4", "postgres", "pgbouncer"),
)


# Where a program may be found, each (Program) -> Path or None.


def in_assets(program: Program) -> Path | None:
    """The folder of the envtest convention."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    return _executable(Path(folder) / program.name) if folder else None


def on_path(program: Program) -> Path | None:
    """The one on PATH, where that is allowed and it is recent enough."""
    found = shutil.which(program.name) if program.oldest else None
    if found is None or program.oldest is None:
        return None
    said = subprocess.run(
        [found, *program.version_arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    version = VERSION.search(said.stdout)
    if said.returncode or version is None or (int(version[1]), int(version[2])) < program.oldest:
        return None
    return Path(found)


def in_cache(program: Program) -> Path | None:
    """What an earlier run made."""
    return _executable(program.cached)


# How a program may be made, each (Program, draft) -> whether it is there now.


def download(program: Program, draft: Path) -> bool:
    """Fetch the published release, if its host answers within seconds and its checksum holds."""
    if program.release is None or os.environ.get("HOOKSTEAD_OFFLINE") == "1":
        return False
    return releases.fetch(program.release, version=program.version, to=draft)


def build(program: Program, draft: Path) -> bool:
    """Compile it: minutes of CPU for the API server the first time."""
    go = shutil.which("go")
    if go is None:
        return False
    say(f"building {program.name} {program.version} from {program.module} (minutes, once) …")
    link = ["-s", "-w"]
    if program.version_package is not None and (parts := VERSION.fullmatch(program.version)) is not None:
        stamps = {"gitVersion": program.version, "gitMajor": parts[1], "gitMinor": parts[2]}
        link += [f"-X {program.version_package}.{key}={value}" for key, value in stamps.items()]
    link += [f"-X {variable}={value}" for variable, value in program.stamps]
    flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(link)]
    result = subprocess.run(
        [go, "build", *flags, "-o", str(draft), program.package],
        cwd=HERE / program.folder,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    return result.returncode == 0


PLACES: Final[tuple[Callable[[Program], Path | None], ...]] = (in_assets, on_path, in_cache)
MAKERS: Final[tuple[Callable[[Program, Path], bool], ...]] = (download, build)


def locate(name: str) -> Path:
    """The program `name` where it already is; makes nothing. Raises ProgramMissingError."""
    if name in DEBIAN:
        found = _of_debian(name)
        if found is None:
            raise ProgramMissingError(
                f"{name} is not on PATH, for {DEBIAN[name]}: `make binaries` installs it as root."
            )
        return found
    for place in PLACES:
        if (path := place(PROGRAMS[name])) is not None:
            return path
    raise ProgramMissingError(f"{name} {PROGRAMS[name].version} is not here yet: `make binaries` gets or builds it.")


def provide(name: str) -> Path:
    """The program `name`, made if need be, by one of the runs side by side. Raises ProgramMissingError."""
    try:
        return locate(name)
    except ProgramMissingError:
        return _install(name) if name in DEBIAN else _make(PROGRAMS[name])


def _of_debian(name: str) -> Path | None:
    """Debian keeps PostgreSQL's programs by version, and pgbouncer where only root looks."""
    if name == "postgres":
        folder = postgres.folder()
        return None if folder is None else folder / name
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin" if name == "pgbouncer" else "")
    return Path(found) if found else None


def _install(name: str) -> Path:
    try:
        with exclusive("apt"):
            if name == "postgres":
                postgres.install(purpose=DEBIAN[name])
            else:
                debian.install(name, purpose=DEBIAN[name])
    except debian.NotInstallableError as error:
        raise ProgramMissingError(str(error)) from error
    return locate(name)


def _make(program: Program) -> Path:
    # One lock for all: two Go builds at once only take each other's cores.
    with exclusive("binaries"):
        if (path := in_cache(program)) is not None:
            return path
        with arriving(program.cached) as draft:
            if not any(maker(program, draft) for maker in MAKERS):
                raise ProgramMissingError(
                    f"{program.name} {program.version} could be neither downloaded nor built. "
                    "Install Go (see go.dev/dl) and run `make binaries` again, "
                    "or set KUBEBUILDER_ASSETS to a folder that has it."
                )
            draft.chmod(0o755)
    return program.cached


def _executable(path: Path) -> Path | None:
    return path if os.access(path, os.X_OK) and path.is_file() else None


def say(text: str) -> None:
    """Progress goes to stderr: stdout is for the paths."""
    print(f"toolchain: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Provide the named programs; 1 if one that is not optional is missing."""
    parser = argparse.ArgumentParser(description="Find, download or build the programs that the tests run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(USUAL)}")
    names = parser.parse_args(arguments).names or USUAL
    if unknown := sorted(set(names) - PROGRAMS.keys() - DEBIAN.keys()):
        parser.error(f"unknown program {unknown[0]!r}; known: {', '.join([*PROGRAMS, *DEBIAN])}")
    failed = False
    for name in names:
        try:
            print(f"{name}\t{provide(name)}")
        except ProgramMissingError as error:
            say(str(error))
            failed = failed or name not in DEBIAN
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
