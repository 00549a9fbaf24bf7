"""A history is cut at a user's words, always at the same place; and how large it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.zed import rotation
from balancer.model import Usage


def text(said: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": said}]}


def call(name: str = "t") -> dict[str, Any]:
    thinking = {"type": "thinking", "thinking": "hm", "signature": name}
    return {"role": "assistant", "content": [thinking, {"type": "tool_use", "id": name, "name": "Read", "input": {}}]}


def result(name: str = "t", *more: dict[str, Any]) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": name, "is_error": False, "content": "r"}
    return {"role": "user", "content": [block, *more]}


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in range(draw(st.integers(1, 8))):
        messages.append(text(f"turn {turn} " + "x" * draw(st.integers(0, 400))))
        for step in range(draw(st.integers(0, 3))):
            messages += [call(f"{turn}.{step}"), result(f"{turn}.{step}")]
        messages.append(text("done", "assistant"))
    return [*messages, text("now")]


@given(histories(), st.integers(1, 5), st.integers(0, 500))
def test_a_cut_never_parts_a_call_from_its_result(messages: list[dict[str, Any]], keep: int, room: int) -> None:
    cut = rotation.cut_for(messages, keep, room)

    assert cut == rotation.cut_for(messages, keep, room)
    kept = rotation.Cut(cut, "", "summary").applied(messages) if cut else messages
    calls = {b["id"] for m in kept for b in m["content"] if b["type"] == "tool_use"}
    results = {b["tool_use_id"] for m in kept for b in m["content"] if b["type"] == "tool_result"}
    assert calls == results
    assert kept[0]["role"] == "user"
    assert kept[-1]["content"][-1] == messages[-1]["content"][-1]


@given(histories(), st.integers(1, 5), st.integers(0, 500))
def test_repeated_rotation_comes_to_an_end(messages: list[dict[str, Any]], keep: int, room: int) -> None:
    cuts = [0]
    while cut := rotation.cut_for(messages, keep, room, cuts[-1]):
        assert cut > cuts[-1]
        cuts.append(cut)

    assert len(cuts) <= len(messages)


def test_a_wandering_cache_marker_is_the_same_history() -> None:
    plain = [text("a"), text("b", "assistant")]
    marked = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        plain[1],
    ]

    assert rotation.prefix_of(plain, 2) == rotation.prefix_of(marked, 2)
    assert rotation.prefix_of(plain, 1) != rotation.prefix_of(plain, 2)


@given(histories(), st.integers(1, 5), st.integers(0, 500))
def test_a_growing_history_is_shortened_in_the_same_way_and_keeps_its_beginning(
    messages: list[dict[str, Any]], keep: int, room: int
) -> None:
    at = rotation.cut_for(messages, keep, room)
    if not at:
        return
    cut = rotation.Cut(at, rotation.prefix_of(messages, at), "summary")
    longer = [*messages, text("so", "assistant"), text("go on")]

    assert rotation.applicable([cut], messages) is rotation.applicable([cut], longer) is cut
    before, after = cut.applied(messages), cut.applied(longer)
    assert after[: len(before)] == before
    turns = [m for m in before if m["role"] == "user" and any(b["type"] == "text" for b in m["content"])]
    assert len(turns) <= max(keep, 1)
    assert rotation.applicable([cut], [text("another"), *messages[1:]]) is None
    assert rotation.applicable([cut], messages[:at]) is None, "the client rewound to before the cut"


def agent(rounds: int) -> list[dict[str, Any]]:
    return [text("the task"), *(m for at in range(rounds) for m in (call(str(at)), result(str(at))))]


@given(st.integers(0, 40), st.integers(0, 2000))
def test_one_long_prompt_is_cut_between_its_rounds(rounds: int, room: int) -> None:
    messages = agent(rounds)
    cut = rotation.cut_for(messages, 4, room)

    assert (cut > 0) is (rounds > 1)
    if cut:
        kept = rotation.Cut(cut, "", "summary").applied(messages)
        assert [b["text"] for b in kept[0]["content"]] == ["summary", "the task"]
        assert [m["role"] for m in kept] == ["user", "assistant"] * (len(kept) // 2) + ["user"]
        calls = {b["id"] for m in kept for b in m["content"] if b["type"] == "tool_use"}
        assert calls == {b["tool_use_id"] for m in kept for b in m["content"] if b["type"] == "tool_result"}


def test_of_a_long_prompt_behind_others_its_own_task_is_kept() -> None:
    messages = [text("before"), text("done", "assistant"), *agent(30)]
    cut = rotation.cut_for(messages, 1, 100)

    assert [b["text"] for b in rotation.Cut(cut, "", "s").applied(messages)[0]["content"]] == ["s", "the task"]


def test_words_beside_a_result_are_no_place_to_cut() -> None:
    messages = [text("a"), call(), result("t", {"type": "text", "text": "stop"}), text("ok", "assistant"), text("b")]

    assert rotation.boundaries(messages) == [4]


def test_of_several_cuts_the_latest_that_fits_counts() -> None:
    messages = [text("a"), text("b", "assistant"), text("c"), text("d", "assistant"), text("e")]
    cuts = [rotation.Cut(at, rotation.prefix_of(messages, at), str(at)) for at in (2, 4)]

    found = rotation.applicable(cuts, messages)
    rewound = rotation.applicable(cuts, messages[:3])

    assert (found, rewound) == (cuts[1], cuts[0])


def test_the_services_count_is_better_than_an_estimate() -> None:
    full = [text("a")]
    metered = rotation.Metered(1, rotation.prefix_of(full, 1), 0, 10, 5000)
    longer = [*full, text("answer" * 100, "assistant"), text("x" * 400)]

    assert rotation.size(full, None, 10, None) == 10 + rotation.weight(full)
    assert rotation.size(longer, None, 10, metered) == 5000 + rotation.weight([text("x" * 400)])
    assert rotation.size(longer, None, 30, metered) == 5020 + rotation.weight([text("x" * 400)])
    rewound = [text("other"), *longer[1:]]
    assert rotation.size(rewound, None, 10, metered) == 10 + rotation.weight(rewound)
    absurd = rotation.Metered(1, metered.prefix, 0, 10, 1)
    assert rotation.size([*full, text("y" * 40_000, "assistant")], None, 10, absurd) > 10_000


def test_all_that_went_in_and_came_out_fills_the_window() -> None:
    assert rotation.total(Usage(1, 2, 4, 8)) == 15
    assert rotation.total(Usage()) == 0


def test_a_transcript_holds_what_was_said_called_and_returned() -> None:
    image = {"type": "image", "source": {}}
    parts = [{"type": "text", "text": "one"}, image]
    answer = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": parts}, image]}

    assert rotation.transcript([text("a"), call(), answer]) == (
        "user text: a\nassistant tool_use: Read {}\nuser tool_result: one\n[image]\nuser image: [an image]"
    )


@pytest.mark.parametrize(("said", "limit"), [("abcdefghij" * 10, 25), ("\u4e2d" * 100, 60), ("a", 1)])
def test_portions_lose_nothing_or_say_how_much(said: str, limit: int) -> None:
    found, lost = rotation.portions(said, limit, 100)
    few, missing = rotation.portions(said, limit, 2)

    assert "".join(found) == said
    assert lost == 0
    assert all(len(part.encode()) <= limit for part in found)
    assert len("".join(few)) + missing == len(said)
    assert said.startswith(few[0])
    assert said.endswith(few[-1])
