"""The measurements, one function each. They work on a `Bench`: the processes that serve and the one that asks."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import meter, rivals
from bench.figures import PACED, Comparison, Figure, Sample, Work
from bench.ground import BenchFailed, Cores, Part, Server, bench_env, module

SETTLE_S = 0.4
KIB = 1024
ABANDON_WITHIN_S = 5.0
Say = Callable[[str], None]
"""Takes a line for whoever waits."""
RIVAL_REPETITIONS = 2
"""LiteLLM takes a hundred times as long; two repetitions say that well enough."""


@dataclass(frozen=True, slots=True)
class Dose:
    """How much of everything: more costs time and gives a narrower spread."""

    repetitions: int
    slot_s: float
    """How long each proxy works in each repetition."""
    warm_up_s: float
    connections: int
    paced_streams: int
    paced_events: int
    paced_every_ms: int
    open_streams: tuple[int, ...]
    turns_small: int
    turns_large: int


FULL = Dose(7, 0.8, 0.5, 16, 150, 80, 30, (200, 1000), 400, 200)
QUICK = Dose(3, 0.35, 0.2, 16, 100, 40, 30, (200,), 100, 50)
TINY = Dose(1, 0.05, 0.0, 4, 5, 50, 20, (10,), 5, 3)


@dataclass(slots=True)
class Bench:
    """Everything that runs, and what went wrong so far."""

    cores: Cores
    dose: Dose
    work_dir: Path
    upstream: Part
    upstream_port: int
    load: Part
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def ask(self, within_s: float, **command: object) -> dict[str, Any]:
        """Have the load do `command`; incomplete answers are counted in `failures`. Raises `BenchFailed`."""
        return self.checked(str(command["do"]), self.load.ask(command, within_s))

    def checked(self, what: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Return `answer`, its failures counted."""
        if answer.get("failed"):
            self.failures.append(f"{what}: {answer['failed']} failed: {json.dumps(answer['failures'])}")
        return answer

    def counts(self) -> dict[str, int]:
        """Return what the upstream has open, served and seen abandoned."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.upstream_port}/stats", timeout=5) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts

    def release(self) -> None:
        """Let the held streams end."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.upstream_port}/release", data=b"", method="POST")
        urllib.request.urlopen(request, timeout=5).close()

    def place(self, name: str) -> Path:
        """Return an empty folder for a process to work in."""
        place = self.work_dir / name
        number = 1
        while place.exists():
            number += 1
            place = self.work_dir / f"{name}-{number}"
        place.mkdir()
        return place

    @contextlib.contextmanager
    def balancer(self) -> Iterator[Server]:
        """Yield a balancer that has just started, and end it."""
        server = rivals.balancer(self.upstream_port, self.cores.proxy, self.place("balancer"))
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def bench(cores: Cores, dose: Dose, work_dir: Path) -> Iterator[Bench]:
    """Yield a bench whose upstream and load run; end them. Raises `BenchFailed`."""
    with ExitStack() as stack:
        upstream = Part("upstream", module("bench.upstream"), cores.others, work_dir, bench_env())
        stack.callback(upstream.stop)
        load = Part("load", module("bench.load"), cores.others, work_dir, bench_env())
        stack.callback(load.stop)
        yield Bench(cores, dose, work_dir, upstream, upstream.answer(within_s=10)["port"], load)


# CPU, as ratios


def compare(bench: Bench, work: Work, proxies: list[Server], say: Say) -> Comparison:
    """Give `work` to each of `proxies` in turn, again and again, the other one first each time."""
    dose = bench.dose
    comparison = Comparison(work, {proxy.name: [] for proxy in proxies})
    if dose.warm_up_s and work is not PACED:
        for proxy in (proxy for proxy in proxies if proxy.name != "litellm"):
            _burst(bench, work, proxy, dose.warm_up_s)
    for repetition in range(dose.repetitions):
        order = proxies if repetition % 2 == 0 else proxies[::-1]
        for proxy in order:
            if proxy.name != "litellm":
                comparison.samples[proxy.name].append(_repetition(bench, work, proxy))
            elif repetition < RIVAL_REPETITIONS:
                comparison.samples[proxy.name] += _forgiven(bench, work, proxy)
        say(f"{work.title}: {repetition + 1} of {dose.repetitions}")
    return comparison


def _repetition(bench: Bench, work: Work, proxy: Server) -> Sample:
    return _paced(bench, proxy) if work is PACED else _burst(bench, work, proxy, bench.dose.slot_s)


def _forgiven(bench: Bench, work: Work, rival: Server) -> list[Sample]:
    """Give `work` to a rival, whose failures are told but do not fail the run; nothing where it served nothing."""
    ours = len(bench.failures)
    try:
        samples = [_repetition(bench, work, rival)]
    except BenchFailed as error:
        samples = []
        bench.failures.append(str(error).splitlines()[0])
    bench.remarks += [f"{rival.name}, {work.title}: {failure}" for failure in bench.failures[ours:]]
    del bench.failures[ours:]
    return samples


def _burst(bench: Bench, work: Work, proxy: Server, seconds: float) -> Sample:
    connections = bench.dose.connections
    bench.ask(40, do="connect", port=proxy.port, size=work.size, model=work.model, connections=connections)
    before_s = meter.cpu_s(proxy.pid)
    answer = bench.ask(seconds + 40, do="run", seconds=seconds)
    time.sleep(0.02)  # what is done after the last byte (logging) belongs to the request too
    used_s = meter.cpu_s(proxy.pid) - before_s
    done = answer["done"]
    if not done:
        raise BenchFailed(f"{proxy.name} served nothing: {json.dumps(answer['failures'])}")
    return Sample(used_s / done * 1e6, done / answer["seconds"])


def _paced(bench: Bench, proxy: Server) -> Sample:
    dose = bench.dose
    model = f"bench-paced-{dose.paced_events}x{dose.paced_every_ms}"
    bench.ask(40, do="connect", port=proxy.port, size="small", model=model, connections=dose.paced_streams)
    # Begun evenly over several intervals, so that events come one by one and not all at once. What counts is the time
    # when all are under way: what the requests cost is measured elsewhere.
    begin_s = dose.paced_every_ms * 10.01 / 1000
    bench.load.tell({"do": "once", "over_s": begin_s})
    time.sleep(begin_s + 0.1)
    begun_s, begun = time.monotonic(), bench.counts()
    before_s = meter.cpu_s(proxy.pid)
    time.sleep(dose.paced_events * dose.paced_every_ms / 1000 - begin_s - 0.3)
    used_s = meter.cpu_s(proxy.pid) - before_s
    ended_s, ended = time.monotonic(), bench.counts()
    answer = bench.checked("once", bench.load.answer(60))
    events = ended["paced_events"] - begun["paced_events"]
    if not events or (begun["open"], ended["open"]) != (dose.paced_streams, dose.paced_streams):
        raise BenchFailed(f"{proxy.name} did not hold {dose.paced_streams} streams: {json.dumps(answer['failures'])}")
    return Sample(used_s / events * 1e6, events / (ended_s - begun_s))


# Memory, and many streams at once


def idle(bench: Bench) -> list[Figure]:
    """Measure a balancer that has started and does nothing."""
    with bench.balancer() as server:
        time.sleep(1.0)
        return [Figure("idle RSS", meter.rss_bytes(server.pid) / KIB / KIB, "MB", floor=80)]


def open_streams(bench: Bench, nginx: Server | None, say: Say) -> list[Figure]:
    """Hold many streams open at once, small and large, and let each end as it should; each time in a fresh balancer."""
    figures = []
    for size, title in (("small", "small request"), ("large", "402 KB request")):
        for streams in bench.dose.open_streams:
            with bench.balancer() as server:
                ours = _per_stream(bench, server, size, streams)
            theirs = _per_stream(bench, nginx, size, streams) if nginx else None
            name = f"an open stream, {streams:,} at once, {title}"
            figures.append(Figure(name, ours, "KB", floor=64, nginx=theirs, note="RSS, all were served to the end"))
            say(name)
    return figures


def _per_stream(bench: Bench, proxy: Server, size: str, streams: int) -> float:
    """Return the KB of resident memory that each of `streams` costs while it is open."""
    bench.ask(60, do="connect", port=proxy.port, size=size, model="bench-stream-3", connections=16)
    bench.ask(60, do="run", seconds=min(0.3, bench.dose.slot_s))  # what is loaded once is not the streams'
    time.sleep(SETTLE_S)
    before = meter.rss_bytes(proxy.pid)
    failed = len(bench.failures)
    bench.ask(120, do="open", port=proxy.port, size=size, model="bench-hold", streams=streams, at_once=32)
    time.sleep(SETTLE_S)
    held = meter.rss_bytes(proxy.pid)
    if len(bench.failures) == failed and (there := bench.counts()["open"]) != streams:
        bench.failures.append(f"{proxy.name}: {there} streams open at the upstream instead of {streams}")
    bench.release()
    bench.ask(120, do="finish")
    return (held - before) / streams / KIB


def abandoned(bench: Bench) -> list[Figure]:
    """Hang up on many streams and see how long the upstream still has them."""
    streams = bench.dose.open_streams[0]
    with bench.balancer() as server:
        bench.ask(120, do="open", port=server.port, size="small", model="bench-hold", streams=streams, at_once=32)
        begun_s = time.monotonic()
        bench.ask(20, do="drop")
        while (left := bench.counts()["open"]) and time.monotonic() - begun_s < ABANDON_WITHIN_S:
            time.sleep(0.01)
        took_ms = (time.monotonic() - begun_s) * 1000
    note = f"of {streams} that clients hung up on; {took_ms:.0f} ms until all were closed"
    return [Figure("abandoned streams still open at the upstream", left, "", floor=0, note=note)]


# Time to first byte


def first_byte(bench: Bench, balancer: Server, nginx: Server | None) -> list[Figure]:
    """Ask one at a time, in turn without a proxy and through each, and compare the medians."""
    ports = {"direct": bench.upstream_port, "balancer": balancer.port} | ({"nginx": nginx.port} if nginx else {})
    figures = []
    doses = (("small", "small", bench.dose.turns_small, 1.0), ("large", "402 KB", bench.dose.turns_large, 2.0))
    for size, title, rounds, floor in doses:
        answer = bench.ask(90, do="turns", ports=ports, size=size, model="bench-stream-20", rounds=rounds)
        medians = answer["median_ms"]
        if not {"direct", "balancer"} <= medians.keys():
            raise BenchFailed(f"no answers: {json.dumps(answer['failures'])}")
        direct = medians["direct"]
        theirs = medians["nginx"] - direct if "nginx" in medians else None
        note = f"median of {rounds}, direct {direct:.2f} ms"
        figures.append(
            Figure(f"added time to first byte, {title}", medians["balancer"] - direct, "ms", floor, theirs, note)
        )
    return figures
