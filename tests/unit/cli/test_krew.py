"""The plugin alone, as krew hands it out: an archive of pure Python, and a manifest that fits it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest
import yaml

from hookstead import __version__
from hookstead.cli.kubectl_hooks import MODULES

BUILD: Final = Path(__file__).parents[3] / ".ci" / "krew" / "build.py"


def build(folder: Path) -> Path:
    subprocess.run([sys.executable, BUILD, folder, "https://downloads.example/v1/"], check=True, capture_output=True)
    return folder / f"kubectl-hooks-v{__version__}.tar.gz"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As krew installs it: the archive unpacked into a store, and a link to its program in a folder on PATH."""
    folder = tmp_path_factory.mktemp("krew")
    with tarfile.open(build(folder)) as archive:
        archive.extractall(folder / "store", filter="data")
    (folder / "bin").mkdir()
    (folder / "bin" / "kubectl-hooks").symlink_to("../store/kubectl-hooks")
    (folder / "bin" / "python3").symlink_to(sys.executable)
    return folder


def run(installed: Path, *words: str, program: str = "bin/kubectl-hooks") -> subprocess.CompletedProcess[str]:
    path = f"{installed / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        [installed / program, *words], env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_command_is_there_and_needs_nothing_installed(installed: Path) -> None:
    told = run(installed, "--help").stdout
    assert told.startswith("usage: kubectl hooks ")
    imports = "".join(f"import {module}\n" for module, _ in MODULES.values())
    program = f"import sys\nsys.path[:] = [{str(installed / 'store' / 'lib')!r}, *sys.path]\n{imports}"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_does_its_work(installed: Path) -> None:
    assert run(installed, "--version").stdout == f"kubectl hooks {__version__}\n"
    manifest = run(installed, "replay", "acme", "--since", "2026-01-01T00:00:00Z", "--dry-run").stdout
    assert yaml.safe_load(manifest)["spec"]["endpointRef"] == {"name": "acme"}
    ended = run(installed, "status", "--server", "http://127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no answer from the gateway at http://127.0.0.1:1")
    completed = run(installed, "deliveries", "--status", "C", program="store/kubectl_complete-hooks")
    assert completed.stdout.splitlines() == ["Cancelled", ":4"]


def test_without_a_python_it_says_so(installed: Path, tmp_path: Path) -> None:
    for name in ("sh", "readlink", "dirname"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    ended = subprocess.run(
        [installed / "store" / "kubectl-hooks"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "needs Python 3.11 or later" in ended.stderr


def test_the_same_sources_give_the_same_archive_and_the_manifest_fits_it(installed: Path, tmp_path: Path) -> None:
    content = build(tmp_path).read_bytes()
    assert content == (installed / f"kubectl-hooks-v{__version__}.tar.gz").read_bytes()
    manifest = yaml.safe_load((tmp_path / "hooks.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("krew.googlecontainertools.github.com/v1alpha2", "Plugin")
    assert manifest["metadata"]["name"] == "hooks"
    spec = manifest["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", spec["version"])
    assert len(spec["shortDescription"]) <= 50
    (platform,) = spec["platforms"]
    assert platform["uri"] == f"https://downloads.example/v1/kubectl-hooks-v{__version__}.tar.gz"
    assert platform["sha256"] == hashlib.sha256(content).hexdigest()
    with tarfile.open(tmp_path / f"kubectl-hooks-v{__version__}.tar.gz") as archive:
        names = set(archive.getnames())
    assert {platform["bin"], "LICENSE"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc", ".dylib"))]
