"""Many seeds, each run twice, on every core; or one seed alone, with its whole course.

python -m simulation.campaign 0:20000          (make simulate SEEDS=0:20000)
python -m simulation.campaign 17               (make simulate SEEDS=17)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from simulation.run import Outcome, run_seed


@dataclass(slots=True)
class Tally:
    """What a number of seeds showed."""

    seeds: int = 0
    held: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


def run_twice(seed: int, *, size: float = 1.0) -> Outcome:
    """The outcome, which is also broken where the second run took another course than the first."""
    first, second = run_seed(seed, size=size), run_seed(seed, size=size)
    if first.violation is None and first.digest != second.digest:
        step = next(
            (pair for pair in zip(first.trace, second.trace, strict=False) if pair[0] != pair[1]), ("the end", "more")
        )
        return Outcome(seed, first.digest, f"two runs differ: {step[0]!r} and {step[1]!r}", first.trace, first.stats)
    return first


def again(outcome: Outcome) -> str:
    """How to run a seed alone."""
    return f"seed {outcome.seed}: {outcome.violation}\n    alone: make simulate SEEDS={outcome.seed}"


def run_all(seeds: Sequence[int], *, size: float, jobs: int) -> Iterator[Outcome]:
    with multiprocessing.Pool(jobs, maxtasksperchild=200) as pool:
        yield from pool.imap_unordered(partial(run_twice, size=size), seeds, chunksize=5)


def _seeds(text: str) -> range:
    first, colon, end = text.partition(":")
    return range(int(first), int(end)) if colon else range(int(first), int(first) + 1)


def alone(seed: int, *, size: float) -> int:
    outcome = run_twice(seed, size=size)
    print("\n".join(outcome.trace))
    print(f"seed {seed}: {outcome.violation or 'held'} ({outcome.digest[:16]})")
    return int(outcome.violation is not None)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the simulator's seeds, each twice.")
    parser.add_argument("seeds", type=_seeds, help="one seed, or first:end")
    parser.add_argument("--size", type=float, default=1.0, help="multiplies the number of actions of a life")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--json", type=Path, help="write what the seeds showed there")
    chosen = parser.parse_args(arguments)
    if len(chosen.seeds) == 1:
        return alone(chosen.seeds[0], size=chosen.size)
    tally, began = Tally(), time.monotonic()
    for outcome in run_all(chosen.seeds, size=chosen.size, jobs=chosen.jobs):
        tally.seeds += 1
        tally.held += outcome.violation is None
        tally.counts += outcome.stats
        if outcome.violation is not None:
            print(again(outcome), flush=True)
    tally.seconds = round(time.monotonic() - began, 1)
    for name, count in sorted(tally.counts.items()):
        print(f"{count:9,} {name}")
    print(f"{tally.seconds:.0f} s")
    print(f"seeds held, each run twice: {tally.held}/{tally.seeds}")
    if chosen.json is not None:
        shown = {"seeds": tally.seeds, "held": tally.held, "seconds": tally.seconds, "counts": dict(tally.counts)}
        chosen.json.write_text(json.dumps(shown, indent=2, sort_keys=True) + "\n")
    return int(tally.held != tally.seeds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
