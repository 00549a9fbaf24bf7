"""Thinking within the text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai.think_tags import ThinkTags

TEXTS: dict[str, tuple[str, str]] = {
    "a": ("", "a"),
    "<think>hm</think>a": ("hm", "a"),
    "<think>\nhm\n</think>\n\na": ("\nhm\n", "\n\na"),
    "<think>hm": ("hm", ""),
    "a<think>b</think>c<think>d</think>e": ("bd", "ace"),
    "a < b, <thin, </think>c": ("a < b, <thin, ", "c"),
    "a</think>b<think>c</think>d</think>": ("ac", "bd</think>"),
    "<think>a < b <think> </thin</think>": ("a < b <think> </thin", ""),
    "ends with <thi": ("", "ends with <thi"),
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_however_it_is_cut(text: str, expected: tuple[str, str], cuts: list[int]) -> None:
    tags = ThinkTags()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [part for start, end in pairwise(edges) for part in tags.split(text[start:end])] + tags.rest()

    assert "".join(part.text for part in parts if part.thinking) == expected[0]
    assert "".join(part.text for part in parts if not part.thinking) == expected[1]


def test_what_can_be_no_tag_is_not_held() -> None:
    tags = ThinkTags()
    tags.split("<think>")

    assert [part.text for part in tags.split("so <b")] == ["so <b"]
