"""Server-sent events: whole frames, whatever the cuts and line endings."""

from __future__ import annotations

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


def test_a_frame_that_never_ends_is_refused() -> None:
    splitter = sse.FrameSplitter(max_frame_bytes=100)

    assert splitter.feed(b"data: " + b"a" * 90) == []

    with pytest.raises(sse.FrameTooLong):
        splitter.feed(b"data: aaaa")


def test_several_data_lines_are_one_value() -> None:
    assert sse.fields(b"event:x\ndata: a\ndata:b\nid: 3\n: comment\n\n") == (b"x", b"a\nb")


def test_whole_frames_pass_as_the_same_object() -> None:
    data = b"data: 1\n\ndata: 2\n\n"

    assert sse.FrameSplitter().block(data) is data
