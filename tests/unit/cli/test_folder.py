"""A folder of manifests over time: what counts as a change, what a broken file leaves in force."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hookstead.cli.folder import ManifestFolder
from hookstead.cli.manifests import read_objects
from hookstead.cli.state_folder import StateFolder

if TYPE_CHECKING:
    from pathlib import Path


def channel(name: str, namespace: str = "") -> str:
    where = f", namespace: {namespace}" if namespace else ""
    return f"apiVersion: hookstead.dev/v1alpha1\nkind: WebhookChannel\nmetadata: {{name: {name}{where}}}\nspec: {{}}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


def opened(path: Path) -> ManifestFolder:
    state = StateFolder(path.parent / "state")
    state.create()
    return ManifestFolder(path, namespace="default", state=state, read_text=read_objects)


def names(folder: ManifestFolder) -> list[str]:
    return [raw["metadata"]["name"] for raw in folder.contents().objects]


def write(path: Path, name: str, text: str, *, at: int) -> None:
    """Write with a time of our own, so that a second write within one tick of the clock differs."""
    (path / name).write_text(text)
    os.utime(path / name, ns=(at, at))


def test_a_change_counts_once_two_looks_agree(path: Path) -> None:
    write(path, "a.yaml", channel("a"), at=1)
    folder = opened(path)
    assert names(folder) == ["a"]
    assert not folder.settled_change()
    write(path, "a.yaml", channel("b"), at=2)
    assert not folder.settled_change()
    write(path, "a.yaml", channel("c"), at=3)
    assert not folder.settled_change()
    assert folder.settled_change()
    assert names(folder) == ["c"]
    assert not folder.settled_change()


def test_objects_come_in_the_order_of_paths_then_of_documents(path: Path) -> None:
    write(path, "b.yaml", channel("b1") + "---\n" + channel("b2"), at=1)
    write(path, "a.yaml", channel("z"), at=2)
    assert names(opened(path)) == ["z", "b1", "b2"]


def test_a_broken_file_keeps_what_it_held_until_it_is_mended_or_deleted(path: Path) -> None:
    write(path, "a.yaml", channel("a"), at=1)
    write(path, "b.yaml", channel("b"), at=1)
    folder = opened(path)
    assert names(folder) == ["a", "b"]
    write(path, "a.yaml", "a: [", at=2)
    contents = folder.contents()
    assert [raw["metadata"]["name"] for raw in contents.objects] == ["a", "b"]
    (trouble,) = contents.troubles
    assert trouble.startswith(f"{path / 'a.yaml'}:")
    assert trouble.endswith("Its last readable version is used further (1 objects).")
    assert names(opened(path)) == ["a", "b"]  # another process
    write(path, "a.yaml", channel("c"), at=3)
    assert names(folder) == ["c", "b"]
    assert folder.contents().troubles == ()
    write(path, "a.yaml", "a: [", at=4)
    (path / "a.yaml").unlink()
    assert names(folder) == ["b"]
    assert folder.contents().troubles == ()


def test_a_file_that_never_was_readable_gives_nothing_and_says_so(path: Path) -> None:
    write(path, "a.yaml", "a: [", at=1)
    contents = opened(path).contents()
    assert contents.objects == ()
    assert contents.troubles[0].endswith("It never was readable, so nothing of it is used.")


def test_objects_of_other_namespaces_are_left_out_and_named(path: Path) -> None:
    write(path, "a.yaml", "---\n".join([channel("a"), channel("b", "prod"), channel("c", "default")]), at=1)
    write(path, "b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: other}\n", at=1)
    contents = opened(path).contents()
    assert [raw["metadata"]["name"] for raw in contents.objects] == ["a", "c"]
    assert contents.foreign == {"prod"}


def test_a_folder_that_vanishes_deletes_nothing(path: Path) -> None:
    write(path, "a.yaml", channel("a"), at=1)
    folder = opened(path)
    assert names(folder) == ["a"]
    path.rename(path.parent / "elsewhere")
    folder.settled_change()
    assert folder.settled_change()
    contents = folder.contents()
    assert [raw["metadata"]["name"] for raw in contents.objects] == ["a"]
    assert "the folder cannot be read" in contents.troubles[0]
    (path.parent / "elsewhere").rename(path)
    folder.settled_change()
    assert folder.settled_change()
    assert folder.contents().troubles == ()


def test_a_mistyped_kind_is_no_deletion(path: Path) -> None:
    write(path, "a.yaml", channel("a"), at=1)
    folder = opened(path)
    assert names(folder) == ["a"]
    write(path, "a.yaml", channel("a").replace("WebhookChannel", "WebhookChanel"), at=2)
    contents = folder.contents()
    assert [raw["metadata"]["name"] for raw in contents.objects] == ["a"]
    (trouble,) = contents.troubles
    assert "hookstead.dev has no kind 'WebhookChanel' (did you mean \"WebhookChannel\"?)" in trouble
    assert "Its last readable version is used further (1 objects)." in trouble
