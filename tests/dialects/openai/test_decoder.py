"""Bytes that are no answer are errors; JSON and streams are taken for each other."""

from __future__ import annotations

import json
from typing import Any

import grammar
import pytest
from conversion import DONE, chunk, decoder, fragment, played, sse, written
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder, writer_for
from balancer.dialects.openai.writer import Shell
from balancer.wire.sse import MAX_FRAME_BYTES

COMPLETION = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_json_where_a_stream_was_asked_becomes_one() -> None:
    seen = grammar.read(written(played(decoder(), json.dumps(COMPLETION).encode())))

    assert (seen.text(), seen.stop_reason, seen.usage["input_tokens"]) == ("a", "end_turn", 3)


def test_a_stream_where_json_was_asked_becomes_a_message() -> None:
    message = json.loads(written(played(decoder(stream=False), sse(chunk(content="a"), chunk("stop"), DONE))))

    assert message["content"] == [{"type": "text", "text": "a"}]
    assert message["model"] == "claude"


def test_an_event_at_the_end_needs_no_blank_line() -> None:
    seen = grammar.read(written(played(decoder(), sse(chunk(content="a")) + b"data: [DONE]")))

    assert seen.text() == "a"


def test_comments_other_fields_and_lines_of_data() -> None:
    data = b': ping\n\nid: 1\nevent: x\nretry: 5\ndata:{"choices":[{"index":0,\ndata: "delta":{"content":"a\xe2\x80\xa8b"}}]}\n\n'

    assert grammar.read(written(played(decoder(), data + sse(DONE)))).text() == "a\u2028b"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n \r\n"])
@pytest.mark.parametrize("data", [sse(chunk("stop", content="a"), DONE), json.dumps(COMPLETION).encode()])
def test_what_stands_before_an_answer(before: bytes, data: bytes) -> None:
    assert grammar.read(written(played(decoder(), before + data, [1, 2, 3]))).text() == "a"


def test_nothing_but_the_end_is_left_to_come() -> None:
    to = decoder()
    seen = [to.ending]
    for events in (chunk(content="a"), chunk("stop", {"prompt_tokens": 1})):
        to.feed(sse(events))
        seen.append(to.ending)

    assert (seen, to.complete) == ([False, False, True], False)
    assert to.end()
    assert to.complete


def test_a_response_ends_with_its_own_event_only() -> None:
    to = decoder(responses=True)
    to.feed(b'data: {"type": "response.output_text.delta", "delta": "a"}\n\n')

    assert not to.ending


def test_substance_comes_with_the_first_content() -> None:
    to = decoder()
    first = to.feed(sse(chunk(role="assistant", content="")))
    second = to.feed(sse(chunk(content="a")))

    assert [piece.has_content for piece in first + second] == [False, True]


WELL = sse(chunk(content="a"), chunk("stop"), DONE)
"""A sound answer: behind a fault, only the fault can be what is objected to."""

EXPECTED = "where a stream of events was expected"
ANSWER = "where an answer was expected"
NO_ANSWERS: dict[str, tuple[bytes, int, str, str]] = {
    "nothing": (b"", 502, "api_error", f"nothing {EXPECTED}"),
    "white space": (b" \r\n", 502, "api_error", f"nothing {EXPECTED}"),
    "only the end": (sse(DONE) + WELL, 502, "api_error", "nothing but the end of a stream"),
    "only comments": (b": a\n\n: b\n\n", 502, "api_error", f"nothing {EXPECTED}"),
    "only words": (b"data: hello\n\n", 502, "api_error", f"text {EXPECTED}"),
    "a web page": (b"<html>", 502, "api_error", f"an HTML page {ANSWER}"),
    "truncated JSON": (b'{"choices": [', 502, "api_error", f"JSON {ANSWER}"),
    "a list": (b"[]", 502, "api_error", f"JSON {ANSWER}"),
    "no choices": (b'{"id": "x"}', 502, "api_error", "an answer without choices"),
    "empty choices": (b'{"choices": []}', 502, "api_error", "an answer without choices"),
    "an error": (
        b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}', 429, "rate_limit_error", "slow down",
    ),
    "an error beside an answer": (
        json.dumps({**COMPLETION, "error": {"message": "bad", "code": 400}}).encode(), 400, "invalid_request_error", "bad",
    ),
    "an error of vLLM": (b'{"object": "error", "message": "bad", "code": 400}', 400, "invalid_request_error", "bad"),
    "an error event": (
        b'event: error\ndata: {"message": "at capacity", "type": "overloaded"}\n\n' + WELL,
        529, "overloaded_error", "at capacity",
    ),
    "an error event that is no JSON": (b"event: error\ndata: oops\n\n" + WELL, 500, "api_error", "oops"),
    "an error as words": (sse({"error": "boom"}) + WELL, 500, "api_error", "boom"),
    "an error in a choice": (
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "up"}}]}) + WELL,
        500, "api_error", "up",
    ),
    "an end that is an error": (
        sse(chunk("error")) + WELL, 500, "api_error", "the provider ended its answer with an error",
    ),
    "a type alone": (sse({"type": "error", "message": "slow", "code": None}) + WELL, 500, "api_error", "slow"),
    "a code without choices": (
        sse({"code": "Throttling.rate_limit", "message": "slow"}) + WELL, 429, "rate_limit_error", "slow",
    ),
    "too long": (
        sse({"error": {"message": "This model's maximum context length is 10 tokens"}}) + WELL,
        400, "invalid_request_error", "prompt is too long: This model's maximum context length is 10 tokens",
    ),
    "no quota": (
        sse({"error": {"message": "pay", "code": "insufficient_quota"}}) + WELL, 402, "billing_error", "pay",
    ),
    "a number of thousands of digits": (
        sse({"error": {"message": f"prompt is too long: {'9' * 5000}"}}) + WELL,
        400, "invalid_request_error", f"prompt is too long: {'9' * 5000}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("data", "status", "kind", "words"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_no_answer(data: bytes, status: int, kind: str, words: str, stream: bool) -> None:
    to = decoder(stream=stream)
    pieces = played(to, data)

    assert [(p.error.status, p.error.kind, p.error.message) for p in pieces if p.error] == [(status, kind, words)]
    assert pieces[-1].error is not None, "nothing follows it"
    assert not any(piece.has_content for piece in pieces)
    assert not to.complete
    assert to.feed(WELL) == to.end() == [], "it is told once"


def limited(*, stream: bool, max_bytes: int) -> OpenAIDecoder:
    shell = Shell("claude", "n", 1)
    writer = writer_for(shell, stream=stream)
    composer = Composer(shell, writer, "up", {})
    return OpenAIDecoder(composer, writer, ChatReader(composer), (), max_bytes)


BODY = json.dumps(COMPLETION).encode()


@pytest.mark.parametrize(
    ("data", "stream"), [(BODY, True), (BODY, False), (WELL, False)], ids=["JSON", "JSON to JSON", "a stream to JSON"]
)
def test_what_is_held_is_held_up_to_a_limit_and_no_longer(data: bytes, stream: bool) -> None:
    to = limited(stream=stream, max_bytes=len(data))
    assert not [piece.error for piece in played(to, data, [5]) if piece.error]
    assert to.complete

    to = limited(stream=stream, max_bytes=len(data) - 1)
    pieces = [*to.feed(data[:5]), *to.feed(data[5:]), *to.feed(data), *to.end()]
    assert [piece.error.message for piece in pieces if piece.error] == [f"an answer of more than {len(data) - 1} bytes"]
    assert not to.complete


def test_a_stream_that_is_handed_on_may_be_as_long_as_it_likes() -> None:
    to = limited(stream=True, max_bytes=10)
    assert not [piece.error for piece in played(to, sse(*[chunk(content="a")] * 20) + WELL) if piece.error]
    assert to.complete


def test_an_event_that_never_ends_is_a_fault() -> None:
    to = decoder()
    assert to.feed(b"data: " + b"x" * (MAX_FRAME_BYTES - 6)) == []

    (piece,) = to.feed(b"x")
    assert piece.error is not None
    assert (piece.error.status, piece.error.message) == (502, f"a frame of more than {MAX_FRAME_BYTES} bytes")


EVENTS = st.lists(
    st.sampled_from(
        [
            json.dumps(chunk(content="a")), json.dumps(chunk(role="assistant")), json.dumps(chunk("stop")), DONE,
            json.dumps(fragment(0, '{"a": 1}', id="c", name="Read")), json.dumps(chunk("stop", {"prompt_tokens": 3})),
            json.dumps({"error": {"message": "no"}}), "junk", "", json.dumps({"choices": []}),
        ]
    ),
    max_size=8,
)  # fmt: skip
WRITTEN = {
    "without a space": "data:{}\n\n",
    "with an id": "id: 1\ndata: {}\n\n",
    "with a name": "event: message\ndata: {}\n\n",
    "with other line ends": "data: {}\r\n\r\n",
    "behind a comment": ": hi\ndata: {}\n\n",
}


@given(EVENTS, st.sampled_from(list(WRITTEN)), st.lists(st.integers(0, 600), max_size=8), st.booleans())
def test_the_short_way_to_an_event_reads_what_the_long_one_does(
    events: list[str], how: str, cuts: list[int], stream: bool
) -> None:
    short = "".join(f"data: {event}\n\n" for event in events).encode()
    long = "".join(WRITTEN[how].replace("{}", event) for event in events).encode()
    one, other = decoder(stream=stream), decoder(stream=stream)
    told = [
        (b"".join(piece.data for piece in pieces), [piece.error for piece in pieces if piece.error])
        for pieces in (played(one, short), played(other, long, cuts))
    ]

    assert told[0] == told[1]
    assert one.complete == other.complete


BREAKS: dict[str, tuple[list[Any], int, str]] = {
    "truncated": ([chunk(content="half")], 502, "the stream ended early, before the end of its answer"),
    "an error in the middle": (
        [chunk(content="half"), {"error": {"message": "x", "type": "server_error"}}, chunk("stop"), DONE], 500, "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "status", "words"), BREAKS.values(), ids=BREAKS)
def test_a_broken_stream_has_no_end(events: list[Any], status: int, words: str) -> None:
    pieces = played(decoder(), sse(*events))
    data = b"".join(piece.data for piece in pieces)

    assert [(piece.error.status, piece.error.message) for piece in pieces if piece.error] == [(status, words)]
    assert not grammar.read(data, whole=False).stop_reason
    assert grammar.read(data, whole=False).text() == "half"
    assert b"content_block_stop" not in data


@pytest.mark.parametrize("stream", [True, False])
def test_an_event_that_can_not_be_read_may_have_been_any_part_of_the_answer(stream: bool) -> None:
    cut = b'data: {"choices": [{"delta": {"content": "lo\n\n'
    pieces = played(decoder(stream=stream), sse(chunk(content="a")) + cut + sse(chunk("stop"), DONE))

    assert [piece.error.message for piece in pieces if piece.error] == ["an event that is no valid JSON"]


def test_bytes_that_are_no_utf_8_cost_nothing_but_themselves() -> None:
    data = sse(chunk(content="o@k"), chunk("stop"), DONE).replace(b"@", b"\xff")

    assert b"o\xef\xbf\xbdk" in written(played(decoder(), data))
    whole = b'{"choices": [{"message": {"content": "o\xffk"}, "finish_reason": "stop"}]}'
    assert b"o\xef\xbf\xbdk" in written(played(decoder(stream=False), whole))


def test_an_answer_with_nothing_in_it_is_for_the_next_provider_and_for_the_client_if_there_is_none() -> None:
    for stream, data in ((True, b"message_stop"), (False, b'"content":[]')):
        (fault,) = [one.error for one in played(decoder(stream=stream), sse(chunk("stop"), DONE)) if one.error]

        assert fault.elsewhere
        assert fault.reply is not None
        assert (fault.reply.status, data in fault.reply.body) == (200, True)
