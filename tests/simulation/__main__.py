"""Plays simulations: as many seeds as are asked for, or one of them with its whole story.

    make simulate                      10,000 seeds: a million requests
    make simulate SEEDS=1000           the first thousand
    make simulate ARGS="--seed 17"     seed 17, and its story
    make simulate ARGS="--flavour independent"

Exits with 1 where a rule was broken, after the story of the first such seed and the command that plays it again.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from simulation.plan import FLAVOURS, REQUESTS
from simulation.story import Story
from simulation.world import Result, simulate

CHUNK = 50
"""So many seeds are one piece of work for a process."""
SHOWN_LINES = 150


@dataclass(slots=True)
class Total:
    """What came of some simulations together."""

    seeds: int = 0
    requests: int = 0
    attempts: int = 0
    failed: int = 0
    broken: int = 0
    violated: list[int] = field(default_factory=list)
    """The seeds in which a rule was broken."""
    rules: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """Count one simulation."""
        self.seeds += 1
        self.requests += result.requests
        self.attempts += result.attempts
        self.failed += result.failed
        self.broken += result.broken
        if result.violations:
            self.violated.append(result.seed)
            self.rules.update(result.violations)

    def join(self, other: Total) -> None:
        """Count what another process has counted."""
        for name in ("seeds", "requests", "attempts", "failed", "broken"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.violated += other.violated
        self.rules.update(other.rules)

    def words(self) -> str:
        """Return it in one line."""
        share, broken = self.failed / max(1, self.requests), self.broken / max(1, self.requests)
        return (
            f"{self.requests:,} requests of {self.seeds:,} seeds, {self.attempts:,} attempts; {share:.2%} failed,"
            f" {broken:.2%} broke off; a rule was broken in {len(self.violated)} seeds"
        )


def several(first: int, count: int, flavour: str = "") -> Total:
    """Play the simulations of `count` seeds."""
    total = Total()
    gc.disable()  # what a simulation leaves is freed when it is over, all at once
    try:
        for seed in range(first, first + count):
            total.add(simulate(seed, flavour))
            gc.collect(1)
    finally:
        gc.enable()
    return total


def told(result: Result, flavour: str = "", *, whole: bool = False) -> str:
    """Return what is printed of a simulation: its story, the rules that were broken, and how to play it again."""
    story = result.story.text() if whole else result.story.about(result.about)
    lines = story.splitlines()
    if not whole and len(lines) > SHOWN_LINES:
        lines = ["...", *lines[-SHOWN_LINES:]]
    found = [f"- {rule}" for rule in dict.fromkeys(result.violations)]
    only = f" --flavour '{flavour}'" if flavour else ""
    again = f'make simulate ARGS="--seed {result.seed}{only}"'
    return "\n".join([f"seed {result.seed} ({result.flavour})", *lines, *found, f"again, with all requests: {again}"])


def main() -> int:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "seeds", nargs="?", type=int, default=10_000, help=f"how many, {REQUESTS} requests each (10000)"
    )
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="SEED", help="the first of them (0)")
    parser.add_argument("--seed", type=int, help="play this one, and print its whole story")
    parser.add_argument("--flavour", default="", choices=["", *FLAVOURS], help="providers of this sort only")
    parser.add_argument("--digest", action="store_true", help="print a hash of each story")
    parser.add_argument("--stop", action="store_true", help="end at the first seed in which a rule is broken")
    parser.add_argument("-j", type=int, default=2, help="how many processes (2)")
    args = parser.parse_args()
    if args.seed is not None:
        result = simulate(args.seed, args.flavour)
        print(told(result, args.flavour, whole=True))
        return 1 if result.violations else 0
    if args.digest:
        for seed in range(args.first, args.first + args.seeds):
            print(seed, Story.digest(simulate(seed, args.flavour).story))
        return 0
    if args.stop:
        return _first(args.first, args.seeds, args.flavour)
    return _all(args.first, args.seeds, args.flavour, args.j)


def _first(first: int, count: int, flavour: str) -> int:
    for seed in range(first, first + count):
        result = simulate(seed, flavour)
        if result.violations:
            print(told(result, flavour))
            return 1
    return 0


def _all(first: int, count: int, flavour: str, processes: int) -> int:
    began, total = time.monotonic(), Total()
    starts = range(first, first + count, CHUNK)
    with ProcessPoolExecutor(processes) as pool:
        sizes = [min(CHUNK, first + count - start) for start in starts]
        for number, part in enumerate(pool.map(several, starts, sizes, [flavour] * len(starts))):
            total.join(part)
            if number % 20 == 19:
                print(f"{total.words()} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    took_s = time.monotonic() - began
    if total.violated:
        print(told(simulate(min(total.violated), flavour), flavour))
        print(f"seeds in which a rule was broken: {' '.join(map(str, sorted(total.violated)[:50]))}")
    print(f"{total.words()}; {took_s:.1f} s, {total.requests / took_s:,.0f} requests/s")
    return 1 if total.violated else 0


if __name__ == "__main__":
    sys.exit(main())
