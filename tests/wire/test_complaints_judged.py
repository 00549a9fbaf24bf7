"""What refusals of OpenAI-style servers mean in the end: read by `complaints`, judged by the table of `policy`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.model import Refused, Reply, Stage
from balancer.policy.classify import judge
from balancer.wire import complaints


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


WHOSE: list[tuple[str, int, Any]] = [
    ("account",400,said("Access denied, please make sure your account is in good standing.",code="Arrearage")),
    ("account",400,[{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}]),
    ("account",403,said("Country, region, or territory not supported",code="unsupported_country_region_territory")),
    ("account",400,[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]),
    ("account",400,[{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]),
    ("account",403,[{"error":{"code":403,"message":"Generative Language API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}]),
    ("account",400,said("Insufficient Balance")),
    ("account",402,said("Insufficient Balance")),
    ("account",429,said("You exceeded your current quota, please check your plan and billing details.",type="insufficient_quota",code="insufficient_quota")),
    ("account",429,said("余额不足或无可用资源包,请充值。",code="1113")),
    ("account",403,said("Your organization must be verified to use the model `gpt-5`.")),
    ("account",400,said("Your credit balance is too low")),
    ("limit",400,said("Requests rate limit exceeded, please try again later.",code="limit_requests")),
    ("limit",400,said("Throttling",code="Throttling.RateQuota")),
    ("limit",413,said("Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 14137",type="tokens",code="rate_limit_exceeded")),
    ("limit",403,said("Rate Limit Exceeded",code="rateLimitExceeded")),
    ("limit",429,said("slow")),
    ("limit",429,[{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}]),
    ("limit",429,said("The usage limit has been reached",type="usage_limit_reached",resets_in_seconds=90)),
    ("provider",400,said("Model is overloaded, try again later",code="model_overloaded")),
    ("provider",503,[{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]),
    ("provider",400,said("Server is busy, please try again later",code="server_busy")),
    ("intermediary",400,b"<html>400 Bad Request</html>"),
    ("intermediary",403,b"<!DOCTYPE html><title>Just a moment...</title>"),
    ("capability",400,said("Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",code="tool_use_failed")),
    ("capability",400,said("registry.ollama.ai/library/gemma3:latest does not support tools")),
    ("capability",400,said('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')),
    ("capability",400,said("This model does not support image input")),
    ("capability",404,said("No endpoints found that support image input",code=404)),
    ("capability",404,said("No endpoints found that support tool use. To learn more about provider routing",code=404)),
    ("capability",400,said("tools is not supported in this model. For a full list of supported endpoints")),
    ("capability",400,said("`tool calling` is not supported with this model")),
    ("capability",400,said("The `reasoning_content` in the thinking mode must be passed back to the API.")),
    ("capability",400,[{"error":{"code":400,"message":"Function call is missing a thought_signature in functionCall parts.","status":"INVALID_ARGUMENT"}}]),
    ("capability",400,said("The encrypted content E1 could not be verified.",code="invalid_encrypted_content")),
    ("capability",500,said("image input is not supported - hint: if this is unexpected, you may need to provide the mmproj")),
    ("model",404,said("The model `x` does not exist",code="model_not_found")),
    ("model",400,said("Model Not Exist")),
    ("model",400,said("x is not a valid model ID")),
    ("model",400,said("The requested model is not supported.",code="model_not_supported")),
    ("request",400,said("prompt is too long: 9 tokens > 8 maximum")),
    ("request",400,said("The response was filtered",code="content_filter")),
    ("request",400,said("Provider returned error",code=400,metadata={"raw":json.dumps(said("Output data may contain inappropriate content",code="data_inspection_failed"))})),
    ("limit",429,said("Provider returned error",code=429,metadata={"raw":"x is temporarily rate-limited upstream. Please retry shortly"})),
    ("capability",400,said("Provider returned error",code=400,metadata={"raw":json.dumps(said("This model does not support image input"))})),
    ("account",400,said("Provider returned error",code=400,metadata={"raw":json.dumps(said("Your account is not active, please check your billing details",code="billing_not_active"))})),
]  # fmt: skip


@pytest.mark.parametrize(("whose", "status", "body"), WHOSE)
def test_whose_matter_a_refusal_is(whose: str, status: int, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    verdict = judge(Refused(complaints.fault_of(Reply(status, (), data), 0.0, "r"), Stage.WAIT))

    assert verdict.refusal is not None
    assert verdict.refusal.value == whose
    assert verdict.retry_elsewhere is (whose != "request")


INSIDE: dict[str, tuple[Any, str]] = {
    "an account": (said("Access denied", code="Arrearage"), "account"),
    "a limit": (said("slow", code="rate_limit_exceeded"), "limit"),
    "load": (said("busy", code="server_busy"), "provider"),
    "a quoted limit": (said("Provider returned error", metadata={"raw": json.dumps(said("slow", code="rate_limit_exceeded"))}), "limit"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "whose"), INSIDE.values(), ids=INSIDE)
def test_an_error_inside_a_200_is_judged_alike(body: Any, whose: str) -> None:
    verdict = judge(Refused(complaints.stream_fault(body), Stage.WAIT))

    assert verdict.refusal is not None
    assert verdict.refusal.value == whose
