"""What converting costs: a large request, and one chunk of a stream. Run: python -m bench.convert"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from balancer.convert import request
from balancer.convert.answer import Frames, Shell
from balancer.convert.chat import ChatReader
from balancer.convert.composing import Composer
from balancer.convert.decoding import Decoder
from balancer.convert.profiles import PROFILES

MESSAGES = 120
TOOLS = 25
BODY_BYTES = 400_000
CHUNKS = 20_000


def large() -> bytes:
    """Return a request as Claude Code sends them late in a conversation."""
    text = "def f(x: int) -> str:\n    return str(x) * 3  # a line of code\n"
    filler = text * (BODY_BYTES // MESSAGES * 115 // 100 // len(text))
    messages: list[dict[str, Any]] = []
    for turn in range(MESSAGES // 2):
        use = {"type": "tool_use", "id": f"toolu_{turn:024}", "name": f"tool_{turn % TOOLS}", "input": {"path": filler}}
        said = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Reading."}, use]
        messages.append({"role": "assistant", "content": said})
        answer = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": filler}]}
        messages.append({"role": "user", "content": [answer, {"type": "text", "text": "go on"}]})
    leaf = {"type": "string", "description": "a value that the tool needs"}
    schema = {"$schema": "x", "type": "object", "properties": {f"p{n}": leaf for n in range(8)}, "required": ["p0"]}
    tools = [{"name": f"tool_{n}", "description": "what it does " * 40, "input_schema": schema} for n in range(TOOLS)]
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cch=1;"},
        {"type": "text", "text": "Be good. " * 900},
    ]
    body = {"model": "m", "max_tokens": 32000, "system": system, "tools": tools, "messages": messages, "stream": True}
    return json.dumps(body).encode()


def cpu_ms(work: Callable[[], object], times: int) -> float:
    """Return the median CPU time of a call, in milliseconds."""
    taken = []
    for _ in range(times):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return sorted(taken)[times // 2] * 1000


def one_request(body: bytes) -> bytes:
    return request.encoded(request.chat(body, "gpt", PROFILES["compat"], "p").body)


def stream(chunks: list[bytes]) -> None:
    shell = Shell("m", "n", 1)
    writer = Frames(shell)
    composer = Composer(shell, writer, "p", {})
    decoder = Decoder(composer, writer, ChatReader(composer), ())
    for chunk in chunks:
        decoder.feed(chunk)


def chunks() -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
    delta = {**head, "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}]}
    return [b"data: " + json.dumps(delta).encode() + b"\n\n"] * CHUNKS


def main() -> None:
    body, fed = large(), chunks()
    request_ms = cpu_ms(lambda: one_request(body), 31)
    chunk_us = cpu_ms(lambda: stream(fed), 5) * 1000 / CHUNKS
    sys.stdout.write(f"request of {len(body)} bytes, {MESSAGES} messages, {TOOLS} tools: {request_ms:.2f} ms of CPU\n")
    sys.stdout.write(f"streamed chunk: {chunk_us:.1f} us of CPU\n")


if __name__ == "__main__":
    main()
