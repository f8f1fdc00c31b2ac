"""HOOKSTEAD_REQUIRE_ALL=1 leaves no way to skip."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SKIPS = {
    "a skip in the body": "import pytest\ndef test_it(): pytest.skip('no strace')",
    "a skip mark": "import pytest\n@pytest.mark.skip(reason='no strace')\ndef test_it(): pass",
    "a condition": "import pytest\n@pytest.mark.skipif(True, reason='no strace')\ndef test_it(): pass",
    "a fixture": ("import pytest\n@pytest.fixture\ndef tool(): pytest.skip('absent')\ndef test_it(tool): pass"),
    "a missing import": "import pytest\npytest.importorskip('strace_', reason='absent')\ndef test_it(): pass",
    "a table without rows": ("import pytest\n@pytest.mark.parametrize('row', [])\ndef test_it(row): pass  # no strace"),
}


def outcomes(pytester: pytest.Pytester, source: str, *, workers: int = 0) -> tuple[int, dict[str, int], str]:
    """Exit code, counts and output of pytest in a folder with our conftest and one test module."""
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(source)
    # A run inside a run: the plugins that this suite needs would only warn about settings it does not have.
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:hypothesispytest", f"-n{workers}")
    return int(result.ret), result.parseoutcomes(), result.stdout.str()


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS.keys())
def test_where_all_is_required_a_skip_fails_the_run(
    source: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKSTEAD_REQUIRE_ALL", "1")
    code, counts, output = outcomes(pytester, source)
    assert code != 0
    assert "skipped" not in counts
    assert counts.keys() & {"failed", "error", "errors"}
    assert "HOOKSTEAD_REQUIRE_ALL=1 allows no skipped test: " in output


def test_it_holds_in_xdist_workers_too(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKSTEAD_REQUIRE_ALL", "1")
    code, counts, _ = outcomes(pytester, SKIPS["a skip in the body"], workers=1)
    assert (code, counts) == (1, {"failed": 1})


def test_an_expected_failure_is_no_skip(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKSTEAD_REQUIRE_ALL", "1")
    source = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it(): raise AssertionError"
    assert outcomes(pytester, source)[:2] == (0, {"xfailed": 1})


def test_elsewhere_a_skip_stays_a_skip(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKSTEAD_REQUIRE_ALL", raising=False)
    assert outcomes(pytester, SKIPS["a skip in the body"])[:2] == (0, {"skipped": 1})
