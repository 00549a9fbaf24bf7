"""Thinking that we signed ourselves is taken out again; everything else stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.wire.signatures import OWN_PREFIX, signed, strip_foreign_thinking, unsigned


def test_a_body_without_any_is_the_same_object() -> None:
    body = b'{"messages":[{"role":"assistant","content":[{"type":"thinking","signature":"theirs"}]}]}'

    assert strip_foreign_thinking(body) is body


def test_ours_is_taken_out_and_theirs_stays() -> None:
    ours = {"type": "thinking", "thinking": "x", "signature": OWN_PREFIX + "abc"}
    redacted = {"type": "redacted_thinking", "data": OWN_PREFIX + "abc"}
    theirs = {"type": "thinking", "thinking": "y", "signature": "theirs"}
    text = {"type": "text", "text": f'quoting "{OWN_PREFIX}"'}
    body = {"model": "m", "messages": [{"role": "assistant", "content": [ours, theirs, redacted, text]}]}

    stripped = json.loads(strip_foreign_thinking(json.dumps(body).encode()))

    assert stripped == {"model": "m", "messages": [{"role": "assistant", "content": [theirs, text]}]}


def test_a_body_that_no_utf8_can_carry_is_stripped_and_one_that_is_no_json_is_the_providers_business() -> None:
    ours = b'{"messages":[{"content":[{"type":"thinking","signature":"%b"},%b]}]}'
    half = ours % (OWN_PREFIX.encode(), rb'{"type":"text","text":"\ud83d"}')
    broken = ours % (OWN_PREFIX.encode(), b'"\xff"')

    assert json.loads(strip_foreign_thinking(half))["messages"][0]["content"] == [{"type": "text", "text": "\ufffd"}]
    assert strip_foreign_thinking(broken) is broken


def test_a_message_is_never_left_empty() -> None:
    body = {"messages": [{"role": "assistant", "content": [{"type": "thinking", "signature": OWN_PREFIX}]}]}

    assert json.loads(strip_foreign_thinking(json.dumps(body).encode()))["messages"][0]["content"]


@pytest.mark.parametrize("payload", [{}, {"provider": "p", "details": [{"text": "\u00e9"}]}])
def test_what_we_signed_is_read_again(payload: dict[str, Any]) -> None:
    assert unsigned(signed(payload)) == payload


@pytest.mark.parametrize("signature", ["theirs", "", None, 5, [OWN_PREFIX], f" {OWN_PREFIX}"])
def test_what_others_signed_is_nothing_to_us(signature: Any) -> None:
    assert unsigned(signature) is None


@pytest.mark.parametrize("rest", ["!", "AAA", "bm9wZQ==", "W10=", "/" * 9])
def test_a_signature_of_ours_that_was_damaged_carries_nothing(rest: str) -> None:
    assert unsigned(OWN_PREFIX + rest) == {}


@pytest.mark.parametrize("kind", ["thinking", "redacted_thinking", "text"])
@pytest.mark.parametrize("member", ["signature", "data"])
def test_only_thinking_is_taken_out_whichever_member_is_signed(kind: str, member: str) -> None:
    block = {"type": kind, member: OWN_PREFIX}
    body = {"messages": [{"content": [block, {"type": "text", "text": "x"}]}, {"content": "words"}, "odd"]}

    stripped = json.loads(strip_foreign_thinking(json.dumps(body).encode()))

    assert len(stripped["messages"][0]["content"]) == (2 if kind == "text" else 1)
    assert stripped["messages"][1:] == [{"content": "words"}, "odd"]
