"""One response, from bytes: where it ends, what is refused, and what may come before it, without a socket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.headers import Headers
from balancer.script import Cause
from balancer.transport.framing import FramedResponse, HeaderFields, State
from balancer.transport.limits import LIMITS, Limits

HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + b"content-length: 5\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def fed(*reads: bytes, limits: Limits = LIMITS) -> FramedResponse:
    response = FramedResponse(HeaderFields(), limits)
    for data in filter(None, reads):  # a socket never says nothing
        response.feed(data)
    return response


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@dataclass
class Seen:
    """What can be seen of a response."""

    state: State
    status: int
    headers: Headers
    names: tuple[bytes, ...]
    body: bytes
    reusable: bool


def seen(response: FramedResponse) -> Seen:
    body = b"".join(response.pieces)
    return Seen(response.state, response.status, response.headers, response.names, body, response.reusable)


WHOLE = {
    "by length": (LENGTH + b"hello", b"hello", True),
    "by length, nothing": (HEAD + b"content-length: 0\r\n\r\n", b"", True),
    "by chunks": (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"hello", True),
    "by chunks, in capitals": (
        HEAD + b"Transfer-Encoding:  Chunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello", True,
    ),
    "by chunks, with trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n", b"hello", True),
    "of a status without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", b"", True),
    "after interim ones": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + LENGTH + b"hello", b"hello", True,
    ),
    "that says close": (HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    "of HTTP/1.0, kept": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", b"hello", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["in one read", "byte by byte"])
@pytest.mark.parametrize(("data", "body", "reusable"), WHOLE.values(), ids=WHOLE)
def test_a_whole_response(data: bytes, body: bytes, reusable: bool, cut: object) -> None:
    response = fed(*cut(data))  # type: ignore[operator]

    assert (response.state, b"".join(response.pieces), response.reusable) == (State.COMPLETE, body, reusable)
    assert response.headed
    for end in (None, ConnectionResetError()):  # too late to matter
        response.cut(end)
        assert response.state is State.COMPLETE


@pytest.mark.parametrize("status", [200, 404, 500, 599])
def test_a_response_without_length_and_chunks_ends_with_the_connection_and_with_nothing_else(status: int) -> None:
    response = fed(b"HTTP/1.1 %d X\r\n\r\nhel" % status, b"lo")
    assert (response.state, b"".join(response.pieces)) == (State.BODY, b"hello")

    response.cut(None)

    assert (response.state, response.reusable) == (State.COMPLETE, False)


# Each is sound but for what its name says, and has a sound end: only that can be what is objected to

REFUSED = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9\r\n\r\n", Cause.PROTOCOL, "HttpParserInvalidStatusError"),
    "a header without a colon": (HEAD + b"oops\r\ncontent-length: 0\r\n\r\n", Cause.PROTOCOL, "HttpParserError"),
    "two lengths": (
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", Cause.PROTOCOL, "HttpParserError",
    ),
    "a length that is none": (HEAD + b"content-length: 5x\r\n\r\nhello", Cause.PROTOCOL, "HttpParserError"),
    "a length and chunks": (
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Cause.PROTOCOL, "HttpParserError",
    ),
    "chunks and a length": (
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Cause.PROTOCOL, "HttpParserError",
    ),
    "an odd transfer-encoding": (
        HEAD + b"transfer-encoding: gzip\r\n\r\n", Cause.PROTOCOL, "a transfer-encoding that is not just chunked",
    ),
    "chunks of something": (
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Cause.PROTOCOL, "a transfer-encoding that is not just chunked",
    ),
    "chunks twice": (
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Cause.PROTOCOL, "a transfer-encoding that is not just chunked",
    ),
    "a chunk size that is none": (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", Cause.PROTOCOL, "HttpParserError"),
    "a chunk longer than its size": (CHUNKED + b"2\r\nhello\r\n0\r\n\r\n", Cause.PROTOCOL, "HttpParserError"),
    "an upgrade": (
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Cause.PROTOCOL,
        "an interim response 101 too many",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "cause", "detail"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_trusted_is_refused(data: bytes, cause: Cause, detail: str) -> None:
    for reads in ([data], bytewise(data)):
        response = fed(*reads)

        assert response.state is State.BROKEN
        assert not response.reusable
        error = response.error()
        assert (error.cause, error.sent) == (cause, True)
        if not detail.startswith("HttpParser"):
            assert error.detail == detail
        assert error.headed is response.headed


def fields(count: int) -> bytes:
    return b"".join(b"x-%d: y\r\n" % n for n in range(count))


def test_so_many_fields_of_a_head_are_taken_and_not_one_more() -> None:
    most = LIMITS.fields_max
    end = b"content-length: 0\r\n\r\n"

    assert fed(HEAD + fields(most - 1) + end).state is State.COMPLETE
    for reads in ([HEAD + fields(most) + end], bytewise(HEAD + fields(most) + end)):
        response = fed(*reads)
        assert response.state is State.BROKEN
        assert (response.error().cause, response.error().detail) == (Cause.TOO_LARGE, f"more than {most} header fields")
        assert not response.error().headed


def test_fields_behind_a_body_are_bounded_while_they_are_coming() -> None:
    """The parser hands a field on when the next one begins."""
    most = LIMITS.fields_max

    assert fed(CHUNKED + b"0\r\n" + fields(most + 1)).state is State.BODY
    response = fed(CHUNKED + b"0\r\n" + fields(most + 2))
    assert response.state is State.BROKEN
    assert (response.error().cause, response.error().headed) == (Cause.TOO_LARGE, True)


OURS = {
    "several lengths": ([(b"content-length", b"5"), (b"content-length", b"6")], "several content-lengths"),
    "a length and chunks": (
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        "both content-length and transfer-encoding",
    ),
    "chunks twice": (
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        "a transfer-encoding that is not just chunked",
    ),
    "chunks of something": (
        [(b"transfer-encoding", b"gzip, chunked")],
        "a transfer-encoding that is not just chunked",
    ),
}


@pytest.mark.parametrize(("lines", "detail"), OURS.values(), ids=OURS)
def test_what_the_parser_refuses_as_well_is_not_left_to_it(lines: list[tuple[bytes, bytes]], detail: str) -> None:
    """As if a version of it, or its leniency, let such a head pass."""
    response = fed(HEAD)
    for name, value in lines:
        response.on_header(name, value)
    response.feed(b"\r\n")

    assert response.state is State.BROKEN
    assert (response.error().cause, response.error().detail) == (Cause.PROTOCOL, detail)


def test_a_length_that_is_said_twice_alike_says_one_thing() -> None:
    response = fed(HEAD)
    response.on_header(b"content-length", b"5")
    response.on_header(b"content-length", b"5")
    response.feed(b"\r\n")

    assert response.state is State.BODY


def test_a_head_is_bounded_while_it_is_coming() -> None:
    limits = Limits(head_max_bytes=100)
    begun = HEAD + b"x: " + b"y" * (100 - len(HEAD) - 3)

    assert fed(begun, limits=limits).state is State.HEAD
    response = fed(begun + b"y", limits=limits)
    assert response.state is State.BROKEN
    assert (response.error().cause, response.error().detail) == (Cause.TOO_LARGE, "a head of more than 100 bytes")
    assert not response.error().headed


def test_interim_responses_count_towards_the_size_of_the_head() -> None:
    response = fed(b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 100 C\r\nx: yyyyyyyyyy", limits=Limits(head_max_bytes=40))

    assert response.state is State.BROKEN


def test_so_many_interim_responses_are_taken_and_not_one_more() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"

    assert fed(interim * LIMITS.interim_max + LENGTH + b"hello").state is State.COMPLETE
    response = fed(interim * (LIMITS.interim_max + 1) + LENGTH + b"hello")
    assert (response.state, response.error().cause) == (State.BROKEN, Cause.PROTOCOL)


def test_fields_of_an_interim_response_are_not_those_of_the_real_one() -> None:
    response = fed(b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + HEAD + b"a: b\r\ncontent-length: 0\r\n\r\n")

    assert response.headers == ((b"a", b"b"), (b"content-length", b"0"))


ENDS = {
    "closed before the head": ([], None, Cause.CLOSED),
    "closed in the head": ([b"HTTP/1.1 200 OK\r\ncont"], None, Cause.CLOSED),
    "closed in the body": ([LENGTH, b"he"], None, Cause.CLOSED),
    "closed between chunks": ([CHUNKED, b"2\r\nhe\r\n"], None, Cause.CLOSED),
    "reset before the head": ([], ConnectionResetError(), Cause.RESET),
    "reset in the body": ([LENGTH, b"he"], ConnectionResetError(), Cause.RESET),
    "reset where the body ends by closing": ([HEAD + b"\r\nhe"], ConnectionResetError(), Cause.RESET),
    "another error": ([LENGTH], OSError("odd"), Cause.RESET),
    "TLS that broke": ([LENGTH], ssl.SSLError(1, "x"), Cause.TLS),
    "TLS that broke where the body ends by closing": ([HEAD + b"\r\nhe"], ssl.SSLError(1, "x"), Cause.TLS),
}


@pytest.mark.parametrize(("reads", "end", "cause"), ENDS.values(), ids=ENDS)
def test_too_early_an_end_is_one(reads: list[bytes], end: Exception | None, cause: Cause) -> None:
    response = fed(*reads)
    before = list(response.pieces)

    response.cut(end)

    assert (response.state, response.reusable, response.pieces) == (State.BROKEN, False, before)
    assert (response.error().cause, response.error().headed) == (cause, response.headed)


def test_the_first_reason_is_the_one_that_is_told() -> None:
    response = fed(LENGTH)
    response.fail(Cause.IDLE_TIMEOUT)
    response.cut(None)

    assert response.error().cause is Cause.IDLE_TIMEOUT


FOREIGN = {
    "a second response": LENGTH + b"hello" + LENGTH + b"other",
    "a second one without end": LENGTH + b"hello" + LENGTH,
    "the head of a second one": LENGTH + b"hello" + HEAD,
    "garbage": LENGTH + b"hello" + b"\x00\x01\x02",
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("parted", [False, True], ids=["in one read", "in a later one"])
def test_what_follows_a_response_is_no_part_of_it_and_its_connection_is_not_used_again(
    data: bytes, parted: bool
) -> None:
    whole = len(LENGTH) + 5
    response = fed(data[:whole], data[whole:]) if parted else fed(data)

    assert (response.state, b"".join(response.pieces), response.status) == (State.COMPLETE, b"hello", 200)
    assert not response.reusable


def test_after_its_exchange_a_response_can_not_be_read() -> None:
    for data in (b"", LENGTH, LENGTH + b"he", LENGTH + b"hello"):
        response = fed(data)
        response.discard()

        assert (response.state, response.pieces) == (State.BROKEN, [])
        assert response.error().detail == "its exchange is over"
        response.feed(b"late")
        assert response.pieces == []


def test_what_one_response_had_of_fields_is_not_the_next_ones() -> None:
    scratch = HeaderFields()
    first = FramedResponse(scratch)
    first.feed(CHUNKED + b"0\r\nx-trailer: 1\r\n\r\n")
    first.discard()
    second = FramedResponse(scratch)
    second.feed(LENGTH)

    assert second.headers == ((b"content-length", b"5"),)
    assert first.headers == ((b"transfer-encoding", b"chunked"),)


def test_names_are_known_where_each_is_there_once() -> None:
    assert fed(LENGTH).names == (b"content-length",)
    assert fed(HEAD + b"a: 1\r\nA: 2\r\ncontent-length: 0\r\n\r\n").names == ()


def test_an_encoding_is_told() -> None:
    assert fed(HEAD + b"content-encoding: gzip\r\ncontent-length: 0\r\n\r\n").encoding == b"gzip"
    assert fed(LENGTH).encoding is None


STREAMS = [data for data, *_ in (*WHOLE.values(), *REFUSED.values())] + [*FOREIGN.values()]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 200), max_size=15))
def test_a_response_cut_anywhere_is_the_same(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    cut = fed(*(data[a:b] for a, b in pairwise(places)))
    whole = fed(data)

    if whole.state is State.BROKEN:  # how much of a body came before is a matter of the cuts
        assert (cut.state, cut.error().cause, cut.headers) == (State.BROKEN, whole.error().cause, whole.headers)
    else:
        assert seen(cut) == seen(whole)
