"""Whole messages as streams, and back: what comes out is what went in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.model import Operation
from balancer.wire.answer import MessageDecoder
from balancer.wire.stream import StreamDecoder
from balancer.wire.turning import Assembly, frames_of

BLOCKS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": "h\u00e9llo \u2028"},
    "text with citations": {"type": "text", "text": "x", "citations": [{"type": "char_location", "cited_text": "x"}]},
    "an empty text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": "sig"},
    "thinking without a signature": {"type": "thinking", "thinking": "hm", "signature": ""},
    "hidden thinking": {"type": "redacted_thinking", "data": "xyz"},
    "a tool": {"type": "tool_use", "id": "t", "name": "n", "input": {"a": {"b": [1, None]}}},
    "a tool without input": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
    "a tool of the server": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
    "what it found": {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]},
    "something new": {"type": "new", "x": [1]},
}


def message(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 3}
    shell = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": list(blocks)}
    return {**shell, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **more}


def there_and_back(whole: dict[str, Any]) -> dict[str, Any]:
    stream = StreamDecoder()
    pieces = stream.feed(json.dumps(whole).encode()) + stream.end()
    assert stream.complete
    decoder = MessageDecoder(Operation.MESSAGES)
    ((piece,),) = [decoder.feed(b"".join(piece.data for piece in pieces))]
    assert decoder.complete
    back: dict[str, Any] = json.loads(piece.data)
    return back


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_survives_both_ways(block: dict[str, Any]) -> None:
    assert there_and_back(message(block)) == message(block)


def test_all_blocks_survive_in_their_order() -> None:
    assert there_and_back(message(*BLOCKS.values())) == message(*BLOCKS.values())


def test_a_message_without_content_is_one() -> None:
    assert there_and_back(message()) == message()


def test_why_it_stopped_survives() -> None:
    refused = message(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "no"})

    assert there_and_back(refused) == refused


@pytest.mark.parametrize(("kind", "member"), [("text_delta", "text"), ("thinking_delta", "thinking")])
def test_the_words_of_a_block_whose_start_is_missing_are_kept(kind: str, member: str) -> None:
    assembly = Assembly()
    assembly.take({"type": "message_start", "message": message()})
    for words in ("one ", "two"):
        assembly.take({"type": "content_block_delta", "index": 0, "delta": {"type": kind, member: words}})
    assembly.take({"type": "content_block_delta", "index": 1, "delta": {"type": "new", "x": 1}})

    assert json.loads(assembly.message() or b"")["content"] == [{"type": member, member: "one two"}]


def test_what_has_an_odd_type_does_no_harm() -> None:
    odd = message({"type": "text", "text": 7}, usage="none", stop_reason=None)
    back = there_and_back({**odd, "content": [*odd["content"], 7, "x"]})

    assert back["content"] == [{"type": "text", "text": ""}]
    assert back["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_a_stream_names_its_events_once_each() -> None:
    assert frames_of(message(BLOCKS["text"])).count(b"event: message_stop\n") == 1


@pytest.mark.parametrize(("stop", "kept"), [("max_tokens", {}), ("end_turn", None)])
def test_the_input_of_a_tool_that_is_no_json_is_kept_only_where_it_was_cut(stop: str, kept: object) -> None:
    assembly = Assembly()
    for event in (
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": BLOCKS["a tool without input"]},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "of no block"}},
        {"type": "message_delta", "delta": {"stop_reason": stop}},
    ):
        assembly.take(event)
    whole = assembly.message()

    assert (json.loads(whole)["content"][0]["input"] if whole else None) == kept
    assert assembly.cut_input is (kept is not None)
