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
