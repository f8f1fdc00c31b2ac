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
