"""What converting costs: a large request, and one chunk of a stream; beside LiteLLM where that is installed.

Run: python -m bench.convert
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from balancer.dialects.openai import request
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder
from balancer.dialects.openai.profiles import PROFILES
from balancer.dialects.openai.writer import FrameWriter, Shell
from bench import rivals

MESSAGES = 120
TOOLS = 25
BODY_BYTES = 400_000
CHUNKS = 20_000
EXCHANGE_CHUNKS = 300
"""The chunks of one answer, as in the other parts of the bench."""
LITELLM_WITHIN_S = 180.0
CHEAPER = 10
"""How many times cheaper than LiteLLM's adapter a request with its answer is to be."""


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
    writer = FrameWriter(shell)
    composer = Composer(shell, writer, "p", {})
    decoder = OpenAIDecoder(composer, writer, ChatReader(composer), ())
    for chunk in chunks:
        decoder.feed(chunk)


def chunk() -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
    delta = {**head, "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}]}
    return json.dumps(delta).encode()


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU of converting."""

    request_ms: float
    chunk_us: float

    @property
    def exchange_ms(self) -> float:
        """A request with the stream that answers it."""
        return self.request_ms + self.chunk_us * EXCHANGE_CHUNKS / 1000


def ours(body: bytes) -> Costs:
    fed = [b"data: " + chunk() + b"\n\n"] * CHUNKS
    return Costs(cpu_ms(lambda: one_request(body), 31), cpu_ms(lambda: stream(fed), 5) * 1000 / CHUNKS)


def beside_litellm(body: bytes, own: Costs) -> str:
    """Return a line about LiteLLM's adapter, given the same; it runs with the interpreter it is installed for."""
    program = rivals.litellm_program()
    interpreter = interpreter_of(program) if program else None
    if interpreter is None:
        return "LiteLLM is not installed: not compared."
    job = {"body": body.decode(), "chunk": chunk().decode(), "chunks": EXCHANGE_CHUNKS}
    command = [*interpreter, str(Path(__file__).with_name("litellm_convert.py"))]
    env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would ask the network for prices
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            env=env,
            timeout=LITELLM_WITHIN_S,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return f"LiteLLM is installed, but its adapter could not be measured: {type(error).__name__}."
    theirs = Costs(found["request_ms"], found["chunk_us"])
    return (
        f"LiteLLM {found['version']}: request {theirs.request_ms:.2f} ms ({theirs.request_ms / own.request_ms:.1f} times), "
        f"chunk {theirs.chunk_us:.1f} us ({theirs.chunk_us / own.chunk_us:.1f} times), request and {EXCHANGE_CHUNKS} chunks "
        f"{theirs.exchange_ms:.1f} ms ({theirs.exchange_ms / own.exchange_ms:.1f} times; at least {CHEAPER} are wanted)"
    )


def interpreter_of(program: str) -> list[str] | None:
    """Return the command of the Python that a console script is installed for; None: it is no such script."""
    try:
        first = Path(program).read_bytes().partition(b"\n")[0]
    except OSError:
        return None
    return first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else None


def main() -> None:
    body = large()
    own = ours(body)
    sys.stdout.write(
        f"request of {len(body)} bytes, {MESSAGES} messages, {TOOLS} tools: {own.request_ms:.2f} ms of CPU\n"
        f"streamed chunk: {own.chunk_us:.1f} us of CPU\n"
        f"request and {EXCHANGE_CHUNKS} chunks: {own.exchange_ms:.2f} ms of CPU\n"
        f"{beside_litellm(body, own)}\n"
    )


if __name__ == "__main__":
    main()
