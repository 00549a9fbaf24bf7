"""`python -m bench`: measure, print, and with `--save` keep the table; see README.md beside this."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from bench import phases, rivals
from bench.figures import WORKS
from bench.ground import BenchFailed, Server, cores, raise_file_limit
from bench.report import Report

RESULTS = Path(__file__).parent / "results"
PHASES = (*(work.key for work in WORKS), "ttfb", "idle", "memory", "abandon")
LIMIT_S = {"full": 360, "quick": 120, "tiny": 60}
"""No run takes longer: then it ends with an error. Twice what they need, LiteLLM not counted."""
LITELLM_LIMIT_S = 240


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; 0, or 1 when it failed or, with `--check`, when a floor is missed."""
    asked = _parser().parse_args(arguments)
    if not sys.platform.startswith("linux"):
        print("bench: needs Linux, whose accounting it reads", file=sys.stderr)
        return 1
    size = "tiny" if asked.tiny else "quick" if asked.quick else "full"
    dose = {"full": phases.FULL, "quick": phases.QUICK, "tiny": phases.TINY}[size]
    only = set(asked.only.split(",")) if asked.only else set(PHASES)
    if unknown := only - set(PHASES):
        print(f"bench: no such part: {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}", file=sys.stderr)
        return 1
    raise_file_limit()
    _end_when_told_or_late(LIMIT_S[size] + (0 if asked.no_litellm else LITELLM_LIMIT_S))
    report = Report(cores(), dose)
    try:
        measure(report, only, litellm=not asked.no_litellm)
    except BenchFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"\n{report.tables()}\n\n{report.machine()}")
    if asked.save:
        print(f"kept in {save(report)}")
    return 1 if report.failures or (asked.check and report.missed()) else 0


def measure(report: Report, only: set[str], litellm: bool) -> None:
    """Do the parts named in `only` and put what they find into `report`. Raises `BenchFailed`."""
    begun_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun_s:6.1f} s  {what}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        bench = stack.enter_context(phases.bench(report.cores, report.dose, work_dir))
        report.failures, report.remarks = bench.failures, bench.remarks
        say(str(report.cores))

        def running(server: Server | None) -> Server | None:
            if server:
                stack.callback(server.stop)
            return server

        nginx = running(rivals.nginx(bench.upstream_port, bench.cores.proxy, bench.place("nginx")))
        if not nginx:
            report.remarks.append("nginx is not installed: there is nothing to compare with.")
        if "idle" in only:
            report.figures += phases.idle(bench)
        works = [work for work in WORKS if work.key in only]
        if works or "ttfb" in only:
            with bench.balancer() as balancer:
                proxies = [proxy for proxy in (nginx, balancer) if proxy]
                if works:
                    rival = running(_litellm(bench, report, say)) if litellm else None
                    for work in works:
                        both = [*proxies, *([rival] if rival else [])]
                        report.comparisons.append(phases.compare(bench, work, both, say))
                    if rival:
                        rival.stop()
                if "ttfb" in only:
                    report.figures += phases.first_byte(bench, balancer, nginx)
                    say("time to first byte")
        if "memory" in only:
            report.figures += phases.open_streams(bench, nginx, say)
        if "abandon" in only:
            report.figures += phases.abandoned(bench)
        say("done")


def _litellm(bench: phases.Bench, report: Report, say: phases.Say) -> Server | None:
    try:
        server = rivals.litellm(bench.upstream_port, bench.cores.proxy, bench.place("litellm"))
    except BenchFailed as error:
        report.remarks.append(f"LiteLLM is installed but did not start: {str(error).splitlines()[0]}")
        return None
    if not server:
        report.remarks.append("LiteLLM is not installed: not compared.")
    else:
        say("LiteLLM has started")
    return server


def save(report: Report) -> Path:
    """Keep the report under today's date, and return where."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{today}.md"
    file.write_text(f"# The balancer beside nginx, {today}\n\n{report.tables()}\n\n## How\n\n{report.method()}\n")
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _end_when_told_or_late(limit_s: int) -> None:
    """Turn SIGTERM and the end of the time into exceptions, so that every process is reaped."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what follows ends the processes
        signal.alarm(0)
        why = f"took longer than {limit_s} s" if number == signal.SIGALRM else "was told to end"
        raise BenchFailed(f"the run {why}")

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    signal.alarm(limit_s)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the balancer costs, in ratios to nginx.")
    parser.add_argument("--quick", action="store_true", help="less of everything, under a minute")
    parser.add_argument("--tiny", action="store_true", help="almost nothing of everything: does the bench itself work?")
    parser.add_argument("--only", metavar="PART,...", help=f"only these parts: {', '.join(PHASES)}")
    parser.add_argument("--save", action="store_true", help="keep the table in bench/results/")
    parser.add_argument("--check", action="store_true", help="exit 1 when a floor is missed")
    parser.add_argument("--no-litellm", action="store_true", help="leave LiteLLM out even where it is installed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
