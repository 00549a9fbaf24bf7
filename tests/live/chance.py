"""How many requests fail while three providers fail by chance, each for itself: a real balancer, on real sockets.

    make chance                                      4,000 requests, 60 a second, 15 % of the exchanges fail
    make chance ARGS="--requests 1000 --per-s 20"

Of requests that find all three failing there are 0.34 %: without a second try none could do better. Exits with 1 where
more than 0.5 % fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from live.harness import (
    Behaviour,
    Peer,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    error,
    posted,
    start,
    stop,
)
from live.harness import message as whole_message
from live.refused import said

FAILED_MAX = 0.005
"""So large a share of requests may fail."""
WORDS = "Hello."


async def _reset(seen: Seen, peer: Peer) -> None:
    peer.reset()


async def _reset_after_the_start(seen: Seen, peer: Peer) -> None:
    await peer.sse()
    await peer.chunk(start() + block())
    peer.reset()


async def _error_event(seen: Seen, peer: Peer) -> None:
    await peer.sse()
    await peer.chunk(start() + error())
    await peer.end()


FAULTS: tuple[Behaviour, ...] = (
    said("", 529, "Overloaded"),
    said("", 500, "Internal server error"),
    said("", 429, "Too many requests"),
    _reset,
    _reset_after_the_start,
    _error_event,
)


async def well(seen: Seen, peer: Peer) -> None:
    """Answer: a stream with its content after 0.2 s and its end 0.3 s later, or a message."""
    await asyncio.sleep(0.2)
    if not seen.stream:
        await peer.whole(200, whole_message(WORDS))
        return
    await peer.sse()
    await peer.chunk(start() + block() + delta(WORDS))
    await asyncio.sleep(0.3)
    await peer.chunk(stop())
    await peer.end()


@dataclass
class Outcome:
    """What came of all requests."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """What those got that failed."""
    attempts: int = 0
    took_s: float = 0.0
    slowest_s: float = 0.0

    @property
    def share(self) -> float:
        return self.failed.total() / self.requests

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests in {self.took_s:.0f} s, {self.attempts / self.requests:.2f} attempts each: "
            f"{self.failed.total()} failed ({self.share:.2%}), the slowest took {self.slowest_s:.1f} s"
        )


async def play(requests: int, per_s: float, share: float, seed: int = 1) -> Outcome:
    """Ask so many times, at random times; `share` of what each of three providers is asked fails."""
    rng = random.Random(seed)
    outcome = Outcome(requests)

    async def by_chance(seen: Seen, peer: Peer) -> None:
        await (rng.choice(FAULTS) if rng.random() < share else well)(seen, peer)

    async with Upstream(by_chance) as a, Upstream(by_chance) as b, Upstream(by_chance) as c:
        async with balancer(configuration(a, b, c)) as running:

            async def one(number: int) -> None:
                model = rng.choice(("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"))
                asks = [{"role": "user", "content": f"question {number}"}]
                body = {"model": model, "max_tokens": 100, "stream": number % 4 != 0, "messages": asks}
                began = time.monotonic()
                status, got, ended = await posted(running, json.dumps(body).encode())
                outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - began)
                if status != 200 or not ended or WORDS.encode() not in got or b"event: error" in got:
                    outcome.failed[f"{status} {got[-200:]!r}"] += 1

            began = time.monotonic()
            asking = []
            for number in range(requests):
                asking.append(asyncio.create_task(one(number)))
                await asyncio.sleep(rng.expovariate(per_s))
            await asyncio.gather(*asking)
            outcome.took_s = time.monotonic() - began
        outcome.attempts = sum(len(upstream.asked) for upstream in (a, b, c))
    return outcome


def main() -> int:
    """Play what the command line asks for, and print what came of it."""
    parser = argparse.ArgumentParser(prog="make chance", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=4000, help="how many (4000)")
    parser.add_argument("--per-s", type=float, default=60.0, help="how many a second (60)")
    parser.add_argument("--share", type=float, default=0.15, help="which share of the exchanges fails (0.15)")
    args = parser.parse_args()
    outcome = asyncio.run(play(args.requests, args.per_s, args.share))
    print(outcome)
    for words, count in outcome.failed.most_common(5):
        print(f"{count} x {words}")
    return 1 if outcome.share > FAILED_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
