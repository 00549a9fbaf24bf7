"""Addresses with a slip in them, pages of models, and what is asked of the Messages API's host besides."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest
from live.harness import Upstream, balancer, configuration

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
ROUTES = "".join(f'  "claude-{name}": [{{provider: a, model: passthrough}}]\n' for name in "pqr")


@pytest.mark.parametrize("base", ["/v1", "/", "/v1/", "/v1/v1"])
async def test_a_base_url_with_a_slip_works_with_the_sdk(base: str) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with anthropic.AsyncAnthropic(base_url=running.url + base, api_key="x", max_retries=0) as sdk:
            answer = await sdk.messages.create(**ASK)
            counted = await sdk.messages.count_tokens(model="claude-x", messages=ASK["messages"])

        assert answer.content[0].text == "Hello from the upstream."
        assert counted.input_tokens > 0
        assert {seen.target.partition("?")[0] for seen in up.seen} == {"/v1/messages", "/v1/messages/count_tokens"}


async def test_models_are_paged_both_ways_and_each_has_an_entry_of_its_own() -> None:
    async with Upstream() as up, balancer(configuration(up, routes=ROUTES)) as running:
        async with anthropic.AsyncAnthropic(base_url=running.url, api_key="x", max_retries=0) as sdk:
            whole = [model.id for model in (await sdk.models.list()).data]
            one_by_one = [model.id async for model in sdk.models.list(limit=1)]
            last = await sdk.models.list(before_id=whole[-1], limit=2)
            beyond = await sdk.models.list(after_id="nobody", limit=2)
            listed = await sdk.models.retrieve("claude-q")
            routed = await sdk.models.retrieve("claude-by-pattern")

        assert one_by_one == whole
        assert len(whole) >= 4
        assert [model.id for model in last.data] == whole[-3:-1]
        assert (beyond.data, beyond.has_more) == ([], False)
        assert (listed.id, routed.id) == ("claude-q", "claude-by-pattern")


async def test_what_no_route_matches_has_no_entry() -> None:
    async with Upstream() as up:
        text = configuration(up).replace('"*":', '"claude-*":')
        async with (
            balancer(text) as running,
            anthropic.AsyncAnthropic(base_url=running.url, api_key="x", max_retries=0) as sdk,
        ):
            with pytest.raises(anthropic.NotFoundError, match="gpt-5"):
                await sdk.models.retrieve("gpt-5")


@pytest.mark.parametrize("limit", ["0", "x", "-1", "1001", "", "1e3", "９"])
async def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = await http.get("/v1/models", params={"limit": limit})

        assert answer.status_code == 400
        assert "limit" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/messages/batches"), ("GET", "/v1/messages/batches/b1/results"), ("GET", "/v1/files"),
     ("DELETE", "/v1/files/f1"), ("GET", "/v1/skills"), ("POST", "/v1/messages/cache_touch")],
)  # fmt: skip
async def test_what_is_not_supported_is_said_in_the_words_that_clients_know(method: str, path: str) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = await http.request(method, path, params={"beta": "true"})

        assert (answer.status_code, answer.json()["error"]["type"]) == (501, "not_supported")
        assert answer.headers["x-should-retry"] == "false"
        assert up.seen == []


@pytest.mark.parametrize("path", ["/api/event_logging/batch", "/api/event_logging/v2/batch"])
async def test_telemetry_of_the_client_is_accepted(path: str) -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = await http.post(path, json={"events": []})

        assert answer.status_code == 200
        assert up.seen == []
