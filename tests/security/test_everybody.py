"""One request, or one answer, harms nobody else: the loop goes on, no provider rests for what a client sent.

The rules behind the checklist's lines 10, 11 and 21, and behind none of them: who is behind a proxy, and whom a client's own
credential is for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from live.harness import Behaviour, Peer, Seen, Upstream, balancer, block, configuration, delta, good, message, start
from security.attacks import QUESTION, ask, exchange, get, question, request, says, status, worst_health_s
from security.test_entry import Attacked
from security.test_providers import SSE_HEAD, chain

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

WITHIN_S = 1.0


def refusal(text: str, code: int = 400, kind: str = "invalid_request_error") -> bytes:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": text}}).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (code, len(body)) + body


async def strict(seen: Seen, peer: Peer) -> None:
    """Answer as Anthropic's API and the servers before it do: 4xx by the form of a request, unknown tags quoted."""
    content = seen.json["messages"][0]["content"]
    if sum(len(name) + len(value) for name, value in seen.headers) > 16_384:
        await peer.whole(431, b"<html>too large", "text/html")
    elif len(seen.target) > 8000:
        await peer.whole(414, b"<html>too long", "text/html")
    elif seen.header("range"):
        await peer.whole(416, b"")
    elif seen.header("content-type") != "application/json":
        await peer.whole(415, b"{}")
    elif "bogus" in seen.target:
        await peer.whole(405, b'{"detail":"Method Not Allowed"}')
    elif isinstance(content, list) and content[0]["type"] != "text":
        await peer.raw(
            refusal(f"messages.0.content.0: Input tag '{content[0]['type']}' found using 'type' does not match")
        )
    elif isinstance(content, str) and len(content) > 10_000:
        await peer.raw(refusal(f"messages.0.content: Input should not be '{content}'"))
    else:
        await good(seen, peer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Attacked]:
    """Two strict providers of type anthropic, and one of type openai for the models that begin with `o`."""
    settings = "failure_cooldown: 60, sticky: {by: prefix}"

    async def completes(seen: Seen, peer: Peer) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        await peer.whole(
            200, json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()
        )

    whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(message("hi"))
    fast = says(whole + message("hi"))  # reads nothing of a body, so that it holds up no test
    async with Upstream(strict) as a, Upstream(strict) as b, Upstream(completes) as o, Upstream(fast) as f:
        text = chain(
            ("a", "anthropic", a.port),
            ("b", "anthropic", b.port),
            ("o", "openai", o.port),
            ("f", "anthropic", f.port),
            settings=settings,
        )
        routes = '{"*": [{provider: a, priority: 1}, {provider: b, priority: 2}], "o*": [{provider: o}], renamed: [{provider: f, model: x}]}'
        head, _, tail = text.partition("model_routes: ")
        async with balancer(f"{head}model_routes: {routes}\n{tail.partition(chr(10))[2]}") as running:
            yield Attacked(running, a)


# the loop


def _large() -> dict[str, bytes]:
    one = b'{"role":"user","content":"a"},'
    text = b'{"type":"text","text":"a"},'

    def body(model: bytes, messages: bytes) -> bytes:
        return b'{"model":"%b","max_tokens":1,"messages":[%b]}' % (model, messages)

    return {
        "a prompt that is quoted: passwords": question("password=" * 8000),
        "a prompt that is quoted: secrets": question("secret:" * 10_000),
        "a prompt that is quoted: tokens": question("eyJ-" * 18_000),
        "a prompt that is quoted: traces": question(" at ////" * 9000),
        "80,000 messages of one role": body(b"o", one * 80_000 + one[:-1]),
        "200,000 blocks of content": body(b"o", b'{"role":"user","content":[%b]}' % (text * 200_000 + text[:-1])),
        "blanks between members": body(b"m", b'{"role":"user",' + b" " * 60_000 + b'"content":"q"}'),
        "a second name of a model, renamed": body(b"renamed", b'{"role":"user","content":"q","model":"x","z":[%b1]}' % (b"[]," * 3_000_000)),
    }  # fmt: skip


LARGE = _large()


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
async def test_no_request_holds_up_everybody(both: Attacked, body: bytes) -> None:
    assert await worst_health_s(both.running, ask(both.running, body)) < WITHIN_S


WORDS = {"passwords": "password=" * 100_000, "secrets": "secret:" * 128_000, "tokens": "eyJ-" * 225_000}


def _event(text: str) -> bytes:
    data = json.dumps({"type": "error", "error": {"type": "api_error", "message": text}}).encode()
    return b"event: error\ndata: " + data + b"\n\n"


@pytest.mark.parametrize("text", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("where", ["a body", "an event before content", "an event behind content"])
async def test_no_error_of_a_provider_holds_up_everybody(text: str, where: str) -> None:
    before = start() + block() + delta("hi") if where == "an event behind content" else b""
    data = before + _event(text)
    told: Behaviour = says(
        refusal(text) if where == "a body" else SSE_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    )
    async with Upstream(told) as upstream, balancer(configuration(upstream)) as running:
        assert await worst_health_s(running, ask(running, question(stream=where != "a body"))) < WITHIN_S


# whose fault it is

ODD: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "a block named like an empty account": (b"credit balance", (), "/v1/messages"),
    "a block named like a missing model": (b"unknown model", (), "/v1/messages"),
    "a block named like a limit": (b"rate limit exceeded, quota", (), "/v1/messages"),
    "20 KB of headers": (b"", tuple(f"x-pad-{number}: {'y' * 3000}" for number in range(7)), "/v1/messages"),
    "a query of 9 KB": (b"", (), "/v1/messages?a=" + "b" * 9000),
    "another charset": (b"", ("content-type: application/json; charset=x",), "/v1/messages"),
    "JSON of a vendor": (b"", ("content-type: application/vnd.x+json",), "/v1/messages"),
    "a range": (b"", ("range: bytes=0-1",), "/v1/messages"),
    "an odd query": (b"", (), "/v1/messages?bogus"),
}


@pytest.mark.parametrize(("tag", "lines", "path"), ODD.values(), ids=ODD)
async def test_what_one_client_sends_lets_no_provider_rest(
    both: Attacked, tag: bytes, lines: tuple[str, ...], path: str
) -> None:
    content = b'[{"type":"%b"}]' % tag if tag else b'"q"'
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":%b}]}' % content

    answer = await ask(both.running, body, *lines, path=path)
    told = json.loads((await get(both.running, "/providers")).partition(b"\r\n\r\n")[2])["providers"]

    assert status(answer) == 200 or 400 <= status(answer) < 500, answer[:300]
    assert [
        (one["name"], one["state"], one.get("resting_models"))
        for one in told
        if one["state"] != "healthy" or one.get("resting_models")
    ] == []
    assert status(await ask(both.running)) == 200


BAD_UTF8 = {
    "a stream": (SSE_HEAD + b'32\r\nevent: message_start\ndata: {"type":"message_start\xff"}\n\n\r\n0\r\n\r\n', True),
    "an answer": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\r\n" + b'{"type":"message\xff","content":[]}'[:31], False),
    "an error": (b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\r\n" + b'{"error":{"message":"\xff"}}    ', False),
}  # fmt: skip


@pytest.mark.parametrize(("wire", "stream"), BAD_UTF8.values(), ids=BAD_UTF8)
async def test_what_is_no_text_is_the_providers_fault_and_another_answers(wire: bytes, stream: bool) -> None:
    async with Upstream(says(wire)) as ill, Upstream() as well:
        text = configuration(ill, well, settings="failure_cooldown: 60")
        async with balancer(text) as running:
            answers = [await ask(running, question(f"q{number}", stream=stream)) for number in range(5)]
            errors = [line for line in running.log() if line["level"] == "ERROR"]

    assert [status(answer) for answer in answers] == [200] * 5
    assert errors == []
    assert len(ill.seen) < 5


# who it is

BEHIND = {
    "x-forwarded-for": ("x-forwarded-for: 203.0.113.9",),
    "x-forwarded-for of this machine": ("x-forwarded-for: 127.0.0.1",),
    "x-real-ip": ("x-real-ip: 203.0.113.9",),
    "forwarded": ("forwarded: for=203.0.113.9",),
    "via": ("via: 1.1 proxy",),
}


@pytest.mark.parametrize("lines", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("path", ["/v1/messages", "/providers/reload"])
async def test_without_keys_nobody_behind_a_proxy_is_served(both: Attacked, lines: tuple[str, ...], path: str) -> None:
    before = len(both.upstream.seen)
    body = QUESTION if path == "/v1/messages" else b""

    assert status(await exchange(both.port, request(body, *lines, path=path))) == 403
    assert status(await exchange(both.port, request(body, path=path).replace(b"HTTP/1.1", b"HTTP/1.0"))) == 403
    assert len(both.upstream.seen) == before


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_a_clients_own_credential_follows_no_failover_to_another_address(kind: str) -> None:
    secret = "sk-ant-oat01-CLIENTcanary5f2e8d"
    full = says(refusal("x", 529, "overloaded_error"))
    async with Upstream(full) as first, Upstream(full) as other, Upstream() as own:
        text = chain(("first", "anthropic", first.port), ("other", kind, other.port), ("own", "anthropic", own.port))
        for name in ("first", "other"):
            text = text.replace(f"sk-canary-{name}-0123456789", "passthrough")
        async with balancer(text) as running:
            lines = (f"authorization: Bearer {secret}", f"x-api-key: {secret}")
            answers = [await ask(running, QUESTION, line) for line in lines]

    assert [status(answer) for answer in answers] == [200, 200]
    assert secret in str([seen.headers for seen in first.seen])
    assert secret not in str([seen.headers for seen in (*other.seen, *own.seen)])
