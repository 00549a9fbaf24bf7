"""Any conversation converts to a valid Chat request and a valid Responses request, and loses no word."""

from __future__ import annotations

import json
from typing import Any

from conversion import FOREIGN_FIELDS, messages_request, text
from hypothesis import given
from hypothesis import strategies as st
from openai_schema import check_chat, check_responses

from balancer.convert import request, responses
from balancer.convert.profiles import PROFILES, Profile

words = st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=10)
ids = st.sampled_from(["toolu_1", "toolu_2", "odd id/with.signs", "x" * 70])
names = st.sampled_from(["Read", "Bash", "mcp__server.with__dots", "n" * 100])
png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
texts = st.builds(text, words)
inner_blocks = st.lists(texts | st.just(png), max_size=2)
results = st.builds(
    lambda id_, content, bad: {"type": "tool_result", "tool_use_id": id_, "content": content, "is_error": bad},
    ids, st.none() | words | inner_blocks, st.booleans(),
)  # fmt: skip
documents = st.builds(lambda data: {"type": "document", "source": {"type": "text", "data": data}}, words)
unknown = st.builds(lambda kind: {"type": kind}, st.sampled_from(["fallback", "new_block"]))
user_blocks = st.lists(texts | results | documents | st.just(png) | unknown, max_size=4)
uses = st.builds(lambda i, n, v: {"type": "tool_use", "id": i, "name": n, "input": v}, ids, names, json_values)
thoughts = st.builds(lambda t: {"type": "thinking", "thinking": t, "signature": "ccb1:"}, words)


assistant_blocks = st.lists(texts | uses | thoughts | unknown, max_size=4)
turns = st.one_of(
    st.builds(lambda c: {"role": "user", "content": c}, words | user_blocks),
    st.builds(lambda c: {"role": "assistant", "content": c}, words | assistant_blocks),
    st.builds(lambda c: {"role": "system", "content": c}, words | st.lists(texts, max_size=2)),
)
schemas = st.recursive(
    st.fixed_dictionaries({}, optional={"type": st.sampled_from(["object", "array", "string"]), "$schema": words}),
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object")}, optional={"properties": st.dictionaries(words, inner, max_size=2), "items": inner}
    ),
    max_leaves=4,
)
tools = st.lists(
    st.builds(lambda n, s, d: {"name": n, "input_schema": s, "description": d}, names, schemas, words),
    max_size=3,
    unique_by=lambda tool: tool["name"],
)
requests = st.builds(
    lambda messages, tools, system: messages_request(*messages, tools=tools, system=system),
    st.lists(turns, min_size=1, max_size=7), tools, words | st.lists(texts, max_size=2),
)  # fmt: skip


@given(requests, st.sampled_from(sorted(set(PROFILES) - {"deepseek"})))
def test_any_request(asked: dict[str, Any], profile: Profile) -> None:
    data = json.dumps(asked).encode()
    once = request.encoded(request.chat(data, "m", PROFILES[profile], "up").body)
    again = request.encoded(request.chat(data, "m", PROFILES[profile], "up").body)
    body = json.loads(once)

    assert once == again
    check_chat(body, FOREIGN_FIELDS)
    check_responses(json.loads(request.encoded(responses.from_chat(body))))


@given(requests)
def test_no_word_is_lost(asked: dict[str, Any]) -> None:
    body = request.chat(json.dumps(asked).encode(), "m", PROFILES["compat"], "up").body
    out = "\n".join(_strings(body["messages"]))

    for message in asked["messages"]:
        content = message["content"]
        blocks = [text(content)] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text" and block["text"].strip():
                assert block["text"] in out


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [string for item in nested for string in _strings(item)]
