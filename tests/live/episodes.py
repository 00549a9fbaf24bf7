"""The scorecard's second part: what one answer of a provider can't show.

An outage that lasts, a provider that flaps, silence of more than ten seconds, a body of 20 MB, a
count that nobody can make, a client that leaves, a reload and a stop in the middle of an answer; what follows from a refusal is in `verdicts.py`.
An episode asserts what has to be so, with the upstreams' own logs as evidence, and its mark says
what the client then has: see `scorecard.py`.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2
from live import verdicts
from live.harness import (
    Peer,
    Running,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    eventually,
    good,
    start,
    stop,
)

TEXT = "Hello from the upstream."


def ask(number: int = 0, stream: bool = False, content: str = "hi") -> dict[str, object]:
    messages = [{"role": "user", "content": content}]
    return {"model": "m", "max_tokens": 100 + number, "stream": stream, "messages": messages}


def client(running: Running) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=running.url, timeout=60)


def refusal(kind: str, words: str = "no") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode()


async def overloaded(seen: Seen, peer: Peer) -> None:
    await peer.whole(529, refusal("overloaded_error"))


async def silent(seen: Seen, peer: Peer) -> None:
    await asyncio.sleep(60)


def whole(answer: httpx2.Response) -> bool:
    """Say whether this is the whole answer of a provider that is well, streamed or not."""
    if answer.status_code != 200:
        return False
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return bool(answer.json()["content"][0]["text"] == TEXT)
    ends = answer.text.rstrip().endswith('data: {"type": "message_stop"}')
    return answer.text.count("event: message_start") == 1 and "upstream." in answer.text and ends


async def lasting_outage_of_one() -> None:
    """It sees the request that found it out, and no other while it rests."""
    for status, kind in ((429, "rate_limit_error"), (503, "api_error")):

        async def ill(seen: Seen, peer: Peer, status: int = status, kind: str = kind) -> None:
            await peer.whole(status, refusal(kind), retry_after="20")

        async with (
            Upstream(ill) as a,
            Upstream() as b,
            balancer(configuration(a, b)) as running,
            client(running) as http,
        ):
            for number in range(20):
                assert whole(await http.post("/v1/messages", json=ask(number, stream=number % 2 == 0)))
            assert (len(a.asked), len(b.asked)) == (1, 20)


async def total_outage() -> None:
    async with (
        Upstream(overloaded) as a,
        Upstream(overloaded) as b,
        balancer(configuration(a, b)) as running,
        client(running) as http,
    ):
        asking = [http.post("/v1/messages", json=ask(number, stream=number % 2 == 0)) for number in range(60)]
        answers = await asyncio.gather(*asking)

        assert {answer.status_code for answer in answers} == {503}
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in answers)
        assert len(a.asked) + len(b.asked) <= 1.2 * 60 + 10


async def flapping() -> None:
    loop = asyncio.get_running_loop()

    async def ill(seen: Seen, peer: Peer) -> None:
        if loop.time() % 2.0 < 1.0:
            await good(seen, peer)
        else:
            peer.reset()

    async with (
        Upstream(ill) as a,
        Upstream() as b,
        balancer(configuration(a, b, settings="failure_cooldown: 1")) as running,
        client(running) as http,
    ):

        async def later(number: int) -> httpx2.Response:
            await asyncio.sleep(number / 20)
            return await http.post("/v1/messages", json=ask(number, stream=number % 2 == 0))

        assert all(map(whole, await asyncio.gather(*map(later, range(160)))))
        assert len(a.asked) < 120


async def single_provider_stumbles() -> None:
    async def stumbling(seen: Seen, peer: Peer) -> None:
        await (overloaded if len(up.asked) % 2 else good)(seen, peer)

    async with Upstream(stumbling) as up, balancer(configuration(up)) as running, client(running) as http:
        assert whole(await http.post("/v1/messages", json=ask(stream=True)))
        assert len(up.asked) == 2


async def silence_beyond_ten_seconds() -> None:
    """The client is kept with pings, and the next provider answers behind them."""
    async with (
        Upstream(silent) as a,
        Upstream() as b,
        balancer(configuration(a, b, settings="request_timeout: 11")) as running,
        client(running) as http,
    ):
        answer = await http.post("/v1/messages", json=ask(stream=True))

        assert whole(answer)
        assert answer.text.startswith("event: ping\n")
        assert (len(a.asked), len(b.asked)) == (1, 1)


async def silence_of_everybody() -> None:
    """The one error that makes Claude Code stream again. The last provider is waited for to the deadline."""
    async with (
        Upstream(silent) as a,
        balancer(configuration(a, settings="request_timeout: 11")) as running,
        client(running) as http,
    ):
        answer = await http.post("/v1/messages", json=ask(stream=True), headers={"x-stainless-timeout": "19"})

        assert len(a.asked) == 1, "it would begin the same work anew"
        assert answer.status_code == 200
        assert answer.text.startswith("event: ping\n")
        last = json.loads(answer.text.rstrip().rpartition("data: ")[2])
        assert last["error"]["type"] == "overloaded_error"
        assert "message_st" not in answer.text


async def fallback_refuses() -> None:
    """A fault of the request is told as the second said it, though the first may be had later."""

    async def picky(seen: Seen, peer: Peer) -> None:
        await peer.whole(400, refusal("invalid_request_error", "messages.0.content: Input should be a valid list"))

    async with (
        Upstream(overloaded) as a,
        Upstream(picky) as b,
        balancer(configuration(a, b)) as running,
        client(running) as http,
    ):
        answer = await http.post("/v1/messages", json=ask())

        assert (answer.status_code, len(a.asked), len(b.asked)) == (400, 1, 1)
        assert answer.content == refusal("invalid_request_error", "messages.0.content: Input should be a valid list")


async def accounting() -> None:
    """Whose answer it was and what it used is told of the provider that gave it."""
    async with (
        Upstream(overloaded) as a,
        Upstream() as b,
        balancer(configuration(a, b)) as running,
        client(running) as http,
    ):
        answer = await http.post("/v1/messages", json=ask(stream=True))
        told = {p["name"]: p for p in (await http.get("/providers")).json()["providers"]}
        (ended,) = await running.ended()

        assert (answer.headers["x-balancer-provider"], answer.headers["x-balancer-attempts"]) == ("b", "2")
        assert told["a"]["tokens"]["output"] == 0
        assert (told["b"]["tokens"]["input"], told["b"]["tokens"]["output"]) == (7, 5)
        assert (ended["provider"], ended["usage"]["input_tokens"], ended["usage"]["output_tokens"]) == ("b", 7, 5)


async def one_key_of_two_refused() -> None:
    async def by_key(seen: Seen, peer: Peer) -> None:
        if seen.header("x-api-key") == "sk-canary-a":
            await peer.whole(401, refusal("authentication_error"))
        else:
            await good(seen, peer)

    async with Upstream(by_key) as up, balancer(configuration(up, up)) as running, client(running) as http:
        for number in range(3):
            assert whole(await http.post("/v1/messages", json=ask(number)))
        assert len(up.asked) == 4


async def nobody_counts() -> None:
    async def uncounting(seen: Seen, peer: Peer) -> None:
        if "count_tokens" in seen.target:
            await peer.whole(404, b"<html>not here</html>", "text/html")
        else:
            await good(seen, peer)

    async with Upstream(uncounting) as up, balancer(configuration(up)) as running, client(running) as http:
        count = await http.post("/v1/messages/count_tokens", json=ask())
        answer = await http.post("/v1/messages", json=ask())

        assert count.headers["x-balancer-token-source"] == "estimate"
        assert count.json()["input_tokens"] > 0
        assert whole(answer)


async def cut_in_the_upload() -> None:
    """The provider hangs up on a body of 20 MB before it is out; the next gets it whole."""

    async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.transport.abort()

    server = await asyncio.start_server(hanging_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Upstream() as b, balancer(configuration(port, b)) as running, client(running) as http:
        answer = await http.post("/v1/messages", json=ask(stream=True, content="x" * 20_000_000))

        assert whole(answer)
        assert len(b.asked[0].body) > 20_000_000


async def client_leaves() -> None:
    """Nobody pays for what nobody reads, and nobody is blamed."""

    async def endless(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block())
        while True:
            await peer.chunk(delta("more "))
            await asyncio.sleep(0.05)

    async with Upstream(endless) as up, balancer(configuration(up)) as running, client(running) as http:
        async with http.stream("POST", "/v1/messages", json=ask(stream=True)) as answer:
            async for _ in answer.aiter_bytes():
                break
        await eventually(lambda: up.left == 1, within_s=2)
        (ended,) = await running.ended()
        told = (await http.get("/providers")).json()["providers"][0]

        assert ended["outcome"] == "abandoned"
        assert (told["state"], told["failures"], told["in_flight"]) == ("healthy", 0, 0)


async def _interrupted(interrupt: Callable[[Running], Awaitable[None]]) -> None:
    """Begin an answer, let something happen to the balancer, and see the answer come to its end."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("Hello from "))
        begun.set()
        await go_on.wait()
        await peer.chunk(delta("the upstream.") + stop())
        await peer.end()

    async with Upstream(slowly) as up, balancer(configuration(up)) as running, client(running) as http:
        asking = asyncio.ensure_future(http.post("/v1/messages", json=ask(stream=True)))
        await begun.wait()
        await interrupt(running)
        go_on.set()
        assert whole(await asking)


async def reload_in_the_middle() -> None:
    async def reload(running: Running) -> None:
        (running.folder / "providers.yaml").write_text(configuration(9))
        async with client(running) as http:
            assert (await http.post("/providers/reload")).status_code == 200

    await _interrupted(reload)


async def stop_in_the_middle() -> None:
    async def terminate(running: Running) -> None:
        running.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)

    await _interrupted(terminate)


@dataclass(frozen=True)
class Episode:
    """What happens, what a client has then, and how it is played."""

    words: str
    mark: str
    play: Callable[[], Awaitable[None]]


EPISODES = (
    Episode("429 and 503 that last: no more than one request during the cooldown", "hidden", lasting_outage_of_one),
    Episode("a provider that flaps, 20 requests a second", "hidden", flapping),
    Episode("a single provider that stumbles: tried again", "hidden", single_provider_stumbles),
    Episode("silence of more than 10 s: pings, then the next provider", "hidden", silence_beyond_ten_seconds),
    Episode("one key of two refused", "hidden", one_key_of_two_refused),
    Episode("a connection cut while 20 MB are sent", "hidden", cut_in_the_upload),
    Episode("tokens that nobody can count: estimated, and no provider goes into cooldown", "hidden", nobody_counts),
    Episode("failed over: provider and usage are those of the one that answered", "hidden", accounting),
    Episode("a configuration reloaded in the middle of an answer", "passed through", reload_in_the_middle),
    Episode("SIGTERM in the middle of an answer", "passed through", stop_in_the_middle),
    Episode(
        "a client that leaves: the provider's connection is closed at once, without blame",
        "passed through",
        client_leaves,
    ),
    Episode("everybody down: 503 with retry-after, at most 1.2 attempts per request", "reported", total_outage),
    Episode(
        "everybody silent: pings, then an error that makes Claude Code stream again", "reported", silence_of_everybody
    ),
    Episode("the first down, the second refuses the request: its own words", "reported", fallback_refuses),
)


OTHERS = {"hidden": verdicts.HIDDEN, "passed through": verdicts.PASSED, "reported": verdicts.REPORTED}
EVERY = (
    *EPISODES,
    *(Episode(words, mark, play) for mark, several in OTHERS.items() for words, play in several.items()),
)


async def run() -> dict[str, str]:
    """Play every episode; return the mark of each, and with `wrong` what was wrong."""

    at_once = asyncio.Semaphore(3)  # each starts a balancer of its own

    async def one(episode: Episode) -> str:
        try:
            async with at_once:
                await episode.play()
        except (AssertionError, TimeoutError, httpx2.HTTPError) as error:
            return f"wrong: {error!r}"
        return episode.mark

    marks = await asyncio.gather(*map(one, EVERY))
    return {episode.words: mark for episode, mark in zip(EVERY, marks, strict=True)}
