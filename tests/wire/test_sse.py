"""Server-sent events: whole frames, whatever the cuts and line endings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire import sse

frame_texts = st.builds(
    lambda event, data: [f"event: {event}", f"data: {data}"],
    st.sampled_from(["ping", "content_block_delta"]),
    st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=30),
)


@given(
    st.lists(frame_texts, max_size=6),
    st.lists(st.integers(0, 600), max_size=20),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_cut_gives_the_same_frames(sent: list[list[str]], cuts: list[int], newline: str) -> None:
    data = "".join(newline.join(lines) + newline * 2 for lines in sent).encode()
    places = sorted({min(cut, len(data)) for cut in cuts})
    parts = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    splitter = sse.FrameSplitter()

    got = [frame for part in parts for frame in splitter.feed(part)]

    assert b"".join(got) + splitter.rest == data
    whole = [sse.fields(frame) for frame in got if frame.strip()]
    expected = [sse.fields((newline.join(lines) + newline * 2).encode()) for lines in sent]
    if newline == "\r\n" and not cuts:
        assert whole == expected
    assert [pair for pair in whole if pair != (b"", b"")] == [pair for pair in expected if pair != (b"", b"")]


def test_separators_of_unicode_are_no_line_ends() -> None:
    frame = 'data: {"a":"x\u2028y\u0085z"}\n\n'.encode()

    assert sse.FrameSplitter().feed(frame) == [frame]


@pytest.mark.parametrize("before", [[], [b"data: 1\n\nda"]], ids=["at first", "later"])
def test_a_frame_up_to_the_limit_is_kept_and_no_longer_one(before: list[bytes]) -> None:
    splitter = sse.FrameSplitter(max_frame_bytes=100)
    for part in before:
        splitter.feed(part)
    rest = 100 - len(splitter.kept)

    assert splitter.feed(b"a" * rest) == []
    assert splitter.rest.endswith(b"a" * rest)
    with pytest.raises(sse.FrameTooLong, match="100 bytes"):
        splitter.feed(b"a")


def test_a_frame_that_ends_may_be_as_long_as_a_read() -> None:
    frame = b"data: " + b"a" * 200 + b"\n\n"

    assert sse.FrameSplitter(max_frame_bytes=100).feed(frame) == [frame]


def test_what_is_behind_a_whole_frame_is_bounded_too() -> None:
    with pytest.raises(sse.FrameTooLong):
        sse.FrameSplitter(max_frame_bytes=10).feed(b"data: 1\n\n" + b"a" * 11)
    splitter = sse.FrameSplitter(max_frame_bytes=10)
    splitter.feed(b"data: 1")
    with pytest.raises(sse.FrameTooLong):
        splitter.feed(b"\n\n" + b"a" * 11)


def test_several_data_lines_are_one_value() -> None:
    assert sse.fields(b"event:x\ndata: a\ndata:b\nid: 3\n: comment\n\n") == (b"x", b"a\nb")


def test_whole_frames_pass_as_the_same_object() -> None:
    data = b"data: 1\n\ndata: 2\n\n"

    assert sse.FrameSplitter().block(data) is data


def members(frame: bytes) -> tuple[bytes, bytes]:
    """Read a frame line by line, as the format is written down."""
    event, data = b"", []
    for line in re.split(rb"\r\n|\n|\r", frame):
        name, _, value = line.partition(b":")
        if name == b"event":
            event = value.removeprefix(b" ")
        elif name == b"data":
            data.append(value.removeprefix(b" "))
    return event, b"\n".join(data)


LINES = [
    b"event: ping",
    b"event:x",
    b"event",
    b"data: {}",
    b"data:  two",
    b"data:",
    b"data",
    b"id: 7",
    b": hello",
    b"",
    b"data: a\rb",
]


@given(st.lists(st.sampled_from(LINES), max_size=4), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_the_short_way_to_the_fields_of_a_frame_reads_what_the_long_one_does(
    lines: list[bytes], newline: bytes
) -> None:
    frame = newline.join(lines) + newline * 2

    assert sse.fields(frame) == members(frame)


def test_a_frame_of_ours_is_read_as_it_was_meant() -> None:
    assert sse.fields(sse.frame("ping", b'{"a":1}')) == (b"ping", b'{"a":1}')
