"""Claude's clients through an OpenAI-type upstream, and failover between the two types of provider."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import anthropic
import pytest
from live.harness import Behaviour, Peer, Seen, Upstream, balancer, good
from live.test_claude_code import ask as ask_claude
from live.test_sdk import client
from openai.types.chat import ChatCompletion, ChatCompletionChunk

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ASK: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"name": "Bash", "description": "runs", "input_schema": {"type": "object", "properties": {}}}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
}


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _framed({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _framed(more: dict[str, Any]) -> bytes:
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x", **more}
    ChatCompletionChunk.model_validate(data)
    return f"data: {json.dumps(data)}\n\n".encode()


END = _framed({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"


def completion(message: dict[str, Any], finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    data = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x", "choices": [choice]}
    ChatCompletion.model_validate({**data, "usage": USAGE})
    return json.dumps({**data, "usage": USAGE}).encode()


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


async def chat(seen: Seen, peer: Peer, text: str = "Hello from OpenAI.") -> None:
    """Answer as an OpenAI-compatible server does."""
    if seen.method == "GET":
        await peer.whole(200, b'{"object":"list","data":[{"id":"gpt-x","object":"model","created":1,"owned_by":"o"}]}')
    elif not seen.stream:
        await peer.whole(200, completion({"content": text}))
    else:
        await peer.sse()
        await peer.chunk(chunk({"role": "assistant", "content": ""}))
        for word in text.split(" "):
            await peer.chunk(chunk({"content": word + " "}))
        await peer.chunk(chunk({}, "stop") + END)
        await peer.end()


async def chat_with_tool(seen: Seen, peer: Peer) -> None:
    """Call Bash first; when its output is there, say so."""
    if any(message["role"] == "tool" for message in seen.json["messages"]) or "tools" not in seen.json:
        await chat(seen, peer, "The tool has run.")
        return
    written = '{"command": "echo balancer-$((40+2))", "description": "x"}'
    if not seen.stream:
        await peer.whole(200, completion({"content": None, "tool_calls": [call("Bash", written)]}, "tool_calls"))
        return
    await peer.sse()
    await peer.chunk(chunk({"role": "assistant", "content": None, "tool_calls": [call("Bash", "")]}))
    for start in range(0, len(written), 7):
        part = {"index": 0, "function": {"arguments": written[start : start + 7]}}
        await peer.chunk(chunk({"tool_calls": [part]}))
    await peer.chunk(chunk({}, "tool_calls") + END)
    await peer.end()


def configuration(*providers: tuple[str, Upstream], options: str = "") -> str:
    """Return a providers.yaml with one provider of the given type an upstream, by priority."""
    lines = ["providers:"]
    for name, (kind, upstream) in zip("abcd", providers, strict=False):
        more = f", openai_config: {{{options}}}" if kind == "openai" and options else ""
        where = f'base_url: "http://127.0.0.1:{upstream.port}", auth_value: sk-canary-{name}'
        lines.append(f"  - {{name: {name}, type: {kind}, {where}{more}}}")
    targets = [f"{{provider: {'abcd'[at]}, model: passthrough, priority: {at + 1}}}" for at in range(len(providers))]
    return "\n".join([*lines, "model_routes:", f'  "*": [{", ".join(targets)}]']) + "\n"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_message(stream: bool) -> None:
    async with (
        Upstream(chat) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        if stream:
            async with sdk.messages.stream(**ASK) as streaming:
                answer = await streaming.get_final_message()
        else:
            answer = await sdk.messages.create(**ASK)

        assert answer.content[0].text.strip() == "Hello from OpenAI."  # type: ignore[union-attr]
        assert (answer.model, answer.stop_reason) == ("claude-opus-5-5", "end_turn")
        assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (12, 8)
        assert answer.usage.output_tokens == 5
        (seen,) = up.asked
        assert seen.target == "/v1/chat/completions"
        assert seen.header("authorization") == "Bearer sk-canary-a"
        names = {name.lower() for name, _ in seen.headers}
        assert not [name for name in names if name.startswith(("anthropic", "x-stainless", "x-api-key", "user-agent"))]
        assert "sk-ant-client" not in str(seen.headers)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_turn_of_the_sdk(stream: bool) -> None:
    async with (
        Upstream(chat_with_tool) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        asked: dict[str, Any] = {**ASK, "tools": [TOOL]}
        if stream:
            async with sdk.messages.stream(**asked) as streaming:
                answer = await streaming.get_final_message()
        else:
            answer = await sdk.messages.create(**asked)

        (use,) = answer.content
        assert use.type == "tool_use"
        assert (answer.stop_reason, use.name, use.id) == ("tool_use", "Bash", "call_1")
        assert use.input == {"command": "echo balancer-$((40+2))", "description": "x"}


async def test_a_tool_turn_of_claude_code(claude_code: Path) -> None:
    async with Upstream(chat_with_tool) as up, balancer(configuration(("openai", up))) as running:
        result = await ask_claude(claude_code, running, "run it", "--allowedTools", "Bash Read")

        assert "The tool has run." in result["result"]
        assert result["is_error"] is False
        assert len(up.asked) == 2
        results = [message for message in up.asked[1].json["messages"] if message["role"] == "tool"]
        assert "balancer-42" in results[0]["content"]
        assert "x-anthropic-billing-header" not in json.dumps(up.asked[0].json)


async def test_models_are_listed() -> None:
    async with (
        Upstream(chat) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        assert "gpt-x" in [model.id async for model in sdk.models.list()]


async def anthropic_down(seen: Seen, peer: Peer) -> None:
    await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')


async def openai_down(seen: Seen, peer: Peer) -> None:
    if seen.stream:
        await peer.sse()
        await peer.chunk(chunk({"role": "assistant", "content": ""}))
        await peer.chunk(b'data: {"error": {"message": "at capacity", "code": "overloaded"}}\n\n')
        await peer.end()
    else:
        await peer.whole(503, b'{"error": {"message": "at capacity", "type": "server_error", "code": null}}')


FAILOVERS: dict[str, tuple[str, Behaviour, str, Behaviour, str]] = {
    "from anthropic to openai": ("anthropic", anthropic_down, "openai", chat, "Hello from OpenAI."),
    "from openai to anthropic": ("openai", openai_down, "anthropic", good, "Hello from the upstream."),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("case", FAILOVERS.values(), ids=FAILOVERS)
async def test_failover(case: tuple[str, Behaviour, str, Behaviour, str], stream: bool) -> None:
    ill_type, ill_behaviour, well_type, well_behaviour, text = case
    async with (
        Upstream(ill_behaviour) as ill,
        Upstream(well_behaviour) as well,
        balancer(configuration((ill_type, ill), (well_type, well))) as running,
        client(running.url) as sdk,
    ):
        if stream:
            async with sdk.messages.stream(**ASK) as streaming:
                answer = await streaming.get_final_message()
        else:
            answer = await sdk.messages.create(**ASK)

        assert answer.content[0].text.strip() == text  # type: ignore[union-attr]
        assert (len(ill.asked), len(well.asked)) == (1, 1)


@pytest.mark.parametrize("case", FAILOVERS.values(), ids=FAILOVERS)
async def test_a_conversation_stays_with_the_type_that_took_over(
    case: tuple[str, Behaviour, str, Behaviour, str],
) -> None:
    ill_type, ill_behaviour, well_type, well_behaviour, _ = case
    healed: Behaviour = chat if ill_type == "openai" else good

    async with (
        Upstream(ill_behaviour) as first,
        Upstream(well_behaviour) as second,
        balancer(
            configuration((ill_type, first), (well_type, second)) + "settings: {failure_cooldown: 0}\n"
        ) as running,
        client(running.url) as sdk,
    ):
        for session in ("one", "one", "another"):
            await sdk.messages.create(**ASK, extra_headers={"x-claude-code-session-id": session})
            first.behaviour = healed

        assert (len(first.asked), len(second.asked)) == (2, 2)


async def test_a_lesson_is_learnt_once() -> None:
    async def picky(seen: Seen, peer: Peer) -> None:
        if "max_tokens" in seen.json:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            error = {"message": message, "code": "unsupported_parameter", "param": "max_tokens"}
            await peer.whole(400, json.dumps({"error": error}).encode())
        else:
            await chat(seen, peer)

    async with (
        Upstream(picky) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        for _ in range(2):
            await sdk.messages.create(**ASK)
        shown = await shown_at(running.url + "/providers")

        assert ["max_tokens" in seen.json for seen in up.asked] == [True, False, False]
        assert "rename:max_tokens:max_completion_tokens" in json.dumps(shown)


async def shown_at(url: str) -> Any:
    return await asyncio.to_thread(lambda: json.loads(urllib.request.urlopen(url).read()))


PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}


async def test_what_one_cannot_take_goes_to_the_next_or_is_refused_by_name() -> None:
    asked: dict[str, Any] = {**ASK, "messages": [{"role": "user", "content": [PDF]}]}
    async with (
        Upstream(chat) as texts,
        Upstream() as all_,
        balancer(configuration(("openai", texts), ("anthropic", all_))) as both,
        balancer(configuration(("openai", texts))) as one,
        client(both.url) as sdk,
        client(one.url) as alone,
    ):
        answer = await sdk.messages.create(**asked)
        with pytest.raises(anthropic.BadRequestError, match=r"PDF.*'a' takes text only"):
            await alone.messages.create(**asked)

        assert answer.content[0].text == "Hello from the upstream."
        assert texts.asked == []


async def test_a_web_search_goes_to_who_can_search() -> None:
    asked: dict[str, Any] = {**ASK, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    async with (
        Upstream(chat) as plain,
        Upstream(chat) as searching,
        balancer(configuration(("openai", plain), ("openai", searching))) as neither,
        client(neither.url) as alone,
    ):
        second = f"http://127.0.0.1:{searching.port}"
        entries = [
            {"name": "a", "type": "openai", "auth_value": "k", "base_url": f"http://127.0.0.1:{plain.port}"},
            {"name": "b", "type": "openai", "auth_value": "k", "base_url": second,
             "openai_config": {"web_search": "openrouter"}},
        ]  # fmt: skip
        routes = {"*": [{"provider": "a"}, {"provider": "b", "priority": 2}]}
        async with (
            balancer(json.dumps({"providers": entries, "model_routes": routes})) as both,
            client(both.url) as sdk,
        ):
            answer = await sdk.messages.create(**asked)
            with pytest.raises(anthropic.BadRequestError, match=r"web_search_20250305 can't be sent: provider 'a'"):
                await alone.messages.create(**asked)

        assert answer.content[0].text == "Hello from OpenAI."
        assert plain.asked == []
        assert [seen.json["tools"] for seen in searching.asked] == [[{"type": "openrouter:web_search"}]]


async def test_thinking_of_one_type_does_not_reach_the_other() -> None:
    async def thinking(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(chunk({"reasoning_content": "hm"}) + chunk({"content": "so"}) + chunk({}, "stop") + END)
        await peer.end()

    async with (
        Upstream(thinking) as up,
        Upstream() as claude,
        balancer(configuration(("openai", up))) as first,
        balancer(configuration(("anthropic", claude))) as second,
        client(first.url) as sdk,
        client(second.url) as other,
    ):
        async with sdk.messages.stream(**ASK) as stream:
            said = await stream.get_final_message()
        history = [*ASK["messages"], {"role": "assistant", "content": said.content}, {"role": "user", "content": "go"}]
        await other.messages.create(**{**ASK, "messages": history})

        assert [block.type for block in said.content] == ["thinking", "text"]
        assert [block["type"] for block in claude.asked[0].json["messages"][1]["content"]] == ["text"]


async def test_a_stream_that_breaks_off_is_an_error_not_an_end() -> None:
    async def breaking(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(chunk({"content": "half an ans"}))
        await peer.end()

    async with (
        Upstream(breaking) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        with pytest.raises(anthropic.APIStatusError, match="ended early"):
            async with sdk.messages.stream(**ASK) as stream:
                await stream.get_final_message()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_whose_server_does_not_end_it_ends_soon(stream: bool) -> None:
    async def hanging(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(chunk({"content": "whole"}) + chunk({}, "stop"))
        await peer.left.wait()

    async with (
        Upstream(hanging) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
        asyncio.timeout(10),
    ):
        if stream:
            async with sdk.messages.stream(**ASK) as streaming:
                answer = await streaming.get_final_message()
        else:
            answer = await sdk.messages.create(**ASK)

        assert answer.content[0].text == "whole"  # type: ignore[union-attr]
        assert answer.stop_reason == "end_turn"


INSIDES = {"set_cookie": "a=b", "openai_organization": "org-AbCdEf123456", "cf_ray": "x", "via": "1.1 up.internal"}


async def test_nothing_of_the_providers_insides_reaches_the_client() -> None:
    async def leaky(seen: Seen, peer: Peer) -> None:
        if seen.stream:
            await peer.sse()
            error = {"message": "key of org-AbCdEf123456 on up.internal", "code": "invalid_api_key"}
            await peer.chunk(chunk({"content": "half"}) + f"data: {json.dumps({'error': error})}\n\n".encode())
            await peer.end()
        else:
            body = b'{"error": {"message": "org-AbCdEf123456: bad request on up.internal:80"}}'
            await peer.whole(400, body, **INSIDES)

    async with (
        Upstream(leaky) as up,
        balancer(configuration(("openai", up))) as running,
        client(running.url) as sdk,
    ):
        with pytest.raises(anthropic.BadRequestError) as refused:
            await sdk.messages.create(**ASK)
        with pytest.raises(anthropic.APIStatusError) as broken:
            async with sdk.messages.stream(**ASK) as stream:
                await stream.get_final_message()
        seen = [str(refused.value), str(broken.value), str(refused.value.response.headers)]

        assert refused.value.request_id == refused.value.body["request_id"]  # type: ignore[index]
        assert "'type': 'api_error'" in str(broken.value)
        assert not [what for what in ("org-", "up.internal", "a=b", "cf-ray") if what in "".join(seen)]


async def streams_only(seen: Seen, peer: Peer) -> None:
    """Refuse whoever does not ask for a stream."""
    if seen.method == "POST" and not seen.stream:
        await peer.whole(400, b'{"error":{"message":"Stream must be set to true"}}')
    else:
        await chat(seen, peer)


async def test_a_server_that_only_streams_answers_whole_and_a_restart_does_not_forget_it(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "l.jsonl"
    async with Upstream(streams_only) as up:
        config = configuration(("openai", up)) + f'settings: {{log_file: "{log}"}}\n'
        for asked in (2, 3):  # the second run begins with what the first one learnt
            async with balancer(config) as running, client(running.url) as sdk:
                answer = await sdk.messages.create(**ASK)
                shown = await shown_at(f"{running.url}/providers")

            assert answer.content[0].text.strip() == "Hello from OpenAI."
            assert answer.stop_reason == "end_turn"
            assert len(up.asked) == asked
            assert shown["providers"][0]["openai"]["lessons"] == {"claude-opus-5-5": ["config:streaming=always"]}
    kept = log.with_name("l.learnt.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "canary" not in kept.read_text()
