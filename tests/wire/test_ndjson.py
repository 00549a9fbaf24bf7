"""Lines are cut at 0x0A and nowhere else, wherever the bytes were cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.wire.ndjson import LineSplitter, LineTooLong

VALUES = st.lists(st.text(st.sampled_from('a\u2028\u2029\u0085\n\r"\\ü😀')), max_size=6)


@given(values=VALUES, cuts=st.lists(st.integers(0, 200), max_size=8), ended=st.booleans())
def test_lines_are_the_same_wherever_bytes_are_cut(values: list[str], cuts: list[int], ended: bool) -> None:
    body = b"\n".join(json.dumps(value, ensure_ascii=False).encode() for value in values) + b"\n" * ended
    splitter = LineSplitter()
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    lines = [got for start, end in itertools.pairwise(edges) for got in splitter.feed(body[start:end])]
    last = splitter.end()

    assert [json.loads(got) for got in [*lines, *([last] if last else [])]] == values


def test_a_line_up_to_the_limit_is_kept_and_no_longer_one() -> None:
    splitter = LineSplitter(10)

    assert splitter.feed(b"12345\n123456789") == [b"12345"]
    assert splitter.feed(b"0") == []
    with pytest.raises(LineTooLong, match="10 bytes"):
        splitter.feed(b"1")


def test_a_line_that_ends_may_be_as_long_as_a_read_and_counts_no_more() -> None:
    splitter = LineSplitter(10)

    assert splitter.feed(b"1" * 20 + b"\n") == [b"1" * 20]
    assert splitter.feed(b"2" * 10) == []
    assert splitter.end() == b"2" * 10
    assert splitter.feed(b"3" * 10) == []


def test_what_is_behind_a_whole_line_is_bounded_too() -> None:
    with pytest.raises(LineTooLong):
        LineSplitter(10).feed(b"1\n" + b"2" * 11)
