"""Answers that are made here are the Messages API's: our own decoders take them for real ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.simulated.answers import Block, FakeMessage, Text, Thinking, ToolUse, deltas, tokens, words
from balancer.model import Operation, Usage
from balancer.wire.answer import MessageDecoder
from balancer.wire.stream import StreamDecoder

ANSWER = FakeMessage(
    "msg_1",
    "claude-x",
    (Thinking("hm, well", "c2ln"), Text("Hello  there\n"), ToolUse("toolu_1", "read", {"path": "/a", "n": [1, 2, 3]})),
    "tool_use",
    11,
    22,
)


def test_a_stream_is_complete_and_has_its_usage() -> None:
    decoder = StreamDecoder()
    pieces = [piece for frame, _ in ANSWER.frames() for piece in decoder.feed(frame)]

    usage = Usage()
    for piece in pieces:
        usage = usage.merged(piece.usage)
    assert decoder.complete
    assert (usage.input_tokens, usage.output_tokens) == (11, 22)


def test_a_message_is_complete_and_has_its_usage() -> None:
    decoder = MessageDecoder(Operation.MESSAGES)
    decoder.feed(ANSWER.message())
    [piece] = decoder.end()

    assert decoder.complete
    assert piece.usage is not None
    assert (piece.usage.input_tokens, piece.usage.output_tokens) == (11, 22)
    assert [block["type"] for block in json.loads(piece.data)["content"]] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize("block", ANSWER.blocks, ids=lambda block: type(block).__name__)
def test_deltas_add_up_to_their_block(block: Block) -> None:
    told = list(deltas(block))
    match block:
        case Text(text):
            assert "".join(delta["text"] for delta in told) == text
        case Thinking(text, signature):
            assert "".join(delta.get("thinking", "") for delta in told) == text
            assert told[-1] == {"type": "signature_delta", "signature": signature}
        case ToolUse():
            assert json.loads("".join(delta["partial_json"] for delta in told)) == block.input


@given(st.text())
def test_words_make_up_their_text(text: str) -> None:
    assert "".join(words(text)) == text


def test_a_block_has_tokens() -> None:
    assert [tokens(block) > 0 for block in ANSWER.blocks] == [True, True, True]
