"""Keys of providers from files and programs, in a balancer that runs: changed keys are taken over by themselves."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
import pytest
from live.harness import Peer, Seen, Upstream, balancer, configuration, eventually, good

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
OLD, NEW = "sk-canary-old-V9q3XrT7bLw2", "sk-canary-new-Zk8NfYp4HsJd"


async def particular(seen: Seen, peer: Peer) -> None:
    """Take the new key alone, and quote whatever was sent."""
    if seen.header("x-api-key") == NEW:
        await good(seen, peer)
    else:
        said = {"type": "authentication_error", "message": f"no {seen.header('x-api-key')}, nor {OLD}, nor {NEW}"}
        await peer.whole(401, json.dumps({"type": "error", "error": said}).encode())


def from_elsewhere(up: Upstream, given: str) -> str:
    return configuration(up, settings="failure_cooldown: 0").replace("auth_value: sk-canary-a", given)


def is_quiet(*outputs: bytes | bytearray) -> bool:
    return not any(b"canary" in output for output in outputs)


async def test_a_changed_file_is_taken_over_and_ends_the_cooldown() -> None:
    async with Upstream(particular) as up, balancer(None) as running:
        file = running.folder / "key"
        file.write_text(OLD + "\n")
        file.chmod(0o600)
        (running.folder / "providers.yaml").write_text(from_elsewhere(up, "auth_value_file: key"))
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            refused = await http.post("/v1/messages", json=ASK)
            (running.folder / "next").write_text(NEW)
            (running.folder / "next").chmod(0o600)
            (running.folder / "next").rename(file)
            await eventually(lambda: sum(line["event"] == "reloaded" for line in running.log()) >= 2)
            answered = await http.post("/v1/messages", json=ASK)

        assert (refused.status_code, answered.status_code) == (503, 200)
        assert is_quiet(refused.content, answered.content, json.dumps(running.log()).encode())
    assert is_quiet(running.output)


async def test_a_file_that_comes_later_mends_a_refused_configuration() -> None:
    async with Upstream(particular) as up, balancer(None) as running:
        (running.folder / "providers.yaml").write_text(from_elsewhere(up, "auth_value_file: key"))
        await eventually(lambda: any(line["event"] == "reload_refused" for line in running.log()))
        (running.folder / "key").write_text(NEW)
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            answered = await http.post("/v1/messages", json=ASK)

        assert answered.status_code == 200


async def test_a_refused_key_is_printed_again_and_the_old_one_is_still_kept_out_of_everything() -> None:
    async with Upstream(particular) as up, balancer(None) as running:
        program = running.folder / "print.py"
        program.write_text(f"print('{OLD}')")
        command = json.dumps([sys.executable, "print.py"])
        (running.folder / "providers.yaml").write_text(from_elsewhere(up, f"auth_value_command: {command}"))
        await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
        program.write_text(f"import sys; print('{NEW}'); print('{NEW}', file=sys.stderr)")
        async with httpx2.AsyncClient(base_url=running.url) as http:
            refused = await http.post("/v1/messages", json=ASK)
            await eventually(lambda: sum(line["event"] == "reloaded" for line in running.log()) >= 2)
            answered = await http.post("/v1/messages", json=ASK)
            program.write_text("raise SystemExit(1)")
            reloaded = await http.post("/providers/reload")

        assert (refused.status_code, answered.status_code) == (503, 200)
        assert "still used" in reloaded.json()["warnings"][0]
        assert [seen.header("x-api-key") for seen in up.seen[-2:]] == [OLD, NEW]
        assert is_quiet(refused.content, reloaded.content, json.dumps(running.log()).encode())
    assert is_quiet(running.output)
