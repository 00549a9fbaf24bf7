"""The index of patterns: it finds what a look at every pattern would find, with little work."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.policy.patterns import PatternIndex, compiled, is_pattern


@given(
    st.lists(st.text("ab*?", min_size=1, max_size=6), min_size=1, max_size=12, unique=True), st.text("ab", max_size=8)
)
def test_the_index_finds_what_a_look_at_every_pattern_finds(patterns: list[str], name: str) -> None:
    found = PatternIndex(patterns).first(name)

    spelt = [re.compile(p.replace("*", ".*").replace("?", "."), re.DOTALL) for p in patterns]
    assert found == next((place for place, pattern in enumerate(spelt) if pattern.fullmatch(name)), None)


@pytest.mark.parametrize(
    "form", ["model-{}*", "*-{}", "claude-*-{}", "*model-{}*", "m?del-{}-*", "*a{}b*c"], ids=lambda form: form
)
def test_a_name_is_compared_with_few_of_many_patterns(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = PatternIndex([form.format(f"{number:04}") for number in range(1000)])

    assert index.first(form.format("0999").replace("*", "x").replace("?", "o")) == 999
    assert len(index._compiled) <= 2
    assert index.first("nothing-like-it") is None
    assert len(index._compiled) <= 2


def test_a_long_name_can_not_make_a_pattern_with_many_stars_slow() -> None:
    pattern = compiled("*a" * 20 + "b")

    assert not pattern.fullmatch("a" * 20_000)  # takes years where each star tries every place
    assert pattern.fullmatch("a" * 20_000 + "b")


def test_what_is_a_pattern() -> None:
    assert [is_pattern(text) for text in ("a", "a*", "?", "a[1m]")] == [False, True, True, False]
