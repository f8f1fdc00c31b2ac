"""Files as kubectl reads them."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.resources.manifests import Manifest, Unreadable, read_manifests

CHANNEL = """\
apiVersion: hookstead.dev/v1alpha1
kind: WebhookChannel
metadata:
  name: client-acme
spec:
  channelName: client_1
"""


def read(content: str | bytes) -> list[Manifest | Unreadable]:
    return read_manifests(content, source="f.yaml")


def objects(content: str | bytes) -> list[dict[str, Any]]:
    found = read(content)
    assert all(isinstance(item, Manifest) for item in found), found
    return [item.obj for item in found if isinstance(item, Manifest)]


def complaint(content: str | bytes) -> str:
    (found,) = read(content)
    assert isinstance(found, Unreadable)
    return str(found)


@pytest.mark.parametrize("separator", ["---\n", "--- # a comment\n", "---   \n", "---\r\n"])
def test_documents_are_separated_by_dashes_on_a_line(separator: str) -> None:
    found = read(CHANNEL + separator + CHANNEL)
    assert [item.line for item in found if isinstance(item, Manifest)] == [1, 8]


def test_dashes_within_a_block_are_text() -> None:
    (obj,) = objects("kind: Example\ntext: |\n  ---\n  x\n---\n")
    assert obj["text"] == "---\nx\n"


@pytest.mark.parametrize("content", ["", "\n", "---\n---\n", "# only a comment\n", "null\n", b"", "\ufeff"])
def test_empty_documents_are_left_out(content: str) -> None:
    assert read(content) == []


def test_a_list_is_taken_apart_with_the_lines_of_its_items() -> None:
    items = "".join(f"- kind: Example\n  metadata: {{name: x{number}}}\n" for number in range(2))
    found = read(f"apiVersion: v1\nkind: List\nitems:\n{items}")
    assert [(item.line, item.obj["metadata"]["name"]) for item in found if isinstance(item, Manifest)] == [
        (4, "x0"),
        (6, "x1"),
    ]


def test_a_list_of_one_kind_is_taken_apart_too() -> None:
    assert [obj["kind"] for obj in objects("kind: WebhookChannelList\nitems:\n- kind: WebhookChannel\n")] == [
        "WebhookChannel"
    ]


def test_json_is_read_as_well() -> None:
    assert objects('{"kind": "Example", "value": [1, 1.0, null, "\\u00e9"]}') == [
        {"kind": "Example", "value": [1, 1, None, "é"]}
    ]


def test_keys_become_strings_as_kubectl_makes_them() -> None:
    (obj,) = objects('kind: Example\nkeys: {y: 1, no: 2, 0x10: 3, 1.5: 4, "y": 5, 2026-01-01: 6}\n')
    assert obj["keys"] == {"true": 1, "false": 2, "16": 3, "1.5": 4, "y": 5, "2026-01-01": 6}


def test_anchors_aliases_and_merge_keys_are_expanded() -> None:
    (obj,) = objects("kind: Example\na: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}\nf: {c: 4, <<: [*x, {g: 5}]}\n")
    assert obj == {
        "kind": "Example",
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 1, "c": 3},
        "f": {"b": 1, "c": 4, "g": 5},
    }
    obj["d"]["b"] = 9
    assert obj["a"]["b"] == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("kind: Example\n\tb: 1\n", "f.yaml:2:1: is not YAML: "),
        ("kind: [a\n", "f.yaml:2:1: is not YAML: "),
        ("hello\n", "f.yaml:1:1: must be an object with apiVersion, kind and metadata"),
        ("- kind: Example\n", "f.yaml:1:1: must be an object with apiVersion, kind and metadata"),
        ("a: 1\n", "f.yaml:1:1: kind: is required"),
        ("kind: 5\n", "f.yaml:1:1: kind: is required"),
        ("kind: Example\na: 1\nb: 2\na: 3\n", 'f.yaml:4:1: has the key "a" twice, first on line 2'),
        ('kind: Example\n"1": 1\n1: 2\n', 'f.yaml:3:1: has the key "1" twice, first on line 2'),
        ("kind: Example\n? [a]\n: 1\n", "f.yaml:2:3: must have a string as key"),
        ("kind: Example\n~: 1\n", "f.yaml:2:1: must have a string as key"),
        ("kind: Example\na: *x\n", "f.yaml:2:4: refers to *x, which is not defined before it"),
        ("kind: Example\na: &x [*x]\n", "f.yaml:2:8: refers to *x within itself"),
        ("kind: Example\n...\nkind: Example\n", "f.yaml:3:1: is not YAML: "),
        ('kind: Example\na: "\\ud800"\n', "f.yaml:2:7: is not YAML: "),
        ("kind: Example\na: \x01\n", "f.yaml:2:4: is not YAML: control characters are not allowed"),
        (b"kind: Example\na: \xff\n", "f.yaml:2:1: is not UTF-8"),
        ("kind: Example\n".encode("utf-16"), "f.yaml:1:1: is not UTF-8"),
        ("kind: List\nitems: 5\n", "f.yaml:2:8: items: must be a list of objects"),
        ("kind: List\nitems: {a: 1}\n", "f.yaml:2:8: items: must be a list of objects"),
        ("kind: List\nitems: [5]\n", "f.yaml:2:9: must be an object"),
        ("kind: List\nitems: [{kind: List, items: []}]\n", "f.yaml:2:9: must not be a List within a List"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(content: str | bytes, expected: str) -> None:
    assert complaint(content).startswith(expected)


def test_one_broken_document_leaves_the_others() -> None:
    first, second, third = read(CHANNEL + "---\na: [\n---\n" + CHANNEL)
    assert isinstance(first, Manifest)
    assert str(second).startswith("f.yaml:9:1: is not YAML: ")
    assert isinstance(third, Manifest)
    assert third.line == 10


def test_an_alias_bomb_is_refused() -> None:
    lines = ["kind: Example", "a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "must have at most 500000 values, aliases expanded" in complaint("\n".join(lines))


@pytest.mark.parametrize("nested", ["[" * 300 + "]" * 300, "[" * 50_000, "{a: " * 300 + "1" + "}" * 300])
def test_deep_nesting_is_refused(nested: str) -> None:
    assert "deep" in complaint(f"kind: Example\na: {nested}\n") or "nesting" in complaint(f"kind: Example\na: {nested}")


def test_compact_nesting_is_refused() -> None:
    assert "must nest at most 200 deep" in complaint("kind: Example\na:\n" + "- " * 20_000 + "x\n")


PLACES = """\
# a comment
---
kind: WebhookEndpoint
metadata:
  {name: acme, labels: {a.b/c: d}}
spec:
  channelRefs:
    - name: a
    - name: b
"""


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", "f.yaml:3:1"),
        ("spec", "f.yaml:7:3"),
        ("spec.channelRefs", "f.yaml:8:5"),
        ("spec.channelRefs[1]", "f.yaml:9:7"),
        ("spec.channelRefs[1].name", "f.yaml:9:13"),
        ('metadata.labels["a.b/c"]', "f.yaml:5:32"),
        ("spec.channelRefs[7].name", "f.yaml:8:5"),
        ("spec.missing.below", "f.yaml:7:3"),
    ],
)
def test_a_field_has_the_place_of_its_value_or_of_what_is_around_it(field: str, expected: str) -> None:
    (manifest,) = read(PLACES)
    assert isinstance(manifest, Manifest)
    assert str(manifest.position(field)) == expected
