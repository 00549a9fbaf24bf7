"""The Messages API's words: heads, splicing, streams, errors."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.model import Operation, Piece, Reply, Usage
from balancer.wire import messages as wire
from balancer.wire.errors import fault_of, retry_after
from balancer.wire.stream import PING, StreamDecoder
from balancer.wire.whole import MessageDecoder

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"type":"message","content":[],'
    b'"usage":{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
)
TEXT = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text"}}\n\n'
THINK = TEXT.replace(b'"text"', b'"thinking"')
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"an error: message_stop"}}\n\n'
)
STOP = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":5}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
ANSWER = START + TEXT + DELTA * 3 + STOP

BAD_BODIES = {
    "not JSON": (b"nope", "not valid JSON"),
    "nothing": (b"", "not valid JSON"),
    "cut off": (b'{"model":"a","messages":[', "not valid JSON"),
    "an array": (b"[]", "the request body: must be an object"),
    "no model": (b'{"messages":[]}', "model: Field required"),
    "model not a string": (b'{"model":7,"messages":[]}', "model: must be a string"),
    "no messages": (b'{"model":"a"}', "messages: Field required"),
    "messages not a list": (b'{"model":"a","messages":"x"}', "messages: must be an array"),
    "stream not a boolean": (b'{"model":"a","messages":[],"stream":"yes"}', "stream: must be true or false"),
    "deep nesting": (b'{"model":"a","messages":' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize(("body", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_told_in_plain_words(body: bytes, message: str) -> None:
    with pytest.raises(wire.BadRequest, match=message):
        wire.head(body)


HALVES = {
    "the first half": (rb"a\ud83d", rb"a\ufffd"),
    "the second half": (rb"\uDE00b", rb"\ufffdb"),
    "before something else": (rb"\ud83d\n\ud83db", rb"\ufffd\n\ufffdb"),
    "a whole one": (rb"\ud83d\ude00\ude00", rb"\ud83d\ude00\ufffd"),
    "no escape at all": (rb"\\ud83d \\\ud83d", rb"\\ud83d \\\ufffd"),
}


@pytest.mark.parametrize(("said", "carried"), HALVES.values(), ids=HALVES)
def test_halves_of_characters_are_replaced_and_nothing_else(said: bytes, carried: bytes) -> None:
    assert wire.without_lone_surrogates(said) == carried
    assert wire.head(b'{"model":"m","messages":["%b"]}' % said).model == "m"
    assert json.loads(b'"%b"' % carried).encode()


def test_the_head_is_read_and_the_rest_is_left_alone() -> None:
    head = wire.head(
        b'{"model":"m","stream":true,"max_tokens":12,"messages":[{"role":"system","content":"x"}],'
        b'"metadata":{"user_id":"u"},"safeguards":{"a":[1]}}'
    )

    assert (head.model, head.stream, head.token_limit, head.user_id) == ("m", True, 12, "u")


@pytest.mark.parametrize("metadata", [b"7", b'{"user_id":7}', b"null", b"[]"])
def test_strange_metadata_is_no_reason_to_refuse(metadata: bytes) -> None:
    assert wire.head(b'{"model":"m","messages":[],"metadata":%b}' % metadata).user_id is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.just('say "model": "x"'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "a", 'b"model']), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.lists(st.tuples(st.sampled_from(["x", "tools", "model"]), json_values), max_size=4),
    st.text(max_size=6),
    st.booleans(),
)
def test_splicing_changes_the_model_and_nothing_else(fields: list[tuple[str, object]], name: str, first: bool) -> None:
    members = [(key, value) for key, value in fields if key != "model"]
    members.insert(0 if first else len(members), ("model", "old"))
    body = ("{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in members) + "}").encode()

    spliced = json.loads(b"".join(wire.spliced(body, name)))

    assert spliced == {**json.loads(body), "model": name}


def test_every_top_level_model_is_spliced_and_none_below() -> None:
    body = b'{"tools":[{"model":"b"}], "model":"a", "messages":[], "model" : "c"}'

    assert b"".join(wire.spliced(body, "z")) == b'{"tools":[{"model":"b"}], "model":"z", "messages":[], "model" : "z"}'


def test_an_escaped_key_is_found() -> None:
    assert msgspec.json.decode(b"".join(wire.spliced(b'{"\\u006dodel":"a","messages":[]}', "z")))["model"] == "z"


def run(*chunks: bytes, end: bool = True) -> tuple[list[Piece], StreamDecoder]:
    decoder = StreamDecoder()
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    return pieces + (decoder.end() if end else []), decoder


@given(st.lists(st.integers(0, len(ANSWER)), max_size=30))
def test_a_stream_cut_anywhere_comes_out_byte_for_byte(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(ANSWER)]
    pieces, decoder = run(*(ANSWER[a:b] for a, b in pairwise(places)))

    assert b"".join(piece.data for piece in pieces) == ANSWER
    assert decoder.complete
    assert not any(piece.error for piece in pieces)


@pytest.mark.parametrize("breaks", [b"\n", b"\n\n", b"\n\n\n"])
def test_blank_lines_more_than_it_takes_change_nothing(breaks: bytes) -> None:
    """Wherever a read ends; one of them alone once kept the decoder from ever coming back."""
    delta, end = DELTA + breaks, STOP + breaks

    for chunks in ([START, delta, end], [START + breaks, delta * 2 + end], [START + delta + end], [breaks, START, end]):
        pieces, decoder = run(*chunks)

        assert b"".join(piece.data for piece in pieces) == b"".join(chunks)[: -len(breaks)]
        assert decoder.complete


def test_usage_is_collected() -> None:
    usage = Usage()
    for piece in run(ANSWER)[0]:
        usage = usage.merged(piece.usage)

    assert usage == Usage(7, 5, 3, None)


SUBSTANCE = {
    "an empty text block says nothing": (START + TEXT, False),
    "a ping says nothing": (PING * 3, False),
    "a delta is substance": (START + TEXT + DELTA, True),
    "a thinking block is substance": (START + THINK, True),
}


@pytest.mark.parametrize(("data", "expected"), SUBSTANCE.values(), ids=SUBSTANCE)
def test_substance(data: bytes, expected: bool) -> None:
    assert any(piece.has_content for piece in run(data, end=False)[0]) is expected


ERRORS = {
    "an error before content": (START + OVERLOADED, 529, "overloaded_error"),
    "an error after content": (START + TEXT + DELTA + OVERLOADED, 529, "overloaded_error"),
    "an error without its event line": (START + OVERLOADED.partition(b"\n")[2], 529, "overloaded_error"),
    "an error of an unknown type": (b'event: error\ndata: {"type":"error","error":{"type":"odd"}}\n\n', 500, "odd"),
    "an error that is no JSON": (b"event: error\ndata: oops\n\n", 500, "api_error"),
    "a cut after content": (START + TEXT + DELTA, 502, "api_error"),
    "a cut after the stop reason": (ANSWER.partition(b"event: message_stop")[0], 502, "api_error"),
    "an empty body": (b"", 502, "api_error"),
    "an HTML page": (b"<html>\n\n<p>sorry</p>\n\n", 502, "api_error"),
    "JSON": (b'{"type":"message"}', 502, "api_error"),
    "a broken event": (START + b"event: x\ndata: {\n\n", 502, "api_error"),
    "a broken event in the flow": (START + TEXT + DELTA + b'data: {"type":"content_bl\n\n', 502, "api_error"),
    "two messages in one stream": (START + TEXT + DELTA + START, 502, "api_error"),
    "an end without a start": (STOP, 502, "api_error"),
}


@pytest.mark.parametrize(("data", "status", "kind"), ERRORS.values(), ids=ERRORS)
def test_what_is_no_answer_is_a_fault(data: bytes, status: int, kind: str) -> None:
    pieces, decoder = run(data)
    faults = [piece.error for piece in pieces if piece.error]

    assert [(fault.status, fault.kind) for fault in faults] == [(status, kind)]
    assert not decoder.complete


@pytest.mark.parametrize("before", [START, START + TEXT])
@pytest.mark.parametrize("more", [b"", DELTA * 3, DELTA * 400])
def test_first_content_that_is_no_json_has_no_substance(before: bytes, more: bytes) -> None:
    pieces, _ = run(before + DELTA.replace(b'"delta":', b"oops") + more, end=False)

    assert [piece.has_content for piece in pieces if piece.error is None] == [False]
    assert pieces[-1].error is not None, "so somebody else can answer"


def test_what_follows_the_end_is_ignored() -> None:
    pieces, decoder = run(ANSWER, OVERLOADED)

    assert decoder.complete
    assert not any(piece.error for piece in pieces)


def whole(operation: Operation, body: bytes) -> Piece:
    decoder = MessageDecoder(operation)
    (piece,) = decoder.feed(body) + decoder.end()
    return piece


def test_a_message_goes_on_as_it_came() -> None:
    body = b'{"type": "message", "content": [], "new": {"x": 1}, "usage": {"input_tokens": 2, "output_tokens": 3}}'

    piece = whole(Operation.MESSAGES, body)

    assert (piece.data, piece.has_content, piece.error) == (body, True, None)
    assert piece.usage == Usage(2, 3)


NOT_MESSAGES = [
    b"",
    b"<html>",
    b"[]",
    b'{"type":"completion","content":[]}',
    b'{"type":"message"}',
    b'{"type":"message","content":',
]


@pytest.mark.parametrize("body", NOT_MESSAGES)
def test_what_is_not_a_message_is_a_fault(body: bytes) -> None:
    fault = whole(Operation.MESSAGES, body).error

    assert fault is not None
    assert fault.status == 502


def test_an_error_inside_a_200_is_that_error() -> None:
    fault = whole(Operation.MESSAGES, b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}').error

    assert fault is not None
    assert (fault.status, fault.kind, fault.message) == (529, "overloaded_error", "no")


WALL = 1_800_000_000.0
RETRY_AFTERS = {
    "seconds": ([(b"retry-after", b"17")], 17.0),
    "milliseconds win": ([(b"retry-after", b"17"), (b"retry-after-ms", b"1500")], 1.5),
    "a date": ([(b"retry-after", b"Fri, 15 Jan 2027 08:00:30 GMT")], 30.0),
    "a date that has passed": ([(b"retry-after", b"Fri, 15 Jan 2021 08:00:30 GMT")], 0.0),
    "a limit that is used up": (
        [
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2027-01-15T08:01:00Z"),
        ],
        60.0,
    ),
    "a limit that is not used up": (
        [
            (b"anthropic-ratelimit-tokens-remaining", b"9"),
            (b"anthropic-ratelimit-tokens-reset", b"2027-01-15T08:01:00Z"),
        ],
        None,
    ),
    "garbage": ([(b"retry-after", b"soon")], None),
    "nothing": ([], None),
}


RESETS = {
    "a date": ([(b"anthropic-ratelimit-requests-reset", b"2027-01-15T08:01:00Z")], 60.0),
    "seconds since the epoch": ([(b"anthropic-ratelimit-unified-reset", b"1800000090")], 90.0),
    "a limit that was not met": (
        [
            (b"anthropic-ratelimit-unified-status", b"rejected"),
            (b"anthropic-ratelimit-unified-reset", b"1800000090"),
            (b"anthropic-ratelimit-unified-7d-status", b"allowed"),
            (b"anthropic-ratelimit-unified-7d-reset", b"1800400000"),
        ],
        90.0,
    ),
}


@pytest.mark.parametrize(("headers", "seconds"), RESETS.values(), ids=RESETS)
def test_a_429_rests_until_the_limit_is_reset_even_where_it_does_not_say_what_remains(
    headers: list[tuple[bytes, bytes]], seconds: float
) -> None:
    assert fault_of(Reply(429, tuple(headers)), WALL).retry_after_s == seconds


@pytest.mark.parametrize(("headers", "seconds"), RETRY_AFTERS.values(), ids=RETRY_AFTERS)
def test_retry_after(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after(tuple(headers), WALL) == seconds


def test_a_refusal_keeps_its_own_words_for_the_client() -> None:
    body = b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"}}'
    headers = ((b"request-id", b"r1"), (b"set-cookie", b"x"), (b"server", b"y"), (b"anthropic-organization-id", b"o"))

    fault = fault_of(Reply(400, headers, body), WALL)

    assert fault.message == "prompt is too long"
    assert fault.reply == Reply(400, (headers[0], headers[3]), body)


def test_errors_in_other_shapes_are_understood() -> None:
    assert fault_of(Reply(429, (), b'{"error":"slow down"}'), WALL).kind == "rate_limit_error"
    assert fault_of(Reply(502, (), b"<html>bad gateway</html>"), WALL).message == "an HTML page"
    assert fault_of(Reply(529, ((b"x-should-retry", b"false"),), b""), WALL).should_retry is False
