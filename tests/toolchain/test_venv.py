"""Which virtual environment a clone runs in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from toolchain import venv

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run."""
    commands: list[list[str]] = []

    def run(command: list[str | os.PathLike[str]]) -> None:
        commands.append([str(part) for part in command])
        if "venv" in commands[-1]:
            os.makedirs(command[-1])  # noqa: PTH103  (the part is a path or a string)

    monkeypatch.setattr(venv, "_run", run)
    return commands


def clone(folder: Path, *, project: str = "[project]") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    return folder


def test_two_clones_never_share_an_environment(tmp_path: Path) -> None:
    assert venv.location(clone(tmp_path / "a")) != venv.location(clone(tmp_path / "b"))


def test_another_pyproject_is_another_environment(tmp_path: Path) -> None:
    before = venv.location(clone(tmp_path / "a"))
    assert venv.location(clone(tmp_path / "a", project="[project] # more")) != before


def test_a_second_run_installs_nothing(tmp_path: Path, pip: list[list[str]]) -> None:
    home = clone(tmp_path / "a")
    folder = venv.provide(home)
    assert [command[1:3] for command in pip] == [["-m", "venv"], ["-m", "pip"]]
    assert pip[-1][-1] == f"{home}[test,dev]"
    assert venv.provide(home) == folder
    assert len(pip) == 2


def test_an_interrupted_install_is_started_again(tmp_path: Path, pip: list[list[str]]) -> None:
    home = clone(tmp_path / "a")
    (venv.location(home) / "bin").mkdir(parents=True)
    venv.provide(home)
    assert not (venv.location(home) / "bin").exists()
    assert len(pip) == 2


def test_the_environments_of_vanished_clones_go(tmp_path: Path, pip: list[list[str]]) -> None:
    gone, kept = clone(tmp_path / "gone"), clone(tmp_path / "kept")
    left_behind, used = venv.provide(gone), venv.provide(kept)
    (gone / "pyproject.toml").unlink()
    gone.rmdir()
    venv.provide(clone(tmp_path / "third"))
    assert (left_behind.exists(), used.exists()) == (False, True)


def test_an_environment_that_its_clone_has_not_used_for_a_week_goes(tmp_path: Path, pip: list[list[str]]) -> None:
    home = clone(tmp_path / "a")
    old = venv.provide(home)
    recent = venv.provide(clone(home, project="[project] # second"))
    os.utime(old / venv.READY, (0, 0))
    venv.provide(clone(home, project="[project] # third"))
    assert (old.exists(), recent.exists()) == (False, True)
