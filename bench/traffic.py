"""What is asked and what is answered: requests shaped like Claude Code's, answers shaped like the Messages API's.

The name of the model in a request says how the upstream answers it:

- `bench-whole`: one JSON message;
- `bench-stream-300`: 300 text deltas, all there at once;
- `bench-paced-100x30`: 100 text deltas, each 30 ms after the last and written on its own;
- `bench-hold`: three text deltas, then silence until the upstream is told to release.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

LARGE_BYTES = 402_000
"""The size of a Claude Code conversation in the middle of its day."""
HELD_EVENTS = 3
CLIENT_KEY = "sk-bench-client"

DELTA_MARK = b"event: content_block_delta\n"
STOP_MARK = b"event: message_stop\n"
LAST_CHUNK = b"0\r\n\r\n"

_SESSION = "00000000-0000-4000-8000-000000000000"
_NAME = re.compile(r"bench-(?:(whole)|stream-(\d+)|paced-(\d+)x(\d+)|(hold))")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is to be answered."""

    events: int | None
    """Text deltas of the stream; None: not a stream."""
    every_ms: int = 0
    """Time between two deltas; 0: all at once."""
    held: bool = False


@cache
def manner_of(model: str) -> Manner:
    """Say how `model` is to be answered. Raises `ValueError` for a name that is not ours."""
    found = _NAME.search(model)
    if not found:
        raise ValueError(f"no such behaviour: {model!r}")
    whole, burst, paced, every_ms, _ = found.groups()
    if whole:
        return Manner(None)
    if burst:
        return Manner(int(burst))
    if paced:
        return Manner(int(paced), every_ms=int(every_ms))
    return Manner(HELD_EVENTS, held=True)


# What is answered


def _event(kind: str, **fields: object) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_MESSAGE: dict[str, object] = {
    "id": "msg_01BenchBenchBenchBenchBe",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {
        "input_tokens": 9,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 88_000,
        "output_tokens": 1,
    },
}
OPENING = chunk(_event("message_start", message=_MESSAGE)) + chunk(
    _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
)
DELTA = chunk(_event("content_block_delta", index=0, delta={"type": "text_delta", "text": " and then the next"}))
CLOSING = (
    chunk(_event("content_block_stop", index=0))
    + chunk(
        _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1500})
    )
    + chunk(_event("message_stop"))
    + LAST_CHUNK
)

_ANSWER_HEAD = """HTTP/1.1 200 OK
date: Mon, 02 Nov 2026 10:00:00 GMT
content-type: {type}
{length}
request-id: req_011BenchBenchBenchBench
anthropic-organization-id: 11111111-2222-4333-8444-555555555555
anthropic-ratelimit-requests-limit: 4000
anthropic-ratelimit-requests-remaining: 3999
anthropic-ratelimit-requests-reset: 2026-11-02T10:00:00Z
anthropic-ratelimit-input-tokens-limit: 2000000
anthropic-ratelimit-input-tokens-remaining: 1999000
anthropic-ratelimit-input-tokens-reset: 2026-11-02T10:00:00Z
strict-transport-security: max-age=31536000; includeSubDomains; preload
server: bench

"""


def _answer_head(type_: str, length: str) -> bytes:
    return _ANSWER_HEAD.format(type=type_, length=length).replace("\n", "\r\n").encode()


STREAM_HEAD = _answer_head("text/event-stream; charset=utf-8", "cache-control: no-cache\ntransfer-encoding: chunked")


@cache
def whole() -> bytes:
    """Return an answer that is not a stream, head and body."""
    content = [
        {"type": "text", "text": "It is the second of the two: " + "the lease ran out before the renewal came. " * 4}
    ]
    body = json.dumps(_MESSAGE | {"content": content, "stop_reason": "end_turn"}, separators=(",", ":")).encode()
    return _answer_head("application/json", f"content-length: {len(body)}") + body


@cache
def burst(events: int) -> bytes:
    """Return a streamed answer of `events` text deltas, head and chunks, each event a chunk of its own."""
    return STREAM_HEAD + OPENING + DELTA * events + CLOSING


# What is asked

_REQUEST_HEAD = """POST /v1/messages?beta=true HTTP/1.1
Accept: application/json
Content-Type: application/json
User-Agent: claude-cli/2.1.330 (external, sdk-cli)
X-Claude-Code-Session-Id: {session}
X-Stainless-Arch: x64
X-Stainless-Lang: js
X-Stainless-OS: Linux
X-Stainless-Package-Version: 1.12.0
X-Stainless-Retry-Count: 0
X-Stainless-Runtime: node
X-Stainless-Runtime-Version: v24.3.0
X-Stainless-Timeout: 600
anthropic-beta: {betas}
anthropic-dangerous-direct-browser-access: true
anthropic-version: 2023-06-01
x-api-key: {key}
x-app: cli
Connection: keep-alive
Host: 127.0.0.1
Accept-Encoding: gzip, deflate, br, zstd
Content-Length: {length}

"""
_BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,per-turn-control-2026-07-01,"
    "mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24"
)
_PROSE = 'The café\'s ledger says "paid", but line 12 of the log (\\var\\log) has:\n\tretry=3 cause="lease expired"\n'


def _tool(number: int) -> dict[str, object]:
    fields = {f"option_{n}": {"type": "string", "description": _PROSE * 2} for n in range(8)}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": fields}
    return {"name": f"Tool{number}", "description": _PROSE * 10, "input_schema": schema | {"required": ["option_0"]}}


def _turn(number: int) -> list[dict[str, object]]:
    id_ = f"toolu_{number:024d}"
    use = {
        "type": "tool_use",
        "id": id_,
        "name": "Tool1",
        "input": {"command": "sed -n 1,80p src/ledger.py", "n": number},
    }
    result = {"type": "tool_result", "tool_use_id": id_, "content": _PROSE * 30, "is_error": False}
    return [
        {"role": "assistant", "content": [{"type": "text", "text": _PROSE}, use]},
        {"role": "user", "content": [result]},
    ]


def _body(model: str, turns: int, tools: int, prose: int) -> dict[str, object]:
    """Return a body with the keys, and their order, of facts taken from Claude Code 2.1.330."""
    manner = manner_of(model)
    cached = {"cache_control": {"type": "ephemeral"}}
    first = [{"type": "text", "text": _PROSE * prose}, {"type": "text", "text": f"This is {_SESSION}: what failed?"}]
    messages: list[dict[str, object]] = [{"role": "user", "content": first}]
    messages.append({"role": "system", "content": _PROSE * prose})
    for number in range(turns):
        messages += _turn(number)
    user = {"device_id": "d" * 64, "account_uuid": "", "session_id": _SESSION}
    return {
        "model": model,
        "messages": messages,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=sdk-cli;"},
            {"type": "text", "text": "You are a Claude agent, built on the Agent SDK.", **cached},
            {"type": "text", "text": _PROSE * prose, **cached},
        ],
        "tools": [_tool(number) for number in range(tools)],
        "metadata": {"user_id": json.dumps(user, separators=(",", ":"))},
        "max_tokens": 128_000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        **({"stream": True} if manner.events is not None else {}),
    }


@dataclass(frozen=True, slots=True)
class Ask:
    """A request with room for a session's id: `parts` with the id between each two of them."""

    parts: tuple[bytes, ...]
    events: int | None
    """Text deltas a complete answer has; None: not a stream."""

    def pieces(self, number: int) -> list[bytes]:
        """Return the request as pieces to write; a distinct `number` makes a distinct session, body and message."""
        session = b"%08x-0000-4000-8000-%012x" % (number & 0xFFFFFFFF, number)
        pieces = [self.parts[0]]
        for part in self.parts[1:]:
            pieces.append(session)
            pieces.append(part)
        return pieces


def _encoded(body: dict[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def ask(size: str, model: str) -> Ask:
    """Return the request for `model`, `size` "small" (about 1 KB) or "large" (`LARGE_BYTES`)."""
    if size == "large":
        turns = 0
        while len(_encoded(_body(model, turns + 1, tools=24, prose=70))) < LARGE_BYTES:
            turns += 1
        short = _encoded(_body(model, turns, tools=24, prose=70))
        missing = LARGE_BYTES - len(short)
        body = short.replace(b"what failed?", b"what failed?" + b"." * missing, 1)
    else:
        body = _encoded(_body(model, turns=0, tools=0, prose=0))
    head = (
        _REQUEST_HEAD.format(session=_SESSION, key=CLIENT_KEY, betas=_BETAS, length=len(body))
        .replace("\n", "\r\n")
        .encode()
    )
    return Ask(tuple((head + body).split(_SESSION.encode())), manner_of(model).events)
