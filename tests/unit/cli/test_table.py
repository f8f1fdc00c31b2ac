"""Tables, ages and the other formats look as kubectl's do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from hookstead.cli.table import Column, age, duration, show, text

COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("READY", lambda item: item.get("ready")),
    Column("HOST", lambda item: item.get("host"), wide=True),
)
ITEMS = [{"name": "acme-orders", "ready": "True", "host": "example.com"}, {"name": "b"}]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (180 * 60, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (731 * 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_read_as_in_kubectl(seconds: int, expected: str) -> None:
    assert duration(seconds) == expected


def test_an_age_never_is_negative_and_an_absent_time_is_unknown() -> None:
    now = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    assert age("2026-11-25T11:59:18Z", now=now) == "42s"
    assert age((now + timedelta(seconds=5)).isoformat(), now=now) == "0s"
    assert age(None, now=now) == "<unknown>"


def test_columns_are_aligned_and_only_wide_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    show(ITEMS, COLUMNS, output=None, name=lambda item: item["name"])
    assert capsys.readouterr().out == "NAME          READY\nacme-orders   True\nb             <none>\n"
    show(ITEMS, COLUMNS, output="wide", name=lambda item: item["name"])
    assert capsys.readouterr().out.splitlines()[1] == "acme-orders   True     example.com"


def test_names_json_and_yaml_carry_the_items(capsys: pytest.CaptureFixture[str]) -> None:
    show(ITEMS, COLUMNS, output="name", name=lambda item: f"thing/{item['name']}")
    assert capsys.readouterr().out == "thing/acme-orders\nthing/b\n"
    show(ITEMS, COLUMNS, output="json", name=str)
    assert json.loads(capsys.readouterr().out) == {"items": ITEMS}
    show(ITEMS[:1], COLUMNS, output="yaml", name=str, single=True)
    assert yaml.safe_load(capsys.readouterr().out) == ITEMS[0]


def test_nothing_found_is_said_on_stderr_and_is_an_empty_list_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show([], COLUMNS, output=None, name=str)
    assert capsys.readouterr() == ("", "No resources found\n")
    show([], COLUMNS, output="json", name=str)
    assert json.loads(capsys.readouterr().out) == {"items": []}


def test_a_receiver_cannot_steer_the_terminal() -> None:
    assert text("\x1b[2Jgone\r\n") == "�[2Jgone��"
    assert text(["a", "b"]) == "a,b"
    assert text([]) == text("") == text(None) == "<none>"
    assert text(0) == "0"
