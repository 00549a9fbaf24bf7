"""Which tool call a fragment belongs to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conversion import DONE, chunk, decoder, fragment, played, sse, written

A, B = '{"a": 1}', '{"b": 2}'


def calls_of(*events: Any) -> list[tuple[str, str, dict[str, Any]]]:
    message = json.loads(written(played(decoder(stream=False), sse(*events, DONE))))
    assert message["stop_reason"] == "tool_use"
    return [(b["id"], b["name"], b["input"]) for b in message["content"] if b["type"] == "tool_use"]


def part(index: int | None, arguments: str, **more: Any) -> dict[str, Any]:
    return fragment(index, arguments, **more)


STREAMS: dict[str, tuple[list[Any], list[tuple[str, str, dict[str, Any]]]]] = {
    "arguments after the finish": (
        [part(0, "", id="c", name="R", finish="tool_calls"), part(0, A), chunk("tool_calls", {"prompt_tokens": 1})],
        [("c", "R", {"a": 1})],
    ),
    "arguments after the finish and the usage": (
        [part(0, "", id="c", name="R", finish="stop"), chunk(usage={"prompt_tokens": 1}), part(0, A)],
        [("c", "R", {"a": 1})],
    ),
    "a call after the finish": (
        [part(0, A, id="c", name="R", finish="stop"), part(1, B, id="d", name="W")],
        [("c", "R", {"a": 1}), ("d", "W", {"b": 2})],
    ),
    "the index moves, the id stays": (
        [part(0, A[:4], id="c", name="R"), part(1, A[4:], id="c")],
        [("c", "R", {"a": 1})],
    ),
    "the index moves, the id and the name stay": (
        [part(0, A[:4], id="c", name="R"), part(1, A[4:6], id="c", name="R"), part(2, A[6:], id="c", name="R")],
        [("c", "R", {"a": 1})],
    ),
    "the index moves, without id and name": (
        [part(0, A[:4], id="c", name="R"), part(1, A[4:])],
        [("c", "R", {"a": 1})],
    ),
    "the id moves, without index and name": (
        [part(None, A[:4], id="c", name="R"), part(None, A[4:], id="x")],
        [("c", "R", {"a": 1})],
    ),
    "the index stays, the ids alternate": (
        [
            part(0, A[:4], id="c", name="R"),
            part(0, B[:4], id="d", name="W"),
            part(0, A[4:], id="c"),
            part(0, B[4:], id="d"),
        ],
        [("c", "R", {"a": 1}), ("d", "W", {"b": 2})],
    ),
    "whole once more, without an id": (
        [part(0, A, name="R"), part(0, A, name="R")],
        [("", "R", {"a": 1})],
    ),
    "whole once more, with everything": (
        [part(0, A, id="c", name="R"), part(0, A, id="c", name="R")],
        [("c", "R", {"a": 1})],
    ),
    "an empty object first": (
        [part(0, "{}", id="c", name="R"), part(0, A[:3]), part(0, A[3:])],
        [("c", "R", {"a": 1})],
    ),
    "an empty object first, then text, then the real ones": (
        [part(0, "{}", id="c", name="R"), chunk(content="so"), part(0, A)],
        [("c", "R", {"a": 1})],
    ),
    "the name of the tool is the id": (
        [part(0, "", id="R", name="R"), part(0, A), part(1, "", id="R", name="R"), part(1, B)],
        [("R", "R", {"a": 1}), ("", "R", {"b": 2})],
    ),
    "the name of the tool is the id, interleaved": (
        [part(0, "", id="R", name="R"), part(1, "", id="R", name="R"), part(0, A), part(1, B)],
        [("R", "R", {"a": 1}), ("", "R", {"b": 2})],
    ),
}


@pytest.mark.parametrize(("events", "expected"), STREAMS.values(), ids=STREAMS)
def test_streams(events: list[Any], expected: list[tuple[str, str, dict[str, Any]]]) -> None:
    seen = calls_of(*events, *([] if any('"finish_reason": "' in json.dumps(e) for e in events) else [chunk("stop")]))

    assert [(name, given) for _, name, given in seen] == [(name, given) for _, name, given in expected]
    assert all(identifier in ("", was) for (was, _, _), (identifier, _, _) in zip(seen, expected, strict=True))
    assert len({identifier for identifier, _, _ in seen}) == len(seen)


FAILURES: dict[str, list[Any]] = {
    "cut short at the end": [part(0, A[:4], id="c", name="R"), chunk("tool_calls")],
    "cut short by another call": [
        part(0, A[:4], id="c", name="R"), part(1, B, id="d", name="W"), chunk("tool_calls"),
    ],
    "no name": [part(0, A, id="c"), chunk("tool_calls")],
    "said twice, and differently": [
        part(0, A[:4], id="c", name="R"), part(0, A[4:]), part(0, B), chunk("tool_calls"),
    ],
    "real arguments after the next call has begun": [
        part(0, "{}", id="c", name="R"), part(1, B, id="d", name="W"), part(0, A), chunk("tool_calls"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("events", FAILURES.values(), ids=FAILURES)
def test_what_no_client_may_run_is_a_failure(events: list[Any], stream: bool) -> None:
    pieces = played(decoder(stream=stream), sse(*events, DONE))

    assert [piece.error.status for piece in pieces if piece.error] == [502]
    assert b"message_stop" not in b"".join(piece.data for piece in pieces)


def whole(*choices: dict[str, Any]) -> list[dict[str, Any]]:
    body = json.dumps({"choices": list(choices)}).encode()
    return json.loads(written(played(decoder(stream=False), body)))["content"]  # type: ignore[no-any-return]


def call(arguments: str, identifier: str = "c", name: str = "R") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("second", [A, B, ""], ids=["the same", "another", "none"])
def test_in_an_answer_in_one_piece_every_entry_is_a_call_of_its_own(second: str) -> None:
    found = whole({"message": {"tool_calls": [call(A), call(second)]}, "finish_reason": "tool_calls"})

    assert [block["input"] for block in found] == [{"a": 1}, json.loads(second or "{}")]
    assert found[0]["id"] != found[1]["id"]


def choice(index: int | None, finish: str | None, **message: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": finish, "message": message}


CHOICES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "text, then a call": (
        [choice(0, "tool_calls", content="so"), choice(1, "tool_calls", tool_calls=[call(A)])], ["text", "tool_use"],
    ),
    "text, then two calls in two choices": (
        [
            choice(0, "tool_calls", content="so"),
            choice(1, "tool_calls", tool_calls=[call(A)]),
            choice(2, "tool_calls", tool_calls=[call(B, "d")]),
        ],
        ["text", "tool_use", "tool_use"],
    ),
    "nothing, then a call": ([choice(0, "stop"), choice(1, "stop", tool_calls=[call(A)])], ["tool_use"]),
    "an answer, and another": (
        [choice(0, "stop", content="so"), choice(1, "tool_calls", tool_calls=[call(A)])], ["text"],
    ),
    "a call, and another answer": (
        [choice(0, "tool_calls", tool_calls=[call(A)]), choice(1, "tool_calls", tool_calls=[call(B)])], ["tool_use"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("choices", "kinds"), CHOICES.values(), ids=CHOICES)
def test_calls_in_other_choices(choices: list[dict[str, Any]], kinds: list[str]) -> None:
    assert [block["type"] for block in whole(*choices)] == kinds

    deltas = [{"choices": [{**one, "delta": one["message"], "message": None}]} for one in choices]
    message = json.loads(written(played(decoder(stream=False), sse(*deltas, DONE))))
    assert [block["type"] for block in message["content"]] == kinds


def test_a_message_behind_deltas_says_nothing_new() -> None:
    message = {"content": "ab", "tool_calls": [call(A)]}
    last = {"choices": [{"index": 0, "delta": {}, "message": message, "finish_reason": "tool_calls"}]}
    found = json.loads(written(played(decoder(stream=False), sse(chunk(content="a"), chunk(content="b"), last, DONE))))

    assert [block.get("text", block.get("input")) for block in found["content"]] == ["ab", {"a": 1}]


def test_late_arguments_are_waited_for_and_other_ends_are_not() -> None:
    to = decoder()
    to.feed(sse(part(0, A[:4], id="c", name="R", finish="tool_calls")))
    ending = [to.ending]
    to.feed(sse(part(0, A[4:])))
    ending.append(to.ending)
    to.feed(sse({"choices": [], "usage": {"prompt_tokens": 1}}))

    assert (ending, to.complete) == ([False, True], True)
