"""A conversation's history: what another provider made is dropped or translated, everything else stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.wire.history import as_text, carries_thinking, ran_elsewhere, without_own_thinking
from balancer.wire.signatures import OWN_PREFIX


def test_a_body_without_any_is_the_same_object() -> None:
    body = b'{"messages":[{"role":"assistant","content":[{"type":"thinking","signature":"theirs"}]}]}'

    assert without_own_thinking(body) is body


def test_ours_is_taken_out_and_theirs_stays() -> None:
    ours = {"type": "thinking", "thinking": "x", "signature": OWN_PREFIX + "abc"}
    redacted = {"type": "redacted_thinking", "data": OWN_PREFIX + "abc"}
    theirs = {"type": "thinking", "thinking": "y", "signature": "theirs"}
    text = {"type": "text", "text": f'quoting "{OWN_PREFIX}"'}
    body = {"model": "m", "messages": [{"role": "assistant", "content": [ours, theirs, redacted, text]}]}

    stripped = json.loads(without_own_thinking(json.dumps(body).encode()))

    assert stripped == {"model": "m", "messages": [{"role": "assistant", "content": [theirs, text]}]}


def test_a_body_that_no_utf8_can_carry_is_stripped_and_one_that_is_no_json_is_the_providers_business() -> None:
    ours = b'{"messages":[{"content":[{"type":"thinking","signature":"%b"},%b]}]}'
    half = ours % (OWN_PREFIX.encode(), rb'{"type":"text","text":"\ud83d"}')
    broken = ours % (OWN_PREFIX.encode(), b'"\xff"')

    assert json.loads(without_own_thinking(half))["messages"][0]["content"] == [{"type": "text", "text": "\ufffd"}]
    assert without_own_thinking(broken) is broken


def test_a_message_is_never_left_empty() -> None:
    body = {"messages": [{"role": "assistant", "content": [{"type": "thinking", "signature": OWN_PREFIX}]}]}

    assert json.loads(without_own_thinking(json.dumps(body).encode()))["messages"][0]["content"]


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking", "text"])
@pytest.mark.parametrize("member", ["signature", "data"])
def test_only_thinking_is_taken_out_whichever_member_is_signed(kind: str, member: str) -> None:
    block = {"type": kind, member: OWN_PREFIX}
    body = {"messages": [{"content": [block, {"type": "text", "text": "x"}]}, {"content": "words"}, "odd"]}

    stripped = json.loads(without_own_thinking(json.dumps(body).encode()))

    assert len(stripped["messages"][0]["content"]) == (2 if kind == "text" else 1)
    assert stripped["messages"][1:] == [{"content": "words"}, "odd"]


@pytest.mark.parametrize("body", [b'["%b"]', b'{"messages":"%b"}', b'{"messages":5,"x":"%b"}'])
def test_a_body_that_is_no_request_is_the_providers_business(body: bytes) -> None:
    body = body.replace(b"%b", OWN_PREFIX.encode())

    assert json.loads(without_own_thinking(body)) == json.loads(body)


def test_the_same_history_gives_the_same_bytes() -> None:
    """A prefix that changed would cost the prompt cache, and the thinking that is bound to it."""
    ours = {"type": "thinking", "thinking": "x", "signature": OWN_PREFIX + "abc"}
    turns: list[Any] = [{"role": "assistant", "content": [ours, {"type": "text", "text": "hi", "n": 1.50}]}]
    first = without_own_thinking(json.dumps({"messages": turns}).encode())
    later = without_own_thinking(json.dumps({"messages": [*turns, {"role": "user", "content": "on"}]}).encode())

    assert later.startswith(first.removesuffix(b"]}"))


# Whether there is thinking


@pytest.mark.parametrize(
    ("body", "carries"),
    [
        ({"messages": [{"content": [{"type": "thinking", "thinking": "x", "signature": "s"}]}]}, True),
        ({"messages": [{"content": [{"type": "redacted_thinking", "data": "x"}]}]}, True),
        ({"messages": [{"content": "hi"}], "thinking": {"type": "adaptive"}}, False),
        ({"messages": [{"content": 'they said "thinking" to me'}]}, False),
        ({"messages": [{"content": "hi"}]}, False),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_thinking_is_seen_by_the_bytes(body: dict[str, Any], carries: bool, separators: tuple[str, str]) -> None:
    assert carries_thinking(json.dumps(body, separators=separators).encode()) is carries


def test_a_body_full_of_keys_is_looked_at_only_so_often() -> None:
    body = b'{"type":"thinking","x":[' + b'{"thinking":1},' * 100_000 + b"0]}"

    assert not carries_thinking(body)


# What ran on a provider's servers


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "server_tool_use", "name": "web_search", "input": {"query": "cats"}}, "[web_search: cats]"),
        ({"type": "mcp_tool_use", "name": "look", "input": {"a": 1}}, '[look: {"a":1}]'),
        ({"type": "server_tool_use", "name": "x"}, "[x: {}]"),
        (
            {"type": "web_search_tool_result", "content": [
                {"type": "web_search_result", "title": "Cats", "url": "https://c", "encrypted_content": "E"}]},
            "Cats\nhttps://c",
        ),
        ({"type": "code_execution_tool_result", "content": {"stdout": "42", "stderr": ""}}, "42"),
        ({"type": "web_fetch_tool_result", "content": {"source": {"type": "base64", "data": "AAAA"}}}, ""),
        ({"type": "text", "text": "hi"}, None),
        ({"type": "tool_result", "content": "x"}, None),
        ({"type": None}, None),
    ],
)  # fmt: skip
def test_what_a_server_tool_did_is_told_as_text(block: dict[str, Any], said: str | None) -> None:
    assert ran_elsewhere(block) == said


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"type": "compaction", "content": "They spoke."}, "They spoke."),
        ({"type": "compaction", "content": None, "encrypted_content": "E"}, ""),
        (
            {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "x"}, "odd"]},
            "T\nS\nx",
        ),
        ({"type": "tool_reference", "tool_name": "Read"}, "[tool loaded: Read]"),
        ({"type": "tool_addition", "tool": {"definition": {"name": "Read"}}}, "[tool added: Read]"),
        ({"type": "tool_removal", "tool": {"name": "Read"}}, "[tool removed: Read]"),
        ({"type": "server_tool_use", "name": "web_search", "input": {"query": "cats"}}, "[web_search: cats]"),
        ({"type": "document"}, None),
    ],
)
def test_what_only_its_maker_can_read_is_told_as_text(block: dict[str, Any], said: str | None) -> None:
    assert as_text(block) == said
