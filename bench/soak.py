"""A soak: hours of mixed traffic against providers that fail, with reloads, outages and clients that leave.

python -m bench.soak MINUTES [--rate R] [--workers N] [--seed S] [--save]

Three providers fail independently, 15 % of the requests each, before and within their answers. Clients ask in sessions,
streaming and not, now and then twice at once, and some leave early. Meanwhile the configuration is changed, also to a
broken one, by the watcher and by POST; a provider's port goes away for a while; with several workers one is killed now
and then. Every answer that looks whole is compared with what a provider sent.

The exit code is 1 where an answer was wrong, a request has no end, or something grew that should not: what was open at
the start of the second half and at the end is compared, and the growth of memory is the slope over the second half.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.ground import ROOT, free_port

FAULTS = ("500", "529", "429", "reset", "html", "cut", "stall", "slow")
FAULT_SHARE = 0.15
KEY = "sk-of-the-soak-0123456789abcdef"
SAMPLE_S = 10.0
CHANGE_S = 7.0
OUTAGE_S = 60.0
KILL_S = 45.0
SESSIONS = 100
MODELS = 20
GROWTH_MAX_MB_PER_HOUR = 8.0
"""Of resident memory in the second half. Short runs are noisy: below ten minutes it is printed and not judged."""
JUDGED_FROM_MIN = 10.0


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def text_of(token: str) -> list[str]:
    """Return what the answer to the request with this token says, delta by delta."""
    rng = random.Random(token)
    return [f"{token}:{number} " for number in range(rng.randrange(3, 30))]


class Provider:
    """One provider: a port that answers as the Messages API does, and fails by chance."""

    def __init__(self, rng: random.Random) -> None:
        self.port = free_port()
        self.asked = 0
        self.failed: Counter[str] = Counter()
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)

    def stop(self) -> None:
        """Go away: the port is closed, and so is every connection."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            # Cancelled: the run is over while an answer stalls.
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = re.search(rb"content-length: (\d+)", head)
                    body = json.loads(await reader.readexactly(int(size[1]))) if size else {}
                    if not await self._answer(body, writer):
                        return
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Answer one request, or fail. Returns whether the connection can go on."""
        self.asked += 1
        token = body["messages"][-1]["content"].split()[0]
        fault = self._rng.choice(FAULTS) if self._rng.random() < FAULT_SHARE else ""
        self.failed[fault] += bool(fault)
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault in ("500", "529", "429"):
            words = json.dumps(
                {"type": "error", "error": {"type": "api_error", "message": f"a planned {fault}"}}
            ).encode()
            more = b"retry-after: 1\r\n" if fault == "429" else b""
            writer.write(_head(int(fault), b"application/json", more, len(words)) + words)
            return True
        if fault == "html":
            page = b"<html><body>blocked</body></html>"
            writer.write(_head(200, b"text/html", b"", len(page)) + page)
            return True
        if fault == "slow":
            await asyncio.sleep(2)
        if body.get("stream"):
            return await self._stream(token, fault, writer)
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        content = [{"type": "text", "text": "".join(text_of(token))}]
        whole = json.dumps({**message, "content": content, "usage": {"input_tokens": 9, "output_tokens": 9}}).encode()
        writer.write(_head(200, b"application/json", b"", len(whole)) + whole[: len(whole) // 2])
        if fault in ("cut", "stall"):
            await asyncio.sleep(0.1 if fault == "cut" else 5)
            writer.transport.abort()
            return False
        writer.write(whole[len(whole) // 2 :])
        return True

    async def _stream(self, token: str, fault: str, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        usage = {"input_tokens": 9, "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
        events = [_event("message_start", message=message)]
        events.append(_event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        deltas = text_of(token)
        events += [_event("content_block_delta", index=0, delta={"type": "text_delta", "text": t}) for t in deltas]
        events.append(_event("content_block_stop", index=0))
        events.append(_event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": len(deltas)}))
        events.append(_event("message_stop"))
        breaks_at = self._rng.randrange(len(events)) if fault in ("cut", "stall") else -1
        for number, event in enumerate(events):
            if number == breaks_at:
                await asyncio.sleep(0 if fault == "cut" else 8)
                writer.transport.abort()
                return False
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(self._rng.expovariate(100))
        writer.write(b"0\r\n\r\n")
        return True


def _head(status: int, kind: bytes, more: bytes, size: int) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n" % (status, kind, more, size)


@dataclass
class Sample:
    """What the balancer held at one moment, all its processes together."""

    at_s: float
    rss_mb: float
    descriptors: int
    threads: int
    processes: int


@dataclass
class Soak:
    """One run."""

    folder: Path
    rng: random.Random
    rate: float
    workers: int
    port: int = 0
    providers: list[Provider] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """Reloads, outages and kills, by what came of them."""
    samples: list[Sample] = field(default_factory=list)
    pid: int = 0

    def configuration(self, number: int) -> str:
        """Return the configuration of this number; every fifth is broken."""
        if number % 5 == 4:
            return "providers: [\n {"
        key = f"{KEY}-{number // 4}"
        providers = "".join(
            f'  - {{name: p{at}, type: anthropic, base_url: "http://127.0.0.1:{p.port}", auth_value: {key}}}\n'
            for at, p in enumerate(self.providers)
        )
        targets = ", ".join(f"{{provider: p{at}, priority: {at}}}" for at in range(len(self.providers)))
        strategy = ("priority", "round_robin", "fastest")[number % 3]
        return (
            f'providers:\n{providers}model_routes: {{"*": [{targets}]}}\n'
            f"settings: {{failure_cooldown: 2, request_timeout: 5, stream_idle_timeout: 4, selection_strategy: {strategy},"
            f" sticky: {{enabled: true, ttl: 60}}, drain_timeout: 20, log_color: false}}\n"
        )

    async def request(self) -> None:
        """Ask once, and note how that ended."""
        rng = self.rng
        token = f"t{rng.randrange(10**12)}" if rng.random() < 0.95 else f"same{int(time.monotonic() / 2)}"
        stream, leaves = rng.random() < 0.7, rng.random() < 0.1
        body = json.dumps(
            {
                "model": f"m{rng.randrange(MODELS)}",
                "max_tokens": 50,
                "stream": stream,
                "messages": [{"role": "user", "content": f"{token} " + "x" * rng.choice((10, 2000, 100_000))}],
            }
        ).encode()
        session = b"x-claude-code-session-id: soak-%d\r\n" % rng.randrange(SESSIONS)
        try:
            got = await asyncio.wait_for(self._ask(body, session, 0.05 if leaves else None), 60)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError) as error:
            self.answers[f"{type(error).__name__}"] += 1
            return
        self.answers[self._judged(token, got, stream=stream) if not leaves else "left"] += 1

    async def _ask(self, body: bytes, lines: bytes, leave_after_s: float | None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                b"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"anthropic-version: 2023-06-01\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n"
                % (lines, len(body))
            )
            writer.write(body)
            if leave_after_s is not None:
                await asyncio.sleep(leave_after_s)
                return b""
            return await reader.read(-1)
        finally:
            writer.transport.abort()

    def _judged(self, token: str, got: bytes, *, stream: bool) -> str:
        """Say what an answer is; one that looks whole has to be the right one."""
        head, _, body = got.partition(b"\r\n\r\n")
        status = head[9:12].decode() or "nothing"
        if status != "200":
            return status
        if not stream:
            try:
                said = json.loads(body)["content"][0]["text"]
            except (ValueError, LookupError):
                return "200 cut"
        else:
            whole = re.sub(rb"(?:\r\n|^)[0-9a-f]+\r\n", b"", body)
            if b"event: error" in whole:
                return "200 error event"
            if b"event: message_stop" not in whole or not body.endswith(b"0\r\n\r\n"):
                return "200 cut"
            said = "".join(re.findall(r'"text_delta", "text": "([^"]*)"', whole.decode()))
        if said != "".join(text_of(token)):
            self.wrong.append(f"{token}: {said[:200]!r}")
        return "200 whole"

    async def traffic(self, seconds: float) -> None:
        """Ask at random moments, `rate` times a second."""
        until, tasks = time.monotonic() + seconds, set()
        while time.monotonic() < until:
            task = asyncio.create_task(self.request())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(self.rng.expovariate(self.rate))
        await asyncio.gather(*tasks)

    async def changes(self) -> None:
        """Change the configuration again and again, by the watcher and by POST in turn."""
        number = 0
        while True:
            await asyncio.sleep(CHANGE_S)
            number += 1
            (self.folder / "providers.yaml").write_text(self.configuration(number))
            if number % 2:
                got = await self.get(b"POST /providers/reload")
                self.done[f"reload {got[9:12].decode() or 'unanswered'}"] += 1

    async def outages(self) -> None:
        """Take a provider away for some seconds, again and again."""
        while True:
            await asyncio.sleep(OUTAGE_S)
            provider = self.rng.choice(self.providers)
            provider.stop()
            self.done["outage"] += 1
            await asyncio.sleep(8)
            await provider.start()

    async def kills(self) -> None:
        """Kill a worker, again and again."""
        while self.workers > 1:
            await asyncio.sleep(KILL_S)
            workers = [pid for pid in family(self.pid) if pid != self.pid]
            if workers:
                os.kill(self.rng.choice(workers), signal.SIGKILL)
                self.done["kill"] += 1

    async def samples_taken(self) -> None:
        """Look at the processes, again and again."""
        began = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                self.samples.append(sample(self.pid, time.monotonic() - began))
            await asyncio.sleep(SAMPLE_S)

    async def get(self, request: bytes) -> bytes:
        """Ask a control endpoint; an unanswered one gives nothing."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request + b" HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            got = await asyncio.wait_for(reader.read(-1), 30)
            writer.close()
        except (OSError, TimeoutError):
            return b""
        return got


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def sample(pid: int, at_s: float) -> Sample:
    """Return what a process and its descendants hold."""
    pids = family(pid)
    status = [Path(f"/proc/{p}/status").read_text() for p in pids]
    rss = sum(int(found[1]) for text in status if (found := re.search(r"VmRSS:\s+(\d+)", text)))
    threads = sum(int(found[1]) for text in status if (found := re.search(r"Threads:\s+(\d+)", text)))
    descriptors = sum(len(os.listdir(f"/proc/{p}/fd")) for p in pids)
    return Sample(at_s, rss / 1024, descriptors, threads, len(pids))


def slope_mb_per_hour(samples: list[Sample]) -> float:
    """Return the growth of memory over these samples: least squares."""
    if len(samples) < 3:
        return 0.0
    mean_at = sum(s.at_s for s in samples) / len(samples)
    mean_mb = sum(s.rss_mb for s in samples) / len(samples)
    above = sum((s.at_s - mean_at) * (s.rss_mb - mean_mb) for s in samples)
    return above / sum((s.at_s - mean_at) ** 2 for s in samples) * 3600


async def soak(run: Soak, minutes: float) -> dict[str, Any]:
    """Run it, and return what was found."""
    run.providers = [Provider(run.rng) for _ in range(3)]
    for provider in run.providers:
        await provider.start()
    (run.folder / "providers.yaml").write_text(run.configuration(0))
    run.port = free_port()
    command = [sys.executable, str(ROOT / "src" / "main.py"), "--port", str(run.port)]
    if run.workers > 1:
        command += ["--workers", str(run.workers)]
    with (run.folder / "console.txt").open("wb") as console:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=run.folder, stdout=console, stderr=console, env={**os.environ, "LOG_LEVEL": "INFO"}
        )
    run.pid = process.pid
    while not (await run.get(b"GET /ready")).startswith(b"HTTP/1.1 200"):
        if process.returncode is not None:
            raise SystemExit((run.folder / "console.txt").read_text()[-2000:])
        await asyncio.sleep(0.2)
    beside = [asyncio.create_task(c) for c in (run.changes(), run.outages(), run.kills(), run.samples_taken())]
    await run.traffic(minutes * 60)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await asyncio.sleep(3)
    status = json.loads((await run.get(b"GET /providers")).partition(b"\r\n\r\n")[2] or b"{}")
    last = sample(run.pid, minutes * 60)
    process.terminate()
    code = await asyncio.wait_for(process.wait(), 60)
    for provider in run.providers:
        provider.stop()
    return {"status": status, "last": last, "exit": code, **counted(run.folder / "logs")}


def counted(logs: Path) -> dict[str, Any]:
    """Return how many requests the log saw begin and end, by outcome."""
    began: set[str] = set()
    ended: Counter[str] = Counter()
    for path in logs.glob("logs.jsonl*"):
        for line in path.open():
            entry = json.loads(line)
            if entry["event"] == "request_began":
                began.add(entry["id"])
            elif entry["event"] == "request_ended":
                ended[entry["outcome"]] += 1
                began.discard(entry["id"])
    return {"unended": len(began), "ended": dict(ended)}


def report(run: Soak, found: dict[str, Any], minutes: float) -> tuple[str, list[str]]:
    """Return the report and the list of what is wrong."""
    half = [s for s in run.samples if s.at_s >= minutes * 30]
    growth = slope_mb_per_hour(half)
    in_flight = [found["status"].get("in_flight"), *(p["in_flight"] for p in found["status"].get("providers", ()))]
    problems = [f"a wrong answer: {words}" for words in run.wrong]
    if any(in_flight):
        problems.append(f"in flight at the end: {in_flight}")
    if found["unended"] and run.workers == 1:
        problems.append(f"{found['unended']} requests without an end in the log")
    if found["exit"]:
        problems.append(f"exit code {found['exit']}")
    if minutes >= JUDGED_FROM_MIN and growth > GROWTH_MAX_MB_PER_HOUR * run.workers:
        problems.append(f"memory grew by {growth:.1f} MB an hour in the second half")
    first, last = run.samples[0], found["last"]
    if half and last.descriptors > max(s.descriptors for s in half[: len(half) // 2] or half) + 20:
        problems.append(f"descriptors grew to {last.descriptors}")
    asked = sum(p.asked for p in run.providers)
    faults = sum((p.failed for p in run.providers), Counter())
    lines = [
        f"# Soak of {minutes:g} minutes, {run.rate:g} requests a second, {run.workers} worker(s)",
        "",
        f"Answers: {dict(run.answers.most_common())}; wrong: {len(run.wrong)}.",
        f"Providers were asked {asked} times and failed: {dict(faults.most_common())}.",
        f"Meanwhile: {dict(run.done.most_common())}.",
        f"Log: ended {found['ended']}, without an end {found['unended']}. In flight at the end: {in_flight}.",
        "",
        "| minute | RSS MB | descriptors | threads | processes |",
        "|---|---|---|---|---|",
        *(
            f"| {s.at_s / 60:.1f} | {s.rss_mb:.1f} | {s.descriptors} | {s.threads} | {s.processes} |"
            for s in [first, *run.samples[1 :: max(1, len(run.samples) // 12)], last]
        ),
        "",
        f"Growth in the second half: {growth:.1f} MB an hour.",
        "",
        *(problems or ["Nothing wrong."]),
    ]
    return "\n".join(lines) + "\n", problems


def main() -> int:
    """Run a soak from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--rate", type=float, default=12.0, help="requests a second (12)")
    parser.add_argument("--workers", type=int, default=1, help="workers of the balancer (1)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (1)")
    parser.add_argument("--save", action="store_true", help="keep the report in bench/results")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Soak(Path(folder), random.Random(args.seed), args.rate, args.workers)
        found = asyncio.run(soak(run, args.minutes))
        text, problems = report(run, found, args.minutes)
    print(text)
    if args.save:
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        name = f"soak-{day}{f'-{args.workers}-workers' if args.workers > 1 else ''}.md"
        (ROOT / "bench" / "results" / name).write_text(text)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
