"""A canary in every place that is configured, and in the client's own credential: it is seen nowhere, whatever fails.

Providers quote all that they know, in every spelling and in every place of an answer. Then everything is searched that
has left the balancer: what clients got, headers too, the log, the console, `/providers`, `/metrics`, what was learnt.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from live.harness import Behaviour, Peer, Running, Seen, Upstream, balancer, block, delta, event, start, stop

pytestmark = pytest.mark.live

CANARIES = {
    "the provider's key": "Zk7canaryKEY/with+odd=chars99",
    "a header whose name tells": "hdr-canary-0001-SECRET",
    "a header whose name does not tell": "7c1e9f04bb5d4acanaryteam66",
    "a key in the path": "k3y7f3a9c1e55acanarypath",
    "the gate's key": "gate-canary-0123456789abcdefghij",
    "the key of administrators": "admin-canary-0123456789abcdefghij",
    "another provider's key": "sk-canary-of-another-provider",
}
GATE, ADMIN = CANARIES["the gate's key"], CANARIES["the key of administrators"]
TOKEN = "7f3a9c1e-55aa-4b1d-9c3e-canary000001"
"""The client's own credential, where it is passed through: it may be shown to that client, and to nobody else."""

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "json": lambda text: "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "basic": lambda text: base64.b64encode(f"u:{text}".encode()).decode(),
}


def hidden(secrets: list[str]) -> Iterator[tuple[str, bytes]]:
    """Return what must stand nowhere: each secret in each spelling, without the ends that base64 shares with others."""
    for secret in secrets:
        for way, spelt in SPELLINGS.items():
            text = spelt(secret)
            yield f"{secret} ({way})", (text[4:-6] if way in ("base64", "basic") else text).encode()


def places(secret: str) -> Iterator[tuple[str, bool, Behaviour]]:
    """Return where a provider can put what it knows: the place, whether to stream, and what it does."""

    def refuses(status: int, body: Any, kind: str = "application/json", **headers: str) -> Behaviour:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def behave(seen: Seen, peer: Peer) -> None:
            await peer.whole(status, data, kind, **headers)

        return behave

    def streams(*parts: bytes) -> Behaviour:
        async def behave(seen: Seen, peer: Peer) -> None:
            await peer.sse()
            for part in parts:
                await peer.chunk(part)
            await peer.end()

        return behave

    def raw(data: bytes) -> Behaviour:
        async def behave(seen: Seen, peer: Peer) -> None:
            await peer.raw(data)
            peer.close()

        return behave

    for status in (400, 401, 403, 404, 413, 422, 429, 500, 529):
        error = {"type": "error", "error": {"type": "api_error", "message": f"bad {secret} at once"}}
        yield f"message of a {status}", False, refuses(status, error)
        headers = {"anthropic_debug": secret, "request_id": secret, "retry_after": secret}
        yield f"headers of a {status}", False, refuses(status, {"error": {"type": "x", "message": "no"}}, **headers)
    good = {"type": "message", "id": "m", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hi"}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    yield "headers of a 200", False, refuses(200, good, anthropic_debug=f"x {secret}", request_id=f"req_{secret}")
    yield (
        "types of a 400",
        False,
        refuses(400, {"error": {"type": secret, "code": secret, "param": secret, "message": "no"}}),
    )
    yield "other members of a 400", False, refuses(400, {"error": {"message": "no"}, "debug": [{"headers": secret}]})
    yield "an error that is a string", False, refuses(400, {"error": secret})
    yield "plain text", False, refuses(400, f"bad {secret}".encode(), "text/plain")
    yield "a page", False, refuses(500, f"<html>{secret}".encode(), "text/html")
    yield "no HTTP", False, raw(f"{secret}\r\n\r\n".encode())
    yield "a bad header", False, raw(f"HTTP/1.1 200 OK\r\n{secret}\r\n\r\n".encode())
    yield "the reason phrase", False, raw(f"HTTP/1.1 500 {secret}\r\ncontent-length: 0\r\n\r\n".encode())
    events: dict[str, dict[str, str]] = {
        "message": {"type": "api_error", "message": secret},
        "type": {"type": secret, "message": "z"},
    }
    for name, told_of in events.items():
        late = event({"type": "error", "error": told_of})
        yield f"{name} of an event before content", True, streams(late)
        yield f"{name} of an event behind content", True, streams(start() + block() + delta("hi"), late)
    yield "an event that is no JSON", True, streams(f"event: error\ndata: {secret}\n\n".encode())
    yield (
        "an event of no known type",
        True,
        streams(start() + block() + delta("hi") + stop().replace(b"message_stop", b"x")),
    )


def config(upstream: Upstream, kind: str, key: str) -> str:
    headers = json.dumps(
        {
            "x-company-secret": CANARIES["a header whose name tells"],
            "x-team": CANARIES["a header whose name does not tell"],
        }
    )
    where = f"http://127.0.0.1:{upstream.port}/{CANARIES['a key in the path']}"
    return f"""
providers:
  - {{name: a, type: {kind}, base_url: "{where}", auth_value: "{key}", headers: {headers}, request_timeout: 2}}
  - {{name: idle, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: {CANARIES["another provider's key"]}, enabled: false}}
model_routes: {{"*": [{{provider: a, model: passthrough}}]}}
settings: {{failure_cooldown: 0, log_level: DEBUG, auth: {{keys: [{GATE}], admin_keys: [{ADMIN}]}}}}
"""


async def asked(
    running: Running, client: httpx2.AsyncClient, headers: dict[str, str], *, stream: bool, model: str = "claude-x"
) -> bytes:
    """Ask, and return every byte of the answer, its head included."""
    body = {"model": model, "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    try:
        answer = await client.post(f"{running.url}/v1/messages", json=body, headers=headers)
    except httpx2.TransportError as error:  # the connection was cut, as that of a broken stream is
        return repr(error).encode()
    return b"".join(b"%b: %b\n" % line for line in answer.headers.raw) + answer.content


async def told(running: Running, client: httpx2.AsyncClient) -> dict[str, bytes]:
    """Return all that others than the client could read."""
    paths = ("/providers", "/metrics", "/", "/v1/models")
    answers = {path: (await client.get(running.url + path, headers={"x-api-key": ADMIN})).content for path in paths}
    files = {str(path.relative_to(running.folder)): path.read_bytes() for path in running.folder.rglob("logs/*")}
    return {**answers, **files, "the console": bytes(running.output)}


def found_in(exits: dict[str, bytes], secrets: list[str]) -> list[str]:
    return [f"{what} at {where}" for where, data in exits.items() for what, word in hidden(secrets) if word in data]


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
@pytest.mark.parametrize("way", SPELLINGS)
async def test_no_canary_is_seen_wherever_a_provider_puts_it(kind: str, way: str) -> None:
    secrets, said = list(CANARIES.values()), SPELLINGS[way]
    async with Upstream() as up, httpx2.AsyncClient(timeout=20) as client:
        async with balancer(config(up, kind, CANARIES["the provider's key"])) as running:
            exits = {}
            count = 0
            for place, stream, up.behaviour in places(" ".join(map(said, secrets))):
                headers = {"x-api-key": GATE}
                exits[f"the client ({place})"] = await asked(running, client, headers, stream=stream)
                count += 1
            await running.ended(count)
            exits |= await told(running, client)
        exits["the console"] = bytes(running.output)

    assert len(up.asked) >= count
    assert found_in(exits, secrets) == []


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_nobody_else_sees_the_credential_of_a_client_that_is_passed_through(header: str) -> None:
    headers = {"x-balancer-key": GATE, header: f"Bearer {TOKEN}" if header == "authorization" else TOKEN}
    async with Upstream() as up, httpx2.AsyncClient(timeout=20) as client:
        async with balancer(config(up, "anthropic", "passthrough")) as running:
            count = 0
            for _, stream, up.behaviour in places(f"{TOKEN} {quote(TOKEN)} {SPELLINGS['base64'](TOKEN)}"):
                await asked(running, client, headers, stream=stream)
                count += 1
            await running.ended(count)
            exits = await told(running, client)
        exits["the console"] = bytes(running.output)

    assert {seen.header(header) for seen in up.asked} == {headers[header]}
    assert found_in(exits, [TOKEN]) == []


async def test_the_credentials_of_a_proxy_are_seen_nowhere() -> None:
    user, password = "pxUSERcanary1", "pw%401z"
    pair = f"{user}:pw@1z"
    quoted = (
        f"{pair} {user} {base64.b64encode(pair.encode()).decode()} Basic {base64.b64encode(pair.encode()).decode()}"
    )
    async with Upstream() as up, httpx2.AsyncClient(timeout=20) as client:
        text = config(up, "anthropic", "k").replace(
            "request_timeout: 2", f'request_timeout: 2, proxy: "http://{user}:{password}@127.0.0.1:{up.port}"', 1
        )
        async with balancer(text) as running:
            exits, count = {}, 0
            for place, stream, up.behaviour in places(quoted):
                exits[f"the client ({place})"] = await asked(running, client, {"x-api-key": GATE}, stream=stream)
                count += 1
            await running.ended(count)
            exits |= await told(running, client)
        exits["the console"] = bytes(running.output)

    assert up.asked
    words = {"the pair": pair, "the user": user, "as on the wire": base64.b64encode(pair.encode()).decode()}
    assert [
        f"{what} at {at}" for at, data in exits.items() for what, word in words.items() if word.encode() in data
    ] == []
