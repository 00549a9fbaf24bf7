"""Errors and usage of OpenAI-compatible servers, in the Messages API's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.judge import judge
from balancer.model import Refused, Reply, Stage, Usage
from balancer.wire import openai as wire


def fault(status: int, body: bytes | dict[str, Any], **headers: str) -> Any:
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return wire.fault_of(
        Reply(status, lines, body if isinstance(body, bytes) else json.dumps(body).encode()), 1000.0, "req_1"
    )


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


STATUSES: dict[str, tuple[int, Any, int, str, str]] = {
    "400": (400, said("bad"), 400, "invalid_request_error", "bad"),
    "422": (422, {"detail": [{"loc": ["body", "x"], "msg": "bad"}]}, 400, "invalid_request_error", "body.x: bad"),
    "401": (401, said("Incorrect API key provided: sk-abcdefgh"), 401, "authentication_error", "Incorrect API key provided: [redacted]"),
    "403": (403, said("no"), 403, "permission_error", "no"),
    "404": (404, said("The model `x` does not exist"), 404, "not_found_error", "The model `x` does not exist"),
    "408": (408, b"", 408, "timeout_error", ""),
    "413": (413, b"", 413, "request_too_large", ""),
    "429": (429, said("slow down"), 429, "rate_limit_error", "slow down"),
    "no quota": (429, said("pay", code="insufficient_quota"), 429, "billing_error", "pay"),
    "500": (500, b"<html>x</html>", 500, "api_error", "upstream returned a non-JSON error"),
    "502": (502, b"Bad Gateway", 502, "api_error", "Bad Gateway"),
    "503": (503, said("loading"), 503, "overloaded_error", "loading"),
    "504": (504, b"", 504, "timeout_error", ""),
    "529": (529, b"", 529, "overloaded_error", ""),
    "an image": (400, said("This model does not support image input"), 400, "invalid_request_error", "Could not process image: This model does not support image input"),
    "a list": (400, [{"error": {"message": "bad", "code": 400, "status": "INVALID_ARGUMENT"}}], 400, "invalid_request_error", "bad"),
    "words": (400, {"error": "bad"}, 400, "invalid_request_error", "bad"),
    "vLLM": (400, {"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, 400, "invalid_request_error", "bad"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected", "kind", "message"), STATUSES.values(), ids=STATUSES)
def test_fault(status: int, body: Any, expected: int, kind: str, message: str) -> None:
    seen = fault(status, body)

    assert (seen.status, seen.kind, seen.message) == (expected, kind, message)
    assert (seen.reply is not None) == (expected in (400, 413))
    if seen.reply is not None:
        told = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
        assert json.loads(seen.reply.body) == told


TOO_LONG: dict[str, tuple[int, Any, str]] = {
    "openai": (
        400,
        said(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. "
            "Please reduce the length of the messages.", code="context_length_exceeded",
        ),
        "prompt is too long: 130000 tokens > 128000 maximum",
    ),
    "openai, with the completion": (
        400,
        said("maximum context length is 8192 tokens, however you requested 9000 tokens (7000 in the messages, 2000 in the completion)"),
        "input length and `max_tokens` exceed context limit: 7000 + 2000 > 8192, decrease input length or `max_tokens` and try again",
    ),
    "vLLM": (
        400,
        said("maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages, 100 in the completion)"),
        "prompt is too long: 4900 tokens > 4096 maximum",
    ),
    "llama.cpp": (
        500,
        said("the request exceeds the available context size", type="exceed_context_size_error", n_prompt_tokens=9, n_ctx=8),
        "prompt is too long: 9 tokens > 8 maximum",
    ),
    "gemini": (
        400,
        said("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        "prompt is too long: 1200000 tokens > 1048576 maximum",
    ),
    "without numbers": (413, said("Input exceeds the context window"), "prompt is too long: Input exceeds the context window"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "message"), TOO_LONG.values(), ids=TOO_LONG)
def test_too_long_in_the_words_that_claude_code_compacts_on(status: int, body: Any, message: str) -> None:
    seen = fault(status, body)

    assert (seen.status, seen.kind, seen.message) == (400, "invalid_request_error", message)
    assert not judge(Refused(seen, Stage.WAIT)).again


@pytest.mark.parametrize(
    ("headers", "rest_s"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "250ms"}, 1.0),
        ({"x_ratelimit_remaining_tokens": "9", "x_ratelimit_reset_tokens": "6m0s"}, None),
        ({}, None),
    ],
)
def test_how_long_to_rest(headers: dict[str, str], rest_s: float | None) -> None:
    assert fault(429, said("slow"), **headers).retry_after_s == rest_s


USAGES: dict[str, tuple[Any, tuple[Usage, int] | None]] = {
    "none": (None, None),
    "plain": ({"prompt_tokens": 3, "completion_tokens": 2}, (Usage(3, 2, 0, 0), 0)),
    "cached": (
        {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
        (Usage(2, 2, 8, 0), 0),
    ),
    "deepseek": ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 6}, (Usage(4, 2, 6, 0), 0)),
    "reasoning is within the output": (
        {"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}},
        (Usage(1, 9, 0, 0), 7),
    ),
    "more cached than there was": (
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}},
        (Usage(0, 1, 8, 0), 0),
    ),
    "nulls": ({"prompt_tokens": None, "completion_tokens": 1, "prompt_tokens_details": None}, (Usage(0, 1, 0, 0), 0)),
}


@pytest.mark.parametrize(("reported", "expected"), USAGES.values(), ids=USAGES)
def test_usage(reported: Any, expected: Any) -> None:
    assert wire.usage_of(reported) == expected


def test_what_is_no_chunk() -> None:
    assert wire.chunk(b"[DONE]") is None
    assert wire.chunk(b"[]") is None
    assert wire.chunk(b'{"choices": [null, {"delta": {"content": "\\ud800"}}]}') is not None
