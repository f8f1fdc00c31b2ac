"""Which PostgreSQL of those that Debian keeps side by side is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolchain import binaries, debian, postgres

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        ([], None),
        (["14"], None),
        (["9", "15"], "15"),
        (["15", "18", "16"], "18"),
        (["15", "snapshot"], "15"),
    ],
)
def test_the_newest_that_is_new_enough_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: list[str], taken: str | None
) -> None:
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    for version in installed:
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    assert postgres.folder() == (None if taken is None else tmp_path / taken / "bin")


def test_another_is_taken_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    assert binaries.locate("postgres") == tmp_path / "postgres"


def test_no_cluster_is_made_or_started_by_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = tmp_path / "createcluster.conf"
    seen: list[tuple[str, str]] = []

    def install(package: str, *, purpose: str) -> None:
        if package == "postgresql-common":
            configuration.write_text("# Create a main cluster?\n#create_main_cluster = true\nssl = on\n", "utf-8")
        seen.append((package, configuration.read_text("utf-8")))

    monkeypatch.setattr(postgres, "_CLUSTER_CONFIGURATION", configuration)
    monkeypatch.setattr(debian, "install", install)
    postgres.install(purpose="a test")
    assert [package for package, _ in seen] == ["postgresql-common", "postgresql"]
    assert "\ncreate_main_cluster = false\nssl = on\n" in seen[1][1]


def test_what_is_not_there_is_said_with_its_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path)
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    with pytest.raises(binaries.ProgramMissingError, match=r"the tests of the PostgreSQL store: `make binaries`"):
        binaries.locate("postgres")
