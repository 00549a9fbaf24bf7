"""What OpenAI-compatible servers say when they refuse or fail, in the Messages API's words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from balancer.model import Refused, Reply, Stage
from balancer.policy.classify import judge
from balancer.wire import complaints, overflow
from balancer.wire.errors import MESSAGE_MAX_CHARS, STATUS_OF


def fault(status: int, body: bytes | dict[str, Any], **headers: str) -> Any:
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return complaints.fault_of(
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
    "an image, told as an error of the server": (500, said("image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"), 400, "invalid_request_error", "Could not process image: image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
    "an image": (400, said("This model does not support image input"), 400, "invalid_request_error", "Could not process image: This model does not support image input"),
    "451": (451, said("not here"), 451, "permission_error", "not here"),
    "501": (501, said("no"), 501, "api_error", "no"),
    "a list": (400, [{"error": {"message": "bad", "code": 400, "status": "INVALID_ARGUMENT"}}], 400, "invalid_request_error", "bad"),
    "words": (400, {"error": "bad"}, 400, "invalid_request_error", "bad"),
    "vLLM": (400, {"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, 400, "invalid_request_error", "bad"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected", "kind", "message"), STATUSES.values(), ids=STATUSES)
def test_fault(status: int, body: Any, expected: int, kind: str, message: str) -> None:
    seen = fault(status, body)

    assert (seen.status, seen.kind, seen.message) == (expected, kind, message)
    assert json.loads(seen.reply.body) == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_1",
    }
    assert dict(seen.reply.headers)[b"request-id"] == b"req_1"


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
    "openrouter": (
        400,
        said("This endpoint's maximum context length is 131,072 tokens. However, you requested about 140,000 tokens (130,000 of text input, 9000 of tool input, 1000 in the output)."),
        "prompt is too long: 139000 tokens > 131072 maximum",
    ),
    "vLLM, the answer": (
        400,
        said("'max_tokens' or 'max_completion_tokens' is too large: 20000. This model's maximum context length is 32768 tokens and your request has 20001 input tokens (20000 > 32768 - 20001)."),
        "input length and `max_tokens` exceed context limit: 20001 + 20000 > 32768, decrease input length or `max_tokens` and try again",
    ),
    "vLLM, of late": (
        400,
        said("You passed 4097 input tokens and requested 100 output tokens. However, the model's context length is only 4096 tokens."),
        "prompt is too long: 4097 tokens > 4096 maximum",
    ),
    "SGLang": (
        400,
        said("Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of 5000 tokens: 4900 tokens from the input messages and 100 tokens for the completion."),
        "prompt is too long: 4900 tokens > 4096 maximum",
    ),
    "vLLM, of late, the answer": (
        400,
        said("This model's maximum context length is 4096 tokens. However, you requested 1000 output tokens and your prompt contains at least 4000 input tokens"),
        "input length and `max_tokens` exceed context limit: 4000 + 1000 > 4096, decrease input length or `max_tokens` and try again",
    ),
    "TGI": (
        422,
        said("`inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4000 `inputs` tokens and 1000 `max_new_tokens`"),
        "input length and `max_tokens` exceed context limit: 4000 + 1000 > 4097, decrease input length or `max_tokens` and try again",
    ),
    "xai": (400, said("This model's maximum prompt length is 131072 but the request contains 537812 tokens."), "prompt is too long: 537812 tokens > 131072 maximum"),
    "mistral": (400, said("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"), "prompt is too long: 40000 tokens > 32768 maximum"),
    "copilot": (400, said("prompt token count of 200001 exceeds the limit of 128000"), "prompt is too long: 200001 tokens > 128000 maximum"),
    "fireworks": (400, said("The prompt is too long: 200000, model maximum context length: 131071"), "prompt is too long: 200000 tokens > 131071 maximum"),
    "anthropic": (400, said("prompt is too long: 210000 tokens > 200000 maximum"), "prompt is too long: 210000 tokens > 200000 maximum"),
    "anthropic, with the answer": (
        400,
        said("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"),
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again",
    ),
    "TensorRT-LLM": (
        400,
        said("The sum of prompt length (30000.0) and max_tokens (4000) should not exceed max_num_tokens (32768)"),
        "input length and `max_tokens` exceed context limit: 30000 + 4000 > 32768, decrease input length or `max_tokens` and try again",
    ),
    "Zhipu's code": (400, said("输入", code="1261"), "prompt is too long: 输入"),
    "Zhipu's code, as a number": (400, said("输入", code=1261), "prompt is too long: 输入"),
    "GitHub Models": (
        413,
        said("Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached"),
        "prompt is too long: Request body too large for gpt-4o model. Max size: 8000 tokens.",
    ),
    "of the provider behind OpenRouter": (
        400,
        said("Provider returned error", code=400, metadata={"raw": json.dumps(said("prompt is too long: 210000 tokens > 200000 maximum")), "provider_name": "x"}),
        "prompt is too long: 210000 tokens > 200000 maximum",
    ),
    "of the provider behind OpenRouter, as text": (
        400,
        said("Provider returned error", code=400, metadata={"raw": "prompt is too long: 210000 tokens > 200000 maximum"}),
        "prompt is too long: 210000 tokens > 200000 maximum",
    ),
    "of the provider behind OpenRouter, as an object": (
        502,
        said("Provider returned error", code=502, metadata={"raw": said("Prompt too long: 9 tokens exceeds max context window of 8 tokens")}),
        "prompt is too long: 9 tokens > 8 maximum",
    ),
    "as a message that is JSON": (
        400,
        said(json.dumps(said("prompt is too long: 210000 tokens > 200000 maximum"))),
        "prompt is too long: 210000 tokens > 200000 maximum",
    ),
    "in detail": (400, {"detail": "Prompt too long: 9 tokens exceeds max context window of 8 tokens"}, "prompt is too long: 9 tokens > 8 maximum"),
    "a bare string": (400, {"error": "The input (9 tokens) is longer than the model's context length (8 tokens)."}, "prompt is too long: 9 tokens > 8 maximum"),
    "a bare string with a code": (400, {"error": "too much", "code": "context_length_exceeded"}, "prompt is too long: too much"),
    "kimi": (400, said("Your request exceeded model token limit: 262144"), "prompt is too long: Your request exceeded model token limit: 262144"),
    "qwen": (400, said("Range of input length should be [1, 129024]"), "prompt is too long: Range of input length should be [1, 129024]"),
    "LM Studio": (400, said("The number of tokens to keep is greater than the context length"), "prompt is too long: The number of tokens to keep is greater than the context length"),
    "minimax": (400, said("invalid params, context window exceeds limit (2013)"), "prompt is too long: invalid params, context window exceeds limit (2013)"),
    "said already": (400, said("Prompt is too long"), "Prompt is too long"),
    "without numbers": (413, said("Input exceeds the context window"), "prompt is too long: Input exceeds the context window"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "message"), TOO_LONG.values(), ids=TOO_LONG)
def test_too_long_in_the_words_that_claude_code_compacts_on(status: int, body: Any, message: str) -> None:
    seen = fault(status, body)

    assert (seen.status, seen.kind, seen.message) == (400, "invalid_request_error", message)
    assert not judge(Refused(seen, Stage.WAIT)).retry_elsewhere


MEDIA = {
    "This model does not support image inputs": "image",
    "Invalid content type. image_url is only supported by certain models.": "image",
    "At most 0 image(s) may be provided in one request.": "image",
    "image input is not supported - hint: you may need to provide the mmproj": "image",
    "messages[0]: unknown variant `image_url`, expected `text`": "image",
    "google/gemma is not a multimodal model": "image",
    "Invalid file type: PDF is not supported": "PDF",
    "messages[0]: unknown variant `file`, expected `text`": "PDF",
    "this profile is not supported": "",
    "messages.0.content: bad": "",
}


@pytest.mark.parametrize(("message", "what"), MEDIA.items())
def test_media_in_the_words_that_make_claude_code_leave_them_out(message: str, what: str) -> None:
    assert fault(400, said(message)).message == (f"Could not process {what}: {message}" if what else message)


@pytest.mark.parametrize("pattern", overflow.SPLITS, ids=lambda pattern: pattern.pattern)
def test_every_way_to_say_how_much_is_the_prompt_is_met(pattern: re.Pattern[str]) -> None:
    assert any(pattern.search(re.sub(r"(?<=\d),(?=\d)", "", json.dumps(body))) for _, body, _ in TOO_LONG.values())


SHAPES: dict[str, tuple[Any, str]] = {
    "in error": ({"error": {"message": "m"}}, "m"),
    "in errors": ({"errors": [{"message": "m"}]}, "m"),
    "in detail": ({"detail": "m"}, "m"),
    "in detail, with a place": ({"detail": [{"loc": ["body", 0, "x"], "msg": "m"}]}, "body.0.x: m"),
    "itself": ({"message": "m"}, "m"),
    "in msg": ({"msg": "m"}, "m"),
    "a string": ("m", "m"),
    "a list": ([{"error": "m"}], "m"),
    "without words": ({"error": {"code": "odd"}}, '{"error":{"code":"odd"}}'),
    "a message that is none": ({"error": {"message": {"a": 1}}}, "{'a': 1}"),
    "nothing": ({}, ""),
    "an empty list": ([], ""),
    "white space": (" ", ""),
    "a number": (5, ""),
    "an error that is a number": ({"error": 5}, ""),
}


@pytest.mark.parametrize(("body", "message"), SHAPES.values(), ids=SHAPES)
def test_words_are_found_in_every_shape(body: Any, message: str) -> None:
    assert complaints.body_complaint(json.dumps(body).encode()).message == message


def nested(levels: int) -> bytes:
    return b'{"error":' * levels + b'"m"' + b"}" * levels


def test_an_error_may_be_wrapped_but_not_for_ever() -> None:
    assert complaints.body_complaint(nested(complaints.NESTED_MAX)).message == "m"
    assert complaints.body_complaint(nested(complaints.NESTED_MAX + 1)).message == ""
    assert complaints.body_complaint(nested(900)).message == ""
    assert complaints.body_complaint(b'["m"'.replace(b'"m"', b"[" * 50 + b'"m"' + b"]" * 50) + b"]").message == ""


def test_a_body_that_is_no_json_is_told_if_it_is_short() -> None:
    most = complaints.PLAIN_MAX_CHARS - 1

    assert complaints.body_complaint(b"x" * most).message == "x" * most
    assert complaints.body_complaint(b"x" * (most + 1)).message == "upstream returned a non-JSON error"
    assert complaints.body_complaint(b"<p>x</p>").message == "upstream returned a non-JSON error"
    assert complaints.body_complaint(b"").message == ""


def test_the_fields_of_an_error() -> None:
    error = {"message": "M", "type": "T", "code": "C", "param": "p", "n_prompt_tokens": 9, "n_ctx": 8}

    assert complaints.complaint(error) == complaints.Complaint("M", "T", "C", "p", None, 9, 8)
    assert complaints.complaint({"message": "m", "code": 400, "status": "S"}) == complaints.Complaint(
        "m", "S", status=400
    )
    assert complaints.complaint({"message": "m", "status": 599}) == complaints.Complaint("m", status=599)
    for odd in (399, 600, "400", None, [400]):
        assert getattr(complaints.complaint({"message": "m", "status": odd}), "status", 0) is None
    wrong = {"message": "m", "type": 5, "code": None, "param": 5, "n_prompt_tokens": "9", "n_ctx": 8.5}
    assert complaints.complaint(wrong) == complaints.Complaint("m")


def test_no_more_of_an_error_is_read_than_the_limit() -> None:
    for error in ("x" * 9000, {"message": "x" * 9000}, {"error": {"a": "x" * 9000}}):
        found = complaints.complaint(error)
        assert found is not None
        assert len(found.message) == MESSAGE_MAX_CHARS


@pytest.mark.parametrize(("word", "kind"), complaints.KINDS)
def test_every_word_for_a_type_of_error(word: str, kind: str) -> None:
    for error in ({"type": word}, {"code": word}, {"type": f"X_{word.upper()}-Error"}):
        seen = complaints.stream_fault({"message": "m", **error})
        assert (seen.status, seen.kind, seen.message) == (STATUS_OF[kind], kind, "m")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *{s: k for k, s in STATUS_OF.items()}.items(),
        (408, "timeout_error"),
        (451, "permission_error"),
        (503, "overloaded_error"),
        (418, "invalid_request_error"),
        (599, "api_error"),
    ],
)
def test_every_status_of_an_error_inside_a_200(status: int, kind: str) -> None:
    seen = complaints.stream_fault({"message": "m", "code": status})
    assert (seen.status, seen.kind, seen.message) == (STATUS_OF[kind], kind, "m")
    assert complaints.fault_of(Reply(status, (), b'{"error":"m"}'), 0.0, "r").kind == kind


def test_an_error_inside_a_200_always_has_words() -> None:
    assert complaints.stream_fault({"code": "odd"}).message == "odd"
    assert complaints.stream_fault({"type": "odd"}).message == "odd"
    assert complaints.stream_fault(True).message == "the provider reported an error without words"
    assert complaints.stream_fault({"a": 1}).message == "the provider reported an error"


@pytest.mark.parametrize(
    "words",
    ["prompt is too long: {} tokens > 5 maximum", "maximum context length is {}", "exceed context limit: 1 + {} > 3"],
)
def test_a_number_of_thousands_of_digits_is_none(words: str) -> None:
    """Python refuses to convert one: that once broke off the answer."""
    told = words.format("9" * 5000)

    assert complaints.stream_fault({"message": told}).message.startswith("prompt is too long: ")
    assert fault(400, said(told)).status == 400


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "openai's rate limit": ({"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_error"),
    "vLLM's rate limit": ({"type": "RateLimitError"}, "rate_limit_error"),
    "dashscope's rate limit": ({"code": "Throttling.RateQuota"}, "rate_limit_error"),
    "a number": ({"code": 429}, "rate_limit_error"),
    "overloaded": ({"type": "overloaded_error"}, "overloaded_error"),
    "503": ({"code": 503}, "overloaded_error"),
    "529": ({"code": 529}, "overloaded_error"),
    "no quota": ({"type": "insufficient_quota", "code": "insufficient_quota"}, "billing_error"),
    "a key": ({"type": "invalid_request_error", "code": "invalid_api_key"}, "authentication_error"),
    "the request": ({"type": "invalid_request_error"}, "invalid_request_error"),
    "vLLM's request": ({"type": "BadRequestError"}, "invalid_request_error"),
    "policy": ({"code": "content_policy_violation"}, "invalid_request_error"),
    "time": ({"code": "timeout"}, "timeout_error"),
    "the server": ({"type": "server_error"}, "api_error"),
    "nothing": ({}, "api_error"),
}


@pytest.mark.parametrize(("error", "kind"), KINDS.values(), ids=KINDS)
def test_the_kind_of_an_error_in_a_stream(error: dict[str, Any], kind: str) -> None:
    assert complaints.stream_fault({"message": "m", **error}).kind == kind


SECRETS = ("org-AbCdEf123456", "node-7.prod.internal", "10.0.3.4", "Traceback", "sk-abcdef")
LEAKY = "bad: sk-abcdef123 org-AbCdEf123456 node-7.prod.internal:80 10.0.3.4 http://x.y/z\nTraceback (most recent call last):\n x"


def test_what_a_client_may_not_see() -> None:
    told = fault(400, said(LEAKY))

    assert told.message.startswith("bad: [redacted]")
    assert not [secret for secret in SECRETS if secret in told.message or secret in told.reply.body.decode()]
    assert not [secret for secret in SECRETS[:4] if secret in complaints.stream_fault({"message": LEAKY}).message]


RATES: dict[str, tuple[int, Any]] = {
    "Groq": (413, said("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 14137", type="tokens", code="rate_limit_exceeded")),
    "Groq, without a code": (413, said("Request too large on tokens per minute (TPM): Limit 6000, please reduce the length of the messages")),
    "a code alone": (413, said("too much", code="rate_limit_exceeded")),
    "in words": (413, said("Rate limit reached: too many requests")),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body"), RATES.values(), ids=RATES)
def test_a_413_that_is_about_a_rate_is_a_429(status: int, body: Any) -> None:
    seen = fault(status, body)

    assert (seen.status, seen.kind) == (429, "rate_limit_error")
    assert json.loads(seen.reply.body)["error"]["type"] == "rate_limit_error"


def test_a_413_that_is_about_the_size_stays_one() -> None:
    assert fault(413, said("Payload too large")).status == 413


def test_bytes_that_are_no_utf_8_cost_nothing_but_themselves() -> None:
    assert fault(400, b'{"error":{"message":"b\xffad","code":"c"}}').message == "b\ufffdad"


@pytest.mark.timeout(5)
@pytest.mark.parametrize("part", [" ", "a.", "\n at ", "too large: 1 ", "1.", "1,", "bearer "])
def test_a_complaint_may_be_as_long_as_it_likes(part: str) -> None:
    assert len(fault(400, said(part * (1_000_000 // len(part)))).message) < 3000


def test_words_of_a_provider_that_can_not_answer_are_not_the_clients() -> None:
    assert judge(Refused(fault(502, said("up.internal failed")), Stage.WAIT)).reason == "502 api_error"


@pytest.mark.parametrize(
    ("headers", "cooldown_s"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "6m0s"}, 360.0),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "250ms"}, 1.0),
        ({"x_ratelimit_reset_tokens": "17.5s"}, 18.0),
        ({"x_ratelimit_reset": "30"}, 30.0),
        ({"x_ratelimit_reset": "1090"}, 1090.0),
        ({"x_ratelimit_reset": "1800000060000"}, 1800000060.0 - 1000.0),
        ({"x_ratelimit_reset": "soon"}, None),
        ({"x_ratelimit_remaining_tokens": "9", "x_ratelimit_reset_tokens": "6m0s"}, None),
        ({"x_ratelimit_reset_tokens": "1d2h3m4s5ms"}, 93785.0),
        ({"x_ratelimit_reset_requests": "1m", "x_ratelimit_reset_tokens": "2m"}, 120.0),
        ({"x_ratelimit_reset": "99999999"}, 99999999.0),
        ({"x_ratelimit_reset": "100000000"}, 99999000.0),
        ({"x_ratelimit_reset": "100000000000"}, 99999999000.0),
        ({"x_ratelimit_reset": "100000000001"}, 99999001.0),
        ({"x_ratelimit_reset": "0" * 39 + "5"}, 5.0),
        ({"x_ratelimit_reset": "0" * 40 + "5"}, None),
        ({"x_ratelimit_reset": "9" * 5000}, None),
        ({"x_ratelimit_reset": "9" * 500 + "s"}, None),
        ({"x_ratelimit_reset": "-5"}, None),
        ({"x_ratelimit_reset": ""}, None),
        ({}, None),
    ],
)
def test_how_long_to_rest(headers: dict[str, str], cooldown_s: float | None) -> None:
    assert fault(429, said("slow"), **headers).retry_after_s == cooldown_s


def test_only_a_refusal_for_the_rate_means_its_reset() -> None:
    assert fault(500, said("x"), x_ratelimit_reset_tokens="6m0s").retry_after_s is None
