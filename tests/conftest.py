"""What holds for every test: no skips where HOOKSTEAD_REQUIRE_ALL=1 (CI), no verdict that hangs on the clock."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["pytester"]

# Tests never assert on time: a busy machine must not fail a law.
settings.register_profile("hookstead", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hookstead")

AnyReport = TypeVar("AnyReport", pytest.TestReport, pytest.CollectReport)


def demanded(report: AnyReport) -> AnyReport:
    """The report with a skip turned into a failure where all is required; an expected failure stays."""
    if os.environ.get("HOOKSTEAD_REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"HOOKSTEAD_REQUIRE_ALL=1 allows no skipped test: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips."""
    return demanded((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips while it is imported."""
    return demanded((yield))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests put down as a property `tally`, [what, how many, of how many], summed over all workers."""
    tallies: dict[str, list[int]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "tally":
                    what, some, all_ = value
                    before = tallies.setdefault(what, [0, 0])
                    tallies[what] = [before[0] + some, before[1] + all_]
    for what, (some, all_) in sorted(tallies.items()):
        terminalreporter.write_line(f"{what}: {some}/{all_}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the xdist group behind a test's id, which is how xdist's scheduler is told of it.

    xdist 3.8 does it itself, in an attribute that pytest 9.2 no longer looks at: groups fell apart without a word, and
    every worker started servers of its own.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        marker = item.get_closest_marker("xdist_group")
        if marker is not None and "@" not in item.nodeid.rpartition("]")[2] and hasattr(item, "_id"):
            item._id = type(item._id).parse(f"{item.nodeid}@{marker.args[0]}")
