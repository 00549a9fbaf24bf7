"""Names and ids; more of them in test_tools."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai.names import Names, plain_id, tool_id


@given(st.text(min_size=1, max_size=200), st.integers(24, 64))
def test_ids_and_names_always_fit(text: str, longest: int) -> None:
    fitted = (tool_id(text, longest), Names(longest).out(text))

    assert all(0 < len(one) <= longest and one.isascii() for one in fitted)
    assert fitted == (tool_id(text, longest), Names(longest).out(text))


def test_what_fits_is_left_alone() -> None:
    assert tool_id("toolu_01", 40) == plain_id("toolu_01") == Names(64).out("toolu_01")


@given(st.text(min_size=1, max_size=200))
def test_ids_of_nine_letters_and_digits(text: str) -> None:
    fitted = tool_id(text, 40, "alnum9")

    assert len(fitted) == 9
    assert fitted.isascii()
    assert fitted.isalnum()
    assert fitted == tool_id(text, 40, "alnum9") == tool_id(fitted, 40, "alnum9")


@given(st.text(min_size=1, max_size=200))
def test_names_of_words(text: str) -> None:
    letter, word = Names(64, "letter").out(text), Names(64, "word").out(text)

    assert letter[0].isalpha() or letter[0] == "_"
    assert word.isascii()
    assert word.isidentifier()


def test_names_that_begin_otherwise_come_back() -> None:
    names = Names(64, "letter")
    told = names.out("3d-render")

    assert told.startswith("t_3d-render_")
    assert names.back == {told: "3d-render"}
    assert Names(64).out("3d-render") == "3d-render"
