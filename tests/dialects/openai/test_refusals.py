"""What refusals teach: a table of wordings, each with the request that it refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai import lessons, refusals
from balancer.dialects.openai.profiles import PROFILES
from balancer.wire.complaints import body_complaint

TOOL = {"type": "function", "function": {"name": "t", "strict": True}}
BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 32000,
    "stream_options": {},
    "parallel_tool_calls": False,
    "temperature": 0.5,
    "top_p": 1,
    "reasoning_effort": "low",
    "tools": [TOOL],
    "tool_choice": "required",
    "messages": [{"role": "user", "content": "hi"}],
}
SHAPED = {
    **BODY,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
}
NEW = {("max_completion_tokens" if key == "max_tokens" else key): value for key, value in BODY.items()}
OLD_NAME = b"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

CASES: dict[str, tuple[dict[str, Any], bytes, str | None]] = {
    "the limit's new name": (BODY, b'{"error":{"message":"%b","param":"max_tokens"}}' % OLD_NAME, "rename:max_tokens:max_completion_tokens"),
    "the limit's old name": (NEW, b'{"error":{"message":"Unrecognized request argument supplied: max_completion_tokens"}}', "rename:max_completion_tokens:max_tokens"),
    "stream options": (BODY, b'{"error":"unknown field stream_options"}', "drop:stream_options"),
    "pydantic's words": (BODY, b'{"detail":[{"loc":["body","parallel_tool_calls"],"msg":"Extra inputs are not permitted"}]}', "drop:parallel_tool_calls"),
    "temperature": (BODY, b'{"error":{"message":"Unsupported value: \'temperature\' does not support 0.5. Only the default (1) value","param":"temperature"}}', "only:temperature=1"),
    "strict": (BODY, b'{"error":{"message":"tools.0.function.strict: Extra inputs are not permitted"}}', "drop:strict"),
    "a forced tool": (BODY, b'{"error":{"message":"tool_choice \'required\' is not supported"}}', "auto"),
    "a forced tool, while thinking": ({**BODY, "thinking": {}}, b'{"error":{"message":"Thinking mode does not support this tool_choice"}}', "auto"),
    "the parameter, not what is said of others": (BODY, b'{"error":{"message":"Unsupported with temperature","param":"top_p"}}', "drop:top_p"),
    "the message, not what is quoted": (BODY, b'{"detail":[{"loc":["body","top_p"],"msg":"Extra inputs are not permitted","input":{"max_tokens":1}}]}', "drop:top_p"),
    "stop": ({**BODY, "stop": ["x"]}, b'{"error":{"message":"Unrecognized request argument supplied: stop"}}', "drop:stop"),
    "stop as a parameter": ({**BODY, "stop": ["x"]}, b'{"error":{"message":"not supported","param":"stop"}}', "drop:stop"),
    "an everyday word": ({**BODY, "stop": ["x"], "include": []}, b'{"error":{"message":"Images are not supported, stop that; include text only"}}', None),
    "a smaller limit": (BODY, b'{"error":{"message":"max_tokens is too large: 32000. This model supports at most 16384 completion tokens"}}', "limit:16384"),
    "deepseek's limit": (BODY, b'{"error":{"message":"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"}}', "limit:8192"),
    "the context is too long": (BODY, b'{"error":{"message":"maximum context length is 100 tokens, max_tokens not supported","code":"context_length_exceeded"}}', None),
    "a field that was not sent": (BODY, b'{"error":{"message":"top_k is not supported"}}', None),
    "a forced tool, in other words": (BODY, b'{"error":{"message":"tool_choice must be auto or none"}}', "auto"),
    "a smaller limit of the other API": ({"max_output_tokens": 32000}, b'{"error":{"message":"max_output_tokens must be less than or equal to 4096"}}', "limit:4096"),
    "no schemas": (SHAPED, b'{"error":{"message":"This response_format type is unavailable now"}}', "json_object"),
    "no shapes at all": ({**BODY, "response_format": {"type": "json_object"}}, b'{"error":"unknown field response_format"}', "drop:response_format"),
    "a schema that is wrong": (SHAPED, b'{"error":{"message":"Invalid schema for response_format: unknown type"}}', None),
    "something else": (BODY, b'{"error":{"message":"messages must not be empty"}}', None),
    "a field that is meant": (BODY, b'{"error":{"message":"Unsupported parameter: tools"}}', None),
}  # fmt: skip


def say(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}}).encode()


def test_table_is_large() -> None:
    assert len(CASES) + len(WORDINGS) >= 60


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LONG: dict[str, Any] = {**ASKED, "max_tokens": 32000}
TOOLS: dict[str, Any] = {
    **ASKED,
    "tools": [{"type": "function", "function": {"name": "Bash", "parameters": {"type": "object"}}}],
}
EFFORT: dict[str, Any] = {**ASKED, "reasoning_effort": "xhigh"}
ITEMS: dict[str, Any] = {"model": "m", "input": [{"type": "message", "role": "user", "content": "hi"}]}
CALLS: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "toolu_01A09q90qw90lq917835lq9", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "toolu_01A09q90qw90lq917835lq9", "content": "x"},
    {"role": "user", "content": "go on"},
]  # fmt: skip
ROUND: dict[str, Any] = {**TOOLS, "messages": CALLS}
GIVEN = {"google": {"thought_signature": "SIG"}}
SIGNED: dict[str, Any] = {
    **ASKED,
    "messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "a", "extra_content": GIVEN}]}],
}
PREFILLED = {**ASKED, "messages": [*ASKED["messages"], {"role": "assistant", "content": "{"}]}
LIMIT = {"type": "object", "properties": {"n": {"type": "integer", "exclusiveMinimum": 0, "pattern": "x"}}}
SCHEMA: dict[str, Any] = {**ASKED, "tools": [{"type": "function", "function": {"name": "Read", "parameters": LIMIT}}]}
REFERENCE = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "string"}}}
REFERRING = {**ASKED, "tools": [{"type": "function", "function": {"name": "Read", "parameters": REFERENCE}}]}
NAMED_TOOL = {"type": "function", "function": {"name": "Bash"}}

WORDINGS: tuple[tuple[dict[str, Any], str, str | None], ...] = (
    # limits of the output
    (LONG, "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku", "limit:8192"),
    (LONG, "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for `max_completion_tokens` is less than the `context_window` for this model", "limit:8192"),
    (LONG, "The maximum tokens you requested exceeds the model limit of 8192. Try again with a maximum tokens value that is lower than 8192.", "limit:8192"),
    (LONG, "max_tokens exceeds the limit of 16000", "limit:16000"),
    (LONG, "invalid params, max_tokens exceeds model limit 8192", "limit:8192"),
    (LONG, "Range of max_tokens should be [1, 8192]", "limit:8192"),
    (LONG, "max_tokens must be at most 8,192", "limit:8192"),
    (LONG, "Requested 32000 output tokens, but the output limit of this model is 4096", "limit:4096"),
    (LONG, "max_new_tokens should be <= 4096, got 32000", "limit:4096"),
    (LONG, "Unable to submit request because it has a maxOutputTokens value of 32000 but the supported range is from 1 (inclusive) to 8193 (exclusive). Update the value and try again.", "limit:8193"),
    ({**ASKED, "max_tokens": 8193}, "the supported range of maxOutputTokens is from 1 (inclusive) to less than 8193 (exclusive)", "limit:8192"),
    ({**ITEMS, "max_output_tokens": 16}, "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 32, but got 16 instead.", "least:max_output_tokens=32"),
    (LONG, "max_tokens is too large", None),
    # fields that are refused, in every spelling
    ({**ASKED, "temperature": 0.7}, "invalid temperature: only 1 is allowed for this model", "only:temperature=1"),
    ({**ASKED, "temperature": 0.7}, "Unsupported parameter: 'temperature' is not supported with this model.", "drop:temperature"),
    ({**ASKED, "temperature": 0.7}, "`temperature` is deprecated for this model.", "drop:temperature"),
    ({**ASKED, "temperature": 1.0}, "temperature must be in the range (0.0, 1.0)", "most:temperature=0.99"),
    ({**ASKED, "temperature": 0}, "temperature must be greater than 0", "least:temperature=0.01"),
    ({**ASKED, "top_p": 1}, "top_p must be less than 1", "most:top_p=0.99"),
    ({**ASKED, "top_k": 500}, "top_k should be between 1 and 100", "most:top_k=100"),
    ({**ASKED, "top_p": 0.5}, "Parameter topP is not supported by this model", "drop:top_p"),
    ({**ASKED, "top_k": 5}, "Unknown name \"top_k\": Cannot find field.", "drop:top_k"),
    ({**ASKED, "stop": ["x"]}, "Argument not supported on this model: stop", "drop:stop"),
    ({**ASKED, "stop": ["x"]}, "stop is not supported by this model", "drop:stop"),
    ({**ASKED, "stop": ["x"]}, "This model does not support stop sequences.", "drop:stop"),
    ({**ASKED, "stop": list("abcde")}, "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.", "config:stop=4"),
    ({**ASKED, "parallel_tool_calls": False}, "Unrecognized request argument supplied: parallel_tool_calls", "drop:parallel_tool_calls"),
    ({**ASKED, "stream_options": {}, "stream": True}, "body -> stream_options: extra fields not permitted", "drop:stream_options"),
    ({**ASKED, "stream_options": {}, "stream": True}, "include_usage is not supported", "drop:stream_options"),
    ({**ITEMS, "reasoning": {"effort": "high", "summary": "auto"}}, "litellm.UnsupportedParamsError: anthropic does not support parameters: ['reasoning_effort'], for model=x.", "drop:reasoning"),
    ({**ITEMS, "reasoning": {"effort": "high", "summary": "auto"}}, "Unsupported parameter: 'reasoning.summary' is not supported with this model.", "drop:reasoning.summary"),
    ({**ITEMS, "include": ["x"]}, "Unsupported parameter: include", "drop:include"),
    ({**ITEMS, "max_output_tokens": 9000}, "Unsupported parameter: max_output_tokens", "drop:max_output_tokens"),
    ({**EFFORT, "thinking": {"type": "enabled"}}, "\"gemma3\" does not support thinking", "drop:thinking"),
    (EFFORT, "\"gemma3\" does not support thinking", "drop:reasoning_effort"),
    ({**ASKED, "safety_identifier": "x"}, "Unknown parameter: 'safety_identifier'.", "drop:safety_identifier"),
    ({**ASKED, "service_tier": "default"}, "property 'service_tier' is unsupported", "drop:service_tier"),
    ({**ASKED, "temperature": 1, "top_p": 0.9}, "`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "one_of:temperature,top_p"),
    ({**ASKED, "thinking": {}, "reasoning_effort": "low"}, "cannot specify both 'thinking' and 'reasoning_effort'", "one_of:thinking,reasoning_effort"),
    # values
    ({**TOOLS, "reasoning_effort": "high"}, "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.", "set:reasoning_effort=none?tools"),
    (TOOLS, "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.", "set:reasoning_effort=none?tools"),
    (TOOLS, "Tools are only available with reasoning effort none.", "set:reasoning_effort=none?tools"),
    (EFFORT, "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model. Supported values are: 'low', 'medium', and 'high'.", "only:reasoning_effort=low,medium,high"),
    (EFFORT, "reasoning_effort: Input should be 'low', 'medium' or 'high'", "only:reasoning_effort=low,medium,high"),
    (EFFORT, "reasoning_effort must be one of [none, default]", "only:reasoning_effort=none"),
    (EFFORT, "Unsupported value: 'reasoning_effort' does not support 'xhigh' with this model.", "drop:reasoning_effort=xhigh"),
    ({**ITEMS, "reasoning": {"effort": "minimal"}}, "Unsupported value: 'minimal' is not supported with the 'gpt-5.5' model. Supported values are: 'none', 'low', 'medium', 'high', and 'xhigh'.", "only:reasoning.effort=none,low,medium,high,xhigh"),
    ({**ASKED, "thinking": {"type": "disabled"}}, "invalid thinking: thinking.type must be enabled for this model", "set:thinking.type=enabled"),
    # tools
    ({**TOOLS, "tool_choice": "required"}, "tool_choice 'required' is incompatible with thinking enabled", "auto"),
    ({**TOOLS, "tool_choice": NAMED_TOOL}, "Invalid tool_choice type: 'object'. Supported string values: none, auto, required", "config:tool_choice_named=false"),
    ({**TOOLS, "tool_choice": "auto"}, "Unsupported parameter: tool_choice", "drop:tool_choice=auto"),
    (ROUND, "Tool call id was toolu_01A09q90qw90lq917835lq9 but must be a-z, A-Z, 0-9, with a length of 9.", "config:tool_id=alnum9"),
    (ROUND, "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 24, but got a string with length 30 instead.", "config:tool_id_max=24"),
    (ROUND, "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.", None),
    (ROUND, "Unexpected role 'user' after role 'tool'", "config:after_tool=merge"),
    (ROUND, "Expected an assistant message after tool results, but got user", "config:after_tool=merge"),
    (ROUND, "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...", "config:after_tool=merge"),
    (ROUND, "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1", "config:reasoning_back=with_calls"),
    (ROUND, "The `reasoning_content` in the thinking mode must be passed back to the API.", "config:reasoning_back=always"),
    ({**ROUND, "messages": [{**CALLS[1], "reasoning_content": "x"}]}, "reasoning_content in input messages is not supported", "config:reasoning_back=never"),
    (ROUND, "messages.1.content: Input should be a valid string", "config:call_text=true"),
    ({**TOOLS, "tools": [{"type": "function", "function": {"name": "3d-render"}}]}, "Invalid function name. Must start with a letter or an underscore.", "config:tool_name=letter"),
    ({**TOOLS, "tools": [{"type": "function", "function": {"name": "mcp__a-b"}}]}, "tools.0.function.name: String should match pattern '^[a-zA-Z_][a-zA-Z0-9_]*$'", "config:tool_name=word"),
    ({**TOOLS, "tools": [{"type": "function", "function": {"name": "n" * 50}}]}, "tools[0].function.name is too long: maximum length is 48", "config:name_max=48"),
    (SCHEMA, "Invalid JSON payload received. Unknown name \"exclusiveMinimum\" at 'tools[0].function.parameters.properties[0].value': Cannot find field.", "config:tool_schema=narrow"),
    (SCHEMA, "Invalid schema for function 'Read': In context=('properties', 'n'), 'exclusiveMinimum' is not permitted.", "config:schema_without=exclusiveMinimum"),
    (SCHEMA, "tools.0: JSON schema keyword \"pattern\" is not supported", "config:schema_without=pattern"),
    (REFERRING, "Unsupported schema keyword $ref in the tool's parameters", "config:inline_refs=true"),
    (SCHEMA, "Unsupported schema keyword $ref in the tool's parameters", None),
    # conversations
    ({**ASKED, "messages": [{"role": "developer", "content": "x"}]}, "developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] - 'messages.0.role'", None),
    ({**ASKED, "messages": [{"role": "system", "content": "x"}, *ASKED["messages"]]}, "System role not supported", "config:system_role=user"),
    ({**ASKED, "messages": [{"role": "system", "content": "x"}, *ASKED["messages"]]}, "Developer instruction is not enabled for models/gemma-3-27b-it", "config:system_role=user"),
    ({**ASKED, "messages": [*ASKED["messages"], {"role": "system", "content": "x"}]}, "System message must be at the beginning.", "config:mid_system=false"),
    (PREFILLED, "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant", "config:prefill=false"),
    (PREFILLED, "This model does not support assistant message prefill. The conversation must end with a user message.", "config:prefill=false"),
    ({**ITEMS, "input": [{"type": "reasoning", "encrypted_content": "E"}]}, "The encrypted content E could not be verified. Reason: Encrypted content could not be decrypted or parsed.", "once:no_reasoning"),
    ({**ITEMS, "input": [{"type": "reasoning", "encrypted_content": "E"}]}, "Item 'rs_1' of type 'reasoning' was provided without its required following item.", "once:no_reasoning"),
    # streams
    (ASKED, "parameter.enable_thinking must be set to false for non-streaming calls", "config:streaming=always"),
    (ASKED, "Stream must be set to true", "config:streaming=always"),
    (ASKED, "This model only supports streaming", "config:streaming=always"),
    (ASKED, "Non-streaming requests are not supported for this model, please set stream=true", "config:streaming=always"),
    (LONG, "Requests with max_tokens > 4096 must have stream=true", "set:stream=true?max_tokens>4096"),
    ({**ASKED, "stream": True}, "Streaming is not supported for this model", "config:streaming=never"),
    # another API
    (ASKED, "This model is only supported in v1/responses and not in v1/chat/completions.", "config:api=responses"),
    (ITEMS, "The Responses API is not supported for this deployment", "config:api=chat"),
    (ROUND, "Function call is missing a thought_signature in functionCall parts.", "config:thought_signatures=true"),
    (SIGNED, "Invalid thought signature in functionCall part: corrupted thought signature.", "once:no_reasoning"),
    # the same in other words
    (TOOLS, "Function tools are not supported with this model in /v1/chat/completions. Please use /v1/responses instead.", "config:api=responses?tools"),
    ({**TOOLS, "reasoning_effort": "high"}, "When using tools, reasoning_effort must be 'none'.", "set:reasoning_effort=none?tools"),
    ({**TOOLS, "reasoning_effort": "high"}, "Tool use requires reasoning_effort=none", "set:reasoning_effort=none?tools"),
    ({**ITEMS, "tools": [{}], "reasoning": {"effort": "high"}}, "tools require reasoning.effort none", "set:reasoning.effort=none?tools"),
    ({**ASKED, "thinking": {}, "reasoning_effort": "low"}, "thinking and reasoning_effort are mutually exclusive", "one_of:thinking,reasoning_effort"),
    ({**ASKED, "thinking": {}, "reasoning_effort": "low"}, "Only one of 'thinking' or 'reasoning_effort' may be specified", "one_of:thinking,reasoning_effort"),
    (ROUND, "Tool call IDs should be alphanumeric strings with length 9!", "config:tool_id=alnum9"),
    (ROUND, "A tool message must be followed by an assistant message", "config:after_tool=merge"),
    (ROUND, "messages[3]: role 'user' is not allowed after 'tool'", "config:after_tool=merge"),
    (ROUND, "assistant message with tool_calls is missing reasoning_content", "config:reasoning_back=with_calls"),
    (SCHEMA, "GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[x].enum: only allowed for STRING type", "config:tool_schema=narrow"),
    ({**ASKED, "temperature": 0.7}, "Only temperature=1 is allowed", "only:temperature=1"),
    ({**ASKED, "temperature": 0.7}, "Invalid value for 'temperature': this model only accepts the default value of 1.", "only:temperature=1"),
    ({**ASKED, "temperature": 0.7}, "`temperature` may only be set to 1 when thinking is enabled.", "only:temperature=1"),
    ({**ASKED, "stop": ["x"]}, "The following parameters are not supported: stop, logprobs", "drop:stop"),
    ({**ASKED, "stop": ["x"]}, "Unsupported field(s): ['stop']", "drop:stop"),
    ({**ASKED, "parallel_tool_calls": False}, "parallelToolCalls: unknown field", "drop:parallel_tool_calls"),
    (EFFORT, "Thinking level xhigh is not supported, use one of low, high", "only:reasoning_effort=low,high"),
    (EFFORT, "`reasoning_effort` value 'xhigh' unsupported; allowed: [low, medium, high]", "only:reasoning_effort=low,medium,high"),
    (LONG, "This model supports a maximum of 16384 output tokens", "limit:16384"),
    (LONG, "`max_tokens` must be between 1 and 8192", "limit:8192"),
    (LONG, "Output tokens limit for model is 8k, requested 32000", "limit:8000"),
    (LONG, "Value error, max_tokens must be <=65536, got 32000", None),
    (ASKED, "stream=false is not supported for this model", "config:streaming=always"),
    (ASKED, "Non-stream request is not allowed", "config:streaming=always"),
    (LONG, "streaming is required when max_tokens is greater than 21333", "set:stream=true?max_tokens>21333"),
    ({**ASKED, "stream": True}, "stream parameter is not supported", "config:streaming=never"),
    ({**ASKED, "messages": [{"role": "system", "content": "x"}, *ASKED["messages"]]}, "Only user, assistant, and tool roles are supported, got system.", "config:system_role=user"),
    (EFFORT, "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final `assistant` message must start with a thinking block", "once:no_effort"),
    (ITEMS, "The encrypted content E could not be verified.", None),
    # nothing to learn
    (BODY, "Incorrect API key provided", None),
    (BODY, "The model `x` does not exist or you do not have access to it.", None),
    (BODY, "Invalid image: could not be decoded", None),
    (ROUND, "messages: at least one message is required", None),
    (BODY, "Your request was rejected as a result of our safety system.", None),
)  # fmt: skip


def taught(body: dict[str, Any], said: bytes, status: int = 400) -> str | None:
    refused = refusals.Refused(body, PROFILES["compat"], "responses" if "input" in body else "chat")
    return refusals.find(status, body_complaint(said), said.decode(), refused)


@pytest.mark.parametrize(("body", "said", "lesson"), CASES.values(), ids=CASES)
def test_find(body: dict[str, Any], said: bytes, lesson: str | None) -> None:
    assert taught(body, said) == lesson


@pytest.mark.parametrize(("body", "message", "lesson"), WORDINGS, ids=[message[:60] for _, message, _ in WORDINGS])
def test_wordings(body: dict[str, Any], message: str, lesson: str | None) -> None:
    assert taught(body, say(message)) == lesson
    assert lesson is None or lesson.startswith(lessons.ONCE) or lessons.is_lesson(lesson)


@pytest.mark.parametrize(("body", "message", "lesson"), WORDINGS, ids=[message[:60] for _, message, _ in WORDINGS])
def test_wordings_that_another_server_passes_on(body: dict[str, Any], message: str, lesson: str | None) -> None:
    """OpenRouter and LiteLLM put what the provider said into a string of their own error."""
    wrapped = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": say(message).decode()}}}

    assert taught(body, json.dumps(wrapped).encode()) == lesson


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_any_refusal_of_the_request_teaches(status: int) -> None:
    assert taught(BODY, say(OLD_NAME.decode()), status) == "rename:max_tokens:max_completion_tokens"


@pytest.mark.parametrize("status", [401, 402, 429, 500, 503])
def test_only_refusals_of_the_request_teach(status: int) -> None:
    assert taught(BODY, say(OLD_NAME.decode()), status) is None


def test_a_template_that_fails_teaches_the_order_of_roles() -> None:
    assert taught(ROUND, say("roles must alternate user/assistant"), 500) == "config:after_tool=merge"


def test_what_did_not_help_is_not_tried_again() -> None:
    merging = replace(PROFILES["compat"], after_tool="merge")
    said = say("Unexpected role 'user' after role 'tool'")

    assert refusals.find(400, body_complaint(said), "", refusals.Refused(ROUND, merging)) == "config:after_tool=bridge"


@pytest.mark.parametrize(
    "filler", ["a", " ", "'", "max_tokens ", "reasoning_content", "stream ", "1,", "tool call id "]
)
def test_reading_a_refusal_takes_time_in_proportion_to_its_length(filler: str) -> None:
    """What lies beyond the part that is read costs nothing more than its length."""
    everything = {
        **SCHEMA,
        **LONG,
        **EFFORT,
        "stop": ["x"],
        "temperature": 0.5,
        "messages": CALLS,
        "tools": SCHEMA["tools"],
    }
    said = (filler * 20_000)[: refusals.LOOKED_AT_CHARS]
    began = time.process_time()
    taught(everything, say(said))
    assert time.process_time() - began < 0.5


WORDS = sorted({word for _, message, _ in WORDINGS for word in message.replace(",", " ").split()})
ASKS = [body for body, _, _ in WORDINGS] + [
    {**SCHEMA, **EFFORT, **LONG, "stop": ["x"], "temperature": 0, "top_k": 5, "messages": CALLS}
]


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.sampled_from(ASKS), st.sampled_from([400, 404, 413, 422, 500]))
def test_whatever_is_said_is_a_lesson_that_can_be_applied_or_none(
    words: list[str], body: dict[str, Any], status: int
) -> None:
    before = json.dumps(body)
    lesson = taught(body, say(" ".join(words)), status)

    assert lesson is None or lesson.startswith(lessons.ONCE) or lessons.is_lesson(lesson)
    if lesson is not None:
        lessons.apply(body, [lesson])
        lessons.shaped(PROFILES["compat"], (lesson,))
    assert json.dumps(body) == before
