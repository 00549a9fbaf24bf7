"""The control endpoints of a running balancer: status, models, metrics, reload, drills; and its end."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import anthropic
import httpx2
import pytest
from live.harness import (
    Peer,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    eventually,
    start,
    stop,
)

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "canary-prompt"}]}


async def test_probes_and_lists() -> None:
    routes = '  "claude-exact": [{provider: a, model: passthrough}]'
    async with Upstream() as up, balancer(configuration(up, routes=routes)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            root = (await http.get("/")).json()
            models = (await http.get("/v1/models?limit=1000")).json()
            first = (await http.get("/v1/models?limit=1")).json()
            statuses = [
                (await http.head("/")).status_code,
                (await http.head("/api/hello")).status_code,
                (await http.get("/health")).status_code,
                (await http.get("/ready")).status_code,
                (await http.get("/nope")).status_code,
            ]

        assert root["status"] == "ok"
        assert root["providers"] == {"total": 1, "healthy": 1}
        assert {"name", "version", "uptime_s"} <= set(root)
        assert [model["id"] for model in models["data"]] == ["claude-exact", "claude-listed"]
        assert (len(first["data"]), first["has_more"]) == (1, True)
        assert statuses == [200, 200, 200, 200, 404]


REFUSED = {
    "an unknown path": ("GET", "/nope", {}, 404),
    "no path of the API": ("GET", "/v1", {}, 404),
    "two slashes": ("POST", "//providers/reload", {}, 404),
    "a slash at the end": ("GET", "/providers/", {}, 404),
    "nothing to post to": ("POST", "/", {}, 405),
    "nothing to delete": ("DELETE", "/providers", {}, 405),
    "reloading by GET": ("GET", "/providers/reload", {}, 405),
    "posting models": ("POST", "/v1/models", {}, 405),
    "a reload that a form could send": ("POST", "/providers/reload", {"content-type": "text/plain"}, 415),
    "a drill that a form could send": ("POST", "/admin/drill", {"content-type": "text/plain"}, 415),
    "a reload by a foreign page": ("POST", "/providers/reload", {"origin": "http://evil.example"}, 403),
}


async def test_every_refusal_has_the_shape_of_the_api() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            for name, (method, path, headers, status) in REFUSED.items():
                answer = await http.request(method, path, headers=headers)
                told = answer.json()

                assert (answer.status_code, told["type"]) == (status, "error"), name
                assert told["error"]["message"], name
                assert told["request_id"] == answer.headers["x-balancer-request-id"], name
        assert up.seen == []


async def test_the_list_of_models_says_which_answer_it_is() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            listed, probed = await http.get("/v1/models"), await http.head("/v1/models")

        assert (listed.status_code, probed.status_code) == (200, 200)
        assert listed.headers["x-balancer-request-id"].startswith("req_")
        assert listed.headers["x-balancer-request-id"] != probed.headers["x-balancer-request-id"]


async def test_what_is_told_of_providers_and_no_secret_anywhere() -> None:
    async def quoting(seen: Seen, peer: Peer) -> None:
        told = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key sk-canary-a"}}
        await peer.whole(401, json.dumps(told).encode())

    async with Upstream(quoting) as ill, Upstream() as well, balancer(configuration(ill, well)) as running:
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = await http.post("/v1/messages", json=ASK, headers={"x-api-key": "sk-client-canary"})
            providers = (await http.get("/providers")).json()
            metrics = (await http.get("/metrics")).text
        await running.ended()
        a, b = providers["providers"]

        assert answer.status_code == 200
        assert (a["state"], a["healthy"], a["failure_count"], a["failures"]) == ("resting", False, 1, 1)
        assert a["resting_for_s"] > 300
        assert a["last_error"]["status"] == 401
        assert (b["state"], b["successes"], b["in_flight"]) == ("healthy", 1, 0)
        assert b["tokens"]["output"] == 5
        assert b["models"] == [{"pattern": "*", "model": "passthrough", "priority": 2, "weight": 1.0}]
        assert providers["healthy_providers"] == 1
        assert 'balancer_attempts_total{provider="a"' in metrics
        everything = answer.text + json.dumps(providers) + metrics + running.output.decode() + json.dumps(running.log())
        assert "canary" not in everything.replace("sk-canary", "canary") or "sk-c" not in everything
        assert "sk-canary" not in everything
        assert "sk-client" not in everything
        assert "canary-prompt" not in everything


async def test_a_refusal_that_quotes_a_header_or_a_proxy_s_password_is_redacted() -> None:
    async def quoting(seen: Seen, peer: Peer) -> None:
        words = f"no: {seen.header('x-team-token')} {seen.header('x-api-key')} proxy-canary"
        await peer.whole(400, json.dumps({"type": "error", "error": {"type": "x", "message": words}}).encode())

    async with Upstream(quoting) as up:
        credentials = ", headers: {x-team-token: header-canary}"
        idle = ", enabled: false, proxy: 'http://u:proxy-canary@h:1'"
        config = configuration(up, provider=credentials).replace(
            "model_routes:", f"  - {{name: p, type: anthropic, auth_value: x{idle}}}\nmodel_routes:"
        )
        async with balancer(config) as running:
            async with httpx2.AsyncClient(base_url=running.url) as http:
                answer = await http.post("/v1/messages", json=ASK)

            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == "no: [redacted] [redacted] [redacted]"
            assert up.seen[-1].header("x-team-token") == "header-canary"


async def test_reload_is_whole_or_not_at_all_and_streams_go_on() -> None:
    go_on = asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("before "))
        await go_on.wait()
        await peer.chunk(delta("after") + stop())
        await peer.end()

    async with Upstream(slowly) as up, Upstream() as other, balancer(configuration(up)) as running:
        path = running.folder / "providers.yaml"
        sdk = anthropic.AsyncAnthropic(base_url=running.url, api_key="x", max_retries=0)
        async with httpx2.AsyncClient(base_url=running.url) as http, sdk, sdk.messages.stream(**ASK) as stream:
            async for event in stream:
                if event.type == "text":
                    break
            path.write_text(configuration(up).replace("type: anthropic", "type: antropic") + "setings: {}\n")
            bad = await http.post("/providers/reload")
            same = (await http.get("/providers")).json()
            path.write_text(configuration(other))
            good = await http.post("/providers/reload")
            again = await http.post("/v1/messages", json=ASK)
            go_on.set()
            message = await stream.get_final_message()

        assert bad.status_code == 400
        assert bad.json()["status"] == "error"
        assert [problem["line"] for problem in bad.json()["problems"]] == [2, 6]
        assert bad.json()["problems"][0]["message"] == "unknown type 'antropic'; did you mean 'anthropic'?"
        assert same["generation"] == 0
        assert good.json()["status"] == "ok"
        assert good.json()["generation"] >= 1
        assert good.json()["changes"] == ["provider 'a' changed"]
        assert again.status_code == 200
        assert len(other.asked) == 1
        assert message.content[0].text == "before after"  # type: ignore[union-attr]


async def test_a_file_that_goes_away_changes_nothing() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        (running.folder / "providers.yaml").unlink()
        async with httpx2.AsyncClient(base_url=running.url) as http:
            refused = await http.post("/providers/reload")
            answer = await http.post("/v1/messages", json=ASK)

        assert (refused.status_code, refused.json()["status"]) == (400, "error")
        assert refused.json()["problems"][0]["message"] == "there is no such file"
        assert answer.headers["x-balancer-provider"] == "a"


async def test_a_file_is_taken_over_by_a_balancer_that_began_without_one() -> None:
    async with Upstream() as up, balancer(None) as running:
        (running.folder / "providers.yaml").write_text(configuration(up))
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answer = await http.post("/v1/messages", json=ASK)

        assert answer.headers["x-balancer-provider"] == "a"


async def test_a_changed_file_is_noticed() -> None:
    async with Upstream() as up, balancer(configuration(up)) as running:
        (running.folder / "providers.yaml").write_text(configuration(up, settings="request_timeout: 7"))
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))


async def test_drills() -> None:
    async with (
        Upstream() as up,
        Upstream() as spare,
        balancer(configuration(up, spare, settings="drills: true")) as running,
    ):
        async with httpx2.AsyncClient(base_url=running.url) as http:
            ordered = await http.post("/admin/drill", json={"provider": "a", "fault": "529", "requests": 1})
            unknown = await http.post("/admin/drill", json={"provider": "z", "fault": "529"})
            wrong = await http.post("/admin/drill", json={"provider": "a", "fault": "sneeze"})
            answer = await http.post("/v1/messages", json=ASK)

        assert (ordered.status_code, unknown.status_code, wrong.status_code) == (200, 404, 400)
        assert answer.headers["x-balancer-provider"] == "b"
        assert (len(up.asked), len(spare.asked)) == (0, 1)

    async with (
        Upstream() as up,
        balancer(configuration(up)) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
    ):
        assert (await http.post("/admin/drill", json={"provider": "a", "fault": "529"})).status_code == 403


async def test_sigterm_lets_running_answers_end() -> None:
    go_on = asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + block() + delta("before "))
        await go_on.wait()
        await peer.chunk(delta("after") + stop())
        await peer.end()

    async with Upstream(slowly) as up, balancer(configuration(up)) as running:
        sdk = anthropic.AsyncAnthropic(base_url=running.url, api_key="x", max_retries=0)
        async with sdk, sdk.messages.stream(**ASK) as stream:
            async for event in stream:
                if event.type == "text":
                    break
            running.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            go_on.set()
            message = await stream.get_final_message()
        assert message.content[0].text == "before after"  # type: ignore[union-attr]
        assert await running.process.wait() == 0
