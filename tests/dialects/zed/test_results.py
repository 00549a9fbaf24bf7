"""Results that are too large lose their middle, always in the same way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.zed.results import longest, shortened


def result(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}]}]


@given(st.text(min_size=50, max_size=300), st.integers(1, 49))
def test_beginning_and_end_are_kept_and_what_is_left_out_is_counted(text: str, most: int) -> None:
    (message,) = shortened(result(text), most)

    said = message["content"][0]["content"]
    head = int(most * 2 / 3)
    assert said.startswith(text[:head])
    assert said.endswith(text[len(text) - (most - head) :])
    assert f"{len(text) - most} characters of this result were left out" in said


def test_what_is_short_enough_is_the_same_object() -> None:
    messages = [*result("a" * 10), *result([{"type": "text", "text": "b" * 10}, {"type": "image", "source": {}}])]

    assert shortened(messages, None) is messages
    assert [a is b for a, b in zip(shortened(messages, 10), messages, strict=True)] == [True, True]
    assert longest(messages) == 10


def test_only_results_are_shortened_and_images_stay() -> None:
    image = {"type": "image", "source": {}}
    typed = {"role": "user", "content": [{"type": "text", "text": "y" * 100}]}
    (first, second) = shortened([typed, *result([{"type": "text", "text": "x" * 100}, image])], 20)

    assert first is typed
    assert second["content"][0]["content"][1] is image
    assert "80 characters" in second["content"][0]["content"][0]["text"]
    assert longest([typed]) == 0
