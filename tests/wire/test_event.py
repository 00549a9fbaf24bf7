"""Events of the Messages API: what is read of them, and how they are completed."""

from __future__ import annotations

import pytest

from balancer.wire.event import KINDS, completed, decoded


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"null", b'{"a":NaN}', b'{"type":"\xff"}', b"[" * 100_000])
def test_what_is_no_object_is_no_event(data: bytes) -> None:
    assert decoded(data) is None


@pytest.mark.parametrize("odd", [b"7", b"null", b"[]", b"{}", b"true", b'{"type":7}'])
def test_a_type_that_is_no_string_is_none(odd: bytes) -> None:
    event = decoded(b'{"type":' + odd + b',"content_block":{"type":' + odd + b'},"message":' + odd + b"}")

    assert event is not None
    assert event.type == ""
    assert event.content_block is not None
    assert event.content_block.type == ""


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_type_counts_more_than_the_event_line(kind: str) -> None:
    data = b'{"type":"%b"}' % kind.encode()

    assert completed(b"?", b"message", data, kind) == b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def test_an_event_of_an_unknown_type_keeps_its_event_line() -> None:
    assert completed(b"?", b"mine", b'{"type":"new"}', "new") == b"?"
    assert completed(b"?", b"", b'{"type":"new"}', "new") == b'event: new\ndata: {"type":"new"}\n\n'


def test_a_type_that_is_no_name_is_written_into_no_event_line() -> None:
    assert completed(b"?", b"", b"{}", "a\nevent: error") == b"?"


def test_what_nothing_names_is_left_out() -> None:
    assert completed(b"?", b"", b'{"a":1}', "") == b""
    assert completed(b"?", b"mine", b'{"a":1}', "") == b"?"


def test_lines_of_data_become_one() -> None:
    assert completed(b"?", b"", b'{\n"type":\r"ping"}', "ping") == b'event: ping\ndata: { "type": "ping"}\n\n'
