"""Claude's client through a Zed-type upstream: tokens, streams, refusals, failover."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import anthropic
import httpx2
import pytest
from fakezed import EVENTS, PAIR, FakeZed, answer, line
from live.harness import Peer, Running, Seen, Upstream, balancer, eventually
from live.test_sdk import client

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-20250514",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
}
SAID = "Hello from\u2028Zed."


def config(
    zed: Upstream,
    backup: Upstream | None = None,
    *,
    zed_config: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    backup_first: bool = False,
    sticky: bool = True,
) -> str:
    entry = {
        "name": "z", "type": "zed", "base_url": f"http://127.0.0.1:{zed.port}", "auth_value": PAIR,
        "zed_config": zed_config or {"default_mode": "normal", "max_context_tokens": 120000, "thread_ttl": 3600},
    }  # fmt: skip
    entries: list[Any] = [entry]
    targets = [{"provider": "z", "model": "passthrough", "priority": 1, **(target or {})}]
    if backup:
        entries.append(
            {"name": "b", "type": "anthropic", "base_url": f"http://127.0.0.1:{backup.port}", "auth_value": "k"}
        )
        targets.append({"provider": "b", "model": "passthrough", "priority": 0 if backup_first else 2})
    settings = {"sticky": {"enabled": sticky}}
    return json.dumps({"providers": entries, "model_routes": {"*": targets}, "settings": settings})


def silent_about_secrets(running: Running) -> None:
    said = running.output.decode() + json.dumps(running.log())
    assert "canary" not in said


@pytest.mark.parametrize("wrapped", [True, False])
async def test_streams_and_messages(wrapped: bool) -> None:
    fake = FakeZed()
    fake.wrapped, fake.lines = wrapped, answer(wrapped=wrapped)
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        async with claude.messages.stream(**ASK) as stream:
            streamed = await stream.get_final_message()
        whole = await claude.messages.create(**ASK)
        counted = await claude.messages.count_tokens(model=ASK["model"], messages=ASK["messages"])

        for message in (streamed, whole):
            assert message.content[0].text == SAID  # type: ignore[union-attr]
            assert message.usage.output_tokens == 5
        assert counted.input_tokens == 42
        first, second = fake.completions
        assert first["model"] == first["provider_request"]["model"] == "claude-sonnet-4"
        assert (first["thread_id"], first["prompt_id"]) == (second["thread_id"], second["prompt_id"])
        assert fake.minted == 1
        silent_about_secrets(running)


async def test_an_expired_token_is_renewed_once() -> None:
    fake = FakeZed()
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        await claude.messages.create(**ASK)
        fake.valid = "revoked"
        message = await claude.messages.create(**{**ASK, "max_tokens": 101})

        assert message.content[0].text == SAID
        assert fake.minted == 2


async def test_a_failure_inside_a_200_fails_over() -> None:
    fake = FakeZed()
    fake.lines = line({"status": {"failed": {"code": "upstream_http_529", "message": "busy", "retry_after": 2}}})
    async with (
        Upstream(fake) as upstream,
        Upstream() as backup,
        balancer(config(upstream, backup)) as running,
        client(running.url) as claude,
    ):
        async with claude.messages.stream(**ASK) as stream:
            message = await stream.get_final_message()

        assert "Hello from the upstream." in message.content[0].text  # type: ignore[union-attr]


async def test_a_cut_answer_is_an_error() -> None:
    fake = FakeZed()
    fake.lines = b"".join(line({"event": event}) for event in EVENTS[:-1])
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        with pytest.raises(anthropic.APIStatusError):
            await claude.messages.create(**ASK)


async def get(running: Running, path: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=running.url) as http:
        return (await http.get(path)).json()  # type: ignore[no-any-return]


async def test_many_requests_at_once_mint_one_token_and_ask_for_one_catalogue() -> None:
    fake = FakeZed()
    fake.mint_delay.clear()
    more = {"max_concurrency": None}
    async with (
        Upstream(fake) as upstream,
        balancer(config(upstream, zed_config=more)) as running,
        client(running.url) as claude,
    ):
        asked = [asyncio.ensure_future(claude.messages.create(**{**ASK, "max_tokens": 100 + n})) for n in range(50)]
        await eventually(lambda: fake.minted == 1)
        fake.mint_delay.set()
        await asyncio.gather(*asked)
        fake.valid = "revoked"
        await asyncio.gather(*(claude.messages.create(**{**ASK, "max_tokens": 200 + n}) for n in range(50)))
        silent_about_secrets(running)

    assert fake.minted == 2
    assert len(fake.completions) == 100
    assert fake.mint_bodies == [{"organization_id": "org_own"}] * 2
    assert [seen.target for seen in upstream.seen].count("/models") == 1
    assert [seen.target for seen in upstream.seen].count("/client/users/me") == 1


@pytest.mark.parametrize("inside", [True, False])
async def test_a_service_that_quotes_our_tokens_is_not_repeated(inside: bool) -> None:
    fake = FakeZed()
    words = f"no: llm-canary-1 and {PAIR.partition(' ')[2]}"
    fake.lines = line({"status": {"failed": {"code": "invalid_request_error", "message": words}}})
    if not inside:
        fake.refusal = (400, json.dumps({"code": "x", "message": words}).encode())
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        with pytest.raises(anthropic.BadRequestError, match="redacted") as refused:
            await claude.messages.create(**ASK)
        silent_about_secrets(running)

    assert "canary" not in str(refused.value.body)


async def test_a_token_near_its_end_is_renewed_before_it_is_used() -> None:
    fake = FakeZed()
    fake.token_life_s = 59
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        for n in range(2):
            await claude.messages.create(**{**ASK, "max_tokens": 100 + n})

    assert fake.minted > 2
    assert not [seen for seen in upstream.seen if seen.header("authorization") == "Bearer "]


async def test_a_dead_pair_is_asked_once_and_the_client_never_sees_a_401() -> None:
    async with (
        Upstream(FakeZed()) as upstream,
        balancer(config(upstream).replace("account-canary", "dead-canary")) as running,
        client(running.url) as claude,
    ):
        with pytest.raises(anthropic.APIStatusError) as failed:
            await claude.messages.create(**ASK)
        shown = await get(running, "/providers")
        silent_about_secrets(running)

    assert failed.value.status_code == 503
    assert shown["providers"][0]["state"] == "resting"
    assert "canary" not in json.dumps(shown)
    assert [seen.target for seen in upstream.seen].count("/client/llm_tokens") == 1


REFUSALS = [
    (401, b"unauthorized", 503, "resting"),
    (402, b"Maximum spending limit reached for this month.", 503, "resting"),
    (403, b"You must subscribe to a plan in order to use models provided by Zed", 503, "resting"),
    (429, b"Rate limit exceeded. Maximum tokens_per_minute reached.", 429, "healthy"),
    (451, b"access to Anthropic models is not available in your region (XX)", 503, "resting"),
    (404, b"unknown model", 404, "healthy"),
    (400, b'{"code":"invalid_request_error","message":"temperature: too hot"}', 400, "healthy"),
    (400, b"prompt is too long: 9 tokens > 8 maximum", 400, "healthy"),
    (413, b'{"code":"request_too_large","message":"context_length_exceeded"}', 400, "healthy"),
    (400, b'{"code":"x","message":"failed to parse Anthropic request: missing field `y`"}', 400, "healthy"),
    (500, b'{"code":"upstream_http_error","message":"x","upstream_status":503}', 503, "healthy"),  # the model's
    (502, b"<html>bad gateway</html>", 503, "resting"),
]


@pytest.mark.parametrize(("status", "body", "told", "state"), REFUSALS)
async def test_what_a_client_is_told_of_a_refusal(status: int, body: bytes, told: int, state: str) -> None:
    fake = FakeZed()
    fake.refusal = (status, body)
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running:
        async with client(running.url) as claude:
            with pytest.raises(anthropic.APIStatusError) as failed:
                await claude.messages.create(**ASK)
        shown = await get(running, "/providers")

    assert failed.value.status_code == told
    assert failed.value.body["type"] == "error"  # type: ignore[index]
    assert "<html>" not in str(failed.value)
    assert shown["providers"][0]["state"] == state


@pytest.mark.parametrize(
    ("refusal", "stream"),
    [(refusal, n % 2 == 0) for n, refusal in enumerate(REFUSALS) if b"too hot" not in refusal[1]],
)
async def test_a_refusal_fails_over(refusal: tuple[int, bytes, int, str], stream: bool) -> None:
    fake = FakeZed()
    fake.refusal = refusal[:2]
    async with (
        Upstream(fake) as upstream,
        Upstream() as backup,
        balancer(config(upstream, backup)) as running,
        client(running.url) as claude,
    ):
        if stream:
            async with claude.messages.stream(**ASK) as streaming:
                message = await streaming.get_final_message()
        else:
            message = await claude.messages.create(**ASK)

    assert "Hello from the upstream." in message.content[0].text  # type: ignore[union-attr]
    assert backup.asked[0].json == {**ASK, **({"stream": True} if stream else {})}, "untouched by what Zed needs"


@pytest.mark.parametrize("stream", [True, False])
async def test_zed_takes_over_from_another_type(stream: bool) -> None:
    async def ill(seen: Seen, peer: Peer) -> None:
        await peer.whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}')

    async with (
        Upstream(FakeZed()) as upstream,
        Upstream(ill) as first,
        balancer(config(upstream, first, backup_first=True)) as running,
        client(running.url) as claude,
    ):
        if stream:
            async with claude.messages.stream(**ASK) as streaming:
                message = await streaming.get_final_message()
        else:
            message = await claude.messages.create(**ASK)

    assert first.asked
    assert message.content[0].text == SAID  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("late", "note"),
    [
        (line({"status": {"failed": {"code": "http_500", "message": "x"}}}) + line({"status": "stream_ended"}), "500"),
        (b"", "did not say that the stream had ended"),
        (line({"status": "stream_ended"}), None),
        (b"{garbage\n" + line({"status": "stream_ended"}), None),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_comes_after_the_end_is_noted_and_not_the_clients(
    late: bytes, note: str | None, stream: bool
) -> None:
    fake = FakeZed()
    fake.lines = b"".join(line({"event": event}) for event in EVENTS) + late
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        for n in range(2):
            asked = {**ASK, "max_tokens": 100 + n}
            if stream:
                async with claude.messages.stream(**asked) as streaming:
                    message = await streaming.get_final_message()
            else:
                message = await claude.messages.create(**asked)
            assert message.content[0].text == SAID  # type: ignore[union-attr]
        ended, _ = await running.ended(2)

    assert ended["outcome"] == "ok"
    notes = [said for said in ended["notes"] if "mode" not in said]
    assert (note in notes[0]) if note else not notes
    completions = [seen for seen in upstream.seen if seen.target == "/completions"]
    assert (len(completions), upstream.left) == (2, 0)


async def test_a_client_that_leaves_ends_the_answer_at_the_service() -> None:
    fake = FakeZed()
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running:
        fake.lines = b"".join(line({"event": event}) for event in EVENTS[:3]) + b" " * 200
        fake.held.clear()
        async with client(running.url) as claude, asyncio.timeout(30):
            asked = asyncio.ensure_future(claude.messages.create(**ASK))
            await eventually(lambda: fake.now == 1)
            asked.cancel()
            await eventually(lambda: upstream.left == 1)
        fake.held.set()


async def test_no_more_requests_at_once_than_zeds_own_client_makes() -> None:
    fake = FakeZed()
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        await claude.messages.create(**ASK)
        fake.held.clear()
        asked = [asyncio.ensure_future(claude.messages.create(**{**ASK, "max_tokens": 101 + n})) for n in range(8)]
        await eventually(lambda: fake.now == 4)
        fake.held.set()
        await asyncio.gather(*asked)

    assert fake.most == 4
    assert len(fake.completions) == 9


async def test_server_tools_documents_and_urls_go_elsewhere_before_anything_is_sent() -> None:
    async with Upstream(FakeZed()) as upstream, Upstream() as backup:
        async with balancer(config(upstream, backup)) as running, client(running.url) as claude:
            tool = {"type": "web_search_20250305", "name": "web_search"}
            await claude.messages.create(**{**ASK, "tools": [tool]})
        async with balancer(config(upstream)) as running, client(running.url) as claude:
            source = {"type": "url", "url": "https://example.com/a.png"}
            content = [{"type": "image", "source": source}]
            with pytest.raises(anthropic.BadRequestError, match="an image that is not base64"):
                await claude.messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})
            shown = await get(running, "/providers")

    assert len(backup.asked) == 1
    assert not upstream.seen
    assert shown["providers"][0]["state"] == "healthy"


async def test_tokens_are_counted_by_the_service_or_estimated() -> None:
    fake = FakeZed()
    async with Upstream(fake) as upstream, balancer(config(upstream)) as running, client(running.url) as claude:
        raw = await claude.messages.with_raw_response.count_tokens(
            model=ASK["model"], messages=ASK["messages"], system="be good", tools=ASK["tools"]
        )
        assert raw.headers["x-balancer-token-source"] == "provider"
        counted = next(seen.json for seen in upstream.seen if seen.target == "/count_tokens")
        source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
        asked: Any = [{"role": "user", "content": [{"type": "document", "source": source}]}]
        raw = await claude.messages.with_raw_response.count_tokens(model=ASK["model"], messages=asked)
        assert raw.headers["x-balancer-token-source"] == "estimate"

    assert {"provider", "model", "provider_request"} == counted.keys()


SEED = """
providers:
  - name: "zed_provider"
    type: "zed"
    base_url: "https://zed-api.example.com"
    auth_type: "api_key"
    auth_value: "your-zed-api-key"
    enabled: true
    zed_config:
      default_mode: "normal"
      auto_burn_mode_triggers:
        - "complex_coding_task"
        - "multi_step_analysis"
      context_management:
        max_context_tokens: 120000
        rotation_threshold: 0.8
        summarization_method: "ai"
      thread_management:
        ttl: 3600
        auto_rotate: true
        task_based_isolation: true
model_routes: {"*": [{provider: "zed_provider", model: "claude-sonnet-4"}]}
"""


async def test_the_seeds_example_works_as_printed() -> None:
    fake = FakeZed()
    fake.valid = "your-zed-api-key"
    async with Upstream(fake) as upstream:
        here = SEED.replace("https://zed-api.example.com", f"http://127.0.0.1:{upstream.port}/")
        async with balancer(here) as running, client(running.url) as claude:
            hello = [{"role": "user", "content": "Hello"}]
            message = await claude.messages.create(model="claude-3-5-sonnet-20241022", max_tokens=100, messages=hello)  # type: ignore[arg-type]
            assert "no server effect" in running.output.decode()

    assert message.content[0].text == SAID  # type: ignore[union-attr]
    (body,) = fake.completions
    assert uuid.UUID(body.pop("thread_id")).version == 5
    assert uuid.UUID(body.pop("prompt_id")).version == 5
    assert body == {
        "intent": "user_prompt",
        "provider": "anthropic",
        "model": "claude-sonnet-4",
        "provider_request": {
            "model": "claude-sonnet-4",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
            "max_tokens": 100,
        },
    }
    assert [seen.target for seen in upstream.seen] == ["/models", "/completions"]
