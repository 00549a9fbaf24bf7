"""Whole answers: handed on as they came, only if they are what was asked for; a stream becomes a message."""

from __future__ import annotations

import json
import re

import pytest
from frames import ANSWER, DELTA, OVERLOADED, START, TEXT

from balancer.model import Operation, Piece, Usage
from balancer.wire.answer import MessageDecoder
from balancer.wire.whole import MAX_ANSWER_BYTES, READERS


def read(operation: Operation, *data: bytes, max_bytes: int = MAX_ANSWER_BYTES) -> tuple[list[Piece], MessageDecoder]:
    decoder = MessageDecoder(operation, max_bytes)
    pieces = [piece for part in data for piece in decoder.feed(part)]
    return pieces + decoder.end(), decoder


SOUND = {
    Operation.MESSAGES: b'{"type": "message", "content": [], "new": {"x": 1}}',
    Operation.COUNT_TOKENS: b'{"input_tokens": 0}',
    Operation.MODELS: b'{"data": [], "new": 1}',
}


@pytest.mark.parametrize("operation", READERS)
def test_a_sound_answer_goes_on_as_it_came(operation: Operation) -> None:
    body = SOUND[operation]
    pieces, decoder = read(operation, body[:3], body[3:])

    assert pieces == [Piece(body, has_content=True)]
    assert decoder.complete


def test_every_operation_has_a_reader() -> None:
    assert set(READERS) == {Operation.MESSAGES, Operation.COUNT_TOKENS, Operation.MODELS}  # others pass through


UNSOUND = {
    "nothing": (Operation.MESSAGES, b"", "nothing where a message was expected"),
    "a page": (Operation.MESSAGES, b"<html>", "an HTML page where a message was expected"),
    "a list": (Operation.MESSAGES, b"[]", "JSON where a message was expected"),
    "words": (Operation.MESSAGES, b"hello", "text where a message was expected"),
    "a message that was cut": (
        Operation.MESSAGES, b'{"type":"message","content":', "JSON where a message was expected",
    ),
    "too deep": (Operation.MESSAGES, b'{"content":' + b"[" * 100_000, "JSON where a message was expected"),
    "another type": (Operation.MESSAGES, b'{"type":"completion","content":[]}', "JSON that is not a message"),
    "no type": (Operation.MESSAGES, b'{"content":[]}', "JSON that is not a message"),
    "a message without content": (Operation.MESSAGES, b'{"type":"message"}', "JSON that is not a message"),
    "a count of nothing": (Operation.COUNT_TOKENS, b"{}", "JSON where a token count was expected"),
    "a count in words": (Operation.COUNT_TOKENS, b'{"input_tokens":"many"}', "JSON where a token count was expected"),
    "a negative count": (Operation.COUNT_TOKENS, b'{"input_tokens":-1}', "a negative token count"),
    "no list": (Operation.MODELS, b'{"data":{}}', "JSON where a list of models was expected"),
    "bytes that are not UTF-8": (
        Operation.MESSAGES, b'{"type":"message\xff","content":[]}', "JSON that is not UTF-8 where a message was expected",
    ),
    "content that is not UTF-8": (
        Operation.MESSAGES, b'{"type":"message","content":["\xff"]}',
        "JSON that is not UTF-8 where a message was expected",
    ),
    "a count that is not UTF-8": (
        Operation.COUNT_TOKENS, b'{"input_tokens":"\xff"}', "JSON that is not UTF-8 where a token count was expected",
    ),
    "a list that is not UTF-8": (
        Operation.MODELS, b'{"data":["\xff"]}', "JSON that is not UTF-8 where a list of models was expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "body", "words"), UNSOUND.values(), ids=UNSOUND)
def test_what_is_not_the_answer_is_a_fault(operation: Operation, body: bytes, words: str) -> None:
    pieces, decoder = read(operation, body)

    assert [(piece.data, piece.has_content) for piece in pieces] == [(b"", False)]
    assert [(piece.error.status, piece.error.kind, piece.error.message) for piece in pieces if piece.error] == [
        (502, "api_error", words)
    ]
    assert not decoder.complete
    assert decoder.end() == [], "it is told once"


def test_an_error_inside_a_200_is_that_error() -> None:
    for body in (
        b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}',
        b'{"error":{"type":"overloaded_error","message":"no"}}',
    ):
        ((piece,), _) = read(Operation.MESSAGES, body)

        assert piece.error is not None
        assert (piece.error.status, piece.error.kind, piece.error.message) == (529, "overloaded_error", "no")


def test_an_answer_that_is_too_large_is_told_at_once_and_once() -> None:
    body = SOUND[Operation.MESSAGES]
    assert read(Operation.MESSAGES, body, max_bytes=len(body))[1].complete

    pieces, decoder = read(Operation.MESSAGES, body, b" ", b" ", max_bytes=len(body))
    assert [piece.error.message for piece in pieces if piece.error] == [f"an answer of more than {len(body)} bytes"]
    assert not decoder.complete


def test_usage_is_read() -> None:
    body = (
        b'{"type":"message","content":[],"usage":{"input_tokens":2,"output_tokens":3,"cache_read_input_tokens":4,'
        b'"cache_creation_input_tokens":5}}'
    )
    ((piece,), _) = read(Operation.MESSAGES, body)

    assert piece.usage == Usage(2, 3, 4, 5)


LENIENT = {
    "floats": (b'{"input_tokens":5.0,"output_tokens":3.5}', Usage(5, 3)),
    "strings": (b'{"input_tokens":"5","output_tokens":"3.0"}', Usage(5, 3)),
    "nothing that counts": (b'{"input_tokens":true,"output_tokens":-3,"cache_read_input_tokens":[1]}', Usage()),
    "absurd numbers": (b'{"input_tokens":9223372036854775807,"output_tokens":1e999}', Usage()),
    "usage in words": (b'"none"', None),
    "null": (b"null", None),
}


@pytest.mark.parametrize(("written", "usage"), LENIENT.values(), ids=LENIENT)
def test_what_is_only_counted_is_read_leniently(written: bytes, usage: Usage | None) -> None:
    body = b'{"type":"message","content":[],"error":7,"id":{},"usage":' + written + b"}"
    ((piece,), decoder) = read(Operation.MESSAGES, body)

    assert decoder.complete
    assert (piece.data, piece.usage) == (body, usage)


def test_half_a_pair_of_surrogates_is_no_reason_to_refuse_a_message() -> None:
    body = b'{"type":"message","content":[{"type":"text","text":"\\ud83d"}]}'

    assert read(Operation.MESSAGES, body)[1].complete


@pytest.mark.parametrize("written", [b"42.0", b'"42"', b" 42"])
def test_a_count_is_given_as_a_client_reads_it(written: bytes) -> None:
    ((piece,), _) = read(Operation.COUNT_TOKENS, b'{"input_tokens":' + written + b"}")

    assert json.loads(piece.data) == {"input_tokens": 42}
    assert b"." not in piece.data
    assert b'"42"' not in piece.data


@pytest.mark.parametrize("operation", READERS)
def test_an_error_in_another_shape_is_understood(operation: Operation) -> None:
    ((piece,), _) = read(operation, b'{"object":"error","message":"slow down","code":429}')

    assert piece.error is not None
    assert (piece.error.status, piece.error.kind, piece.error.message) == (429, "rate_limit_error", "slow down")


# A stream in the place of a message


@pytest.mark.parametrize("before", [b"", b": hello\n\n", b"\n", b"\xef\xbb\xbf", b"id: 1\n"])
@pytest.mark.parametrize("unnamed", [False, True])
def test_a_stream_becomes_a_message(before: bytes, unnamed: bool) -> None:
    data = before + (re.sub(rb"event: .*\n", b"", ANSWER) if unnamed else ANSWER)
    for chunks in ([data], [data[at : at + 7] for at in range(0, len(data), 7)]):
        pieces, decoder = read(Operation.MESSAGES, *chunks)
        (piece,) = pieces

        assert decoder.complete
        assert piece.usage == Usage(7, 5, 3)
        message = json.loads(piece.data)
        assert message["content"] == [{"type": "text", "text": "an error: message_stop" * 3}]
        assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("end_turn", 5)


def test_a_message_in_an_event_is_a_message() -> None:
    pieces, decoder = read(Operation.MESSAGES, b'data: {"type":"message","content":[{"type":"text","text":"hi"}]}\n\n')

    assert decoder.complete
    assert json.loads(pieces[0].data)["content"] == [{"type": "text", "text": "hi"}]


def test_a_stream_that_said_why_it_stopped_is_a_message_without_its_last_event() -> None:
    pieces, decoder = read(Operation.MESSAGES, ANSWER.partition(b"event: message_stop")[0] + b"data: [DONE]\n\n")

    assert decoder.complete
    assert json.loads(pieces[0].data)["stop_reason"] == "end_turn"


def test_a_stream_that_is_cut_short_is_no_message() -> None:
    pieces, decoder = read(Operation.MESSAGES, START + TEXT + DELTA)

    assert [piece.error.message for piece in pieces if piece.error] == [
        "the stream ended before the end of its message"
    ]
    assert not decoder.complete


def test_an_error_within_a_stream_is_that_error() -> None:
    pieces, _ = read(Operation.MESSAGES, START + OVERLOADED)

    assert [piece.error.status for piece in pieces if piece.error] == [529]


def test_a_stream_is_held_within_the_limit() -> None:
    pieces, decoder = read(Operation.MESSAGES, START, TEXT + DELTA, DELTA, max_bytes=len(START + TEXT + DELTA))

    assert len([piece.error for piece in pieces if piece.error]) == 1
    assert not decoder.complete


def test_blocks_that_did_not_count_are_counted() -> None:
    ((piece,), _) = read(Operation.MESSAGES, b'{"type":"message","content":[],"input_transformations":[{},{}]}')

    assert piece.usage == Usage(input_transformations=2)
