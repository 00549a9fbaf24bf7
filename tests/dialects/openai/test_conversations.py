"""Any conversation converts to a valid Chat request and a valid Responses request, and loses no word."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from conversion import FOREIGN_FIELDS, assistant, messages_request, result, text, use, user
from hypothesis import given
from hypothesis import strategies as st
from openai_schema import check_chat, check_responses

from balancer.dialect import Incapable
from balancer.dialects.openai import request, responses
from balancer.dialects.openai.profiles import PROFILES, Profile
from balancer.wire.signatures import signed

words = st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=10)
ids = st.sampled_from(["toolu_1", "toolu_2", "odd id/with.signs", "x" * 70])
names = st.sampled_from(["Read", "Bash", "mcp__server.with__dots", "n" * 100])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)


def blocks(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return blocks of a kind, some with a mark that must go nowhere."""
    mark = {"cache_control": st.just({"type": "ephemeral"})}
    return st.fixed_dictionaries({"type": st.just(kind), **fields}, optional=mark)


base64 = st.fixed_dictionaries({"type": st.just("base64"), "media_type": st.just("image/png"), "data": st.just("aGk=")})
url = st.just({"type": "url", "url": "https://e.x/a"})
texts = blocks("text", text=words)
images = blocks("image", source=base64 | url)
pdf = st.just({"type": "base64", "media_type": "application/pdf", "data": "aGk="})
plain = st.builds(lambda data: {"type": "text", "media_type": "text/plain", "data": data}, words)
nested = st.builds(
    lambda content: {"type": "content", "content": content}, words | st.lists(texts | images, max_size=2)
)
documents = blocks("document", source=pdf | plain | url | nested, title=st.none() | words, context=st.none() | words)
found = blocks("search_result", title=words, source=words, content=st.lists(texts, max_size=2))
loaded = blocks("tool_reference", tool_name=names)
unknown = blocks("container_upload", file_id=ids) | blocks("new_block", data=json_values)
results = blocks(
    "tool_result",
    tool_use_id=ids,
    content=st.none() | words | st.lists(texts | images | documents | found | loaded | unknown, max_size=2),
    is_error=st.booleans(),
)
served = blocks("server_tool_use", id=ids, name=st.just("web_search"), input=json_values)
answers = blocks("web_search_tool_result", tool_use_id=ids, content=json_values) | blocks(
    "mcp_tool_result", tool_use_id=ids, is_error=st.booleans(), content=words | st.lists(texts, max_size=2)
)
signatures = st.sampled_from([signed({"provider": "up", "details": [{"type": "x"}]}), signed({}), "theirs"])
thoughts = blocks("thinking", thinking=words, signature=signatures) | blocks("redacted_thinking", data=signatures)
uses = blocks("tool_use", id=ids, name=names, input=json_values)
compaction = blocks("compaction", content=st.none() | words)
changes = blocks("tool_addition", tool=st.just({"type": "tool_reference", "name": "Read"}))

turns = st.one_of(
    st.builds(
        lambda c: {"role": "user", "content": c},
        words | st.lists(texts | results | documents | images | found | answers | unknown, max_size=4),
    ),
    st.builds(
        lambda c: {"role": "assistant", "content": c},
        words | st.lists(texts | uses | thoughts | served | answers | compaction | unknown, max_size=4),
    ),
    st.builds(
        lambda c, more: {"role": "system", "content": c, **more},
        words | st.lists(texts | changes, max_size=2), st.sampled_from([{}, {"clear_at": "next_user_message"}]),
    ),
)  # fmt: skip
schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", ["array", "null"]]), "$schema": words, "enum": json_values,
            "additionalProperties": st.booleans() | st.just({}), "default": json_values,
        },
    ) | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(words, inner, max_size=2), "items": inner, "anyOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(words, inner, max_size=1),
        },
    ),
    max_leaves=4,
)  # fmt: skip
custom = st.builds(
    lambda n, s, d, more: {"name": n, "input_schema": s, "description": d, **more}, names, schemas, words,
    st.fixed_dictionaries(
        {}, optional={"strict": st.booleans(), "type": st.just("custom"), "defer_loading": st.booleans()}
    ),
)  # fmt: skip
ready = st.sampled_from([{"type": "bash_20250124", "name": "bash"}, {"type": "memory_20250818", "name": "memory"}])
tools = st.lists(custom | ready, max_size=3, unique_by=lambda tool: tool["name"])
choices = st.sampled_from([{"type": kind} for kind in ("auto", "any", "none")]) | st.builds(
    lambda name, alone: {"type": "tool", "name": name, "disable_parallel_tool_use": alone}, names, st.booleans()
)
thinking = st.sampled_from(
    [{"type": "disabled"}, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 20000}, {"type": "between_tools"}]
)
config = st.fixed_dictionaries(
    {},
    optional={
        "effort": st.sampled_from(["low", "max", "unknown"]),
        "format": st.builds(lambda schema: {"type": "json_schema", "schema": schema}, schemas),
    },
)
more = st.fixed_dictionaries(
    {"tools": tools, "system": words | st.lists(texts, max_size=2)},
    optional={
        "tool_choice": choices, "thinking": thinking, "output_config": config, "stream": st.booleans(),
        "stop_sequences": st.lists(words, max_size=6), "temperature": st.floats(0, 1), "top_p": st.floats(0, 1),
        "top_k": st.integers(1, 9), "metadata": st.builds(lambda user: {"user_id": user}, words),
        "service_tier": st.sampled_from(["auto", "standard_only"]), "context_management": json_values,
    },
)  # fmt: skip
requests = st.builds(
    lambda messages, more: messages_request(*messages, **more), st.lists(turns, min_size=1, max_size=7), more
)
profiles: st.SearchStrategy[Profile] = st.sampled_from(sorted(PROFILES))


@given(requests, profiles)
def test_any_request(asked: dict[str, Any], profile: Profile) -> None:
    data, can = json.dumps(asked).encode(), replace(PROFILES[profile], vision=True, files=True)
    once = request.encoded(request.chat(data, "m", can, "up").body)
    again = request.encoded(request.chat(data, "m", can, "up").body)
    body = json.loads(once)

    assert once == again
    check_chat(body, FOREIGN_FIELDS)
    assert not [value for key, value in _pairs(body) if key in ("cache_control", "input_schema", "signature")]
    if profile.startswith("openai"):
        check_responses(json.loads(request.encoded(responses.from_chat(body))))


@given(requests, profiles)
def test_no_word_and_no_call_is_lost(asked: dict[str, Any], profile: Profile) -> None:
    can = replace(PROFILES[profile], vision=True, files=True)
    body = request.chat(json.dumps(asked).encode(), "m", can, "up").body
    out = "\n".join(_strings(body["messages"]))

    for message in asked["messages"]:
        content = message["content"]
        for block in [text(content)] if isinstance(content, str) else content:
            if block["type"] == "text" and block["text"].strip() and "clear_at" not in message:
                assert block["text"] in out
    assert len(body.get("tools", ())) == len(asked["tools"])
    calls = [call for message in body["messages"] for call in message.get("tool_calls", ())]
    answers = [message for message in body["messages"] if message["role"] == "tool"]
    assert Counter(call["id"] for call in calls) == Counter(answer["tool_call_id"] for answer in answers)


def test_the_property_is_not_empty() -> None:
    """What the strategies draw from stands in a request that has all of it, and all of it arrives."""
    asked = messages_request("go", assistant(text("so"), use("t1", a=1)), user(result("t1", "done"), text("and?")))
    body = request.chat(json.dumps(asked).encode(), "m", PROFILES["compat"], "up").body

    assert {"go", "so", "done", "and?", '{"a":1}'} <= set(_strings(body))


FIELDS = [
    "system", "messages", "stop_sequences", "temperature", "top_k", "metadata", "tools", "tool_choice", "thinking",
    "output_config", "service_tier", "stream", "max_tokens",
]  # fmt: skip
anything = st.recursive(
    json_values,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "content", "role", "text", "source", "name", "input_schema", "tool", "id"]), inner
        )
    ),
    max_leaves=6,
)


@given(st.sampled_from(FIELDS), anything, st.sampled_from(["user", "assistant", "system"]), profiles)
def test_nonsense_is_refused_or_converted_and_nothing_else(field: str, value: Any, role: str, profile: Profile) -> None:
    """A crash would be held against the provider."""
    for asked in ({**messages_request("hi"), field: value}, messages_request({"role": role, "content": value})):
        try:
            request.encoded(request.chat(json.dumps(asked).encode(), "m", PROFILES[profile], "up").body)
        except Incapable as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize("depth", [400, 5000])
def test_what_is_nested_too_deeply_is_converted_or_refused(depth: int) -> None:
    schema = b'{"type":"object","properties":{"a":' * depth + b"{}" + b"}}" * depth
    body = b'{"messages":[],"tools":[{"name":"t","input_schema":' + schema + b"}]}"
    try:
        request.chat(body, "m", PROFILES["compat"], "up")
    except Incapable as error:
        assert "deeply" in str(error)  # noqa: PT017


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Return keys and values of what is ours: what a client calls its own properties is no field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            if key not in ("parameters", "schema"):
                yield from _pairs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _pairs(item)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [string for item in inner for string in _strings(item)]
