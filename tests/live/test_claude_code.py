"""The real Claude Code client through the real balancer, offline and with a throw-away home."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live.harness import (
    Behaviour,
    Peer,
    Running,
    Seen,
    Upstream,
    arguments,
    balancer,
    block,
    configuration,
    delta,
    error,
    eventually,
    good,
    start,
    stop,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


@dataclass
class Session:
    """A run of the client."""

    process: asyncio.subprocess.Process
    folder: Path

    async def result(self) -> dict[str, Any]:
        """Wait for its end, and return its last word."""
        out, err = await self.process.communicate()
        lines = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
        results: list[dict[str, Any]] = [line for line in lines if line.get("type") == "result"]
        assert results, out.decode()[-2000:] + err.decode()[-2000:]
        return results[-1]


@asynccontextmanager
async def claude(binary: Path, url: str, prompt: str, *flags: str) -> AsyncIterator[Session]:
    with tempfile.TemporaryDirectory() as name:
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": name,
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-ant-fake-client-key",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        process = await asyncio.create_subprocess_exec(
            str(binary), "-p", prompt, "--output-format", "stream-json", "--verbose", *flags,
            cwd=name, env=env, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Session(process, Path(name))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def ask(binary: Path, running: Running, prompt: str = "say hi", *flags: str) -> dict[str, Any]:
    async with claude(binary, running.url, prompt, *flags) as session:
        return await session.result()


async def test_a_prompt(claude_code: Path) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        result = await ask(claude_code, running)

        assert result["is_error"] is False
        assert "Hello from the upstream." in result["result"]
        (seen,) = up.asked
        assert seen.target == "/v1/messages?beta=true"
        assert seen.header("x-api-key") == "sk-canary-a"
        assert "sk-ant-fake" not in str(seen.headers)
        assert "claude-code-" in (seen.header("anthropic-beta") or "")
        assert seen.header("x-claude-code-session-id")
        assert any(message["role"] == "system" for message in seen.json["messages"])


async def test_a_tool_turn(claude_code: Path) -> None:
    async def tool_then_text(seen: Seen, peer: Peer) -> None:
        last = json.dumps(seen.json["messages"])
        if "tool_result" in last:
            await good(seen, peer, "The tool has run.")
            return
        await peer.sse()
        await peer.chunk(start() + block(type="tool_use", id="toolu_01", name="Bash", input={}))
        await peer.chunk(arguments('{"command": "echo balancer-$((40+2))", "description": "x"}') + stop("tool_use"))
        await peer.end()

    async with Upstream(tool_then_text) as up, balancer(configuration(up)) as running:
        result = await ask(claude_code, running, "run it", "--allowedTools", "Bash Read")

        assert "The tool has run." in result["result"]
        assert len(up.asked) == 2
        assert "balancer-42" in json.dumps(up.asked[1].json["messages"])


async def overloaded(seen: Seen, peer: Peer) -> None:
    await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')


async def error_event(seen: Seen, peer: Peer) -> None:
    await peer.sse()
    await peer.chunk(start() + block() + error())
    await peer.end()


async def empty(seen: Seen, peer: Peer) -> None:
    await peer.sse()
    await peer.end()


ILL: dict[str, Behaviour] = {"529": overloaded, "an error event before content": error_event, "an empty 200": empty}


@pytest.mark.parametrize("behaviour", ILL.values(), ids=ILL)
async def test_a_first_provider_that_is_ill_is_not_noticed(claude_code: Path, behaviour: Behaviour) -> None:
    async with (
        Upstream(behaviour) as ill,
        Upstream() as well,
        balancer(configuration(ill, well)) as running,
    ):
        result = await ask(claude_code, running)

        assert result["is_error"] is False
        assert "Hello from the upstream." in result["result"]
        assert (len(ill.asked), len(well.asked)) == (1, 1)


async def test_a_first_provider_that_refuses_connections_is_not_noticed(claude_code: Path) -> None:
    async with Upstream() as well, balancer(configuration(9, well)) as running:
        result = await ask(claude_code, running)

        assert "Hello from the upstream." in result["result"]
        assert len(well.asked) == 1


async def test_a_stream_that_breaks_is_streamed_again(claude_code: Path) -> None:
    """Breaking the connection makes the client stream again; an error event would cost a whole answer."""

    async def breaks_once(seen: Seen, peer: Peer) -> None:
        if len(up.asked) > 1:
            await good(seen, peer)
            return
        await peer.sse()
        await peer.chunk(start() + block() + delta("half an ans"))
        peer.reset()

    async with (
        Upstream(breaks_once) as up,
        Upstream() as well,
        balancer(configuration(up, well)) as running,
    ):
        result = await ask(claude_code, running)

        assert "Hello from the upstream." in result["result"]
        assert all(seen.stream for seen in up.asked + well.asked)
        assert len(up.asked + well.asked) == 2


async def test_an_interrupted_client_closes_the_upstream(claude_code: Path) -> None:
    async def endless(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block())
        while True:
            await peer.chunk(delta("and so on "))
            await asyncio.sleep(0.02)

    async with Upstream(endless) as up, balancer(configuration(up)) as running:
        async with claude(claude_code, running.url, "talk for ever") as session:
            await eventually(lambda: bool(up.asked), 30)
            session.process.send_signal(signal.SIGINT)
            await eventually(lambda: up.left == 1)
        (ended,) = await running.ended()
        assert ended["outcome"] == "abandoned"


async def key_refused(seen: Seen, peer: Peer) -> None:
    await peer.whole(401, b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}')


async def key_refused_late(seen: Seen, peer: Peer) -> None:
    await asyncio.sleep(11)  # the client has its 200 and a ping by then
    await key_refused(seen, peer)


TOLD_WITHIN_S = {"at once": (key_refused, 10.0), "after pings": (key_refused_late, 60.0)}


@pytest.mark.parametrize(("behaviour", "within_s"), TOLD_WITHIN_S.values(), ids=TOLD_WITHIN_S)
async def test_a_key_that_only_a_person_can_mend_is_shown_and_not_retried(
    claude_code: Path, behaviour: Behaviour, within_s: float
) -> None:
    async with Upstream(behaviour) as up, balancer(configuration(up)) as running:
        loop = asyncio.get_running_loop()
        began = loop.time()
        result = await ask(claude_code, running)
        took_s = loop.time() - began
        print(f"the client ended after {took_s:.1f} s: {result['result']}, {len(up.asked)} requests")

        assert result["is_error"] is True
        assert "a: its key was refused (401 key refused): check its auth_value" in result["result"]
        assert took_s <= within_s
        assert len(up.asked) <= 2
