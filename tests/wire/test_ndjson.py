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


def test_a_line_without_end_is_refused() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"12345\n123456789")

    with pytest.raises(LineTooLong):
        splitter.feed(b"0123")
