"""Who comes in, and with what: lines 1 to 5, 8, 10 and 24 of the checklist, as attacks on running balancers."""

from __future__ import annotations

import ast
import asyncio
import gzip
import inspect
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from live.harness import ROOT, Running, Upstream, balancer, configuration, free_port
from security.attacks import (
    ADMIN_KEY,
    KEY,
    QUESTION,
    ask,
    exchange,
    get,
    head_of,
    memory_mb,
    question,
    request,
    status,
    worst_health_s,
)

from balancer.server import keys as key_ring
from balancer.server.access import Denied, Gate

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


class Attacked:
    def __init__(self, running: Running, upstream: Upstream) -> None:
        self.running = running
        self.upstream = upstream
        self.port = running.port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_one() -> AsyncIterator[Attacked]:
    """Without keys, as on a developer's own machine."""
    async with Upstream() as upstream, balancer(configuration(upstream, settings="drills: true")) as running:
        yield Attacked(running, upstream)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed() -> AsyncIterator[Attacked]:
    settings = f"drills: true, auth: {{keys: [{KEY}], admin_keys: [{ADMIN_KEY}]}}"
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:
        yield Attacked(running, upstream)


# 1


async def test_only_this_machine_is_listened_to_by_default(open_one: Attacked) -> None:
    """127.0.0.2 is this machine, too, and stands for every other address of it: only 127.0.0.1 is bound."""
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.2", open_one.port)


WEAK = ["changeme", "testtest", "sk-12345", "sk-1234", "short-key", "a" * 40, "a-key-of-23-characters!"]


@pytest.mark.parametrize("key", WEAK)
async def test_beyond_this_machine_a_weak_key_is_no_start(key: str, tmp_path: Path) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text(configuration(9, settings=f'auth: {{keys: ["{key}"]}}'))
    command = [sys.executable, str(ROOT / "src" / "main.py"), "--host", "0.0.0.0", "--port", str(free_port())]

    done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    assert done.returncode == 2
    assert re.search("can be guessed|needs at least 8 characters", done.stderr), done.stderr
    assert key not in done.stderr + done.stdout


# 2

SPELLINGS = [
    "//v1/messages", "/v1//messages", "/v1/../v1/messages", "/./v1/messages", "/v1/messages/", "/v1/messages;", "/v1/messages;x=1",
    "/V1/MESSAGES", "/v1/%6dessages", "/v1%2fmessages", "/%2e%2e/v1/messages", "/health/../v1/messages", "/health/..%2fv1/messages",
    "/health%00/v1/messages", "/health?/v1/messages", "/health;/v1/messages", "/health#/v1/messages", "/ready/../providers", "//providers",
    "/providers/", "/providers%2freload", "/health/../providers/reload", "/metrics/", "//metrics", "/%6detrics", "/admin/drill/",
    "/docs", "/redoc", "/openapi.json", "http://localhost/v1/messages", "http://x/health?/v1/messages", "*",
]  # fmt: skip
HOSTS = [
    "localhost",
    "x/health?",
    "localhost/health",
    "localhost#/health",
    "localhost:80@evil.example",
    "127.0.0.1\\health",
    "",
    None,
]
PROBED = (b"", b'{"status":"ok"}')
"""What a probe answers: it is open to all, in whatever spelling it is asked."""


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
async def test_no_spelling_of_a_path_and_no_host_opens_anything(keyed: Attacked, method: str) -> None:
    opened = []
    for path, host in [*((path, "localhost") for path in SPELLINGS), *(("/providers", host) for host in HOSTS)]:
        answer = await exchange(
            keyed.port, request(QUESTION if method != "GET" else b"", path=path, method=method, host=host)
        )
        if status(answer) < 400 and answer.partition(b"\r\n\r\n")[2] not in PROBED:
            opened.append((path, host, answer[:60]))

    assert opened == []
    assert keyed.upstream.seen == []


# 3

FOREIGN = [
    "https://evil.example", "null", "http://203.0.113.7", "http://203.0.113.7:8000", "http://localhost:3000", "http://evil.localhost",
    "http://[2001:db8::1]", "http://127.0.0.1.evil.example", "http://0.0.0.0:1", "http://127.0.0.1:1", "http://localhost.evil.example",
    "https://localhost", "http://localhost.", "file://", "chrome-extension://abcdef", "",
]  # fmt: skip
DOORS: dict[str, tuple[str, bytes]] = {
    "messages": ("/v1/messages", QUESTION),
    "reload": ("/providers/reload", b""),
    "drill": ("/admin/drill", b'{"provider":"a","fault":"500","for_s":1}'),
    "pause": ("/admin/pause", b'{"provider":"a"}'),
}


@pytest.mark.parametrize(("path", "body"), DOORS.values(), ids=DOORS)
async def test_a_page_of_another_origin_gets_nothing_done(open_one: Attacked, path: str, body: bytes) -> None:
    before = len(open_one.upstream.seen)
    taken: list[tuple[object, ...]] = []
    for origin in FOREIGN:
        for more in (("x: y",), ("content-type: text/plain",), ("content-type:",)):
            answer = await exchange(open_one.port, request(body, f"origin: {origin}", *more, path=path))
            if status(answer) < 400 or "access-control-allow-origin" in head_of(answer):
                taken.append((origin, more, answer[:40]))
    for site in ("cross-site", "same-site"):
        answer = await exchange(open_one.port, request(body, f"sec-fetch-site: {site}", path=path))
        taken += [(site, answer[:40])] if status(answer) < 400 else []

    assert taken == []
    assert len(open_one.upstream.seen) == before


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions", "/admin/drill"])
async def test_a_body_that_is_not_said_to_be_json_is_refused(open_one: Attacked, path: str) -> None:
    before = len(open_one.upstream.seen)
    forms = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain;application/json", ""]
    answers = [await exchange(open_one.port, request(QUESTION, f"content-type: {form}", path=path)) for form in forms]

    assert [status(answer) for answer in answers] == [415] * len(forms)
    assert len(open_one.upstream.seen) == before


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "x/health?", "127.0.0.1@evil.example"],
)
async def test_a_rebound_name_is_refused_everywhere(open_one: Attacked, host: str) -> None:
    before = len(open_one.upstream.seen)
    for path, method in (
        ("/v1/messages", "POST"),
        ("/providers", "GET"),
        ("/providers/reload", "POST"),
        ("/health", "GET"),
    ):
        body = QUESTION if path == "/v1/messages" else b""
        answer = await exchange(open_one.port, request(body, path=path, method=method, host=host))
        assert status(answer) in (400, 421), (path, answer[:60])

    assert len(open_one.upstream.seen) == before


async def test_the_balancers_own_page_and_programs_are_served(open_one: Attacked) -> None:
    own = f"127.0.0.1:{open_one.port}"
    lines = [f"origin: http://{own}", "sec-fetch-site: same-origin"]

    assert status(await exchange(open_one.port, request(QUESTION, *lines, host=own))) == 200
    assert status(await ask(open_one.running)) == 200


# 4


async def test_a_key_is_good_only_as_a_whole(keyed: Attacked) -> None:
    wrong = [KEY[:-1], KEY[:20], KEY + "x", KEY.lower(), KEY[:20] + "AAAAA", f" {KEY[:-1]}", "", "x" * 60_000]
    answers = [await ask(keyed.running, QUESTION, f"x-api-key: {key}") for key in wrong]

    assert all(status(answer) in (401, 431, 400) for answer in answers), [status(answer) for answer in answers]
    assert keyed.upstream.seen == []


async def test_how_much_of_a_key_is_right_can_not_be_timed() -> None:
    """A loose bound: the medians of thousands of checks, in turns, so that the machine is as busy for each."""
    gate = Gate([KEY, "x" * 30, "y" * 30], [ADMIN_KEY], (), b"seed")
    tried = [KEY[:n] + "#" * (len(KEY) - n) for n in (0, 12, len(KEY) - 1)]
    spent: dict[str, list[int]] = {key: [] for key in tried}
    for _ in range(3000):
        for key in tried:
            headers = ((b"host", b"localhost"), (b"x-api-key", key.encode()))
            began = time.perf_counter_ns()
            denied = gate.check("/v1/messages", "POST", ("127.0.0.1", 5), headers)
            spent[key].append(time.perf_counter_ns() - began)
            assert isinstance(denied, Denied)
    medians = [statistics.median(times) for times in spent.values()]

    assert max(medians) < 1.2 * min(medians), medians


async def test_keys_are_compared_as_digests_of_their_whole_length() -> None:
    """In the code that looks keys up, nothing is compared by `==` but numbers, and no part of a key is taken."""
    tree = ast.parse(inspect.getsource(key_ring.KeyRing))
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq)
    ]

    assert [text for text in compared if "key" in text.lower() or "raw" in text] == []
    assert "compare_digest" in inspect.getsource(key_ring) or "sha256" in inspect.getsource(key_ring)


# 5


async def test_no_client_chooses_where_its_request_goes(open_one: Attacked) -> None:
    async with Upstream() as trap:
        url = f"http://127.0.0.1:{trap.port}"
        names = ["x-portkey-custom-host", "x-custom-host", "x-base-url", "x-api-base", "x-bf-direct-key", "x-provider", "x-upstream",
                 "x-forwarded-host", "helicone-target-url", "x-proxy", "proxy", "x-original-url", "x-rewrite-url"]  # fmt: skip
        lines = [f"{name}: {url}" for name in names if name != "x-forwarded-host"]
        body = json.loads(QUESTION) | dict.fromkeys(
            ("api_base", "base_url", "api_url", "endpoint", "proxy", "host"), url
        )
        body |= {"extra_body": {"base_url": url}, "metadata": {"api_base": url}, "auth_value": "x", "provider": "trap"}
        before = len(open_one.upstream.seen)

        assert status(await ask(open_one.running, json.dumps(body).encode(), *lines)) == 200
        absolute = request(QUESTION, path=f"{url}/v1/messages")
        await exchange(open_one.port, absolute)
        await exchange(open_one.port, request(QUESTION, path=f"/v1/messages?base_url={url}"))

        assert len(open_one.upstream.seen) > before
        assert trap.connections == 0
        assert all(seen.header("x-api-key") == "sk-canary-a" for seen in open_one.upstream.seen)


# 7


async def test_a_provider_gets_its_own_credential_and_none_of_the_clients(open_one: Attacked) -> None:
    lines = [
        "x-api-key: client-canary-1", "authorization: Bearer client-canary-2", "cookie: s=client-canary-3", "connection: close, x-api-key, x-hop",
        "proxy-authorization: Basic client-canary-4", "x-hop: client-canary-5", "te: trailers", "x-balancer-key: client-canary-6",
        "x-goog-api-key: client-canary-7", "api-key: client-canary-8", "x-auth-token: client-canary-9", "x-amz-security-token: client-canary-10",
        "cf-access-client-secret: client-canary-11", "keep-alive: client-canary-12", "x-custom-auth: client-canary-13",
    ]  # fmt: skip
    assert status(await ask(open_one.running, QUESTION, *lines)) == 200
    seen = open_one.upstream.seen[-1]

    assert "client-canary" not in str(seen.headers)
    assert [value for name, value in seen.headers if name.lower() in ("x-api-key", "authorization")] == ["sk-canary-a"]


async def test_forwarding_headers_end_here(keyed: Attacked) -> None:
    lines = [
        "x-forwarded-for: 203.0.113.77",
        "x-real-ip: 203.0.113.77",
        "forwarded: for=203.0.113.77",
        f"x-api-key: {KEY}",
    ]
    assert status(await ask(keyed.running, QUESTION, *lines)) == 200
    seen = keyed.upstream.seen.pop()

    assert "203.0.113.77" not in str(seen.headers)
    assert KEY not in str(seen.headers)


# 8

SMUGGLED = request(question(model="SMUGGLED"))
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUESTION), QUESTION)
LENGTH = f"content-length: {len(QUESTION)}"
UNLAWFUL: dict[str, bytes] = {
    "length, then chunks": request(CHUNKED + SMUGGLED, "content-length: 4", "transfer-encoding: chunked"),
    "chunks, then length": request(CHUNKED + SMUGGLED, "transfer-encoding: chunked", "content-length: 4"),
    "identity, then chunked": request(CHUNKED + SMUGGLED, "transfer-encoding: identity", "transfer-encoding: chunked"),
    "gzip, then chunked": request(CHUNKED + SMUGGLED, "transfer-encoding: gzip, chunked"),
    "chunked twice": request(CHUNKED + SMUGGLED, "transfer-encoding: chunked, chunked"),
    "chunked not last": request(CHUNKED + SMUGGLED, "transfer-encoding: chunked, identity"),
    "nearly chunked": request(CHUNKED + SMUGGLED, "transfer-encoding: xchunked"),
    "a vertical tab": request(CHUNKED + SMUGGLED, "transfer-encoding: \x0bchunked"),
    "quoted": request(CHUNKED + SMUGGLED, 'transfer-encoding: "chunked"'),
    "folded": request(CHUNKED + SMUGGLED, "transfer-encoding:\r\n chunked", "content-length: 0"),
    "a space before the colon": request(CHUNKED + SMUGGLED, "transfer-encoding : chunked", "content-length: 0"),
    "behind a bare CR": request(CHUNKED + SMUGGLED, "x: a\rtransfer-encoding: chunked", "content-length: 0"),
    "behind a bare LF": request(CHUNKED + SMUGGLED, "x: a\ntransfer-encoding: chunked", "content-length: 5"),
    "two lengths": request(QUESTION + SMUGGLED, LENGTH, "content-length: 0"),
    "two lengths in one": request(QUESTION + SMUGGLED, f"content-length: {len(QUESTION)}, {len(QUESTION) + 1}"),
    "a length with a sign": request(QUESTION, f"content-length: +{len(QUESTION)}"),
    "a length in hex": request(QUESTION, "content-length: 0x4"),
    "a length with a blank": request(QUESTION, "content-length: 4 4"),
    "a length beyond measure": request(QUESTION, "content-length: 99999999999999999999999"),
    "a length below zero": request(QUESTION, "content-length: -1"),
    "a size that ends in LF": request(b"%x\n%b\r\n0\r\n\r\n" % (len(QUESTION), QUESTION) + SMUGGLED, "transfer-encoding: chunked"),
    "a chunk without its end": request(b"%x\r\n%b0\r\n\r\n" % (len(QUESTION), QUESTION) + SMUGGLED, "transfer-encoding: chunked"),
    "a size beyond measure": request(b"1ffffffffffffffff\r\n" + QUESTION, "transfer-encoding: chunked"),
    "a size below zero": request(b"-1\r\n" + QUESTION, "transfer-encoding: chunked"),
    "a NUL in a header": request(QUESTION, "x: a\0b"),
    "a CR in a header": request(QUESTION, "x: a\rb"),
    "a folded header": request(QUESTION, "x: a\r\n b"),
    "a line without a colon": request(QUESTION, "abc"),
    "two hosts": request(QUESTION, "host: evil.example"),
    "a head of 100 KB": request(QUESTION, "x: " + "y" * 100_000),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS": bytes.fromhex("1603010200010001fc0303") + b"a" * 100,
    "a tunnel": request(b"", path="evil.example:443", method="CONNECT") + SMUGGLED,
}  # fmt: skip


@pytest.mark.parametrize("data", UNLAWFUL.values(), ids=UNLAWFUL)
async def test_what_can_be_read_in_two_ways_is_refused(open_one: Attacked, data: bytes) -> None:
    before = len(open_one.upstream.seen)
    answer = await exchange(open_one.port, data.replace(b"connection: close", b"connection: keep-alive", 1), 0.7)

    assert b"HTTP/1.1 200" not in answer
    assert len(open_one.upstream.seen) == before, "the provider was asked"
    assert status(await get(open_one.running, "/health")) == 200


# 10


def chunks(piece: bytes, times: int) -> bytes:
    return (b"%x\r\n%b\r\n" % (len(piece), piece)) * times + b"0\r\n\r\n"


LARGE: dict[str, tuple[bytes, int]] = {
    "said to be too large": (request(b"", "content-length: 999999999999", "content-type: application/json"), 413),
    "too large in chunks": (request(chunks(b"x" * 65536, 600), "transfer-encoding: chunked"), 413),
    "packed a thousand times": (request(gzip.compress(b" " * 100_000_000), "content-encoding: gzip"), 413),
    "packed by nobody we know": (request(QUESTION, "content-encoding: compress"), 415),
    "packed twice": (request(gzip.compress(gzip.compress(QUESTION)), "content-encoding: gzip, gzip"), 415),
    "nested too deeply": (request(b"[" * 100_000), 400),
    "nested too deeply inside": (request(b'{"model":"m","messages":' + b"[" * 100_000), 400),
}


@pytest.mark.parametrize(("data", "expected"), LARGE.values(), ids=LARGE)
async def test_a_request_beyond_the_limits_costs_neither_memory_nor_time(
    open_one: Attacked, data: bytes, expected: int
) -> None:
    before, peak = len(open_one.upstream.seen), memory_mb(open_one.running, "VmHWM")
    answers: list[bytes] = []

    async def attack() -> None:
        answers.append(await exchange(open_one.port, data))

    worst = await worst_health_s(open_one.running, attack())

    assert status(answers[0]) == expected
    assert len(open_one.upstream.seen) == before
    assert memory_mb(open_one.running, "VmHWM") - peak < 120
    assert worst < 1.0


# 24


async def test_no_address_is_made_from_the_host_header(open_one: Attacked) -> None:
    """Starlette before 1.0.1 read the path of a request out of its Host header."""
    for path in ("/providers/", "/admin/drill/", "//docs", "/v1/models/", "/nowhere"):
        answer = await exchange(open_one.port, request(b"", path=path, method="GET", host="127.0.0.1:1"))
        assert "location" not in head_of(answer), answer
        assert b"127.0.0.1:1" not in answer.partition(b"\r\n\r\n")[2]
    locked = re.search(r"^starlette==(\d+)\.(\d+)\.(\d+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)

    assert locked is not None
    assert tuple(map(int, locked.groups())) >= (1, 0, 1)
