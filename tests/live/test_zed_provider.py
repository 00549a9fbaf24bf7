"""Claude's client through a Zed-type upstream: tokens, streams, refusals, failover."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from fakezed import EVENTS, PAIR, FakeZed, answer, line
from live.harness import Running, Upstream, balancer
from live.test_sdk import client

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ASK: dict[str, Any] = {
    "model": "claude-sonnet-4-20250514",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
}
SAID = "Hello from\u2028Zed."


def config(zed: Upstream, backup: Upstream | None = None) -> str:
    entry = {
        "name": "z", "type": "zed", "base_url": f"http://127.0.0.1:{zed.port}", "auth_value": PAIR,
        "zed_config": {"default_mode": "normal", "max_context_tokens": 120000, "thread_ttl": 3600},
    }  # fmt: skip
    entries: list[Any] = [entry]
    targets = [{"provider": "z", "model": "passthrough", "priority": 1}]
    if backup:
        entries.append(
            {"name": "b", "type": "anthropic", "base_url": f"http://127.0.0.1:{backup.port}", "auth_value": "k"}
        )
        targets.append({"provider": "b", "model": "passthrough", "priority": 2})
    return json.dumps({"providers": entries, "model_routes": {"*": targets}})


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
