"""The real `openai` SDK through the real balancer, to providers that speak OpenAI's API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from live.harness import Behaviour, Peer, Running, Seen, Upstream, balancer, eventually

from balancer import NAME

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "gpt-9", "messages": [{"role": "user", "content": "hi"}]}
QUESTION: dict[str, Any] = {"model": "gpt-9", "input": "hi"}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]


def configuration(*upstreams: Upstream | int, settings: str = "", model: str = "passthrough", first: str = "") -> str:
    """Return a providers.yaml with one provider of type openai an upstream: a, b, c by priority."""
    names = "abcdefgh"[: len(upstreams)]
    lines = ["providers:"]
    for name, upstream in zip(names, upstreams, strict=True):
        port = upstream if isinstance(upstream, int) else upstream.port
        where = f'base_url: "http://127.0.0.1:{port}", auth_value: sk-canary-{name}'
        lines.append(f"  - {{name: {name}, type: openai, {where}}}")
    lines += [first] if first else []
    targets = ", ".join(f"{{provider: {n}, model: {model}, priority: {i}}}" for i, n in enumerate(names, 1))
    lines += ["model_routes:", f'  "gpt-*": [{targets}]', f"settings: {{{settings}}}"]
    return "\n".join(lines) + "\n"


def client(running: Running, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", **{"api_key": "sk-client", "max_retries": 0, **more})


# What a server of OpenAI's says


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
    told = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices}
    return b"data: " + json.dumps({**told, "usage": None, **more}).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""})
DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 5,
    "total_tokens": 35,
    "prompt_tokens_details": {"cached_tokens": 10},
}
COUNTED = chunk({}, choices=[], usage=USAGE)


def completion(text: str = "Hello there.") -> bytes:
    message = {"role": "assistant", "content": text, "refusal": None}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "up", "choices": choices}
    return json.dumps({**told, "usage": USAGE}, indent=2).encode()


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': 1, **more})}\n\n".encode()


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Hello there.", "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 30, "output_tokens": 5, "total_tokens": 35,
        "input_tokens_details": {"cached_tokens": 10}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    told: dict[str, Any] = {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": None, "model": "up",
        "output": [item], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    return {**told, **more}


ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
CREATED = (
    event("response.created", response=response("in_progress", output=[], usage=None))
    + event("response.output_item.added", output_index=0, item=ITEM)
    + event("response.content_part.added", output_index=0, content_index=0, item_id="msg_1", part=PART)
)
WORDS = [
    event("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=word, logprobs=[])
    for word in ("Hello ", "there.")
]


async def stream(peer: Peer, *chunks: bytes, end: bool = True) -> None:
    await peer.head(
        200, content_type="text/event-stream", transfer_encoding="chunked", x_request_id="req_up",
        x_ratelimit_remaining_requests="7", openai_organization="org-secret1234567",
    )  # fmt: skip
    for data in chunks:
        await peer.chunk(data)
    if end:
        await peer.end()


ANSWERED = (ROLE, chunk({"content": "Hello "}), chunk({"content": "there."}), chunk({}, "stop"), COUNTED, DONE)
RESPONDED = (CREATED, *WORDS, event("response.completed", response=response()))


async def good(seen: Seen, peer: Peer) -> None:
    """Answer as a server of OpenAI's should."""
    path = seen.target.partition("?")[0]
    if path == "/v1/models":
        await peer.whole(200, b'{"object":"list","data":[{"id":"gpt-listed","object":"model","created":7}]}')
    elif path == "/v1/responses":
        whole = json.dumps(response()).encode()
        await (stream(peer, *RESPONDED) if seen.stream else peer.whole(200, whole, x_request_id="req_up"))
    else:
        assert path == "/v1/chat/completions"
        await (stream(peer, *ANSWERED) if seen.stream else peer.whole(200, completion(), x_request_id="req_up"))


def saying(*chunks: bytes, end: bool = True) -> Behaviour:
    async def behave(seen: Seen, peer: Peer) -> None:
        await stream(peer, *chunks, end=end)
        if not end:
            peer.reset()

    return behave


def refusing(status: int, message: str, **more: Any) -> Behaviour:
    body = json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": None, **more}})

    async def behave(seen: Seen, peer: Peer) -> None:
        await peer.whole(status, body.encode(), x_request_id="req_up")

    return behave


# Chat Completions


async def test_a_completion_goes_through_as_it_came() -> None:
    async with Upstream(good) as up, balancer(configuration(up)) as running, client(running) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(**ASK)
        answer = raw.parse()
        (ended,) = await running.ended()

        assert answer.choices[0].message.content == "Hello there."
        assert raw.http_response.content == completion()
        assert answer._request_id == "req_up"
        assert raw.headers["x-balancer-provider"] == "a"
        (seen,) = up.asked
        assert seen.json == ASK
        assert seen.header("authorization") == "Bearer sk-canary-a"
        assert "sk-client" not in str(seen.headers)
        assert seen.header("x-stainless-lang") == "python"
        assert ended["operation"] == "chat_completions"
        assert ended["usage"] == {
            "input_tokens": 20,
            "output_tokens": 5,
            "cache_read_tokens": 10,
            "cache_creation_tokens": 0,
        }


async def test_a_streamed_completion() -> None:
    async with Upstream(good) as up, balancer(configuration(up)) as running, client(running) as sdk:
        chunks = [part async for part in await sdk.chat.completions.create(**ASK, stream=True)]
        raw = await sdk.chat.completions.with_raw_response.create(**ASK, stream=True)
        body = await raw.http_response.aread()
        ended = await running.ended(2)

        assert "".join(part.choices[0].delta.content or "" for part in chunks if part.choices) == "Hello there."
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 5
        assert body == b"".join(ANSWERED)
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-request-id"] == "req_up"
        assert raw.headers["x-ratelimit-remaining-requests"] == "7"
        assert "openai-organization" not in raw.headers
        assert [one["usage"]["output_tokens"] for one in ended] == [5, 5]
        assert all(one["first_substance_s"] > 0 for one in ended)


async def test_only_the_models_name_differs() -> None:
    body = b'{ "messages" : [{"role":"user","content":"\\u00e9 \\"model\\": \\"gpt-9\\""}],\n "n":1, "model" :"gpt-9"}'
    async with (
        Upstream(good) as up,
        balancer(configuration(up, model="local-7b")) as running,
        client(running) as sdk,
    ):
        answer = await sdk._client.post(
            "chat/completions?trace=1", content=body, headers={"content-type": "application/json", "x-mine": "kept"}
        )

        assert answer.status_code == 200
        (seen,) = up.asked
        assert seen.body == body.replace(b':"gpt-9"', b':"local-7b"')
        assert seen.target == "/v1/chat/completions?trace=1"
        assert seen.header("x-mine") == "kept"


async def test_a_tool_turn() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"city": "Pa', 'ris"}')]
    calls = [chunk({"tool_calls": [one]}) for one in (call, *parts)]
    talking = saying(ROLE, *calls, chunk({}, "tool_calls"), DONE)
    async with Upstream(talking) as up, balancer(configuration(up)) as running, client(running) as sdk:
        async with sdk.chat.completions.stream(**ASK, tools=TOOLS) as streamed:
            final = await streamed.get_final_completion()

        (made,) = final.choices[0].message.tool_calls or []
        assert json.loads(made.function.arguments) == {"city": "Paris"}
        assert up.asked[0].json["tools"] == TOOLS


# Responses


async def test_a_response_whole_and_streamed() -> None:
    async with Upstream(good) as up, balancer(configuration(up)) as running, client(running) as sdk:
        whole = await sdk.responses.create(**QUESTION)
        async with sdk.responses.stream(**QUESTION) as streamed:
            final = await streamed.get_final_response()
        raw = await sdk.responses.with_raw_response.create(**QUESTION, stream=True)
        body = await raw.http_response.aread()
        ended = await running.ended(3)

        assert whole.output_text == "Hello there."
        assert final.output_text == "Hello there."
        assert body == b"".join(RESPONDED)
        assert [seen.target for seen in up.asked] == ["/v1/responses"] * 3
        assert {one["operation"] for one in ended} == {"responses"}
        assert [one["usage"]["input_tokens"] for one in ended] == [20, 20, 20]


@pytest.mark.parametrize("status", ["incomplete", "failed"])
async def test_a_response_that_does_not_complete_ends_as_its_provider_said(status: str) -> None:
    more = {"error": {"code": "server_error", "message": "down"}} if status == "failed" else {}
    told = (CREATED, *WORDS, event(f"response.{status}", response=response(status, **more)))
    async with Upstream(saying(*told)) as up, balancer(configuration(up)) as running, client(running) as sdk:
        raw = await sdk.responses.with_raw_response.create(**QUESTION, stream=True)
        body = await raw.http_response.aread()
        (ended,) = await running.ended()

        assert body == b"".join(told)
        assert ended["outcome"] == ("broken_stream" if status == "failed" else "ok")


# Failover


UNSEEN: dict[str, tuple[Behaviour, Behaviour]] = {
    "a status": (refusing(500, "down"), refusing(500, "down")),
    "an error before content": (
        saying(ROLE, b'data: {"error":{"message":"down","type":"server_error","code":503}}\n\n', DONE),
        saying(CREATED, event("error", code="server_error", message="down", param=None)),
    ),
    "an end before content": (saying(ROLE), saying(CREATED)),
    "nothing but the mark of the end": (saying(DONE), saying(b"data: [DONE]\n\n")),
    "a failure before content": (
        saying(ROLE, end=False),
        saying(CREATED, event("response.failed", response=response("failed", error={"code": "x", "message": "down"}))),
    ),
    "no such path": (refusing(404, "Not Found"), refusing(404, "Not Found")),
}


@pytest.mark.parametrize("case", UNSEEN)
async def test_failing_over_is_not_seen(case: str) -> None:
    chat, responses = UNSEEN[case]

    async def failing(seen: Seen, peer: Peer) -> None:
        await (responses if "responses" in seen.target else chat)(seen, peer)

    async with (
        Upstream(failing) as ill,
        Upstream(good) as well,
        balancer(configuration(ill, well)) as running,
        client(running) as sdk,
    ):
        raw = await sdk.chat.completions.with_raw_response.create(**ASK, stream=True)
        assert await raw.http_response.aread() == b"".join(ANSWERED)
        raw = await sdk.responses.with_raw_response.create(**QUESTION, stream=True)
        assert await raw.http_response.aread() == b"".join(RESPONDED)
        assert raw.headers["x-balancer-provider"] == "b"
        assert len(ill.asked) >= 1


async def test_a_whole_answer_that_is_none_fails_over() -> None:
    async def failing(seen: Seen, peer: Peer) -> None:
        odd = b'{"error":{"message":"down","code":500}}' if "chat" in seen.target else b"<html>sign in</html>"
        await peer.whole(200, odd)

    settings = "failure_cooldown: 0"
    async with (
        Upstream(failing) as ill,
        Upstream(good) as well,
        balancer(configuration(ill, well, settings=settings)) as running,
        client(running) as sdk,
    ):
        answer = await sdk.chat.completions.create(**ASK)
        answered = await sdk.responses.create(**QUESTION)

        assert answer.choices[0].message.content == answered.output_text == "Hello there."
        assert len(ill.asked) == 2


@pytest.mark.parametrize("clean", [True, False])
async def test_a_stream_that_breaks_after_content_raises(clean: bool) -> None:
    async def breaking(seen: Seen, peer: Peer) -> None:
        begun = (CREATED, WORDS[0]) if "responses" in seen.target else ANSWERED[:2]
        await saying(*begun, end=clean)(seen, peer)

    async with (
        Upstream(breaking) as up,
        Upstream(good) as other,
        balancer(configuration(up, other, settings="failure_cooldown: 0")) as running,
        client(running) as sdk,
    ):
        with pytest.raises(openai.APIError, match="broke off"):
            [part async for part in await sdk.chat.completions.create(**ASK, stream=True)]
        with pytest.raises(openai.APIError, match="broke off"):
            [part async for part in await sdk.responses.create(**QUESTION, stream=True)]
        ended = await running.ended(2)

        assert other.asked == []
        assert [one["outcome"] for one in ended] == ["broken_stream", "broken_stream"]


async def test_a_stream_whose_server_leaves_out_the_mark_of_the_end_is_whole() -> None:
    async with Upstream(saying(*ANSWERED[:-1])) as up, balancer(configuration(up)) as running, client(running) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(**ASK, stream=True)
        body = await raw.http_response.aread()
        (ended,) = await running.ended()

        assert body == b"".join(ANSWERED[:-1])
        assert ended["outcome"] == "ok"


async def test_a_client_that_leaves_ends_the_work() -> None:
    async def endless(seen: Seen, peer: Peer) -> None:
        await stream(peer, ROLE, chunk({"content": "Hello "}), end=False)
        await peer.left.wait()

    async with Upstream(endless) as up, balancer(configuration(up)) as running, client(running) as sdk:
        streamed = await sdk.chat.completions.create(**ASK, stream=True)
        async for part in streamed:
            if part.choices[0].delta.content:
                break
        await streamed.close()
        await eventually(lambda: up.left == 1)


# Errors


async def test_errors_of_the_balancer_come_as_the_sdk_knows_them() -> None:
    async with balancer(configuration(9)) as running, client(running) as sdk:
        with pytest.raises(openai.InternalServerError, match="a: connection refused") as outage:
            await sdk.chat.completions.create(**ASK)
        assert outage.value.status_code == 503
        assert 1 <= int(outage.value.response.headers["retry-after"]) <= 60
        assert outage.value.request_id

        with pytest.raises(openai.NotFoundError, match="no route matches the model 'o9'") as unknown:
            await sdk.responses.create(model="o9", input="hi")
        assert (unknown.value.type, unknown.value.code) == ("invalid_request_error", "model_not_found")
        assert unknown.value.param == "model"
        assert set(unknown.value.response.json()) == {"error"}

        with pytest.raises(openai.BadRequestError, match="messages: Field required"):
            await sdk.post("/chat/completions", body={"model": "gpt-9"}, cast_to=object)
        with pytest.raises(openai.APIStatusError, match="use POST") as method:
            await sdk.get("/responses", cast_to=object)
        assert method.value.status_code == 405


async def test_a_refusal_of_the_clients_own_comes_as_the_provider_said_it() -> None:
    refused = refusing(400, "bad temperature", type="invalid_request_error", param="temperature", code="odd")
    async with Upstream(refused) as up, balancer(configuration(up)) as running, client(running) as sdk:
        with pytest.raises(openai.BadRequestError, match="bad temperature") as caught:
            await sdk.chat.completions.create(**ASK)
        assert (caught.value.param, caught.value.code) == ("temperature", "odd")
        assert caught.value.request_id == "req_up"


async def test_a_key_is_asked_for_in_openais_words() -> None:
    settings = "auth: {keys: [sk-gate-key-12345]}"
    async with Upstream(good) as up, balancer(configuration(up, settings=settings)) as running:
        async with client(running) as stranger:
            with pytest.raises(openai.AuthenticationError) as caught:
                await stranger.chat.completions.create(**ASK)
            assert caught.value.code == "invalid_api_key"
        async with client(running, api_key="sk-gate-key-12345") as known:
            assert (await known.chat.completions.create(**ASK)).choices
        assert "sk-gate" not in str(up.asked[0].headers)


async def test_a_route_without_a_provider_that_speaks_it_says_so() -> None:
    config = """\
providers:
  - {name: main, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: k}
  - {name: fake, type: simulated}
model_routes: {"*": [{provider: main}, {provider: fake}]}
"""
    async with balancer(config) as running, client(running) as sdk:
        words = r"no provider of type openai.*main \(type anthropic\), fake \(type simulated\).*add a target"
        for asking in (sdk.chat.completions.create(**ASK), sdk.responses.create(**QUESTION)):
            with pytest.raises(openai.NotFoundError, match=words):
                await asking


async def test_targets_of_other_types_are_skipped_and_named_when_the_rest_fails() -> None:
    main = '  - {name: main, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: k}'
    config = configuration(9, first=main).replace('"gpt-*": [', '"gpt-*": [{provider: main}, ')
    async with balancer(config) as running, client(running) as sdk:
        with pytest.raises(
            openai.InternalServerError, match=r"a: connection refused; skipped.*main \(type anthropic\)"
        ):
            await sdk.chat.completions.create(**ASK)


async def test_a_server_without_responses_is_told_apart_from_one_without_the_model() -> None:
    async with (
        Upstream(refusing(404, "Not Found")) as up,
        balancer(configuration(up)) as running,
        client(running) as sdk,
    ):
        for _ in range(2):
            with pytest.raises(openai.BadRequestError, match="a: this server does not have /responses"):
                await sdk.responses.create(**QUESTION)
        assert len(up.asked) == 1  # it was remembered
        up.behaviour = good
        assert (await sdk.chat.completions.create(**ASK)).choices  # the model is not blamed for it


async def test_an_injected_fault_fails_over() -> None:
    async with (
        Upstream(good) as one,
        Upstream(good) as other,
        balancer(configuration(one, other, settings="drills: true, failure_cooldown: 0")) as running,
        client(running) as sdk,
    ):
        for fault in ("404", "500", "error_event", "truncated", "cut", "html", "empty"):
            order = {"provider": "a", "fault": fault, "requests": 1}
            await sdk._client.post(f"{running.url}/admin/drill", json=order)
            raw = await sdk.responses.with_raw_response.create(**QUESTION, stream=True)
            assert await raw.http_response.aread() == b"".join(RESPONDED), fault
            assert raw.headers["x-balancer-provider"] == "b"
        assert one.asked == []


# Keeping a connection alive, and models


async def test_a_conversation_stays_with_its_provider() -> None:
    settings = "selection_strategy: round_robin"
    async with Upstream(good) as one, Upstream(good) as other:
        config = configuration(one, other, settings=settings).replace("priority: 2", "priority: 1")
        async with balancer(config) as running, client(running) as sdk:
            for _ in range(4):
                await sdk.responses.create(**QUESTION, prompt_cache_key="one-session")
        assert sorted((len(one.asked), len(other.asked))) == [0, 4]


async def test_a_stored_response_goes_on_where_it_is_stored_and_for_its_client_alone() -> None:
    def storing(name: str) -> Behaviour:
        async def behave(seen: Seen, peer: Peer) -> None:
            known = seen.json.get("previous_response_id")
            if known not in (None, f"resp_{name}"):
                await refusing(400, f"Previous response '{known}' not found.")(seen, peer)
                return
            stored = response(id=f"resp_{name}")
            if seen.stream:
                created = CREATED.replace(b'"resp_1"', f'"resp_{name}"'.encode())
                await stream(peer, created, *WORDS, event("response.completed", response=stored))
            else:
                await peer.whole(200, json.dumps(stored).encode())

        return behave

    settings = "selection_strategy: round_robin, auth: {keys: [sk-first-client-1, sk-second-client-2]}"
    async with Upstream(storing("a")) as one, Upstream(storing("b")) as other:
        config = configuration(one, other, settings=settings).replace("priority: 2", "priority: 1")
        async with balancer(config) as running, client(running, api_key="sk-first-client-1") as sdk:
            for streamed in (False, True, False, True):
                if streamed:
                    async with sdk.responses.stream(**QUESTION) as made:
                        stored = (await made.get_final_response()).id
                else:
                    stored = (await sdk.responses.create(**QUESTION)).id
                for _ in range(2):
                    assert (await sdk.responses.create(**QUESTION, previous_response_id=stored)).id == stored
            async with client(running, api_key="sk-second-client-2") as stranger:
                with pytest.raises(openai.BadRequestError, match="there is no response"):
                    await stranger.responses.create(**QUESTION, previous_response_id=stored)
        assert len(one.asked) == len(other.asked) == 6


def keeping(name: str, *, path: bool = True) -> Behaviour:
    """Return a provider that stores what it answers under one id, and knows no other. `path`: it has these paths."""

    async def behave(seen: Seen, peer: Peer) -> None:
        stored, target = response(id=f"resp_{name}"), seen.target.partition("?")[0]
        if seen.method == "POST" and target == "/v1/responses":
            await peer.whole(200, json.dumps(stored).encode())
        elif not path:
            await peer.whole(405, b'{"detail":"Method Not Allowed"}')
        elif not target.startswith(f"/v1/responses/resp_{name}"):
            await refusing(404, f"Response with id '{target[14:]}' not found.")(seen, peer)
        elif seen.method == "DELETE":
            told = {"id": f"resp_{name}", "object": "response", "deleted": True}
            await peer.whole(200, json.dumps(told).encode())
        elif target.endswith("/input_items"):
            listed = {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
            await peer.whole(200, json.dumps(listed).encode())
        elif target.endswith("/cancel"):
            await peer.whole(200, json.dumps({**stored, "status": "cancelled"}).encode())
        elif "stream=true" in seen.target:
            await stream(peer, CREATED, *WORDS, event("response.completed", response=stored))
        else:
            await peer.whole(200, json.dumps(stored).encode())

    return behave


TWO_KEYS = "auth: {keys: [sk-first-client-1, sk-second-client-2]}"


async def test_a_stored_response_is_read_cancelled_and_deleted_where_it_is_stored() -> None:
    async with Upstream(keeping("a")) as one, Upstream(keeping("b")) as other:
        config = configuration(one, other, settings=f"selection_strategy: round_robin, {TWO_KEYS}")
        async with (
            balancer(config.replace("priority: 2", "priority: 1")) as running,
            client(running, api_key="sk-first-client-1") as sdk,
        ):
            made = {(await sdk.responses.create(**QUESTION, store=True)).id for _ in range(2)}
            assert made == {"resp_a", "resp_b"}
            for name, up in (("resp_a", one), ("resp_b", other)):
                before = len(up.seen)
                assert (await sdk.responses.retrieve(name)).output_text == "Hello there."
                assert (await sdk.responses.input_items.list(name, limit=5)).data == []
                assert (await sdk.responses.cancel(name)).status == "cancelled"
                texts = [
                    one.delta
                    async for one in await sdk.responses.retrieve(name, stream=True)
                    if one.type == "response.output_text.delta"
                ]
                assert texts == ["Hello ", "there."]
                await sdk.responses.delete(name)
                assert [seen.method for seen in up.seen[before:]] == ["GET", "GET", "POST", "GET", "DELETE"]
                assert up.seen[before + 1].target == f"/v1/responses/{name}/input_items?limit=5"
                assert up.seen[before].header("authorization") == f"Bearer sk-canary-{name[5:]}"
            ended = await running.ended(12)
            assert {end["operation"] for end in ended[2:]} == {"stored_responses"}
            async with client(running, api_key="sk-second-client-2") as stranger:
                for asking in (stranger.responses.retrieve, stranger.responses.cancel, stranger.responses.delete):
                    with pytest.raises(openai.NotFoundError, match="there is no resp_a"):
                        await asking("resp_a")


async def test_a_stored_response_that_is_not_known_is_looked_for() -> None:
    async with (
        Upstream(keeping("x", path=False)) as without,
        Upstream(keeping("a")) as one,
        Upstream(keeping("b")) as other,
        balancer(configuration(without, one, other)) as running,
        client(running) as sdk,
    ):
        assert (await sdk.responses.retrieve("resp_b")).id == "resp_b"
        assert [len(up.seen) for up in (without, one, other)] == [1, 1, 1]
        assert (await sdk.responses.cancel("resp_b")).status == "cancelled"  # it is known by now
        assert [len(up.seen) for up in (without, one, other)] == [1, 1, 2]
        with pytest.raises(openai.NotFoundError, match="not found"):
            await sdk.responses.retrieve("resp_z")


async def test_what_is_no_stored_response_is_refused_in_openais_words() -> None:
    anthropic_ = '  - {name: z, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: sk-canary-z}'
    only = f"providers:\n{anthropic_}\nmodel_routes: {{'*': [{{provider: z}}]}}\n"
    async with Upstream(keeping("a")) as up, balancer(configuration(up, settings=TWO_KEYS)) as running:
        async with client(running, api_key="sk-first-client-1") as sdk:
            with pytest.raises(openai.APIStatusError, match="/v1/responses/compact is not supported") as compact:
                await sdk.post("/responses/compact", cast_to=object, body={})
            with pytest.raises(openai.APIStatusError, match="PUT is not allowed") as put:
                await sdk.put("/responses/resp_a", cast_to=object, body={})
            with pytest.raises(openai.NotFoundError):
                await sdk.get("/responses/..%2ffiles", cast_to=object)
        async with client(running, api_key="sk-nobody-at-all") as stranger:
            with pytest.raises(openai.AuthenticationError):
                await stranger.responses.retrieve("resp_a")
        assert compact.value.status_code == 501
        assert put.value.response.headers["allow"] == "DELETE, GET"
        assert up.seen == []
    async with balancer(only) as running, client(running) as sdk:
        with pytest.raises(
            openai.APIStatusError, match="no usable provider has stored responses; add one of type openai"
        ) as nobody:
            await sdk.responses.retrieve("resp_a")
        assert nobody.value.status_code == 501


async def test_what_is_not_served_says_so_in_both_shapes() -> None:
    async with balancer(configuration(9)) as running, client(running) as sdk:
        with pytest.raises(openai.NotFoundError, match="there is no /v1/embeddings here") as missing:
            await sdk.embeddings.create(model="gpt-9", input="hi")

        assert set(missing.value.response.json()["error"]) == {"type", "message", "param", "code"}
        assert missing.value.response.json()["type"] == "error"


async def test_models_come_in_the_shape_that_the_client_asks_for() -> None:
    config = configuration(9).replace('"gpt-*"', '"gpt-9"')
    async with balancer(config) as running, client(running) as sdk:
        listed = [model async for model in sdk.models.list()]
        one = await sdk.models.retrieve("gpt-9")
        with pytest.raises(openai.NotFoundError, match="no route matches") as unknown:
            await sdk.models.retrieve("o9")
        theirs = await sdk._client.get("models", headers={"anthropic-version": "2023-06-01"})

        assert [(model.id, model.object, model.owned_by) for model in listed] == [("gpt-9", "model", NAME)]
        assert (one.id, one.object, one.created) == ("gpt-9", "model", 0)
        assert unknown.value.code == "model_not_found"
        assert set(theirs.json()) == {"data", "has_more", "first_id", "last_id"}
        assert "object" not in theirs.json()["data"][0]


async def test_the_synchronous_client() -> None:
    async with Upstream(good) as up, balancer(configuration(up)) as running:

        def ask() -> str:
            with openai.OpenAI(base_url=f"{running.url}/v1", api_key="x", max_retries=0) as sdk:
                parts = sdk.chat.completions.create(**ASK, stream=True)
                return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

        assert await asyncio.to_thread(ask) == "Hello there."
