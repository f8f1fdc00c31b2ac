"""docs/promises.md: every promise, what would notice if it broke, and the figures of the last runs.

python tests/simulation/promises.py collect      (make promises) runs everything; writes docs/promises.json
python tests/simulation/promises.py collect --tests PATH…  runs only these, and keeps all other figures
python tests/simulation/promises.py write OUT    writes the page from those figures, here into OUT
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

TOP: Final = Path(__file__).resolve().parents[2]
TEXTS: Final = Path(__file__).with_name("promises.toml")
FIGURES: Final = TOP / "docs" / "promises.json"
OWN_TESTS: Final = "tests/simulation"
LENGTHS: Final = {"FAULT_CYCLES": "50", "FAULT_SECONDS": "600"}
"""Of the faults, as in `make nightly`."""


@dataclass(slots=True)
class Figures:
    """`tests`: by file, [passed, run]. `tallies`: what tests counted, [some, of all]."""

    tests: dict[str, list[int]] = field(default_factory=dict)
    tallies: dict[str, list[int]] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------------- collect


def again(paths: Sequence[str]) -> dict[str, Any]:
    """The figures that are kept, those of these tests anew."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        found = _tests(Path(folder) / "junit.xml", paths)
    figures["tests"] |= found.tests
    figures["tallies"] |= found.tallies
    return figures


def collect(*, seeds: str, tests: bool) -> dict[str, Any]:
    """Run the simulator's seeds and all tests that a promise names; without `tests` those figures stay as they are."""
    with tempfile.TemporaryDirectory() as folder:
        simulated = _campaign(Path(folder) / "campaign.json", seeds=seeds)
        found = _tests(Path(folder) / "junit.xml", _paths()) if tests else _kept()
    return {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python "
        f"{platform.python_version()}",
        "simulator": simulated,
        "seeds": seeds,
        "tallies": found.tallies,
        "tests": found.tests,
    }


def _kept() -> Figures:
    before = json.loads(FIGURES.read_text(encoding="utf-8"))
    return Figures(before["tests"], before["tallies"])


def _paths() -> list[str]:
    paths = sorted({path for promise in _promises() for path in promise["tests"]} | {OWN_TESTS})
    return [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]


def _tests(report: Path, paths: Sequence[str]) -> Figures:
    command = [
        "-m",
        "pytest",
        "-q",
        "--numprocesses",
        "auto",
        "--dist",
        "loadgroup",
        f"--junitxml={report}",
        *paths,
    ]
    subprocess.run(
        [sys.executable, *command], cwd=TOP, env=os.environ | LENGTHS, check=False
    )  # a test that fails is a figure, too
    found = Figures()
    for case in ElementTree.parse(report).iter("testcase"):
        _count(case, found)
    return found


def _count(case: ElementTree.Element, found: Figures) -> None:
    """One test of a JUnit report. The file is the part of the class name that exists."""
    parts = case.get("classname", "").split(".")
    while parts and not (TOP / "/".join(parts)).with_suffix(".py").is_file():
        parts.pop()
    if case.find("skipped") is not None or not parts:
        return
    passed = case.find("failure") is None and case.find("error") is None
    row = found.tests.setdefault("/".join(parts) + ".py", [0, 0])
    row[0] += passed
    row[1] += 1
    for one in case.iter("property"):
        if one.get("name") == "tally":
            what, some, all_ = ast.literal_eval(one.get("value", ""))
            tally = found.tallies.setdefault(what, [0, 0])
            tally[0] += some
            tally[1] += all_


def _campaign(report: Path, *, seeds: str) -> Any:
    paths = os.pathsep.join(str(TOP / part) for part in ("controller", "tests"))
    subprocess.run(
        [sys.executable, "-m", "simulation.campaign", seeds, "--json", str(report)],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    return json.loads(report.read_text())


# ----------------------------------------------------------------------------------------------------------- write


def page(figures: Mapping[str, Any]) -> str:
    """The whole page; the same figures give the same text."""
    simulator = figures["simulator"]
    crashes = sum(count for name, count in simulator["counts"].items() if name.startswith("crash "))
    lines = [
        "# What is promised, and what would notice",
        "",
        "Generated by `make promises` from the runs themselves (`docs/promises.json`); nothing here is typed. A",
        "figure is what held, of what was tried. The sentences are the contract's.",
        "",
        f"The machine: {figures['machine']}.",
        "",
        "| promise | how it is tested | with | held |",
        "| --- | --- | --- | --- |",
        *(_row(promise, figures) for promise in _promises()),
        "",
        "## The simulator",
        "",
        "The production engine over the production store, on a virtual clock and a disk that forgets what was not",
        "synced; receivers that answer well, badly, late or never; people who publish, edit, resume, redeliver, test",
        "and erase. Every seed runs twice and must take the same course. `make simulate SEEDS=0:20000` runs more,",
        "`SEEDS=17` one in full; `make mutants` puts known bugs into the engine and the store, one by one, and must",
        "notice each.",
        "",
        "| figure | |",
        "| --- | --- |",
        f"| seeds held, each run twice | {_of(simulator['held'], simulator['seeds'])} |",
        *(f"| {what} | {_of(some, all_)} |" for what, (some, all_) in sorted(figures["tallies"].items())
          if what != "seeds held, each run twice"),
        f"| power failures | {crashes:,} |",
        *(f"| {_title(name)} | {count:,} |" for name, count in sorted(simulator["counts"].items())),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(promise: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    held = [_held(path, figures["tests"]) for path in promise["tests"]]
    commands = [f'`make test ARGS="{" ".join(promise["tests"])}"`']
    figure = f"{_of(sum(some for some, _ in held), sum(all_ for _, all_ in held))} tests"
    if promise.get("simulated"):
        commands.append("`make simulate`")
        figure += f", {_of(figures['simulator']['held'], figures['simulator']['seeds'])} seeds"
    return f"| {promise['says']} | {promise['how']} | {', '.join(commands)} | {figure} |"


def _held(path: str, tests: Mapping[str, Sequence[int]]) -> tuple[int, int]:
    rows = [row for name, row in tests.items() if name == path or name.startswith(f"{path}/")]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)


def _of(some: int, all_: int) -> str:
    return f"{some:,}/{all_:,}"


def _title(name: str) -> str:
    if not name.startswith("crash "):
        return f"{name.replace('_', ' ')} (count)"
    return f"power failures: {name.removeprefix('crash ').lower().replace('_', ' ')}"


def _promises() -> Iterator[Mapping[str, Any]]:
    yield from tomllib.loads(TEXTS.read_text(encoding="utf-8"))["promise"]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Every promise with the figures of its tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect", help="run everything and keep the figures")
    collecting.add_argument("--seeds", default="0:5000")
    collecting.add_argument("--seeds-only", action="store_true", help="keep the figures of the tests")
    collecting.add_argument("--tests", nargs="+", metavar="PATH", help="run these alone, keep all other figures")
    writing = commands.add_parser("write", help="write the page from the figures that were kept")
    writing.add_argument("out", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.command == "write":
        chosen.out.write_text(page(json.loads(FIGURES.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    figures = again(chosen.tests) if chosen.tests else collect(seeds=chosen.seeds, tests=not chosen.seeds_only)
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (TOP / "docs" / "promises.md").write_text(page(figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
