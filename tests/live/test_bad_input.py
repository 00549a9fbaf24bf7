"""What clients do wrong: a clear 4xx in the API's shape, and no provider touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from live.harness import Running, Upstream, balancer, configuration

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

KEY = "a-gate-key-of-length"


class Pair:
    def __init__(self, running: Running, upstream: Upstream) -> None:
        self.running = running
        self.upstream = upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    settings = "limits: {max_body_bytes: 2000000}"
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:
        yield Pair(running, upstream)


async def raw(port: int, data: bytes, close: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return status, headers and body of what comes back; 0 when nothing does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if close:
            writer.write_eof()
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(lines[0].split()[1]), headers, body
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, {}, b""
    finally:
        writer.close()


def post(body: bytes, path: str = "/v1/messages", *lines: str, method: str = "POST") -> bytes:
    extra = "".join(f"{line}\r\n" for line in lines)
    if "content-type" not in extra:
        extra += "content-type: application/json\r\n"
    if "content-length" not in extra:
        extra += f"content-length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{extra}\r\n".encode() + body


GOOD = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'
CASES = {
    "not JSON": (post(b"hello"), 400, "invalid_request_error", "not valid JSON"),
    "no body": (post(b""), 400, "invalid_request_error", "not valid JSON"),
    "an array": (post(b"[1]"), 400, "invalid_request_error", "must be an object"),
    "no model": (post(b'{"messages":[]}'), 400, "invalid_request_error", "model: Field required"),
    "model not a string": (post(b'{"model":1,"messages":[]}'), 400, "invalid_request_error", "model: must be a string"),
    "no messages": (post(b'{"model":"m"}'), 400, "invalid_request_error", "messages: Field required"),
    "an empty model": (post(b'{"model":"","messages":[]}'), 400, "invalid_request_error", "model: must be a name"),
    "an endless model": (post(b'{"model":"%b","messages":[]}' % (b"m" * 2000)), 400, "invalid_request_error", "model: must be a name"),
    "a model that is not UTF-8": (post(b'{"model":"m\xff","messages":[]}'), 400, "invalid_request_error", "not UTF-8"),
    "a byte order mark": (post(b"\xef\xbb\xbf" + GOOD), 400, "invalid_request_error", "not valid JSON"),
    "two bodies in one": (post(GOOD + GOOD), 400, "invalid_request_error", "not valid JSON"),
    "deep nesting": (post(b'{"model":"m","messages":' + b"[" * 500_000), 400, "invalid_request_error", "nested too deeply"),
    "too large": (post(b"x" * 2_000_001), 413, "request_too_large", "larger than 2000000 bytes"),
    "too large, in chunks": (
        post(b"4c4b40\r\n" + b"x" * 5_000_000 + b"\r\n0\r\n\r\n", "/v1/messages", "transfer-encoding: chunked", "x-content-length: 0"),
        413, "request_too_large", "larger than",
    ),
    "an encoding that we don't know": (post(GOOD, "/v1/messages", "content-encoding: zstd"), 415, "invalid_request_error", "zstd"),
    "not said to be JSON": (post(GOOD, "/v1/messages", "content-type: text/plain"), 415, "invalid_request_error", "text/plain"),
    "an unknown path": (post(GOOD, "/v1/complete"), 404, "not_found_error", "/v1/complete"),
    "an unknown method": (post(b"", method="GET"), 405, "invalid_request_error", "use POST"),
    "a foreign host": (GOOD and b"POST /v1/messages HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n", 421, "invalid_request_error", "allowed_hosts"),
    "a foreign page": (post(GOOD, "/v1/messages", "origin: https://evil.example"), 403, "permission_error", "web pages"),
    "count_tokens without a model": (post(b'{"messages":[]}', "/v1/messages/count_tokens"), 400, "invalid_request_error", "model"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status", "kind", "words"), CASES.values(), ids=CASES)
async def test_bad_input(pair: Pair, data: bytes, status: int, kind: str, words: str) -> None:
    before = len(pair.upstream.seen)

    got, headers, body = await raw(pair.running.port, data)

    told = json.loads(body)
    assert (got, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert words in told["error"]["message"]
    assert told["request_id"] == headers["x-balancer-request-id"]
    assert len(pair.upstream.seen) == before


STRANGE = {
    "length and chunks": post(GOOD, "/v1/messages", "content-length: 5", "transfer-encoding: chunked"),
    "two lengths": post(GOOD, "/v1/messages", "content-length: 5", "content-length: 6"),
    "garbage": b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n",
    "a length that is none": post(GOOD, "/v1/messages", "content-length: x"),
}


@pytest.mark.parametrize("data", STRANGE.values(), ids=STRANGE)
async def test_strange_framing_is_refused_and_the_connection_closed(pair: Pair, data: bytes) -> None:
    before = len(pair.upstream.seen)

    status, headers, body = await raw(pair.running.port, data)

    told = json.loads(body)
    assert (status, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert told["request_id"] == headers["x-balancer-request-id"]
    assert headers["connection"] == "close"
    assert len(pair.upstream.seen) == before


async def test_a_body_that_stops_half_way_touches_nobody(pair: Pair) -> None:
    before = len(pair.upstream.seen)

    await raw(pair.running.port, post(GOOD[:20], "/v1/messages", "content-length: 500"), close=True)
    status, _, _ = await raw(pair.running.port, post(GOOD))

    assert status == 200
    assert len(pair.upstream.seen) == before + 1


async def test_what_is_normal_is_taken(pair: Pair) -> None:
    body = json.dumps(
        {
            "model": "claude-opus-5-5[1m]", "max_tokens": 128000, "stream": False, "safeguards": {"x": 1},
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x" * 1_000_000}]},
                {"role": "system", "content": "environment"},
                {"role": "user", "content": [{"type": "never_heard_of", "x": [1]}]},
            ],
        }
    ).encode()  # fmt: skip

    status, headers, _ = await raw(pair.running.port, post(body, "/v1/messages?beta=true"))

    assert status == 200
    assert headers["x-balancer-provider"] == "a"
    assert headers["x-balancer-attempts"] == "1"
    assert pair.upstream.seen[-1].body == body
    assert pair.upstream.seen[-1].target == "/v1/messages?beta=true"


async def test_nothing_of_it_is_logged_as_our_fault(pair: Pair) -> None:
    assert not [line for line in pair.running.log() if line["event"] == "said" and line["level"] == "ERROR"]
    assert "Traceback" not in pair.running.output.decode()


async def test_gate_keys() -> None:
    settings = f'auth: {{keys: ["{KEY}"]}}'
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:
        for line, expected in (
            ("x-nothing: 1", 401),
            ("x-api-key: wrong", 401),
            (f"x-api-key: {KEY}", 200),
            (f"authorization: Bearer {KEY}", 200),
        ):
            status, _, body = await raw(running.port, post(GOOD, "/v1/messages", line))
            assert status == expected
            assert KEY.encode() not in body
        assert all(KEY not in str(seen.headers) for seen in upstream.seen)
        for path, expected in (("/health", 200), ("/", 200), ("/providers", 401), ("/metrics", 401), ("//health", 401)):
            assert (await raw(running.port, post(b"", path, method="GET")))[0] == expected
        assert KEY not in running.output.decode()
