"""Which files a folder of manifests has, and when they changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hookstead.cli.scan import read, stamps

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path, text: str = "a: 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_yaml_and_yml_files_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "sub/c.yaml", "sub.yaml", "z/y/x.yaml"):
        _write(tmp_path / name)
    assert list(stamps(tmp_path)) == ["a.yaml", "b.yml", "sub/c.yaml", "sub.yaml", "z/y/x.yaml"]


def test_hidden_files_other_suffixes_and_the_state_folder_are_left_out(tmp_path: Path) -> None:
    for name in (
        ".hidden.yaml",
        ".git/a.yaml",
        "notes.md",
        "a.json",
        "kustomization.yaml",
        "state/a.yaml",
        "kept/a.yaml",
    ):
        _write(tmp_path / name)
    assert list(stamps(tmp_path, without=tmp_path / "state")) == ["kept/a.yaml"]


def test_a_write_a_replacement_and_a_deletion_change_the_stamps(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.yaml")
    first = stamps(tmp_path)
    assert stamps(tmp_path) == first
    _write(file, "a: 22\n")
    second = stamps(tmp_path)
    assert second != first
    other = _write(tmp_path / "new", "a: 33\n")
    os.utime(other, ns=(second["a.yaml"].modified_ns, second["a.yaml"].modified_ns))
    other.replace(file)
    assert stamps(tmp_path) != second
    file.unlink()
    assert stamps(tmp_path) == {}


def test_links_are_followed_and_circles_and_dangling_ones_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    _write(folder / "a.yaml")
    _write(tmp_path / "elsewhere" / "b.yaml")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "gone.yaml").symlink_to(tmp_path / "nothing")
    assert list(stamps(folder)) == ["a.yaml", "linked/b.yaml"]
    (folder / "circle").symlink_to(folder)
    assert list(stamps(folder)) == ["a.yaml", "linked/b.yaml"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        stamps(tmp_path / "nothing")


def test_text_is_utf_8_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: \xc3\xbc\n")
    assert read(tmp_path / "a.yaml") == "a: ü\n"
    (tmp_path / "b.yaml").write_bytes(b"a: \xfc\n")
    with pytest.raises(ValueError, match="not UTF-8: byte 3 is 0xfc"):
        read(tmp_path / "b.yaml")
    with pytest.raises(ValueError, match="no regular file"):
        read(tmp_path)
