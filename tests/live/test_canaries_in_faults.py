"""Every fault of the scorecard, by a provider that tells all it knows: no canary leaves the balancer.

The provider puts what it knows, in every spelling at once, wherever a fault leaves room: into the head, the words of
errors, pages, comments, what is no HTTP at all. Then every byte is searched that clients got, that was written, and
that commands print. The text of a good answer is the provider's to choose and is not changed: no canary is put there.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

import httpx2
import pytest
from live import provider_faults
from live.harness import PYTHON, ROOT, Behaviour, Peer, Running, Seen, Upstream, balancer
from live.test_canaries import ADMIN, CANARIES, GATE, SPELLINGS, TOKEN, found_in, told

pytestmark = pytest.mark.live

FAULTS: dict[str, Behaviour] = {
    **provider_faults.HIDDEN, **provider_faults.REPORTED, **provider_faults.CALLERS, **provider_faults.UNUSUAL,
}  # fmt: skip

OWN, OTHER = CANARIES["the provider's key"], CANARIES["another provider's key"]

_ERROR = re.compile(rb'"(?:error|msg|message|code)"')
_STRING = re.compile(rb'("(?:message|msg|type|code|error)": ?")([^"\\]*)(")')
_KNOWN = re.compile(rb"(?:message|content_block|ping)\w*\Z")
LARGE = 100_000
"""What is longer has no room for more."""


class Telling(Peer):
    """A provider's side of a connection that adds to whatever it sends, where that is no good answer."""

    def __init__(self, peer: Peer, words: str) -> None:
        super().__init__(peer.reader, peer.writer)
        self.left = peer.left
        self._words = words
        self._inside = False

    async def raw(self, data: bytes) -> None:
        """Send; where that is the fault's own bytes, and not an answer's, with the words."""
        if not self._inside and len(data) < LARGE and data:
            data = self._in_raw(data)
        await super().raw(data)

    def _in_raw(self, data: bytes) -> bytes:
        words = self._words.encode()
        if not data.startswith(b"HTTP/1.1 "):
            return words + b" " + data
        line, _, rest = data.partition(b"\r\n")
        return line + b" " + words + b"\r\nx-debug: " + words + b"\r\n" + rest

    async def head(self, status: int = 200, **headers: str) -> None:
        more = {"anthropic_debug": self._words, "x_debug": self._words, "via": self._words}
        self._inside = True
        await super().head(status, **more, **{"request_id": f"req {self._words}", **headers})

    async def whole(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        await super().whole(status, self._in_answer(body), content_type, **headers)

    async def chunk(self, data: bytes) -> None:
        await super().chunk(self._in_answer(data))

    def _in_answer(self, data: bytes) -> bytes:
        if len(data) > LARGE:
            return data
        words = self._words.encode()
        if data.startswith(b":") or (data and not data.startswith((b"{", b"event:", b"data:", b"\x1f\x8b", b"["))):
            return data.replace(b"\n", b" " + words + b"\n", 1) if data.startswith(b":") else data + words
        if not _ERROR.search(data) or b'"assistant"' in data or b'"event: "' in data:
            return data

        def with_words(match: re.Match[bytes]) -> bytes:
            if match[1].startswith(b'"type"') and (match[2] == b"error" or _KNOWN.match(match[2])):
                return match[0]
            return match[1] + match[2] + b" " + json.dumps(self._words)[1:-1].encode() + match[3]

        return _STRING.sub(with_words, data)


def configuration(kind: str, first: Upstream, second: Upstream, key: str) -> str:
    """Return a configuration in which each fault has a provider of its own: no cooldown of one hides another."""
    headers = {
        "x-company-secret": CANARIES["a header whose name tells"],
        "x-team": CANARIES["a header whose name does not tell"],
    }
    at = dict.fromkeys(FAULTS, f"http://127.0.0.1:{first.port}")
    at |= {name: url.format(port=second.port) for name, url in provider_faults.UNREACHABLE.items()}
    where = {name: f"{url}/{CANARIES['a key in the path']}" for name, url in at.items()}
    providers = [
        {"name": f"ill {number}", "type": kind, "base_url": url, "auth_value": key, "headers": headers}
        for number, url in enumerate(where.values())
    ]
    well = {"name": "well", "type": "anthropic", "base_url": f"http://127.0.0.1:{second.port}", "auth_value": OTHER}
    routes = {
        f"fault-{number}": [{"provider": f"ill {number}", "priority": 1}, {"provider": "well", "priority": 2}]
        for number in range(len(where))
    }
    settings = {
        "failure_cooldown": 0, "request_timeout": 1.5, "stream_idle_timeout": 1.5, "non_streaming_timeout": 1.5,
        "connect_timeout": 1.5, "stream_stall_timeout": 3, "log_level": "DEBUG", "drills": True,
        "auth": {"keys": [GATE], "admin_keys": [ADMIN]},
    }  # fmt: skip
    return json.dumps({"providers": [*providers, well], "model_routes": routes, "settings": settings})


async def answered(running: Running, model: str, headers: dict[str, str], *, stream: bool) -> bytes:
    """Ask, and return every byte that comes until the connection ends."""
    asked = {"model": model, "max_tokens": 50, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(asked).encode()
    lines = {"host": "localhost", "content-type": "application/json", "connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(f"POST /v1/messages HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        got = b""
        while data := await reader.read(65536):
            got += data
        return got
    except ConnectionError:
        return got
    finally:
        writer.close()


async def printed(running: Running, *words: str) -> bytes:
    """Return what a command prints to the administrator, on both outputs."""
    env = {"BALANCER_KEY": ADMIN, "BALANCER_PORT": str(running.port)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANTHROPIC", "BALANCER", "LOG_"))}
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "balancer.cli", *words, cwd=running.folder, env={**kept, "PYTHONPATH": str(ROOT / "src"), **env},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output


async def shown(running: Running, client: httpx2.AsyncClient) -> dict[str, bytes]:
    """Return all that was written, that the control endpoints say, and that commands print.

    `balancer env` is none of them: it is there to print a key for the client.
    """
    exits = await told(running, client)
    orders: dict[str, Any] = {
        "/providers/reload": {}, "/admin/wake": {"provider": OWN}, "/admin/pause": {"provider": "ill 1"},
        "/admin/resume": {"provider": "ill 1"}, "/admin/drill": {"provider": "ill 1", "fault": OWN},
    }  # fmt: skip
    for path, order in orders.items():
        answer = await client.post(running.url + path, json=order, headers={"x-api-key": ADMIN})
        if OWN not in order.values():  # which would be no more than an echo of what this client sends
            exits[path] = answer.content
    refusal = running.folder / "refusal.json"
    refusal.write_text(json.dumps({"error": {"type": "authentication_error", "message": f"no {OWN}"}}))
    commands = (
        ("check",), ("status",), ("status", "--json"), ("logs",), ("logs", "--failed"), ("explain", "fault-0"),
        ("explain", "--error", str(refusal)),
    )  # fmt: skip
    for words in commands:
        exits[f"balancer {' '.join(words[:2])}"] = await printed(running, *words)
    return exits


CASES: dict[str, tuple[str, str, list[str], dict[str, str]]] = {
    "anthropic": ("anthropic", OWN, list(CANARIES.values()), {"x-api-key": GATE}),
    "openai": ("openai", OWN, list(CANARIES.values()), {"x-api-key": GATE}),
    "passthrough": (
        "anthropic", "passthrough", [*(set(CANARIES.values()) - {OWN}), TOKEN], {"x-balancer-key": GATE, "authorization": f"Bearer {TOKEN}"},
    ),
}  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES)
async def test_no_fault_of_the_scorecard_brings_a_canary_out(case: str) -> None:
    kind, key, secrets, headers = CASES[case]
    words = " ".join(spelt(secret) for secret in secrets for spelt in SPELLINGS.values())

    models = {name: f"fault-{number}" for number, name in enumerate((*FAULTS, *provider_faults.UNREACHABLE))}
    played = {models[name]: fault for name, fault in FAULTS.items()}

    async def ill(seen: Seen, peer: Peer) -> None:
        await played.get(seen.json.get("model", ""), provider_faults.well)(seen, Telling(peer, words))

    async with (
        Upstream(ill) as first,
        Upstream(provider_faults.well) as second,
        httpx2.AsyncClient(timeout=60) as client,
    ):
        async with balancer(configuration(kind, first, second, key)) as running:
            names = [(name, stream) for name in models for stream in (True, False)]
            asking = [answered(running, models[name], headers, stream=stream) for name, stream in names]
            checking = asyncio.create_task(printed(running, "check", "--live"))  # waits 15 s for those that are silent
            answers = await asyncio.gather(*asking)
            clients = {f"{name}, stream: {s}": answer for (name, s), answer in zip(names, answers, strict=True)}
            others = {**await shown(running, client), "balancer check --live": await checking}
        others["the console"] = bytes(running.output)

    assert {seen.json["model"] for seen in first.asked} >= set(played)
    assert {"logs/logs.jsonl", "logs/audit.jsonl"} <= set(others)
    assert found_in(clients, [secret for secret in secrets if secret != TOKEN]) == [], (
        "a client may be shown what it sent"
    )
    assert found_in(others, secrets) == []
