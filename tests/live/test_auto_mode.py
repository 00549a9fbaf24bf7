"""The real Claude Code in auto mode: it asks the model's service to check actions, which not every type can do."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fakezed import PAIR, FakeZed, line
from live.harness import (
    Behaviour,
    Peer,
    Running,
    Seen,
    Upstream,
    arguments,
    balancer,
    block,
    event,
    good,
    message,
    start,
)
from live.test_claude_code import claude
from live.test_openai_provider import call, chat, completion

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

COMMAND = "python3 -c \"open('made-by-the-command', 'w')\""
INPUT = json.dumps({"command": COMMAND, "description": "x"})
BETAS = ("dangerous-tool-use-", "afk-mode-")
NOTICE = "can't check"
DONE = "All is done."


def answered(seen: Seen) -> bool:
    """Return whether the tool's result is there, or the request is one beside the conversation."""
    return "tool_result" in seen.body.decode() or not seen.json.get("tools")


def verdict(outcome: str = "not_flagged") -> list[dict[str, Any]]:
    checked = {"toolu_01": {"type": "evaluated", "outcome": outcome}}
    return [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": checked}}]


async def judging(seen: Seen, peer: Peer) -> None:
    """Answer as Anthropic does: a call of a tool, with a verdict on it where one was asked for."""
    if answered(seen):
        await good(seen, peer, DONE)
        return
    more = {"safeguard_results": verdict()} if "safeguards" in seen.json else {}
    delta = {"stop_reason": "tool_use", "stop_sequence": None, **more}
    await peer.sse()
    await peer.chunk(start() + block(type="tool_use", id="toolu_01", name="Bash", input={}) + arguments(INPUT))
    await peer.chunk(event({"type": "content_block_stop", "index": 0}))
    await peer.chunk(event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}))
    await peer.chunk(event({"type": "message_stop"}))
    await peer.end()


async def relay(seen: Seen, peer: Peer) -> None:
    """Refuse what this service does not know."""
    if "safeguards" in seen.json or any(beta in (seen.header("anthropic-beta") or "") for beta in BETAS):
        words = "safeguards: Extra inputs are not permitted"
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
        await peer.whole(400, json.dumps(error).encode())
        return
    await judging(seen, peer)


async def chatting(seen: Seen, peer: Peer) -> None:
    if any(message["role"] == "tool" for message in seen.json["messages"]) or "tools" not in seen.json:
        await chat(seen, peer, DONE)
    else:
        await peer.whole(200, completion({"content": None, "tool_calls": [call("Bash", INPUT)]}, "tool_calls"))


async def responding(seen: Seen, peer: Peer) -> None:
    """Answer as the Responses API does."""
    item: dict[str, Any] = {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": DONE, "annotations": []}],
    }  # fmt: skip
    if "tools" in seen.json and not any(given.get("type") == "function_call_output" for given in seen.json["input"]):
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "Bash", "arguments": INPUT}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-x", "output": [item]}
    usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
    await peer.whole(200, json.dumps({**answer, "usage": usage}).encode())


class CallingZed(FakeZed):
    """A Zed service whose model calls Bash first."""

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if seen.target.startswith("/completions"):
            asked = seen.json["provider_request"]
            called = "tool_result" in json.dumps(asked["messages"]) or not asked.get("tools")
            self.lines = b"".join(line({"event": each}) for each in (said() if called else calling()))
        await super().__call__(seen, peer)


def said() -> list[dict[str, Any]]:
    begin = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": DONE}}
    return _message(begin, text, "end_turn")


def calling() -> list[dict[str, Any]]:
    tool = {"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": {}}
    begin = {"type": "content_block_start", "index": 0, "content_block": tool}
    given = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": INPUT}}
    return _message(begin, given, "tool_use")


def _message(begin: dict[str, Any], delta: dict[str, Any], reason: str) -> list[dict[str, Any]]:
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 7}}
    end = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}
    stop = {"type": "content_block_stop", "index": 0}
    return [{"type": "message_start", "message": message}, begin, delta, stop, end, {"type": "message_stop"}]


MODELS = {
    "models": [
        {"provider": "anthropic", "id": name} for name in ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5")
    ]
}


def zed() -> CallingZed:
    service = CallingZed()
    service.models = MODELS
    return service


TYPES: dict[str, tuple[Behaviour | None, dict[str, Any]]] = {
    "chat": (chatting, {"type": "openai", "auth_value": "k"}),
    "responses": (responding, {"type": "openai", "auth_value": "k", "openai_config": {"api": "responses"}}),
    "zed": (None, {"type": "zed", "auth_value": PAIR}),
    "a relay that refuses the check": (relay, {"type": "anthropic", "auth_value": "k"}),
}


def configuration(*providers: tuple[Upstream, dict[str, Any]]) -> str:
    entries = [
        {"name": name, "base_url": f"http://127.0.0.1:{upstream.port}", **entry}
        for name, (upstream, entry) in zip("abc", providers, strict=False)
    ]
    targets = [{"provider": entry["name"], "priority": at} for at, entry in enumerate(entries, 1)]
    return json.dumps({"providers": entries, "model_routes": {"*": targets}})


class Told:
    """What a session in auto mode came to."""

    def __init__(self, lines: list[dict[str, Any]], made: bool) -> None:
        self.made = made
        """The command has run."""
        self.everything = json.dumps(lines)
        self.result = [entry for entry in lines if entry.get("type") == "result"][-1]


async def session(binary: Path, running: Running, *flags: str) -> Told:
    flags = ("--permission-mode", "auto", "--model", "claude-sonnet-5-5", *flags)
    async with claude(binary, running.url, "make it", *flags) as started:
        out, _ = await started.process.communicate()
        lines = [json.loads(line) for line in out.decode().splitlines() if line.startswith("{")]
        return Told(lines, (started.folder / "made-by-the-command").exists())


async def test_verdicts_of_anthropic_reach_the_client(claude_code: Path) -> None:
    async with (
        Upstream(judging) as up,
        balancer(configuration((up, {"type": "anthropic", "auth_value": "k"}))) as running,
    ):
        told = await session(claude_code, running)

        assert told.made
        assert DONE in told.result["result"]
        asked = [seen for seen in up.asked if "safeguards" in seen.json]
        assert asked
        assert all(beta in (asked[0].header("anthropic-beta") or "") for beta in BETAS)


@pytest.mark.parametrize("name", TYPES)
async def test_where_nothing_can_be_checked_the_command_is_refused_and_the_session_goes_on(
    claude_code: Path, name: str
) -> None:
    behaviour, entry = TYPES[name]
    async with Upstream(behaviour or zed()) as up, balancer(configuration((up, entry))) as running:
        told = await session(claude_code, running)

        assert told.result["is_error"] is False
        assert DONE in told.result["result"]
        assert not told.made
        assert NOTICE not in told.everything
        ends = await running.ended()
        assert any("dropped safeguards" in end.get("notes", ()) for end in ends)
        assert all(end["status"] == 200 for end in ends)


@pytest.mark.parametrize("name", TYPES)
async def test_a_safety_judge_lets_the_command_run_wherever_the_answer_comes_from(claude_code: Path, name: str) -> None:
    behaviour, entry = TYPES[name]
    said = json.dumps({"verdicts": [{"action": 1, "outcome": "not_flagged", "explanation": "It makes a file."}]})

    async def judge(seen: Seen, peer: Peer) -> None:
        await peer.whole(200, message(said))

    async with Upstream(behaviour or zed()) as up, Upstream(judge) as other:
        settings = json.loads(configuration((up, entry), (other, {"type": "anthropic", "auth_value": "k"})))
        settings["model_routes"] = {"*": [{"provider": "a"}]}
        settings["settings"] = {"safety_judge": {"provider": "b", "model": "claude-judge-5"}}
        async with balancer(json.dumps(settings)) as running:
            told = await session(claude_code, running)

        assert told.made
        assert DONE in told.result["result"]
        assert COMMAND.split()[0] in other.asked[0].json["messages"][0]["content"]


async def overloaded(seen: Seen, peer: Peer) -> None:
    await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')


def wake(running: Running, name: str) -> None:
    """End a provider's cooldown."""
    order = json.dumps({"provider": name}).encode()
    asked = urllib.request.Request(f"{running.url}/admin/wake", order, {"content-type": "application/json"})
    urllib.request.urlopen(asked).close()


@pytest.mark.parametrize("name", TYPES)
async def test_a_failover_to_where_nothing_can_be_checked_does_not_end_auto_mode(claude_code: Path, name: str) -> None:
    """Anthropic is overloaded, another type takes over, and then Anthropic is well again."""
    behaviour, entry = TYPES[name]
    first = {"type": "anthropic", "auth_value": "k"}

    async def at_first_overloaded(seen: Seen, peer: Peer) -> None:
        await (overloaded if len(one.asked) < 2 else judging)(seen, peer)

    async with (
        Upstream(at_first_overloaded) as one,
        Upstream(behaviour or zed()) as other,
        balancer(configuration((one, first), (other, entry))) as running,
    ):
        told = await session(claude_code, running)

        assert told.result["is_error"] is False
        assert DONE in told.result["result"]
        assert NOTICE not in told.everything
        assert other.asked
        assert all(end["status"] == 200 for end in await running.ended())
        await asyncio.to_thread(wake, running, "a")
        again = await session(claude_code, running)
        assert again.made
        assert DONE in again.result["result"]


async def test_simulated_providers_keep_the_session_going(claude_code: Path) -> None:
    simulated = {"name": "s", "type": "simulated", "simulated_config": {"latency": 0, "speed": 0, "answer": DONE}}
    async with balancer(json.dumps({"providers": [simulated], "model_routes": {"*": [{"provider": "s"}]}})) as running:
        told = await session(claude_code, running)

        assert DONE in told.result["result"]
        assert NOTICE not in told.everything
