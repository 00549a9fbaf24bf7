"""What a hostile or broken provider may do: lines 6, 9, 11, 13, 15, 16 and 27 of the checklist, as attacks."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from fakezed import FakeZed
from live.harness import (
    Behaviour,
    Peer,
    Running,
    Seen,
    Upstream,
    balancer,
    block,
    configuration,
    delta,
    good,
    message,
    start,
)
from security.attacks import (
    KEY,
    OTHER_KEY,
    QUESTION,
    ask,
    everything_written,
    forget_peak,
    get,
    head_of,
    memory_mb,
    pours,
    question,
    says,
    status,
    worst_health_s,
)

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

KINDS = ["anthropic", "openai"]
JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chain(*entries: tuple[str, str, int], settings: str = "failure_cooldown: 0") -> str:
    """Return a configuration of these providers (name, type, port), asked in this order."""
    lines = [
        f'  - {{name: {name}, type: {kind}, base_url: "http://127.0.0.1:{port}", auth_value: sk-canary-{name}-0123456789}}'
        for name, kind, port in entries
    ]
    targets = ", ".join(f"{{provider: {name}, priority: {number}}}" for number, (name, _, _) in enumerate(entries))
    return "\n".join(["providers:", *lines, f'model_routes: {{"*": [{targets}]}}', f"settings: {{{settings}}}", ""])


class Attacked:
    """A running balancer whose first provider is hostile, and whose second is a good one of type anthropic."""

    def __init__(self, running: Running, bad: Upstream) -> None:
        self.running = running
        self.bad = bad

    async def asks(self, behaviour: Behaviour, body: bytes = QUESTION) -> bytes:
        """Return what the client gets while the first provider behaves like this."""
        before, self.bad.behaviour = len(self.bad.seen), behaviour
        answer = await ask(self.running, body)
        assert len(self.bad.seen) > before, "the hostile provider was not asked"
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def attacked(request: pytest.FixtureRequest) -> AsyncIterator[Attacked]:
    async with Upstream() as bad, Upstream() as well:
        text = chain(("bad", request.param, bad.port), ("well", "anthropic", well.port))
        async with balancer(text) as running:
            yield Attacked(running, bad)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def alone(request: pytest.FixtureRequest) -> AsyncIterator[Attacked]:
    """A running balancer with nobody but a hostile provider."""
    async with Upstream() as bad, balancer(chain(("bad", request.param, bad.port))) as running:
        yield Attacked(running, bad)


# 6


async def test_no_redirect_is_followed(alone: Attacked) -> None:
    async with Upstream() as trap:
        for code in (301, 302, 303, 307, 308):
            for target in (f"http://127.0.0.1:{trap.port}/v1/messages", f"//127.0.0.1:{trap.port}/x"):
                lines = (code, target.encode())
                answer = await alone.asks(says(b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % lines))
                assert status(answer) >= 400
                assert "location" not in head_of(answer)
        await get(alone.running, "/v1/models")

        assert trap.connections == 0


# 9

HOSTILE = [
    "set-cookie: sid=evil", "server: evil", "location: http://evil.example", "access-control-allow-origin: *", "connection: x-evil",
    "content-security-policy: none", "x-evil: 1", "alt-svc: h3=\":443\"", "strict-transport-security: max-age=1", "link: <http://evil.example>",
    "refresh: 0;url=http://evil.example", "x-accel-redirect: /etc/passwd", "www-authenticate: Basic realm=evil", "clear-site-data: *",
    "content-disposition: attachment; filename=evil", "proxy-authenticate: evil", "upgrade: evil", "x-balancer-provider: evil",
    "anthropic-evil\x01: 1", "te: evil", "trailer: evil", "keep-alive: evil",
]  # fmt: skip
SPLITTING = [
    "anthropic-x: a\rset-cookie: evil=1",
    "request-id: a\nset-cookie: evil=1",
    "anthropic-x: a\0b",
    "request-id: a\r\n set-cookie: evil=1",
]


@pytest.mark.parametrize("code", [200, 400, 429])
async def test_headers_of_a_provider_pass_by_a_list_alone(attacked: Attacked, code: int) -> None:
    body = message("hi") if code == 200 else b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
    head = [f"HTTP/1.1 {code} X", "content-type: application/json", f"content-length: {len(body)}", *HOSTILE]
    answer = await attacked.asks(says("\r\n".join([*head, "", ""]).encode("latin-1") + body))

    assert b"evil" not in answer.lower()


@pytest.mark.parametrize("line", SPLITTING)
async def test_no_header_of_a_provider_splits_an_answer(attacked: Attacked, line: str) -> None:
    body = message("hi")
    head = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(body)}", line]
    answer = await attacked.asks(says("\r\n".join([*head, "", ""]).encode() + body))

    assert "set-cookie" not in head_of(answer)
    assert status(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_an_answer_that_nobody_asked_for_reaches_nobody(attacked: Attacked) -> None:
    def whole(text: str) -> bytes:
        return JSON_HEAD + b"content-length: %d\r\n\r\n" % len(message(text)) + message(text)

    behaviour = says(whole("first") + whole("SMUGGLED"), close=False)
    answers = [await attacked.asks(behaviour, question(f"q{number}")) for number in range(3)]

    assert all(b"SMUGGLED" not in answer for answer in answers)
    assert [status(answer) for answer in answers] == [200] * 3


# 11

BROTLI_BOMB = zlib.decompress(base64.b64decode(
    "eNo7//9//Q9Vh0cbHRS+/5v/////D94MRxIZG979tQdyHk5n6DisxHD3d/2///8P6zMKtLMy7Pr+/8///+3xTAp83A"
    "wl7////P+ffz+Lg4wYw4t7/z///y9fx9lgocNwYe//5///2/8RYiiMYFhQ/f882CKGRxsYHHBZxEQVi+wBRfB4SQ=="))  # fmt: skip
"""256 MB of blanks in 211 bytes."""
MEGABYTE = b" " * (1 << 20)


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(MEGABYTE) for _ in range(256)), packer.flush()])


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _packed(data: bytes, how: bytes, code: int = 200) -> bytes:
    lines = (code, how, len(data))
    return (
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n" % lines
        + data
    )


def _endless() -> Iterator[tuple[str, Behaviour, bool]]:
    """Return answers that never end or grow without bound: name, behaviour, whether a stream is asked for."""
    times = 200
    yield "a head", pours(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65536, times), False
    yield "headers", pours(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 1000, times), False
    yield "interim answers", pours(b"", b"HTTP/1.1 103 X\r\nx: y\r\n\r\n" * 100, times), False
    yield "a body", pours(JSON_HEAD + b"transfer-encoding: chunked\r\n\r\n", _chunk(MEGABYTE), times), False
    yield "a body until the close", pours(JSON_HEAD + b"\r\n", MEGABYTE, times), False
    yield "a line of a stream", pours(SSE_HEAD + _chunk(b"data: "), _chunk(MEGABYTE), times), True
    yield "an event of a stream", pours(SSE_HEAD + _chunk(b"event: x\n"), _chunk(b"data: x\n" * 65536), times), True
    yield "the extension of a chunk", pours(SSE_HEAD + b"5;", b"x" * 65536, times), True
    yield (
        "trailers",
        pours(SSE_HEAD + _chunk(start() + block() + delta("hi")) + b"0\r\n", b"x: y\r\n" * 5000, times),
        True,
    )
    for how, bomb in ((b"br", BROTLI_BOMB), (b"gzip", _gzip_bomb())):
        yield f"{how.decode()}", says(_packed(bomb, how)), False
        yield f"{how.decode()} of an error", says(_packed(bomb, how, 400)), False
        stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: %b\r\n\r\n" % how
        yield f"{how.decode()} of a stream", says(stream + bomb), True


ENDLESS = {name: (behaviour, stream) for name, behaviour, stream in _endless()}


@pytest.mark.parametrize(("behaviour", "stream"), ENDLESS.values(), ids=ENDLESS)
async def test_no_answer_of_a_provider_takes_memory_or_time_without_bound(
    attacked: Attacked, behaviour: Behaviour, stream: bool
) -> None:
    forget_peak(attacked.running)
    before = memory_mb(attacked.running)

    worst = await worst_health_s(attacked.running, attacked.asks(behaviour, question(stream=stream)))
    grown = memory_mb(attacked.running, "VmHWM") - before

    assert grown < 250, f"{grown:.0f} MB"
    assert worst < 1.0


# 13

INSIDES = "db-7.internal.example at http://10.1.2.3:8080/admin, org-7f3a9c1e55aa, sk-ant-api03-canarycanarycanarycanary"
TRACE = 'Traceback (most recent call last):\n  File "/srv/app/secret_path/main.py", line 1, in <module>\nValueError: x'


@pytest.mark.parametrize("code", [400, 413, 422, 500])
async def test_an_error_of_a_provider_tells_nothing_of_its_insides(alone: Attacked, code: int) -> None:
    told = f"{INSIDES} {TRACE} sk-canary-bad-0123456789 "
    bodies = [
        (json.dumps({"type": "error", "error": {"type": "api_error", "message": told}}).encode(), b"application/json"),
        (json.dumps({"error": {"message": told * 5000}}).encode(), b"application/json"),
        (f"<html><script>alert(1)</script>{told}".encode(), b"text/html"),
        (told.encode(), b"text/plain"),
    ]  # fmt: skip
    answers = []
    for body, content_type in bodies:
        head = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n" % (code, content_type, len(body))
        answers.append(await alone.asks(says(head + body)))

    for answer in answers:
        assert status(answer) >= 400
        assert head_of(answer)["content-type"].startswith("application/json")
        assert len(answer) < 70_000
        for word in (b"10.1.2.3", b"sk-ant-api03", b"sk-canary-bad", b"secret_path", b"<script"):
            assert word not in answer, answer[:2000]


# 15


async def test_two_keys_never_share_an_answer_and_one_key_does_not_ask_twice() -> None:
    settings = f"deduplication: {{replay_s: 60}}, auth: {{keys: [{KEY}, {OTHER_KEY}]}}"
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:
        for key in (KEY, OTHER_KEY, KEY, OTHER_KEY):
            assert status(await ask(running, QUESTION, f"x-api-key: {key}")) == 200

        assert len(upstream.asked) == 2


# 16


async def test_sessions_without_end_are_kept_within_a_bound_and_as_hashes() -> None:
    settings = f"auth: {{keys: [{KEY}]}}"
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:

        async def asked(number: int) -> None:
            session = f"canary-session-{number}-" + "x" * 4000
            answer = await ask(
                running, question(str(number)), f"x-claude-code-session-id: {session}", f"x-api-key: {KEY}"
            )
            assert status(answer) == 200

        for number in range(20):
            await asked(number)
        before = memory_mb(running)
        for number in range(20, 1000):
            await asked(number)

        assert memory_mb(running) - before < 12
        assert b"canary-session" not in await get(running, "/providers", f"x-api-key: {KEY}")
        assert b"canary-session-1-" + b"x" * 500 not in everything_written(running)


# 27


async def test_a_token_of_zed_goes_to_zed_alone_and_into_no_file() -> None:
    fake = FakeZed()

    async def fails(seen: Seen, peer: Peer) -> None:
        if seen.target.endswith("/completions"):
            await peer.whole(500, b"{}")
        else:
            await fake(seen, peer)

    async with Upstream(fails) as zed, Upstream(good) as other:
        entry = {
            "name": "z",
            "type": "zed",
            "base_url": f"http://127.0.0.1:{zed.port}",
            "zed_config": {"default_mode": "normal"},
        }
        entry["auth_value"] = '1234 {"version":2,"id":"i","token":"account-canary"}'
        backup = {
            "name": "b",
            "type": "anthropic",
            "base_url": f"http://127.0.0.1:{other.port}",
            "auth_value": "k" * 30,
        }
        routes = {"*": [{"provider": "z", "priority": 1}, {"provider": "b", "priority": 2}]}
        text = json.dumps({"providers": [entry, backup], "model_routes": routes})
        async with balancer(text) as running:
            answer = await ask(running, question(model="claude-sonnet-4"))
            written = everything_written(running) + await get(running, "/providers") + await get(running, "/metrics")

    tokens = [value.rpartition(" ")[2] for seen in zed.seen if (value := seen.header("authorization"))]
    assert status(answer) == 200
    assert tokens
    assert other.seen
    assert all(token not in str(other.seen) + answer.decode() for token in tokens)
    assert b"canary" not in written
    assert all(token.encode() not in written for token in tokens)
