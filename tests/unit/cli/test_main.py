"""`hookstead` itself: commands, version, help, exit codes, and what a command does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hookstead import __version__
from hookstead.cli import kubectl_hooks
from hookstead.cli.main import MODULES, main

CRDS = Path(__file__).parents[3] / "crds"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "a command is required: one of dev, validate, plan, catalog, operator, store, gateway"),
        (["plam"], 2, "unknown command 'plam'"),
        (["--verbose"], 2, "unknown command '--verbose'"),
        (["validate"], 2, "the following arguments are required: PATH"),
    ],
)
def test_usage_errors_exit_2_on_stderr(
    argv: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "--help'." in err


def test_version_and_help_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hookstead {__version__}\n"
    assert kubectl_hooks.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kubectl hooks {__version__}\n"
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in MODULES:
        assert f"\n  {command} " in listed


@pytest.mark.parametrize("command", list(MODULES))
def test_every_command_has_help_that_tells_defaults_and_variables(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: hookstead {command}")
    assert "HOOKSTEAD_" in printed


@pytest.mark.parametrize("command", list(kubectl_hooks.MODULES))
def test_every_command_of_the_plugin_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kubectl_hooks.main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: kubectl hooks {command}")


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        (
            "from hookstead.cli.main import main; main(['validate', {crds!r}])",
            {"kopf", "kubernetes", "aiohttp", "uvloop"},
        ),
        ("import hookstead.cli.kubectl_hooks", {"kopf", "kubernetes", "aiohttp", "yaml"}),
        ("import hookstead.cli.dev, hookstead.gateway.process", {"kopf", "kubernetes"}),
        ("import hookstead.cli.gateway, hookstead.gateway.process", {"kopf", "kubernetes"}),
    ],
)
def test_a_program_imports_only_what_it_needs(program: str, unwanted: set[str]) -> None:
    look = f"import sys; print(','.join(sorted({unwanted!r} & set(sys.modules))))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{program.format(crds=str(CRDS))}\n{look}"], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] == ""
