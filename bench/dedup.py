"""What a request without a twin pays for deduplication.

python -m bench.dedup

The key (a hash of the body, and what else must be the same), looking for a twin, leading an answer
that nobody joins, and letting go of it. The sinks below it do nothing, and what handing the
same head and body to them directly costs is taken off.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from balancer.coalescing import key as dedup
from balancer.coalescing.shared import InFlight
from balancer.coalescing.writers import TeeWriter
from balancer.headers import Headers, names_of
from balancer.model import Candidate, Request
from balancer.server.paths import OPERATIONS
from bench.traffic import ask, whole

ROUNDS = 2000


class Nobody:
    """A client that takes everything at once."""

    finished = False
    dedup = ""
    gone = False
    busy = False

    def start(self, status: int, headers: Headers) -> None:
        return

    async def write(self, data: bytes, *, last: bool = False) -> None:
        return

    async def finish(self) -> None:
        return

    def put(self, data: bytes, *, last: bool = False) -> bool:
        return True

    def committed(self, candidate: Candidate) -> None:
        return

    def mark_unshareable(self) -> None:
        return

    async def abort(self) -> None:
        return

    def on_left(self, tell: Callable[[], None] | None) -> None:
        return


def request(size: str) -> Request:
    """Return the bench's own request, as the relay gets it."""
    head, _, body = b"".join(ask(size, "bench-whole").pieces(1)).partition(b"\r\n\r\n")
    lines = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    headers = tuple((name.lower(), value) for name, value in lines)
    return Request(
        "req_1",
        OPERATIONS["/v1/messages"],
        b"beta=true",
        headers,
        body,
        "bench-whole",
        False,
        client="c",
        names=names_of(headers),
    )


async def cost_us(size: str) -> float:
    """Return the CPU of one request, in microseconds: the median of nine runs."""
    asked, client, registry = request(size), Nobody(), InFlight(64 * 1024 * 1024, time.monotonic)
    _, _, body = whole().partition(b"\r\n\r\n")
    lines = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))

    async def led() -> None:
        key = dedup.key(asked, 1, 0)
        assert key is not None
        assert registry.find(key) is None
        leading = TeeWriter(client, registry, registry.lead(key), 0.0)
        leading.start(200, lines)
        assert leading.put(body, last=True)  # as the relay gives it to a client that takes it at once
        leading.close()

    async def direct() -> None:
        client.start(200, lines)
        assert client.put(body, last=True)

    spent = []
    for _ in range(9):
        times = []
        for work in (led, direct):
            start = time.process_time()
            for _ in range(ROUNDS):
                await work()
            times.append((time.process_time() - start) / ROUNDS * 1e6)
        spent.append(times[0] - times[1])
    return sorted(spent)[4]


def main() -> int:
    for size in ("small", "large"):
        length = len(request(size).body)
        print(f"{length / 1000:.1f} KB without a twin: {asyncio.run(cost_us(size)):.1f} us of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
