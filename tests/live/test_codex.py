"""The real client Codex (npm `@openai/codex`) through the real balancer, to a scripted server of OpenAI's Responses API.

`make codex` installs it; without it this is skipped, or fails in CI.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from live.harness import Peer, Running, Seen, Upstream, balancer
from live.test_openai_sdk import configuration, event, response, stream

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
]

CONFIG = """\
model = "gpt-9"
model_provider = "balancer"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.balancer]
name = "balancer"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "BALANCER_KEY"
request_max_retries = 2
stream_max_retries = 2
"""


def answering(item: dict[str, Any]) -> list[bytes]:
    """Return the events of a response with one item."""
    done = response(output=[item])
    begun = {**item, "status": "in_progress"}
    return [
        event("response.created", response=response("in_progress", output=[], usage=None)),
        event("response.output_item.added", output_index=0, item=begun),
        event("response.output_item.done", output_index=0, item=item),
        event("response.completed", response=done),
    ]


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def called(tools: list[dict[str, Any]], command: str) -> dict[str, Any]:
    """Return a call of whichever tool runs commands in this release."""
    names = [tool.get("name") for tool in tools]
    if "exec_command" in names:
        name, arguments = "exec_command", {"cmd": command}
    elif "shell_command" in names:
        name, arguments = "shell_command", {"command": command}
    else:
        name, arguments = "shell", {"command": ["bash", "-lc", command]}  # type: ignore[dict-item]
    call = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": name}
    return {**call, "arguments": json.dumps(arguments)}


async def scripted(seen: Seen, peer: Peer) -> None:
    """Ask for a command to be run, then repeat what it printed."""
    if not seen.target.startswith("/v1/responses"):
        await peer.whole(404, b'{"error": {"message": "Not Found"}}')
        return
    outputs = [item for item in seen.json["input"] if item.get("type") == "function_call_output"]
    if outputs:
        printed = "canary-4711" if "canary-4711" in json.dumps(outputs[-1]) else "nothing"
        await stream(peer, *answering(said(f"It printed {printed}.")))
    else:
        await stream(peer, *answering(called(seen.json["tools"], "echo canary-$((4700 + 11))")))


async def run(codex: str, running: Running, folder: Path) -> str:
    """Run one prompt, and return what Codex prints."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    (home / "config.toml").write_text(CONFIG.format(url=running.url))
    environment = {
        **{key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR")},
        "HOME": str(home), "CODEX_HOME": str(home), "BALANCER_KEY": "sk-client",
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1",  # nothing leaves this machine
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        codex, "exec", "--skip-git-repo-check", "--json", "Run the command.",
        cwd=work, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(90):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode()


async def test_a_tool_loop(codex: str, tmp_path: Path) -> None:
    async def ill(seen: Seen, peer: Peer) -> None:
        await peer.whole(500, b'{"error": {"message": "down", "type": "server_error"}}')

    async with Upstream(ill) as first, Upstream(scripted) as up:
        async with balancer(configuration(first, up)) as running:
            printed = await run(codex, running, tmp_path)
            assert "It printed canary-4711." in printed, printed
            ended = await running.ended(2)

        answered = [one for one in ended if one["operation"] == "responses"]
        assert [one["outcome"] for one in answered] == ["ok", "ok"], printed
        assert {one["provider"] for one in answered} == {"b"}
        assert all(seen.header("authorization") == "Bearer sk-canary-b" for seen in up.asked)
