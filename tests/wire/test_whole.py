"""Answers that are read as a whole: within a limit, and only if they are what was asked for."""

from __future__ import annotations

import pytest

from balancer.model import Operation, Piece, Usage
from balancer.wire.whole import MAX_ANSWER_BYTES, READERS, MessageDecoder, Whole


def test_what_is_collected_comes_out_joined() -> None:
    whole = Whole()

    assert [whole.add(part) for part in (b"a", b"", b"bc")] == [None, None, None]
    assert whole.joined() == b"abc"


def test_the_limit_itself_is_taken_and_one_byte_more_is_a_fault() -> None:
    whole = Whole(10)

    assert whole.add(b"x" * 10) is None
    assert whole.joined() == b"x" * 10
    fault = whole.add(b"y")
    assert fault is not None
    assert (fault.status, fault.message) == (502, "an answer of more than 10 bytes")
    assert whole.joined() == b"", "nothing is held that nobody will read"


def test_what_is_held_elsewhere_counts_and_is_not_kept() -> None:
    whole = Whole(10)

    assert whole.count(b"x" * 6) is None
    assert whole.add(b"y" * 4) is None
    assert whole.joined() == b"y" * 4
    assert whole.count(b"z") is not None


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
    "a count in words": (Operation.COUNT_TOKENS, b'{"input_tokens":"1"}', "JSON where a token count was expected"),
    "a negative count": (Operation.COUNT_TOKENS, b'{"input_tokens":-1}', "a negative token count"),
    "no list": (Operation.MODELS, b'{"data":{}}', "JSON where a list of models was expected"),
    "a list of words": (Operation.MODELS, b'{"data":["m"]}', "JSON where a list of models was expected"),
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
