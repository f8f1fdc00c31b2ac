"""Flags and their variables: which source counts, and what a person reads when a value is wrong."""

from __future__ import annotations

import pytest

from hookstead.cli.flags import (
    Argument,
    Arity,
    Command,
    Flag,
    UsageError,
    address,
    boolean,
    bounded,
    namespace,
    parse,
    whole,
)

COMMAND = Command(
    prog="hookstead probe",
    summary="A command for tests.",
    arguments=(Argument(name="DIR", help="a folder", nargs="?"),),
    flags=(
        Flag(
            name="drain-seconds",
            default=25,
            parse=whole(minimum=0, maximum=3600, unit="seconds"),
            help="a wait",
        ),
        Flag(name="gateway", arity=Arity.MANY, default=(), help="a URL"),
        Flag(name="leader-elect", arity=Arity.SWITCH, default=False, help="elect a leader"),
        Flag(name="output", short="o", choices=("json", "yaml"), help="a format"),
    ),
)


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ([], {}, 25),
        ([], {"HOOKSTEAD_DRAIN_SECONDS": ""}, 25),
        ([], {"HOOKSTEAD_DRAIN_SECONDS": "7"}, 7),
        (["--drain-seconds", "3"], {}, 3),
        (["--drain-seconds=3"], {"HOOKSTEAD_DRAIN_SECONDS": "7"}, 3),
        (["--drain-seconds=3"], {"HOOKSTEAD_DRAIN_SECONDS": "never looked at"}, 3),
        (["--drain-seconds", "0"], {"HOOKSTEAD_DRAIN_SECONDS": "7"}, 0),
    ],
)
def test_the_command_line_wins_over_the_variable_and_the_variable_over_the_default(
    argv: list[str], environ: dict[str, str], expected: int
) -> None:
    assert parse(COMMAND, argv, environ).drain_seconds == expected


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ([], {}, ()),
        (["--gateway", "a", "--gateway", "b"], {}, ("a", "b")),
        ([], {"HOOKSTEAD_GATEWAY": "a, b,,c"}, ("a", "b", "c")),
        (["--gateway", "a"], {"HOOKSTEAD_GATEWAY": "b"}, ("a",)),
    ],
)
def test_a_repeated_flag_is_a_list_and_its_variable_is_separated_by_commas(
    argv: list[str], environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert parse(COMMAND, argv, environ).gateway == expected


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        ([], {}, False),
        (["--leader-elect"], {}, True),
        ([], {"HOOKSTEAD_LEADER_ELECT": "true"}, True),
        ([], {"HOOKSTEAD_LEADER_ELECT": "0"}, False),
        (["--no-leader-elect"], {"HOOKSTEAD_LEADER_ELECT": "true"}, False),
    ],
)
def test_a_switch_can_be_turned_on_and_off_from_both_sides(
    argv: list[str], environ: dict[str, str], expected: bool
) -> None:
    assert parse(COMMAND, argv, environ).leader_elect is expected


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (
            ["--drain-seconds", "soon"],
            {},
            "--drain-seconds: 'soon' is not a whole number of seconds from 0 to 3600",
        ),
        (
            ["--drain-seconds", "9999"],
            {},
            "--drain-seconds: '9999' is not a whole number of seconds from 0 to 3600",
        ),
        (
            [],
            {"HOOKSTEAD_DRAIN_SECONDS": "-1"},
            "HOOKSTEAD_DRAIN_SECONDS: '-1' is not a whole number of seconds",
        ),
        (
            [],
            {"HOOKSTEAD_LEADER_ELECT": "maybe"},
            "HOOKSTEAD_LEADER_ELECT: 'maybe' is neither true nor false",
        ),
        ([], {"HOOKSTEAD_OUTPUT": "xml"}, "HOOKSTEAD_OUTPUT: 'xml' is not one of json, yaml"),
        (["-o", "xml"], {}, "--output: 'xml' is not one of json, yaml"),
        (["--drain", "3"], {}, "unrecognized arguments: --drain"),
        (["a", "b"], {}, "unrecognized arguments: b"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_its_source(
    argv: list[str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(COMMAND, argv, environ)
    assert message in str(caught.value)
    assert "See 'hookstead probe --help'." in str(caught.value)


def test_help_tells_the_default_and_the_variable_of_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(COMMAND, ["--help"], {})
    assert end.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "a wait (default 25; HOOKSTEAD_DRAIN_SECONDS)" in printed
    assert "a URL (may be repeated; HOOKSTEAD_GATEWAY)" in printed
    assert "elect a leader (default false; HOOKSTEAD_LEADER_ELECT)" in printed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":9090", ("", 9090)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "8080", "::1:8080", "127.0.0.1:", "127.0.0.1:65536", "h:-1", "h:８０"])
def test_a_wrong_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        address(text)


@pytest.mark.parametrize("text", ["", "Prod", "-a", "a-", "a_b", "a.b", "x" * 64, "ä"])
def test_a_wrong_namespace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a namespace"):
        namespace(text)


def test_numbers_and_booleans_are_plain() -> None:
    assert [boolean(text) for text in ("true", "YES", "1", "on", "False", "no", "0", "off")] == [True] * 4 + [False] * 4
    assert bounded(minimum=0.1, maximum=5, unit="seconds")("0.5") == 0.5
    for text in ("nan", "inf", "1e1", "٣", "6", ".", ""):
        with pytest.raises(ValueError, match="is not a number of seconds"):
            bounded(minimum=0.1, maximum=5, unit="seconds")(text)
