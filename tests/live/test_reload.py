"""A file that is changed while the balancer runs: no key comes back, and what is not in effect is said."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from live.harness import Peer, Seen, Upstream, balancer, configuration, eventually, good

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
KEY = "hunter2secretvalue99"


async def test_a_key_in_a_wrong_place_comes_back_nowhere() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        path = running.folder / "providers.yaml"
        slips = (
            path.read_text().replace("{name: a, type: anthropic,", f"{{name: {{auth_value: {KEY}, x: 1}},"),
            path.read_text().replace("type: anthropic", f"type: {KEY}"),
            path.read_text().replace("provider: a", f"provider: {KEY}"),
            path.read_text() + f"{KEY}: 1\n",
            path.read_text().replace("sk-canary-a", f"*{KEY}"),
        )
        answers = []
        async with httpx2.AsyncClient(base_url=running.url) as http:
            for text in slips:
                path.write_text(text)
                answers.append(await http.post("/providers/reload"))
        await eventually(lambda: sum(line["event"] == "reload_refused" for line in running.log()) >= len(slips))

        assert [answer.status_code for answer in answers] == [400] * len(slips)
        assert all(answer.json()["problems"][0]["line"] > 0 for answer in answers)
        assert not any("secretvalue" in answer.text for answer in answers)
        assert "secretvalue" not in json.dumps(running.log())
    assert b"secretvalue" not in running.output


async def test_what_only_a_restart_brings_into_effect_is_said() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        path = running.folder / "providers.yaml"
        async with httpx2.AsyncClient(base_url=running.url) as http:
            path.write_text(
                configuration(up, settings='log_file: "elsewhere.jsonl", host: 127.0.0.2, failure_cooldown: 9')
            )
            first = (await http.post("/providers/reload")).json()
            again = (await http.post("/providers/reload")).json()
            path.write_text(configuration(up))
            back = (await http.post("/providers/reload")).json()
        await eventually(lambda: sum(line["event"] == "reloaded" for line in running.log()) >= 3)
        told = [line for line in running.log() if line["event"] == "reloaded"]

        assert first["changes"] == ["settings.failure_cooldown changed"]
        assert first["needs_restart"] == again["needs_restart"] == ["host", "log_file"]
        assert again["changes"] == back["needs_restart"] == []
        assert told[0]["needs_restart"] == ["host", "log_file"]
        assert told[0]["level"] == "WARNING"
        assert not (running.folder / "elsewhere.jsonl").exists()
    assert b"needs a restart: host, log_file" in running.output


async def test_a_changed_key_in_the_file_of_variables_ends_the_cooldown() -> None:
    async def particular(seen: Seen, peer: Peer) -> None:
        if seen.header("x-api-key") == "the-new-key":
            await good(seen, peer)
        else:
            await peer.whole(401, b'{"type":"error","error":{"type":"authentication_error","message":"no"}}')

    async with Upstream(particular) as up, balancer(None) as running:
        beside = running.folder / ".env"
        beside.write_text("KEY_OF_A=the-old-key\n")
        beside.chmod(0o600)
        (running.folder / "providers.yaml").write_text(configuration(up).replace("sk-canary-a", '"${KEY_OF_A}"'))
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            refused = await http.post("/v1/messages", json=ASK)
            beside.write_text("KEY_OF_A=the-new-key\n")
            await eventually(lambda: sum(line["event"] == "reloaded" for line in running.log()) >= 2)
            answered = await http.post("/v1/messages", json=ASK)

        assert refused.status_code == 503
        assert (answered.status_code, answered.headers["x-balancer-provider"]) == (200, "a")
        assert up.seen[-1].header("x-api-key") == "the-new-key"
        assert "the-new-key" not in json.dumps(running.log())


async def test_a_simulated_provider_behind_a_real_one_is_warned_of_on_a_reload() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        text = configuration(up).replace("model_routes:", "  - {name: fake, type: simulated}\nmodel_routes:")
        (running.folder / "providers.yaml").write_text(text.replace("priority: 1}]", "priority: 1}, {provider: fake}]"))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = (await http.post("/providers/reload")).json()

        assert [warning.partition(" in the route")[0] for warning in answer["warnings"]] == [
            "providers.yaml:5: warning: a simulated provider stands beside real ones"
        ]
