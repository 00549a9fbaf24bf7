"""What LiteLLM's adapter costs. Run by `bench.convert` with LiteLLM's own interpreter, of which it uses nothing else.

Reads `{"body", "chunk", "chunks"}` from stdin (a Messages request, the data of a chunk of a stream,
how many of them make a stream) and prints `{"version", "request_ms", "chunk_us"}`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from typing import Any

REPETITIONS = 15


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the median CPU time of a call, in milliseconds."""
    taken = []
    for _ in range(REPETITIONS):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return sorted(taken)[REPETITIONS // 2] * 1000


def main() -> None:
    from litellm.llms.anthropic.pass_through.adapters.transformation import (  # type: ignore[import-not-found, unused-ignore]
        AnthropicAdapter,
    )
    from litellm.types.utils import ModelResponseStream  # type: ignore[import-not-found, unused-ignore]

    job = json.load(sys.stdin)
    adapter: Any = AnthropicAdapter()

    def request() -> bytes:
        asked = json.loads(job["body"])
        chat, _ = adapter.translate_completion_input_params_with_tool_mapping(asked, custom_llm_provider="openai")
        return json.dumps(chat).encode()

    def stream() -> int:
        chunks = (ModelResponseStream(**json.loads(job["chunk"])) for _ in range(job["chunks"]))
        return sum(map(len, adapter.translate_completion_output_params_streaming(chunks, model="m", is_async=False)))

    found = {
        "version": importlib.metadata.version("litellm"),
        "request_ms": cpu_ms(request),
        "chunk_us": cpu_ms(stream) * 1000 / job["chunks"],
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
