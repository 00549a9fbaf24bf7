"""Plants small faults, one at a time, and runs the tests nearest to each: what the suite lets pass is a hole in it.

`make mutants` runs every fault of `faults.toml` in copies of the project, two at a time, prints the
survivors and writes the table into docs/testing.md. `make mutants ARGS=policy` takes those whose name
or file holds the word.

A fault is a text that stands exactly once in its file, and what replaces it.

`make simulate-faults` does the same with the list of the simulation, which says itself what is run (`command`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("faults.toml")
PAGE = ROOT / "docs" / "testing.md"
COPIED = ("src", "tests", "bench", "docs", "pyproject.toml", "providers.example.yaml", "README.md")
WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Fault:
    """One small fault."""

    name: str
    """What is wrong with it in place, in a few words."""
    file: str
    """Below src/balancer."""
    old: str
    new: str
    tests: tuple[str, ...] = ()
    """The tests nearest to it, below tests/. None: what the whole list is run with."""
    equivalent: str = ""
    """Why no test can notice it, where that is so: it is planted all the same, and counts in no share."""

    def planted(self, text: str) -> str:
        """Return the file with the fault in it. Raises `ValueError` where the text does not stand there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the text stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


def faults(path: Path = LIST) -> list[Fault]:
    """Return a kept list."""
    entries = tomllib.loads(path.read_text())["fault"]
    return [Fault(**{**entry, "tests": tuple(entry.get("tests", ()))}) for entry in entries]


def caught(fault: Fault, copy: Path, module: list[str] | None = None) -> tuple[bool, float]:
    """Plant `fault` in `copy`, run its tests, and take it out again. Returns whether a test failed, and the seconds.

    `module`: what is run instead of tests, a module with its arguments; it fails with 1.
    """
    path = copy / "src" / "balancer" / fault.file
    sound = path.read_text()
    path.write_text(fault.planted(sound))
    began = time.monotonic()
    tests = ["pytest", "-x", "-q", "-p", "no:xdist", *(f"tests/{test}" for test in fault.tests)]
    command = [sys.executable, "-B", "-m", *(module or tests)]
    try:
        done = subprocess.run(command, cwd=copy, env=_environment(), capture_output=True, text=True, timeout=WITHIN_S)
        code = done.returncode
        if code not in (0, 1, 2):  # 2: a fault that keeps a test file from being imported is noticed too
            raise SystemExit(
                f"{fault.name}: {command[3]} ended with {code}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
    except subprocess.TimeoutExpired:
        code = 0 if module else 1  # a test that hangs is a test that fails
    finally:
        path.write_text(sound)
    return code != 0, time.monotonic() - began


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BALANCER_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(("src", "tests"))}


def _copies(folder: Path, count: int) -> Queue[Path]:
    copies: Queue[Path] = Queue()
    for number in range(count):
        copy = folder / str(number)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        copies.put(copy)
    return copies


def run(chosen: list[Fault], at_once: int, module: list[str] | None = None) -> list[tuple[Fault, bool]]:
    """Plant each of `chosen`; return which were caught, in the order of the list."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        copies = _copies(Path(folder), at_once)

        def one(fault: Fault) -> tuple[Fault, bool]:
            copy = copies.get()
            try:
                found, took_s = caught(fault, copy, module)
            finally:
                copies.put(copy)
            print(f"{'caught  ' if found else 'SURVIVED'} {took_s:5.1f} s  {fault.file}: {fault.name}", flush=True)
            return fault, found

        return list(pool.map(one, chosen))


def table(results: list[tuple[Fault, bool]]) -> str:
    """Return the share caught and the list, as Markdown."""
    counted = [(fault, found) for fault, found in results if not fault.equivalent]
    share = sum(found for _, found in counted) / max(1, len(counted))
    lines = [f"{len(counted)} faults, {share:.1%} caught.", "", "| file | planted fault | |", "|---|---|---|"]
    for fault, found in results:
        verdict = f"equivalent: {fault.equivalent}" if fault.equivalent else "caught" if found else "**survives**"
        lines.append(f"| `{fault.file}` | {fault.name} | {verdict} |")
    return "\n".join(lines)


def main() -> int:
    """Run the list; exit with 1 where a fault survives that a test could notice."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose name or file holds one of these")
    parser.add_argument("-j", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--list", type=Path, default=LIST, help="another list, below tests/")
    args = parser.parse_args()
    path = ROOT / "tests" / args.list
    every, kept = faults(path), tomllib.loads(path.read_text())
    chosen = [f for f in every if not args.words or any(word in f"{f.file} {f.name}" for word in args.words)]
    results = run(chosen, args.j, kept.get("command"))
    survivors = [fault for fault, found in results if not found and not fault.equivalent]
    if len(chosen) == len(every):
        begin, text = f"<!-- {kept.get('page_block', 'make mutants')} -->", PAGE.read_text()
        block = f"{begin}\n{table(results)}\n<!-- end -->"
        PAGE.write_text(re.sub(rf"{begin}.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL))
    print(f"{len(results)} planted, {len(survivors)} survive")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
