"""Requests: a body of known fields only, the same bytes for the same request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conversion import chat, converted, messages_request, text
from openai_schema import check_chat, check_responses

from balancer.dialect import Incapable
from balancer.dialects.openai import request, responses
from balancer.dialects.openai.profiles import PROFILES, Profile

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
CASES = sorted(path.name.removesuffix(".in.json") for path in GOLDEN.glob("*.in.json"))


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    """`<case>.in.json` holds a request and the profile, `<case>.openai.json` what goes out."""
    given = json.loads((GOLDEN / f"{case}.in.json").read_text())
    body = chat(given["request"], given["profile"])

    assert body == json.loads((GOLDEN / f"{case}.openai.json").read_text())
    check_responses(responses.from_chat(body))


def test_the_same_request_gives_the_same_bytes() -> None:
    body = json.dumps(messages_request("hi", tools=[{"name": "b"}, {"name": "a" * 90}])).encode()
    once, twice = (request.chat(body, "m", PROFILES["openai"], "up").body for _ in range(2))

    assert request.encoded(once) == request.encoded(twice)


LEAKS = {
    "context_management": {"edits": []},
    "container": "c",
    "mcp_servers": [],
    "inference_geo": "us",
    "cache_control": {"type": "ephemeral"},
    "betas": ["x"],
    "no_such_field": 1,
}


@pytest.mark.parametrize("field", LEAKS)
def test_fields_of_anthropic_alone_do_not_leak(field: str) -> None:
    assert set(chat(messages_request(**{field: LEAKS[field]}))) == {"model", "messages", "max_tokens"}


def test_cache_control_goes_nowhere() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    tool = {"name": "t", "input_schema": {"type": "object"}, "defer_loading": True, **mark}
    asked = messages_request({"role": "user", "content": [{**text("hi"), **mark}]}, system=[{**text("s"), **mark}])

    assert "cache_control" not in json.dumps(chat({**asked, "tools": [tool]}))


def test_the_billing_header_is_cut_off_the_system_prompt() -> None:
    header = "x-anthropic-billing-header: cc_version=2; cch=abc;"
    system = [text(header), text("Be good."), text("Mind the x-anthropic-billing-header: here")]

    assert chat(messages_request(system=system))["messages"][0] == {
        "role": "system",
        "content": "Be good.\n\nMind the x-anthropic-billing-header: here",
    }
    assert chat(messages_request(system=[text(header)]))["messages"][0]["role"] == "user"


LIMITS: dict[str, tuple[Profile, dict[str, Any], dict[str, Any]]] = {
    "compat": ("compat", {}, {"max_tokens": 100}),
    "openai": ("openai", {}, {"max_completion_tokens": 100}),
    "sampling": (
        "compat",
        {"temperature": 0.0, "top_p": 0.5, "top_k": 3},
        {"max_tokens": 100, "temperature": 0.0, "top_p": 0.5},
    ),
    "top_k": ("vllm", {"top_k": 3}, {"max_tokens": 100, "top_k": 3}),
    "no sampling while it reasons": (
        "openai_reasoning",
        {"temperature": 1, "top_p": 1},
        {"max_completion_tokens": 100},
    ),
    "no sampling while it thinks": (
        "compat",
        {"temperature": 1, "top_p": 1, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"max_tokens": 100},
    ),
    "sampling where thinking is off": (
        "deepseek",
        {"temperature": 0.5, "thinking": {"type": "disabled"}},
        {"max_tokens": 100, "temperature": 0.5, "thinking": {"type": "disabled"}},
    ),
    "stop": ("compat", {"stop_sequences": ["a", " ", "b", "c", "d", "e"]}, {"max_tokens": 100, "stop": list("abcd")}),
    "no stop": ("openai_reasoning", {"stop_sequences": ["a"]}, {"max_completion_tokens": 100}),
    "empty stop": ("compat", {"stop_sequences": []}, {"max_tokens": 100}),
    "stream": (
        "compat",
        {"stream": True},
        {"max_tokens": 100, "stream": True, "stream_options": {"include_usage": True}},
    ),
    "the standard tier": (
        "openai",
        {"service_tier": "standard_only"},
        {"max_completion_tokens": 100, "service_tier": "default"},
    ),
    "a tier that servers may not know": ("compat", {"service_tier": "standard_only"}, {"max_tokens": 100}),
    "service tier": ("openai", {"service_tier": "auto", "speed": "fast"}, {"max_completion_tokens": 100}),
}


@pytest.mark.parametrize(("profile", "more", "expected"), LIMITS.values(), ids=LIMITS)
def test_limits(profile: Profile, more: dict[str, Any], expected: dict[str, Any]) -> None:
    body = chat(messages_request(**more), profile)

    assert {key: value for key, value in body.items() if key not in ("model", "messages")} == expected


def test_the_user_goes_along_as_a_hash_or_not_at_all() -> None:
    asked = messages_request(metadata={"user_id": "user_1_account_2_session_0123abcd-ef01"})
    body = chat(asked, "openai")

    assert len(body["safety_identifier"]) == 64
    assert len(body["prompt_cache_key"]) == 32
    assert "0123abcd" not in json.dumps(body)
    assert "safety_identifier" not in chat(asked)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_structured_outputs() -> None:
    asked = messages_request(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})

    assert chat(asked, "openai")["response_format"]["json_schema"] == {
        "name": "response",
        "schema": SCHEMA,
        "strict": True,
    }
    assert "strict" not in chat(asked)["response_format"]["json_schema"]
    without = chat(asked, "deepseek")
    assert without["response_format"] == {"type": "json_object"}
    assert '"required":["a"]' in without["messages"][0]["content"]


def test_a_shape_is_not_asked_for_where_a_tool_must_be_called() -> None:
    tools = [{"name": "t", "input_schema": SCHEMA}]
    asked = messages_request(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}, tools=tools)

    assert "response_format" in chat({**asked, "tool_choice": {"type": "auto"}})
    assert "response_format" not in chat({**asked, "tool_choice": {"type": "any"}})
    assert converted({**asked, "tool_choice": {"type": "any"}}).notes == ("dropped output_config.format",)


def test_lone_surrogates_and_big_integers() -> None:
    body = (
        rb'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a\ud800b"},{"role":"assistant","content":'
    )
    body += b'[{"type":"tool_use","id":"t","name":"n","input":{"n":123456789012345678901234567890}}]}]}'
    out = request.chat(body, "m", PROFILES["compat"], "up").body
    check_chat(json.loads(request.encoded(out)))

    assert out["messages"][0]["content"] == "a\ufffdb"
    assert b"123456789012345678901234567890" in request.encoded(out)


def test_a_suffix_is_no_part_of_the_models_name() -> None:
    assert request.chat(b'{"messages":[]}', "gpt-5[1m]", PROFILES["compat"], "up").body["model"] == "gpt-5"


def test_what_was_dropped_is_said() -> None:
    asked = messages_request(
        top_k=3, context_management={}, stop_sequences=list("abcdef"), output_config={"effort": "low"}
    )

    assert converted(asked).notes == (
        "dropped context_management",
        "dropped effort",
        "dropped stop_sequence x2",
        "dropped top_k",
    )


def test_safeguards_are_refused_by_name() -> None:
    with pytest.raises(Incapable, match="safeguards"):
        converted(messages_request(safeguards={}))


@pytest.mark.parametrize("body", [b"[]", b"1", b"{", b'{"messages":["\xff"]}'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Incapable):
        request.chat(body, "m", PROFILES["compat"], "up")
