"""Every profile makes requests that the SDK's types accept, and that its service takes.

The services are played by what their documentation and public reports say that they refuse, in their own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from conversion import assistant, chat, messages_request, result, text, use, user
from stand_ins import provider, request

from balancer.dialect import Ask, TypedState
from balancer.dialects.openai import request as request_
from balancer.dialects.openai.dialect import DIALECT, MAX_REPAIRS
from balancer.dialects.openai.options import Options
from balancer.dialects.openai.profiles import EFFORTS, PROFILES, Profile
from balancer.model import Candidate, Operation, Reply, WireRequest

FULL = messages_request(
    "go", assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("so"), use("t1", "t")),
    user(result("t1")), {"role": "system", "content": "brief"}, "and?",
    system="Be good.", stream=True, temperature=1, top_p=1, top_k=3, stop_sequences=["x"],
    metadata={"user_id": "u"}, thinking={"type": "enabled", "budget_tokens": 5000},
    tools=[{"name": "t", "input_schema": {"type": "object"}}],
    tool_choice={"type": "any", "disable_parallel_tool_use": True},
    output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
)  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_a_full_request(profile: Profile) -> None:
    assert chat(FULL, profile)["messages"]


@pytest.mark.parametrize("profile", PROFILES)
def test_efforts_are_words_that_exist(profile: Profile) -> None:
    assert set(PROFILES[profile].efforts) <= set(EFFORTS)


# The services


Service = Callable[[WireRequest, dict[str, Any]], str | None]
"""Returns the words of a refusal, or None for a request that is taken."""


def _calls(body: dict[str, Any]) -> list[str]:
    return [call["id"] for message in body["messages"] for call in message.get("tool_calls", ())]


def _newest_gpt(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if wire.target.endswith(b"/responses"):
        return "Unknown parameter: 'stop'." if "stop" in body else None
    if body.get("tools") and body.get("reasoning_effort") != "none":
        return (
            "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use "
            "function tools, use /v1/responses or set reasoning_effort to 'none'."
        )
    if "temperature" in body:
        return "Unsupported parameter: 'temperature' is not supported with this model."
    if "max_tokens" in body:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    return "Unsupported parameter: 'stop' is not supported with this model." if "stop" in body else None


def _azure(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if b"api-key" not in dict(wire.headers) and b"authorization" not in dict(wire.headers):
        return "Access denied due to missing subscription key"
    return _newest_gpt(wire, body)


def _deepseek(wire: WireRequest, body: dict[str, Any]) -> str | None:
    thinks = body.get("thinking", {}).get("type") == "enabled"
    for message in body["messages"]:
        if thinks and message.get("tool_calls") and not message.get("reasoning_content"):
            return "The `reasoning_content` in the thinking mode must be passed back to the API."
    return None


def _kimi(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if "thinking" in body and "reasoning_effort" in body:
        return "cannot specify both 'thinking' and 'reasoning_effort'"
    if body.get("temperature", 1) != 1:
        return "invalid temperature: only 1 is allowed for this model"
    for at, message in enumerate(body["messages"]):
        if message.get("tool_calls") and not message.get("reasoning_content"):
            return f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {at}"
    return None


def _mistral(wire: WireRequest, body: dict[str, Any]) -> str | None:
    for identifier in _calls(body):
        if not re.fullmatch("[a-zA-Z0-9]{9}", identifier):
            return f"Tool call id was {identifier} but must be a-z, A-Z, 0-9, with a length of 9."
    roles = [message["role"] for message in body["messages"]]
    if ("tool", "user") in pairwise(roles):
        return "Unexpected role 'user' after role 'tool'"
    if roles[-1] == "assistant":
        return "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    return None


def _gemini(wire: WireRequest, body: dict[str, Any]) -> str | None:
    tools = json.dumps(body["tools"])
    for word in ("exclusiveMinimum", "multipleOf", "$ref", "oneOf", "additionalProperties"):
        if f'"{word}"' in tools:
            return (
                f'Invalid JSON payload received. Unknown name "{word}" at '
                "'tools[0].function.parameters.properties[0].value': Cannot find field."
            )
    if any(tool["function"]["name"][0].isdigit() for tool in body["tools"]):
        return "Invalid function name. Must start with a letter or an underscore."
    return None


def _groq(wire: WireRequest, body: dict[str, Any]) -> str | None:
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    if limit > 8192:
        return "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for `max_completion_tokens`"
    if body.get("reasoning_effort") not in (None, "low", "medium", "high"):
        return "`reasoning_effort` must be one of `low`, `medium`, or `high`"
    return None


def _grok(wire: WireRequest, body: dict[str, Any]) -> str | None:
    return "Argument not supported on this model: stop" if "stop" in body else None


def _qwen(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if body.get("enable_thinking") is not False and not body.get("stream"):
        return "parameter.enable_thinking must be set to false for non-streaming calls"
    return None


def _glm(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if len(body.get("stop", ())) > 1:
        return "Invalid API parameter: stop supports at most 1 stop word"
    return "Unsupported parameter: reasoning_effort" if "reasoning_effort" in body else None


def _minimax(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if not 0 < body.get("temperature", 1) <= 1:
        return "invalid params, temperature must be in the range (0.0, 1.0]"
    return "invalid params, max_tokens exceeds model limit 16000" if body.get("max_tokens", 0) > 16000 else None


def _without_version(wire: WireRequest, body: dict[str, Any]) -> str | None:
    return "Not Found" if b"/v1/" in wire.target else None


def _vllm(wire: WireRequest, body: dict[str, Any]) -> str | None:
    return "reasoning_effort: Extra inputs are not permitted" if "reasoning_effort" in body else None


def _litellm(wire: WireRequest, body: dict[str, Any]) -> str | None:
    if body.get("reasoning_effort") in ("xhigh", "max"):
        return (
            "litellm.BadRequestError: Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. "
            "Supported values are: 'low', 'medium', and 'high'."
        )
    if "top_k" in body:
        return "litellm.UnsupportedParamsError: openai does not support parameters: ['top_k'], for model=x."
    return None


def _anything(wire: WireRequest, body: dict[str, Any]) -> str | None:
    return None


SERVICES: dict[Profile, tuple[str, str, Service]] = {
    "openai": ("https://api.openai.com/v1", "gpt-5.6", _newest_gpt),
    "azure": ("https://r.openai.azure.com/openai/v1", "gpt-5.6", _azure),
    "openrouter": ("https://openrouter.ai/api/v1", "anthropic/claude-sonnet-5.5", _anything),
    "deepseek": ("https://api.deepseek.com", "deepseek-v4-pro", _deepseek),
    "moonshot": ("https://api.moonshot.ai/v1", "kimi-k2.6", _kimi),
    "mistral": ("https://api.mistral.ai/v1", "devstral-medium", _mistral),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini-3-pro", _gemini),
    "groq": ("https://api.groq.com/openai/v1", "openai/gpt-oss-120b", _groq),
    "xai": ("https://api.x.ai/v1", "grok-4", _grok),
    "qwen": ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen3-max", _qwen),
    "zai": ("https://api.z.ai/api/paas/v4", "glm-5.3", _glm),
    "minimax": ("https://api.minimax.io/v1", "MiniMax-M3", _minimax),
    "copilot": ("https://api.githubcopilot.com", "gpt-4.1", _without_version),
    "github_models": ("https://models.github.ai/inference", "openai/gpt-4.1", _without_version),
    "ollama": ("http://127.0.0.1:11434", "qwen3-coder", _anything),
    "lmstudio": ("http://127.0.0.1:1234", "gpt-oss", _anything),
    "vllm": ("http://127.0.0.1:8000", "gpt-oss", _vllm),
    "llamacpp": ("http://127.0.0.1:8080", "local", _anything),
    "sglang": ("http://127.0.0.1:30000", "local", _vllm),
    "litellm": ("http://127.0.0.1:4000", "any", _litellm),
}
LIMITED = {"type": "object", "properties": {
    "n": {"type": "integer", "exclusiveMinimum": 0, "multipleOf": 2}, "m": {"$ref": "#/$defs/mode"}, "o": {"oneOf": [{"type": "string"}, {"type": "null"}]},
}, "$defs": {"mode": {"enum": ["a", "b"]}}, "additionalProperties": False}  # fmt: skip
SESSION = messages_request(
    "go", assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("so"), use("toolu_01A09q90qw90lq917835lq9", "3d-render")),
    user(result("toolu_01A09q90qw90lq917835lq9"), text("<system-reminder>r</system-reminder>")),
    system="Be good.", temperature=1, stop_sequences=["x"], thinking={"type": "enabled", "budget_tokens": 5000}, max_tokens=8000,
    output_config={"effort": "high"}, tools=[{"name": "3d-render", "input_schema": LIMITED}],
)  # fmt: skip


def repairs(options: Options, base_url: str, model: str, service: Service, state: TypedState) -> int:
    """Ask the service, and return how many repairs it took until the request was taken."""
    one = provider(base_url=base_url, options=options)
    asked = request(json.dumps(SESSION).encode(), stream=False)
    flow = DIALECT.flow(Ask(asked, Candidate(one, model), Operation.MESSAGES, state, 1.8e9, "n"))
    wire = next(flow)
    for count in range(MAX_REPAIRS + 1):
        said = service(wire, json.loads(b"".join(wire.body)))
        if said is None:
            with pytest.raises(StopIteration):
                flow.send(Reply(200, ()))
            return count
        status = 404 if said == "Not Found" else 400
        wire = flow.send(Reply(status, (), json.dumps({"error": {"message": said, "code": str(status)}}).encode()))
    raise AssertionError("never taken")


@pytest.mark.parametrize("profile", SERVICES)
def test_a_session_is_taken_at_once_by_the_service_of_the_address(profile: Profile) -> None:
    base_url, model, service = SERVICES[profile]

    assert repairs(Options(), base_url, model, service, TypedState()) == 0


@pytest.mark.parametrize("profile", SERVICES)
def test_a_service_behind_an_unknown_address_teaches_what_it_takes(profile: Profile) -> None:
    _, model, service = SERVICES[profile]
    state = TypedState()

    assert repairs(Options(), "https://relay.example", model, service, state) <= MAX_REPAIRS
    assert repairs(Options(), "https://relay.example", model, service, state) == 0


def test_every_profile_has_its_service() -> None:
    assert set(SERVICES) == set(PROFILES) - {"compat", "openai_reasoning"}


def test_openrouter_gets_the_marks_for_claudes_cache() -> None:
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "x"}}
    asked = messages_request(
        user({**text("hi"), "cache_control": {"type": "ephemeral"}}), system=[marked, text("more")]
    )
    can = PROFILES["openrouter"]
    claude = request_.chat(json.dumps(asked).encode(), "anthropic/claude-opus-5.5", can, "up").body["messages"]
    other = request_.chat(json.dumps(asked).encode(), "deepseek/deepseek-v4", can, "up").body["messages"]

    assert claude == [
        {
            "role": "system",
            "content": [{**text("long"), "cache_control": {"type": "ephemeral", "ttl": "1h"}}, text("more")],
        },
        {"role": "user", "content": [{**text("hi"), "cache_control": {"type": "ephemeral"}}]},
    ]
    assert other == [{"role": "system", "content": "long\n\nmore"}, {"role": "user", "content": "hi"}]
