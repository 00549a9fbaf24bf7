"""A Zed service on a real socket, as strict as the real one is known to be."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

from live.harness import Peer, Seen

PAIR = '1234 {"version":2,"id":"i","token":"account-canary"}'
EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_z", "type": "message", "role": "assistant", "model": "claude-sonnet-4", "content": [],
            "usage": {"input_tokens": 7},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello from\u2028Zed."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]  # fmt: skip
MODELS = {
    "models": [
        {"provider": "anthropic", "id": "claude-sonnet-4", "display_name": "Sonnet 4", "max_output_tokens": 64000},
        {"provider": "open_ai", "id": "gpt-5.4"},
    ],
    "default_fast_model": "claude-sonnet-4",
}


def line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def answer(*, wrapped: bool = True, said: str = "", usage: dict[str, int] | None = None) -> bytes:
    """Return a good answer's lines."""
    events = json.loads(json.dumps(EVENTS))
    if said:
        events[2]["delta"]["text"] = said
    events[0]["message"]["usage"] |= usage or {}
    if not wrapped:
        return b"".join(map(line, events))
    begin = line({"status": {"queued": {"position": 1}}}) + line({"status": "started"})
    return begin + b"".join(line({"event": event}) for event in events) + line({"status": "stream_ended"})


ME: dict[str, Any] = {
    "user": {"legacy_user_id": 1234, "username": "u"},
    "organizations": [{"id": "org_other", "is_personal": False}, {"id": "org_own", "is_personal": True}],
    "default_organization_id": None,
    "plan": {"plan_v3": "zed_pro"},
}


class FakeZed:
    """The behaviour of a Zed service; `refusal` makes completions a refusal, `lines` are what an answer says."""

    def __init__(self) -> None:
        self.minted = 0
        self.valid = ""
        self.completions: list[dict[str, Any]] = []
        self.summaries: list[dict[str, Any]] = []
        self.mint_bodies: list[dict[str, Any]] = []
        self.lines = answer()
        self.wrapped = True
        self.refusal: tuple[int, bytes] | None = None
        self.refusal_headers: dict[str, str] = {}
        self.answer_headers: dict[str, str] = {}
        self.summary = "They spoke of many things."
        self.models: dict[str, Any] = MODELS
        self.me: dict[str, Any] | None = ME
        self.token_life_s: float | None = None
        self.mint_delay = asyncio.Event()
        self.mint_delay.set()
        self.held = asyncio.Event()
        """Cleared: answers begin, and go on when it is set."""
        self.held.set()
        self.now = 0
        self.most = 0
        """The most completions at once."""

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        path = seen.target.rstrip("?")
        if path.startswith("/client/"):
            await self._account(path, seen, peer)
        elif seen.header("authorization") != f"Bearer {self.valid}":
            await peer.whole(401, b"unauthorized", x_zed_expired_token="true")
        elif path == "/models" and seen.method == "GET":
            await peer.whole(200, json.dumps(self.models).encode())
        elif path == "/count_tokens":
            problem = problem_of(seen.json)
            await (peer.whole(200, b'{"tokens": 42}') if not problem else self._refuse(peer, problem))
        elif path != "/completions":
            await peer.whole(404, b"not found")
        elif problem := problem_of(seen.json):
            await self._refuse(peer, problem)
        else:
            await self._complete(seen, peer)

    async def _refuse(self, peer: Peer, problem: str) -> None:
        body = {"code": "invalid_request_error", "message": f"failed to parse Anthropic request: {problem}"}
        await peer.whole(400, json.dumps(body).encode())

    async def _complete(self, seen: Seen, peer: Peer) -> None:
        side = (
            seen.json.get("intent") == "thread_context_summarization" and "tools" not in seen.json["provider_request"]
        )
        (self.summaries if side else self.completions).append(seen.json)
        if side:
            lines = answer(said=self.summary)
        elif self.refusal:
            status, body = self.refusal
            await peer.whole(status, body, "application/json", **self.refusal_headers)
            return
        else:
            lines = self.lines
        more = {"x_zed_server_supports_status_messages": "true"} if self.wrapped or side else {}
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await peer.head(200, transfer_encoding="chunked", **more, **self.answer_headers)
            for start in range(0, len(lines), 50):
                await peer.chunk(lines[start : start + 50])
                await self.held.wait()
            await peer.end()
        finally:
            self.now -= 1

    async def _account(self, path: str, seen: Seen, peer: Peer) -> None:
        if seen.header("authorization") != PAIR:
            await peer.whole(401, b"unauthorized")
        elif path == "/client/users/me":
            await (peer.whole(200, json.dumps(self.me).encode()) if self.me else peer.whole(500, b"no"))
        else:
            self.mint_bodies.append(seen.json)
            self.minted += 1
            await self.mint_delay.wait()
            self.valid = token(self.minted, self.token_life_s)
            await peer.whole(200, json.dumps({"token": self.valid}).encode())


def token(number: int, life_s: float | None) -> str:
    """Return an LLM token; with `life_s` a JWT that ends then."""
    if life_s is None:
        return f"llm-canary-{number}"
    payload = json.dumps({"exp": time.time() + life_s, "jti": f"canary-{number}"}).encode()
    return f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.canary"


BLOCKS: dict[str, set[str]] = {
    "text": {"text"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "image": {"source"},
    "tool_use": {"id", "name", "input"},
    "tool_result": {"tool_use_id", "is_error", "content"},
}
"""What the service's struct knows, and what each must hold."""


def problem_of(body: dict[str, Any]) -> str:
    """Return what the service's struct has no place for; empty for a request that it takes."""
    for name in ("provider", "model", "provider_request"):
        if name not in body:
            return f"missing field `{name}`"
    if any(body.get(name, "") is None for name in ("thread_id", "prompt_id", "intent", "mode")):
        return "null where a string was expected"
    if body.get("mode", "normal") not in ("normal", "max") or body["provider"] != "anthropic":
        return "unknown variant"
    request = body["provider_request"]
    for name in ("model", "max_tokens", "messages"):
        if name not in request:
            return f"missing field `{name}`"
    if request["model"] != body["model"]:
        return "two models"
    for message in request["messages"]:
        if message["role"] not in ("user", "assistant"):
            return f"unknown variant `{message['role']}`, expected `user` or `assistant`"
        if not isinstance(message["content"], list):
            return "invalid type: string, expected a sequence"
        for block in message["content"]:
            if problem := _problem_of_block(block):
                return problem
    for tool in request.get("tools", ()):
        for name in ("name", "description", "input_schema"):
            if name not in tool:
                return f"missing field `{name}`"
    return ""


def _problem_of_block(block: dict[str, Any]) -> str:
    if block["type"] not in BLOCKS:
        return f"unknown variant `{block['type']}`"
    for name in BLOCKS[block["type"]]:
        if name not in block:
            return f"missing field `{name}`"
    if block["type"] == "text" and not block["text"].strip():
        return "text content blocks must be non-empty"
    if block["type"] == "image" and not {"media_type", "data"} <= block["source"].keys():
        return "missing field `media_type`"
    if block["type"] == "tool_result":
        if not isinstance(block["is_error"], bool) or not block["content"]:
            return "is_error or content of a tool result"
        parts = block["content"] if isinstance(block["content"], list) else ()
        if any(part["type"] not in ("text", "image") for part in parts):
            return "unknown variant in a tool result"
    return ""
