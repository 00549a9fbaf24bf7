"""The scorecard: every way that a provider is known to fail, streaming and not, on real sockets.

Each fault is a provider's behaviour; a second provider is well. What the client got and what the
upstreams saw decide the mark:

- hidden: the client has the complete answer of the working provider, and nothing else;
- passed through: the behaviour is unusual but valid, and the answer is complete;
- reported: the client can see that the answer is not complete (an error, or a broken connection);
- wrong: anything else. There must be none.

What a single answer can't show is in `episodes.py`. `python tests/live/scorecard.py` runs both and
writes docs/scorecard.md, and the sum of it into README.md.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from live import episodes
from live.harness import ROOT, Peer, Running, Seen, Upstream, balancer, posted
from live.provider_faults import (
    APART,
    CALLERS,
    HIDDEN,
    LOOKS_STALE,
    REPORTED,
    TEXT,
    UNREACHABLE,
    UNTOUCHED,
    UNUSUAL,
    well,
)

PAGE = ROOT / "docs" / "scorecard.md"
README = ROOT / "README.md"
MARKS = ("hidden", "passed through", "reported", "wrong")


@dataclass(frozen=True)
class Row:
    """One fault, one way of asking."""

    fault: str
    stream: bool
    expected: str
    mark: str
    detail: str = ""


async def post(running: Running, model: str, stream: bool) -> tuple[int, bytes, bool]:
    """Ask like any client; return status, body, and whether the body ended as it should."""
    body = json.dumps(
        {"model": model, "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    return await posted(running, body)


def judged(status: int, body: bytes, whole: bool, stream: bool) -> str:
    """Say what a client of any kind can make of an answer."""
    if not whole:
        return "reported"
    if status != 200:
        return "reported" if json.loads(body)["type"] == "error" else "wrong"
    if not stream:
        return "whole" if TEXT in body.decode() else "wrong"
    if b"event: error\n" in body:
        return "reported" if b"event: message_stop" not in body else "wrong"
    frames = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    kinds = [frame["type"] for frame in frames]
    text = "".join(frame["delta"].get("text", "") for frame in frames if frame["type"] == "content_block_delta")
    fine = kinds.count("message_start") == 1 and kinds[-1] == "message_stop" and text.strip() == TEXT
    return "whole" if fine else "wrong"


Ask = Callable[[str, bool], Awaitable[tuple[int, bytes, bool]]]


async def run() -> list[Row]:
    """Play every fault, streaming and not, and mark what came of it."""
    faults = {**HIDDEN, **APART, **REPORTED, **CALLERS, **UNUSUAL}

    async def ill(seen: Seen, peer: Peer) -> None:
        await faults[seen.json["model"]](seen, peer)

    async with Upstream(ill) as first, Upstream(well) as second:
        async with balancer(_configuration(first, second)) as running:
            asked = [(name, stream) for name in (*faults, *UNREACHABLE) for stream in (True, False)]
            at_once = asyncio.Semaphore(40)  # more would wait for each other longer than for their providers

            async def one(name: str, stream: bool) -> tuple[int, bytes, bool]:
                async with at_once:
                    return await post(running, name, stream)

            answers = await asyncio.gather(*(one(*each) for each in asked))
        return [
            _row(name, stream, answer, first, second) for (name, stream), answer in zip(asked, answers, strict=True)
        ]


def _configuration(first: Upstream, second: Upstream) -> str:
    providers = [
        f'  - {{name: ill, type: anthropic, base_url: "http://127.0.0.1:{first.port}", auth_value: sk-1}}',
        f'  - {{name: well, type: anthropic, base_url: "http://127.0.0.1:{second.port}", auth_value: sk-2}}',
    ]
    routes = ['  "*": [{provider: ill, priority: 1}, {provider: well, priority: 2}]']
    apart = dict.fromkeys(APART, f"http://127.0.0.1:{first.port}")
    for number, (name, url) in enumerate({**apart, **UNREACHABLE}.items()):
        url = url.format(port=second.port)
        providers.append(f'  - {{name: u{number}, type: anthropic, base_url: "{url}", auth_value: sk-3}}')
        routes.append(f'  "{name}": [{{provider: u{number}, priority: 1}}, {{provider: well, priority: 2}}]')
    settings = (
        "settings: {failure_cooldown: 0, request_timeout: 2, stream_idle_timeout: 2, non_streaming_timeout: 2, "
        "connect_timeout: 2, stream_stall_timeout: 4}"
    )
    return "\n".join(["providers:", *providers, "model_routes:", *routes, settings])


def _row(name: str, stream: bool, answer: tuple[int, bytes, bool], first: Upstream, second: Upstream) -> Row:
    found = judged(*answer, stream)
    asked_ill = sum(seen.json["model"] == name and seen.stream == stream for seen in first.asked)
    asked_well = sum(seen.json["model"] == name and seen.stream == stream for seen in second.asked)
    if name in CALLERS:
        expected = "reported"
        right = found == "reported" and asked_ill == 1 and asked_well == 0
        right = right and (name not in UNTOUCHED or answer[:2] == (UNTOUCHED[name].status, UNTOUCHED[name].body))
    elif name in UNUSUAL:
        expected = "passed through"
        right = found == "whole" and asked_ill == 1 and asked_well == 0
    elif name in REPORTED and stream:
        expected = "reported"
        right = found == "reported" and asked_ill == 1 and asked_well == 0
    else:
        expected = "hidden"
        right = found == "whole" and asked_ill <= 1 + (name in LOOKS_STALE) and asked_well == 1
    detail = (
        "" if right else f"{found}, ill asked {asked_ill}, well asked {asked_well}, {answer[0]} {answer[1][:200]!r}"
    )
    return Row(name, stream, expected, expected if right else "wrong", detail)


def summary(rows: list[Row], played: dict[str, str]) -> str:
    """Return the part of README.md that shows the scorecard."""
    columns = {
        "streaming": [row.mark for row in rows if row.stream],
        "not streaming": [row.mark for row in rows if not row.stream],
        "over time": list(played.values()),
    }
    lines = ["|  | faults | " + " | ".join(MARKS) + " |", "|---" * (2 + len(MARKS)) + "|"]
    for name, marks in columns.items():
        counts = " | ".join(str(sum(mark.startswith(one) for mark in marks)) for one in MARKS)
        lines.append(f"| {name} | {len(marks)} | {counts} |")
    return "\n".join(lines) + "\n"


_SHOWN = re.compile(r"(?<=<!-- make scorecard -->\n).*?(?=<!-- end -->)", re.DOTALL)


def readme(rows: list[Row], played: dict[str, str]) -> str:
    """Return README.md with what it shows of the scorecard."""
    return _SHOWN.sub(lambda _: summary(rows, played), README.read_text())


def page(rows: list[Row], played: dict[str, str]) -> str:
    """Return docs/scorecard.md."""
    marks = {(row.fault, row.stream): row.mark for row in rows}
    names = list(dict.fromkeys(row.fault for row in rows))
    counts = {mark: sum(row.mark == mark for row in rows) for mark in MARKS}
    lines = [
        "# Scorecard",
        "",
        "Written by `make scorecard`, and played again in every run of the tests: a provider fails in each of these ways, on real",
        "sockets, while a second one works.",
        "",
        "* *hidden*: the client has the complete answer of the working provider, and nothing else.",
        "* *passed through*: unusual but valid, and delivered completely.",
        "* *reported*: the client can see that it failed: an error, or a connection that broke.",
        "* *wrong*: anything else.",
        "",
        f"{len(names)} faults, each streaming and not: "
        + ", ".join(f"{count} {mark}" for mark, count in counts.items())
        + ".",
        "",
        "| what the provider does | streaming | not streaming |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {marks[name, True]} | {marks[name, False]} |" for name in names]
    lines += ["", "What a single answer can't show:", "", "| what happens | the client |", "|---|---|"]
    lines += [f"| {words} | {mark} |" for words, mark in played.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    rows = asyncio.run(run())
    played = asyncio.run(episodes.run())
    wrong = [str(row) for row in rows if row.mark == "wrong"]
    wrong += [f"{words}: {mark}" for words, mark in played.items() if mark.startswith("wrong")]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    PAGE.write_text(page(rows, played))
    README.write_text(readme(rows, played))
    return 0


if __name__ == "__main__":
    sys.exit(main())
