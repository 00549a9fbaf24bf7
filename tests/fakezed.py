"""A Zed service on a real socket, as strict as the real one is known to be."""

from __future__ import annotations

import json
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


def answer(*, wrapped: bool = True) -> bytes:
    """Return a good answer's lines."""
    if not wrapped:
        return b"".join(map(line, EVENTS))
    begin = line({"status": {"queued": {"position": 1}}}) + line({"status": "started"})
    return begin + b"".join(line({"event": event}) for event in EVENTS) + line({"status": "stream_ended"})


class FakeZed:
    """The behaviour of a Zed service; `refuse` makes the next completion a refusal."""

    def __init__(self) -> None:
        self.minted = 0
        self.valid = ""
        self.completions: list[dict[str, Any]] = []
        self.lines = answer()
        self.wrapped = True
        self.refusal: tuple[int, bytes] | None = None

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        path = seen.target.rstrip("?")
        if path == "/client/llm_tokens":
            await self._mint(seen, peer)
        elif seen.header("authorization") != f"Bearer {self.valid}":
            await peer.whole(401, b"unauthorized", x_zed_expired_token="true")
        elif path == "/models":
            await peer.whole(200, json.dumps(MODELS).encode())
        elif path == "/count_tokens":
            await peer.whole(200, b'{"tokens": 42}')
        elif self.refusal:
            await peer.whole(*self.refusal)
        elif problem := problem_of(seen.json):
            body = {"code": "invalid_request_error", "message": f"failed to parse Anthropic request: {problem}"}
            await peer.whole(400, json.dumps(body).encode())
        else:
            self.completions.append(seen.json)
            more = {"x_zed_server_supports_status_messages": "true"} if self.wrapped else {}
            await peer.head(200, transfer_encoding="chunked", **more)
            for start in range(0, len(self.lines), 50):
                await peer.chunk(self.lines[start : start + 50])
            await peer.end()

    async def _mint(self, seen: Seen, peer: Peer) -> None:
        if seen.header("authorization") != PAIR:
            await peer.whole(401, b"unauthorized")
            return
        self.minted += 1
        self.valid = f"llm-canary-{self.minted}"
        await peer.whole(200, json.dumps({"token": self.valid}).encode())


def problem_of(body: dict[str, Any]) -> str:
    """Return what the service's struct has no place for; empty for a request that it takes."""
    for name in ("provider", "model", "provider_request"):
        if name not in body:
            return f"missing field `{name}`"
    request = body["provider_request"]
    if "max_tokens" not in request or "stream" in request:
        return "max_tokens or stream"
    for message in request["messages"]:
        if message["role"] not in ("user", "assistant") or not isinstance(message["content"], list):
            return "a message's role or content"
        for block in message["content"]:
            if block["type"] == "tool_result" and not {"is_error", "content", "tool_use_id"} <= block.keys():
                return "missing field `is_error`"
            if block["type"] == "thinking" and not block.get("signature"):
                return "missing field `signature`"
    if any(not {"name", "description", "input_schema"} <= tool.keys() for tool in request.get("tools", ())):
        return "missing field `description`"
    return ""
