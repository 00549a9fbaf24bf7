"""The API from outside, as a new user tries it: simulated providers, no key."""

from __future__ import annotations

import sys

import httpx2
import pytest
from live.harness import balancer

SIMULATED = """
providers:
  - {name: first, type: simulated, simulated_config: {latency: 0.01, speed: 1000, fault: ["529"], fault_first: 1}}
  - {name: second, type: simulated, simulated_config: {latency: 0.01, speed: 1000}}
model_routes: {"*": [{provider: first, priority: 1}, {provider: second, priority: 2}]}
"""


@pytest.mark.live
async def test_messages_tokens_providers_and_health() -> None:
    ask = {"model": "claude-3-5-sonnet-20241022", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}
    async with balancer(SIMULATED) as running, httpx2.AsyncClient(base_url=running.url) as http:
        message = await http.post("/v1/messages", json=ask)
        stream = await http.post("/v1/messages", json={**ask, "stream": True})
        tokens = await http.post("/v1/messages/count_tokens", json=ask)
        providers = (await http.get("/providers")).json()
        root = (await http.get("/")).json()

    assert message.status_code == 200
    assert message.json()["type"] == "message"
    assert message.headers["x-balancer-provider"] == "second"
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.rstrip().endswith('{"type":"message_stop"}')
    assert tokens.json()["input_tokens"] > 0
    assert providers["total_providers"] == 2
    assert root["status"] == "ok"


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
