"""Where the test programs come from, in which order, and what happens when they can not be had."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from toolchain import binaries
from toolchain.binaries import PROGRAMS, ProgramMissingError

if TYPE_CHECKING:
    from pathlib import Path

ETCD = PROGRAMS["etcd"]
KUBECTL = PROGRAMS["kubectl"]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, an empty PATH and no network; its folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("HOOKSTEAD_OFFLINE", "1")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def program(path: Path, script: str = "exit 0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_version_is_the_one_that_the_go_mod_pins(name: str) -> None:
    pinned = PROGRAMS[name]
    assert binaries.VERSION.fullmatch(pinned.version)
    assert pinned.version in str(pinned.cached)
    assert (binaries.HERE / pinned.folder / "go.sum").exists()


def test_the_folder_of_the_envtest_convention_comes_first(empty_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(ETCD.cached)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(empty_machine / "assets"))
    assert binaries.locate("etcd") == ETCD.cached
    assets = program(empty_machine / "assets" / "etcd")
    assert binaries.locate("etcd") == assets


def test_an_etcd_on_path_is_not_taken(empty_machine: Path) -> None:
    program(empty_machine / "path" / "etcd")
    with pytest.raises(ProgramMissingError, match="`make binaries` gets or builds it"):
        binaries.locate("etcd")


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("Client Version: v1.28.0", True),
        ("Client Version: v1.32.4-dispatcher", True),
        ("Client Version: v1.34.4\nKustomize Version: v5.7.1", True),
        ("Client Version: v2.0.0", True),
        ("Client Version: v1.27.9", False),
        ("no version at all", False),
    ],
)
def test_kubectl_on_path_is_taken_if_recent(said: str, taken: bool, empty_machine: Path) -> None:
    found = program(empty_machine / "path" / "kubectl", f"printf '{said}'")
    assert binaries.on_path(KUBECTL) == (found if taken else None)


def test_a_kubectl_that_fails_is_not_taken(empty_machine: Path) -> None:
    program(empty_machine / "path" / "kubectl", "echo v1.34.4; exit 1")
    assert binaries.on_path(KUBECTL) is None


def test_without_go_and_network_the_message_says_what_to_do() -> None:
    with pytest.raises(ProgramMissingError, match=r"Install Go .* or set KUBEBUILDER_ASSETS"):
        binaries.provide("etcd")
    assert not list(ETCD.cached.parent.iterdir())


def test_a_failed_build_leaves_nothing_in_the_cache(empty_machine: Path) -> None:
    program(empty_machine / "path" / "go", 'while [ "$1" != -o ]; do shift; done; echo half > "$2"; exit 1')
    with pytest.raises(ProgramMissingError):
        binaries.provide("etcd")
    assert not list(ETCD.cached.parent.iterdir())


def test_a_build_gets_the_version_stamped_in(empty_machine: Path) -> None:
    said = empty_machine / "said"
    go = f'echo "$@" > {said}; while [ "$1" != -o ]; do shift; done; echo program > "$2"'
    program(empty_machine / "path" / "go", go)
    assert binaries.provide("kube-apiserver") == PROGRAMS["kube-apiserver"].cached
    version = PROGRAMS["kube-apiserver"].version
    minor = version.split(".")[1]
    arguments = said.read_text(encoding="utf-8")
    assert f"-X k8s.io/component-base/version.gitVersion={version}" in arguments
    assert f"-X k8s.io/component-base/version.gitMinor={minor}" in arguments
    assert arguments.endswith(" k8s.io/kubernetes/cmd/kube-apiserver\n")


def test_helm_is_told_which_kubernetes_charts_are_rendered_for(empty_machine: Path) -> None:
    said = empty_machine / "said"
    go = f'echo "$@" > {said}; while [ "$1" != -o ]; do shift; done; echo program > "$2"'
    program(empty_machine / "path" / "go", go)
    binaries.provide("helm")
    found = re.search(r"-X helm\.sh/helm/v3/pkg/chartutil\.k8sVersionMinor=(\d+) ", said.read_text(encoding="utf-8"))
    assert found is not None
    assert int(found[1]) >= 30  # the charts' kubeVersion


def test_runs_side_by_side_build_once(empty_machine: Path) -> None:
    count = empty_machine / "count"
    go = f'echo built >> {count}; while [ "$1" != -o ]; do shift; done; /bin/sleep 0.1; echo program > "$2"'
    program(empty_machine / "path" / "go", go)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(binaries.provide("etcd"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ETCD.cached] * 4
    assert count.read_text(encoding="utf-8") == "built\n"


def test_a_missing_debian_package_names_its_purpose_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ProgramMissingError, match=r"needed for the test that no 202 .* apt-get install strace"):
        binaries.provide("strace")


def test_only_a_missing_optional_program_lets_the_command_succeed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    program(ETCD.cached)
    assert binaries.main(["etcd", "strace"]) == 0
    assert capsys.readouterr().out == f"etcd\t{ETCD.cached}\n"
    assert binaries.main(["etcd", "helm"]) == 1


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        binaries.main(["etcdd"])
    assert caught.value.code == 2
