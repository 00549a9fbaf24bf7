"""Answers of OpenAI's own API: byte for byte, and read only for content, errors, usage and the end."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from stand_ins import provider, request

from balancer.dialect import Ask, Decoder, Stored, TypedState
from balancer.dialects.openai.passed import decoder
from balancer.model import Candidate, Operation, Piece, Reply

CHAT, RESPONSES = Operation.CHAT_COMPLETIONS, Operation.RESPONSES
HEAD = Reply(200, ((b"x-request-id", b"r"), (b"openai-organization", b"o"), (b"x-ratelimit-limit-tokens", b"9")))


def reading(operation: Operation, *, stream: bool = True, body: bytes = b"{}") -> Decoder:
    asked = request(body, operation=operation, stream=stream)
    return decoder(Ask(asked, Candidate(provider(), "m"), operation, TypedState()), HEAD)


def chunk(**delta: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}).encode()


def finish(index: int = 0) -> bytes:
    return b'data: {"choices": [{"index": %d, "delta": {}, "finish_reason": "stop"}]}\n\n' % index


def event(kind: str, **more: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **more}).encode())


ROLE, HI, DONE = chunk(role="assistant", content=""), chunk(content="hi"), b"data: [DONE]\n\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}\n\n'
CREATED, WORD = event("response.created", response={}), event("response.output_text.delta", delta="hi")
COMPLETED = event("response.completed", response={"usage": {"input_tokens": 9, "output_tokens": 2}})
CHATTED, RESPONDED = ROLE + HI + finish() + USAGE + DONE, CREATED + WORD + COMPLETED


def fed(reader: Decoder, data: bytes, size: int) -> list[Piece]:
    pieces: list[Piece] = []
    for at in range(0, len(data), size):
        pieces += reader.feed(data[at : at + size])
    return pieces if reader.complete else pieces + reader.end()


def faults(pieces: Sequence[Piece]) -> list[str]:
    return [piece.error.message for piece in pieces if piece.error]


@pytest.mark.parametrize("break_", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("operation", "stream"), [(CHAT, CHATTED), (RESPONSES, RESPONDED)])
def test_a_stream_goes_through_as_it_came(operation: Operation, stream: bytes, size: int, break_: bytes) -> None:
    reader, stream = reading(operation), stream.replace(b"\n", break_)

    pieces = fed(reader, stream, size)

    assert reader.complete
    assert faults(pieces) == []
    # Where a read ends within the very last line break, the rest of that is nothing that anybody misses.
    assert b"".join(piece.data for piece in pieces).rstrip(b"\n") == stream.rstrip(b"\n")
    (usage,) = [piece.usage for piece in pieces if piece.usage]
    assert (usage.input_tokens, usage.output_tokens) == (9, 2)
    assert any(piece.has_content for piece in pieces)


def test_headers_that_clients_read_are_kept() -> None:
    assert reading(CHAT).headers == ((b"x-request-id", b"r"), (b"x-ratelimit-limit-tokens", b"9"))


PRELIMINARY = {
    "a role": (CHAT, ROLE),
    "a comment": (CHAT, b": PROCESSING\n\n"),
    "filters": (CHAT, b'data: {"choices": [], "prompt_filter_results": []}\n\n'),
    "created": (RESPONSES, CREATED),
    "a message that begins": (RESPONSES, event("response.output_item.added", item={"type": "message"})),
    "what is not of the API": (RESPONSES, event("keepalive")),
}


@pytest.mark.parametrize(("operation", "data"), PRELIMINARY.values(), ids=PRELIMINARY)
def test_what_is_no_content(operation: Operation, data: bytes) -> None:
    reader = reading(operation)

    assert not any(piece.has_content or piece.error for piece in reader.feed(data))
    assert faults(reader.end()) == ["the stream ended before the end of its answer"]


CONTENT = {
    "text": (CHAT, HI),
    "thinking": (CHAT, chunk(reasoning_content="hm")),
    "a call": (CHAT, chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}])),
    "an end without text": (CHAT, finish()),
    "words": (RESPONSES, WORD),
    "a search": (RESPONSES, event("response.web_search_call.searching")),
    "an item": (RESPONSES, event("response.output_item.done", item={"type": "function_call"})),
}


@pytest.mark.parametrize(("operation", "data"), CONTENT.values(), ids=CONTENT)
def test_what_is_content(operation: Operation, data: bytes) -> None:
    assert any(piece.has_content for piece in reading(operation).feed(data))


BROKEN = {
    "nothing": (CHAT, b"", "nothing where a stream of events was expected"),
    "a web page": (CHAT, b"<html>sign in</html>", "an HTML page where a stream"),
    "an error in JSON": (CHAT, b'{"error": {"message": "down"}}', "down"),
    "a whole answer": (CHAT, b'{"choices": [{"message": {}}]}', "JSON where a stream"),
    "no JSON": (CHAT, b"data: {no\n\n", "not valid JSON"),
    "only the mark of the end": (CHAT, ROLE + DONE, "nothing in it"),
    "an error": (CHAT, b'data: {"error": {"message": "down"}}\n\n', "down"),
    "an event of an error": (CHAT, b'event: error\ndata: {"message": "down"}\n\n', "down"),
    "a choice with an error": (CHAT, b'data: {"choices": [{"delta": {}, "error": {"message": "down"}}]}\n\n', "down"),
    "an end in an error": (CHAT, b'data: {"choices": [{"delta": {}, "finish_reason": "error"}]}\n\n', "with an error"),
    "no end": (CHAT, ROLE + HI, "before the end"),
    "no event": (RESPONSES, b"data: {no\n\n", "not valid JSON"),
    "an error event": (RESPONSES, event("error", message="down", code="x"), "down"),
    "a failure": (RESPONSES, event("response.failed", response={"error": {"message": "down"}}), "down"),
    "no end of a response": (RESPONSES, CREATED + WORD, "before the end"),
}


@pytest.mark.parametrize(("operation", "data", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_answer(operation: Operation, data: bytes, words: str) -> None:
    reader = reading(operation)

    (told,) = faults(fed(reader, data, 100_000))

    assert words in told
    assert not reader.complete


def test_a_failure_behind_content_is_told_by_the_servers_own_event() -> None:
    reader, failed = reading(RESPONSES), event("response.failed", response={"error": {"message": "down"}})

    *before, last = reader.feed(CREATED + WORD + failed)

    assert b"".join(piece.data for piece in before) == CREATED + WORD
    assert last.error is not None
    assert last.error.reply is not None
    assert last.error.reply.body == failed


def test_what_only_looks_like_an_end_is_content() -> None:
    reader = reading(CHAT)
    reader.feed(ROLE + HI)
    odd = chunk(content='data: [DONE]\n\n "usage": {"prompt_tokens": 7} "finish_reason": "stop", "error": 1')

    (piece,) = reader.feed(odd)

    assert (piece.data, piece.usage, piece.error, reader.complete) == (odd, None, None, False)


def test_an_end_without_its_mark_counts_once_every_choice_has_ended() -> None:
    one, two = reading(CHAT), reading(CHAT, body=b'{"n": 2}')

    assert faults(fed(one, ROLE + HI + finish(), 100_000)) == []
    assert one.complete
    assert faults(fed(two, ROLE + HI + finish(), 100_000)) == ["the stream ended before the end of its answer"]
    assert not two.ending


def test_no_end_counts_while_another_choice_goes_on() -> None:
    reader = reading(CHAT)
    second = HI.replace(b'"index": 0', b'"index": 1')

    assert faults(fed(reader, ROLE + second + finish(), 100_000)) == ["the stream ended before the end of its answer"]


def test_a_failure_before_content_is_told_in_the_balancers_words() -> None:
    (last,) = reading(RESPONSES).feed(event("response.failed", response={"error": {"message": "down"}}))

    assert last.error is not None
    assert last.error.reply is None


@pytest.mark.parametrize("stream", [True, False])
def test_what_was_stored_is_told(stream: bool) -> None:
    asked = Ask(request(b"{}", operation=RESPONSES, stream=stream), Candidate(provider(), "m"), RESPONSES, TypedState())
    body = event("response.completed", response={"id": "resp_1"}) if stream else b'{"id": "resp_1", "output": []}'

    fed(decoder(asked, HEAD), body, 100_000)

    assert asked.attempt_state.get(Stored) == Stored("resp_1")


def test_an_end_that_lacks_its_blank_line_is_one() -> None:
    reader = reading(CHAT)

    assert faults(fed(reader, CHATTED[:-2], 100_000)) == []
    assert reader.complete


WHOLE = {
    "a completion": (CHAT, b'{"choices": [{"message": {}}], "usage": {"prompt_tokens": 9}}', None),
    "an error": (CHAT, b'{"error": {"message": "down"}}', "down"),
    "no choices": (CHAT, b'{"choices": []}', "without choices"),
    "a web page": (CHAT, b"<html>", "an HTML page where a completion"),
    "a response": (RESPONSES, b'{"object": "response", "output": [], "usage": {"input_tokens": 9}}', None),
    "a failed one": (RESPONSES, b'{"status": "failed", "output": [], "error": {"message": "down"}}', "down"),
    "no response": (RESPONSES, b"{}", "not a response"),
    "text": (RESPONSES, b"hello", "text where a response"),
}


@pytest.mark.parametrize(("operation", "body", "words"), WHOLE.values(), ids=WHOLE)
def test_whole_answers(operation: Operation, body: bytes, words: str | None) -> None:
    reader = reading(operation, stream=False)

    pieces = fed(reader, body, 5)

    assert reader.complete is (words is None)
    if words is None:
        assert [(piece.data, piece.has_content) for piece in pieces] == [(body, True)]
        assert pieces[0].usage is not None
        assert pieces[0].usage.input_tokens == 9
    else:
        assert words in faults(pieces)[0]
