"""`model: passthrough` and `auth_value: passthrough`: what the client said goes on as it is."""

from __future__ import annotations

import sys

import httpx2
import pytest
from live.harness import Upstream, balancer

CONFIG = """
providers:
  - {{name: own, type: anthropic, base_url: "http://127.0.0.1:{port}", auth_value: sk-own}}
  - {{name: clients, type: anthropic, base_url: "http://127.0.0.1:{port}/v1", auth_value: passthrough}}
model_routes:
  "mapped": [{{provider: own, model: claude-real}}]
  "*sonnet*": [{{provider: own, model: passthrough}}]
  "theirs": [{{provider: clients, model: passthrough}}]
"""


@pytest.mark.live
async def test_passthrough() -> None:
    async with Upstream() as up, balancer(CONFIG.format(port=up.port)) as running:
        async with httpx2.AsyncClient(base_url=running.url, headers={"x-api-key": "sk-client"}) as http:
            for model in ("mapped", "my-sonnet-4", "theirs"):
                ask = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
                assert (await http.post("/v1/messages", json=ask)).status_code == 200

        assert [seen.json["model"] for seen in up.asked] == ["claude-real", "my-sonnet-4", "theirs"]
        assert [seen.header("x-api-key") for seen in up.asked] == ["sk-own", "sk-own", "sk-client"]
        assert {seen.target for seen in up.asked} == {"/v1/messages"}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
