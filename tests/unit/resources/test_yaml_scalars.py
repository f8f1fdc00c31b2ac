"""Scalars as kubectl 1.32 reads them: measured with `kubectl create --dry-run=client -o json`."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.resources.manifests import Manifest, Unreadable, read_manifests
from hookstead.resources.yaml_scalars import surprise

READ: dict[str, Any] = {
    "y": True,
    "n": False,
    "yes": True,
    "no": False,
    "on": True,
    "off": False,
    "Y": True,
    "N": False,
    "YES": True,
    "Yes": True,
    "NO": False,
    "No": False,
    "ON": True,
    "On": True,
    "OFF": False,
    "Off": False,
    "true": True,
    "True": True,
    "TRUE": True,
    "tRue": "tRue",
    "false": False,
    "False": False,
    "FALSE": False,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "nULL": "nULL",
    '""': "",
    "0777": 511,
    "0o17": 15,
    "0O17": 15,
    "0x1F": 31,
    "0X1f": 31,
    "0b101": 5,
    "0B1": 1,
    "1_000": 1000,
    "1e3": 1000,
    "1.0": 1,
    ".5": 0.5,
    "5.": 5,
    "+1": 1,
    "-0": 0,
    "0.0": 0,
    "-0.0": 0,
    "12:30:45": "12:30:45",
    "2026-01-01": "2026-01-01",
    "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z",
    "2001-12-14 21:59:43.10 -5": "2001-12-14 21:59:43.10 -5",
    "!!str 1": "1",
    "!!str yes": "yes",
    "!!binary aGVsbG8=": "hello",
    "!!float 1": 1,
    '!!int "3"': 3,
    "!!bool yes": True,
    "=": "=",
    "0.1e1": 1,
    "1__0": 10,
    "0_7": 7,
    "08": 8,
    "09": 9,
    "+0x1": 1,
    "-0x1": -1,
    "0x": "0x",
    "1E5": 100000,
    "1.e3": 1000,
    "-.5": -0.5,
    "+.5": 0.5,
    "9223372036854775807": 9223372036854775807,
    "9223372036854775808": 9.223372036854776e18,
    "18446744073709551615": 1.8446744073709552e19,
    "18446744073709551616": 1.8446744073709552e19,
    "-9223372036854775808": -9223372036854775808,
    "-9223372036854775809": -9.223372036854776e18,
    "1e-400": 0,
    "1e21": 1e21,
    "1e20": 1e20,
    "1e400": "1e400",
    "123456789.123456789": 123456789.12345679,
    "1.10": 1.1,
    "_1": "_1",
    "1_": 1,
    "0_": 0,
    "_": "_",
    "0.": 0,
    "1e": "1e",
    "e1": "e1",
    "0xg": "0xg",
    "1.5e3": 1500,
    "1_0.5": 10.5,
    "0b12": "0b12",
    "-0b11": -3,
    "0o8": "0o8",
    "-0o17": -15,
    "+12e03": 12000,
    "685_230.15": 685230.15,
    "190:20:30.15": "190:20:30.15",
    "0.30000000000000004": 0.30000000000000004,
    "100000000000000000000": 1e20,
    "!foo bar": "bar",
    "!!timestamp 2026-01-01": "2026-01-01",
    "0777.5": 777.5,
    "1.2.3": "1.2.3",
    "+": "+",
    ".": ".",
    "._1": "._1",
    ".1_": ".1_",
    '"y"': "y",
    "'no'": "no",
    "<<": "<<",
    "0x_1": 1,
    "-0777": -511,
    "+0777": 511,
    "-08": -8,
    "1e5_0": 1e50,
    "1_e5": 100000,
    "1,000": "1,000",
    "NaN": "NaN",
    "inf": "inf",
    "Inf": "Inf",
    "nan": "nan",
}
REFUSED = (
    ".inf",
    ".nan",
    ".Inf",
    "-.inf",
    "!!null x",
    "!!int 1.5",
    "!!int x",
    "!!bool x",
    "!!float x",
    ".NaN",
    ".NAN",
    ".INF",
    "+.inf",
    "+.Inf",
)


def read(scalar: str) -> Any:
    (found,) = read_manifests(f"kind: Example\nvalue: {scalar}\n", source="f.yaml")
    return found if isinstance(found, Unreadable) else found.obj["value"]


@pytest.mark.parametrize(("scalar", "expected"), READ.items())
def test_a_scalar_is_read_as_kubectl_reads_it(scalar: str, expected: Any) -> None:
    value = read(scalar)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("scalar", REFUSED)
def test_a_scalar_that_kubectl_refuses_is_refused_at_its_place(scalar: str) -> None:
    found = read(scalar)
    assert isinstance(found, Unreadable)
    assert str(found).startswith("f.yaml:2:8: must be ")


@pytest.mark.parametrize("scalar", ['"y"', "'no'", "!!str yes", '"0777"', "|-\n  on"])
def test_quotes_and_tags_keep_words_as_they_are(scalar: str) -> None:
    assert isinstance(read(scalar), str)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("no", False, "no is read as false: put it in quotes, or write false"),
        ("y", True, "y is read as true: put it in quotes, or write true"),
        ("0777", 511, "0777 is read as 511: put it in quotes, or write 511"),
        (
            "18446744073709551615",
            1.8446744073709552e19,
            (
                "18446744073709551615 is more than the API server can hold and becomes 1.8446744073709552e+19: "
                "put it in quotes"
            ),
        ),
        ("true", True, None),
        ("FALSE", False, None),
        ("0", 0, None),
        ("10", 10, None),
        ("yes", "yes", None),
        ("1e20", 1e20, None),
    ],
)
def test_what_reads_otherwise_than_it_looks_is_told(text: str, value: Any, expected: str | None) -> None:
    assert surprise(text, value) == expected


def test_notes_carry_the_place_and_the_field() -> None:
    content = "kind: Example\nspec:\n  on: x\n  country: no\n  list: [a, y]\n"
    (found,) = read_manifests(content, source="f.yaml")
    assert isinstance(found, Manifest)
    assert [(str(note.position), note.field, note.message) for note in found.notes()] == [
        ("f.yaml:3:3", "spec", "the key on is read as true: put it in quotes, or write true"),
        ("f.yaml:4:12", "spec.country", "no is read as false: put it in quotes, or write false"),
        ("f.yaml:5:13", "spec.list[1]", "y is read as true: put it in quotes, or write true"),
    ]
    assert found.obj["spec"] == {"true": "x", "country": False, "list": ["a", True]}
