"""Streams: whatever chunks come, blocks go out in the grammar of the Messages API."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, TypeAlias

import grammar
import pytest
from conversion import DONE, chunk, decoder, fragment, played, sse, written
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.writer import MessageWriter, Shell
from balancer.wire.signatures import OWN_PREFIX, unsigned

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TAIL: dict[str, Any] = {"choices": [], "usage": USAGE}


def read(*events: Any, names: dict[str, str] | None = None) -> grammar.Read:
    return grammar.read(written(played(decoder(names=names), sse(*events))))


TEXTS: dict[str, tuple[list[Any], list[str], str, str]] = {
    "text": ([chunk(content="a"), chunk(content=" b"), chunk("stop"), TAIL, DONE], ["text"], "a b", "end_turn"),
    "the first chunk has content": ([chunk("stop", role="assistant", content="a"), DONE], ["text"], "a", "end_turn"),
    "content and end in one": ([chunk("stop", USAGE, content="a")], ["text"], "a", "end_turn"),
    "white space counts": ([chunk(content=" "), chunk("stop"), DONE], ["text"], " ", "end_turn"),
    "nothing but the limit": ([chunk(content=""), chunk("length"), DONE], [], "", "max_tokens"),
    "the limit": ([chunk("length", content="a"), DONE], ["text"], "a", "max_tokens"),
    "filtered": ([chunk("content_filter", content="a"), DONE], ["text"], "a", "refusal"),
    "refused": ([chunk(refusal="no"), chunk("stop"), DONE], ["text"], "no", "refusal"),
    "no finish but the end": ([chunk(content="a"), DONE], ["text"], "a", "end_turn"),
    "a finish but no end": ([chunk("stop", content="a")], ["text"], "a", "end_turn"),
    "a phantom of a tool call": ([chunk("tool_calls", content="a"), DONE], ["text"], "a", "end_turn"),
    "an empty tool call": ([chunk(content="a", tool_calls=[{"index": 0}]), chunk("stop"), DONE], ["text"], "a", "end_turn"),
    "late chunks": ([chunk("stop", content="a"), chunk(content="late"), DONE], ["text"], "alate", "end_turn"),
    "other choices": (
        [{"choices": [{"index": 1, "delta": {"content": "x"}}]}, chunk(content="a"), chunk("stop"), DONE],
        ["text"], "a", "end_turn",
    ),
    "filter results and junk": (
        [{"choices": [], "prompt_filter_results": []}, "junk", chunk(content="a"), chunk("stop"), DONE],
        ["text"], "a", "end_turn",
    ),
    "parts": ([chunk(content=[{"type": "text", "text": "a"}]), chunk("stop"), DONE], ["text"], "a", "end_turn"),
    "no finish is an empty string": (
        [chunk("", content="a"), chunk("null", content="b"), chunk("stop"), DONE], ["text"], "ab", "end_turn",
    ),
    "an unknown finish": ([chunk("eos", content="a"), DONE], ["text"], "a", "end_turn"),
    "usage in every chunk": (
        [chunk(usage=USAGE, content="a"), chunk(usage=USAGE, content="b"), chunk("stop", USAGE), DONE],
        ["text"], "ab", "end_turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "kinds", "text", "reason"), TEXTS.values(), ids=TEXTS)
def test_text(events: list[Any], kinds: list[str], text: str, reason: str) -> None:
    seen = read(*events)

    assert (seen.kinds, seen.text(), seen.stop_reason) == (kinds, text, reason)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_thinking_with_our_signature(field: str) -> None:
    seen = read(chunk(**{field: "hm"}), chunk(**{field: "m", "content": "so"}), chunk("stop"), DONE)

    assert seen.kinds == ["thinking", "text"]
    assert (seen.text("thinking"), seen.text()) == ("hmm", "so")
    assert seen.blocks[0]["signature"].startswith(OWN_PREFIX)
    assert unsigned(seen.blocks[0]["signature"]) == {"provider": "up"}


def test_reasoning_that_comes_twice_is_told_once_and_its_details_are_kept() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "theirs"}]
    seen = read(chunk(reasoning="hm", reasoning_details=details), chunk("stop", content="so"), DONE)

    assert seen.text("thinking") == "hm"
    assert unsigned(seen.blocks[0]["signature"]) == {"provider": "up", "details": details}


def test_usage_is_without_what_was_cached() -> None:
    seen = read(chunk("stop", content="a"), TAIL, DONE)

    assert seen.usage == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    assert seen.message["usage"]["input_tokens"] == 9


def test_the_usage_that_comes_last_counts() -> None:
    early = {"prompt_tokens": 1, "completion_tokens": 1}
    seen = read(chunk(usage=early, content="a"), chunk("stop", early), TAIL, DONE)

    assert (seen.usage["input_tokens"], seen.usage["output_tokens"]) == (30, 7)


def test_usage_of_a_server_that_does_not_count_is_estimated() -> None:
    seen = read(chunk("stop", content="a" * 40), {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})

    assert (seen.usage["input_tokens"], seen.usage["output_tokens"]) == (9, 10)


def test_a_ping_follows_the_start_as_from_anthropic() -> None:
    data = written(played(decoder(), sse(chunk("stop", content="a"), DONE)))

    assert [event for event, _ in grammar.frames(data)][:2] == ["message_start", "ping"]


ENCRYPTED = {"type": "reasoning.encrypted", "data": "zzz"}
ENCRYPTED_FIRST: dict[str, tuple[list[Any], list[str]]] = {
    "before text": ([chunk(reasoning_details=[ENCRYPTED]), chunk(content="a")], ["redacted_thinking", "text"]),
    "with a call": (
        [chunk(reasoning_details=[ENCRYPTED], tool_calls=[{"index": 0, "id": "c", "function": {"name": "R"}}])],
        ["redacted_thinking", "tool_use"],
    ),
    "at the end": ([chunk(content="a"), chunk(reasoning_details=[ENCRYPTED])], ["text", "redacted_thinking"]),
    "with thinking": ([chunk(reasoning_details=[ENCRYPTED]), chunk(reasoning="hm")], ["thinking"]),
    "nothing in it": (
        [chunk(reasoning_details=[{"type": "reasoning.text", "text": ""}]), chunk(content="a")],
        ["text"],
    ),
}


@pytest.mark.parametrize(("events", "kinds"), ENCRYPTED_FIRST.values(), ids=ENCRYPTED_FIRST)
def test_reasoning_without_a_text_is_kept_for_its_provider(events: list[Any], kinds: list[str]) -> None:
    seen = read(*events, chunk("stop"), DONE)

    assert seen.kinds == kinds
    marks = [block.get("data") or block.get("signature") for block in seen.blocks if "thinking" in block["type"]]
    assert [unsigned(mark) for mark in marks] == [{"provider": "up", "details": [ENCRYPTED]} for _ in marks]


def test_usage_that_is_missing_is_estimated() -> None:
    assert read(chunk("stop", content="a" * 40), DONE).usage["output_tokens"] == 10


A, B = '{"a": 1}', '{"b": [2, 3]}'
ID: dict[str, Any] = {"id": "call_1", "name": "Read"}
CALLS: dict[str, tuple[list[Any], list[tuple[str, str]]]] = {
    "in fragments": (
        [fragment(**ID, arguments=""), fragment(arguments=A[:3]), fragment(arguments=A[3:])],
        [("Read", A)],
    ),
    "at once": ([fragment(**ID, arguments=A)], [("Read", A)]),
    "no arguments": ([fragment(**ID, arguments="")], [("Read", "")]),
    "null": ([fragment(**ID, arguments="null")], [("Read", "")]),
    "arguments are an object": ([fragment(**ID, arguments={"a": 1})], [("Read", '{"a":1}')]),
    "id and name in every fragment": (
        [fragment(**ID, arguments=A[:2]), fragment(**ID, arguments=A[2:5]), fragment(**ID, arguments=A[5:])],
        [("Read", A)],
    ),
    "name in every fragment, no id": (
        [fragment(name="Read", arguments=A[:4]), fragment(name="Read", arguments=A[4:])],
        [("Read", A)],
    ),
    "two, one after the other": (
        [fragment(0, A, id="c1", name="Read"), fragment(1, B[:4], id="c2", name="Bash"), fragment(1, B[4:])],
        [("Read", A), ("Bash", B)],
    ),
    "two, interleaved": (
        [
            fragment(0, A[:3], id="c1", name="Read"),
            fragment(1, B[:4], id="c2", name="Bash"),
            fragment(0, A[3:]),
            fragment(1, B[4:]),
        ],
        [("Read", A), ("Bash", B)],
    ),
    "two in one chunk": (
        [
            chunk(
                tool_calls=[
                    {"index": 0, "id": "c1", "function": {"name": "Read", "arguments": A}},
                    {"index": 1, "id": "c2", "function": {"name": "Bash", "arguments": B}},
                ]
            )
        ],
        [("Read", A), ("Bash", B)],
    ),
    "two with the index 0": (
        [fragment(0, A, id="c1", name="Read"), fragment(0, B, id="c2", name="Bash")],
        [("Read", A), ("Bash", B)],
    ),
    "two with the index 0 and no ids": (
        [fragment(0, A, name="Read"), fragment(0, B, name="Bash")],
        [("Read", A), ("Bash", B)],
    ),
    "two with the index 0, no ids, no arguments": (
        [fragment(0, "", name="Read"), fragment(0, "", name="Bash")],
        [("Read", ""), ("Bash", "")],
    ),
    "two without an index": (
        [fragment(None, A, id="c1", name="Read"), fragment(None, B, id="c2", name="Bash")],
        [("Read", A), ("Bash", B)],
    ),
    "the same id twice": (
        [fragment(0, A, id="c", name="Read"), fragment(1, B, id="c", name="Bash")],
        [("Read", A), ("Bash", B)],
    ),
    "the first without arguments": (
        [fragment(0, "", id="c1", name="Read"), fragment(1, B, id="c2", name="Bash")],
        [("Read", ""), ("Bash", B)],
    ),
    "function_call of old": ([chunk(function_call={"name": "Read", "arguments": A})], [("Read", A)]),
    "another id without a name is the same call": (
        [fragment(**ID, arguments=A[:3]), fragment(id="call_2", arguments=A[3:])],
        [("Read", A)],
    ),
    "the name comes late": ([fragment(id="c"), fragment(name="Read", arguments=A)], [("Read", A)]),
}


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize(("events", "calls"), CALLS.values(), ids=CALLS)
def test_tool_calls(events: list[Any], calls: list[tuple[str, str]], finish: str) -> None:
    seen = read(chunk(content="Let me."), *events, chunk(finish), DONE)

    assert seen.calls == calls
    assert seen.text() == "Let me."
    assert seen.stop_reason == "tool_use"


def test_a_call_whose_arguments_are_no_object_is_marked() -> None:
    seen = read(fragment(**ID, arguments="[1]"), chunk("tool_calls"), DONE)

    assert json.loads(seen.calls[0][1]) == {"__unparsedToolInput": {"raw": "[1]", "len": 3}}


def test_text_between_calls_that_are_whole_keeps_its_place() -> None:
    seen = read(fragment(0, A, id="c1", name="Read"), chunk(content="and"), fragment(1, B, id="c2", name="Bash"), DONE)

    assert seen.kinds == ["tool_use", "text", "tool_use"]


def test_what_has_neither_index_nor_id_belongs_to_the_latest_call() -> None:
    seen = read(
        fragment(None, A, id="c1", name="Read"), chunk(content="and"), fragment(None, ""),
        fragment(None, "", id="c2", name="Bash"), fragment(None, B), chunk("stop"), DONE,
    )  # fmt: skip

    assert (seen.calls, seen.text()) == ([("Read", A), ("Bash", B)], "and")


def test_text_within_a_call_waits_for_its_end() -> None:
    seen = read(fragment(0, A[:3], **ID), chunk(content="and"), fragment(0, A[3:]), chunk("stop"), DONE)

    assert (seen.kinds, seen.calls, seen.text()) == (["tool_use", "text"], [("Read", A)], "and")


def test_a_call_that_the_limit_cut_stays_open() -> None:
    seen = read(fragment(**ID, arguments=A[:4]), chunk("length"), DONE)

    assert seen.open == 0
    assert seen.stop_reason == "max_tokens"


def test_names_are_the_clients_own_again() -> None:
    assert read(fragment(id="c", name="short", arguments=A), DONE, names={"short": "mcp__long"}).calls == [
        ("mcp__long", A)
    ]


def test_ids_are_plain_and_unique() -> None:
    seen = read(fragment(0, A, id="a.b/c", name="R"), fragment(1, A, id="a.b/c", name="R"), chunk("stop"), DONE)

    assert seen.blocks[0]["id"] == "a_b_c"
    assert seen.blocks[1]["id"].startswith("toolu_")


# Properties

words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
arguments = st.dictionaries(words, st.one_of(st.integers(), words, st.booleans()), max_size=3).map(json.dumps)


Answer: TypeAlias = tuple[list[Any], str, str, list[tuple[str, str]], bool]
"""Chunks, and the thinking, the text and the calls that are in them, and whether the limit ended it."""


def streamed(draw: st.DrawFn, index: int, name: str, said: str, manner: str) -> list[Any]:
    """Cut a call into fragments, in one of the manners of servers."""
    cuts = sorted(draw(st.lists(st.integers(0, len(said)), max_size=3)))
    first, *others = [said[start:end] for start, end in pairwise([0, *cuts, len(said)])]
    head: dict[str, Any] = {"id": f"c{index}", "name": name}
    key = {"no index": None, "index 0": 0}.get(manner, index)
    again = {"index 0": {"id": head["id"]}, "all repeated": head}.get(manner, {})
    return [fragment(key, first, **head)] + [fragment(key, part, **again) for part in others]


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    thoughts, texts = draw(st.lists(words, max_size=3)), draw(st.lists(words, max_size=5))
    calls = [(f"tool_{n}", written) for n, written in enumerate(draw(st.lists(arguments, max_size=3)))]
    manner = draw(st.sampled_from(["as OpenAI", "all repeated", "interleaved", "no index", "index 0"]))
    streams = [streamed(draw, index, name, said, manner) for index, (name, said) in enumerate(calls)]
    events: list[Any] = []
    if manner == "interleaved":
        while any(streams):
            events += [stream.pop(0) for stream in streams if stream]
    else:
        events = [event for stream in streams for event in stream]
    at = sorted(draw(st.lists(st.integers(0, len(events)), min_size=len(texts), max_size=len(texts))), reverse=True)
    for place, one in zip(at, reversed(texts), strict=True):
        events.insert(place, chunk(content=one))
    events = [chunk(reasoning_content=one) for one in thoughts] + events
    if draw(st.booleans()):
        events = [{**event, "usage": {"prompt_tokens": 1, "completion_tokens": 1}} for event in events]
    finish = draw(st.sampled_from(["stop", "tool_calls", "length"] if any(thoughts + texts) or calls else ["length"]))
    end: list[Any] = draw(st.sampled_from([[chunk(finish), TAIL, DONE], [chunk(finish, USAGE)], [chunk(finish), TAIL]]))
    return [*events, *end], "".join(thoughts), "".join(texts), calls, finish == "length"


@given(answers(), st.lists(st.integers(0, 3000), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_answer_cut_anywhere_is_conserved(answer: Answer, cuts: list[int], newline: str) -> None:
    events, thought, text, calls, limited = answer
    data = sse(*events).replace(b"\n", newline.encode())
    seen = grammar.read(written(played(decoder(), data, cuts)))

    assert (seen.text("thinking"), seen.text(), seen.calls) == (thought, text, calls)
    assert seen.stop_reason == ("max_tokens" if limited else "tool_use" if calls else "end_turn")
    assert seen.open is None
    assert seen.usage["output_tokens"] == 7
    assert [block["id"] for block in seen.blocks if block["type"] == "tool_use"] == [f"c{n}" for n in range(len(calls))]


@given(answers())
def test_the_whole_message_says_the_same_as_the_stream(answer: Answer) -> None:
    events, thought, text, calls, limited = answer
    message = json.loads(written(played(decoder(stream=False), sse(*events))))
    found = [(block["name"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]

    assert "".join(block["text"] for block in message["content"] if block["type"] == "text") == text
    assert "".join(block["thinking"] for block in message["content"] if block["type"] == "thinking") == thought
    assert found == [(name, json.loads(said)) for name, said in calls]
    assert message["stop_reason"] == ("max_tokens" if limited else "tool_use" if calls else "end_turn")
    assert message["usage"]["output_tokens"] == 7


@given(arguments, st.floats(0, 1))
def test_a_call_that_the_limit_cut_anywhere_stays_open_unless_it_is_whole(said: str, share: float) -> None:
    part = said[: int(len(said) * share)]
    seen = read(fragment(**ID, arguments=part), chunk("length"), DONE)

    assert seen.calls == [("Read", part)]
    assert (seen.open is None) == (part == said)


@given(answers(), st.floats(0, 1))
def test_a_stream_that_breaks_off_anywhere_is_an_error_unless_its_end_was_there(answer: Answer, share: float) -> None:
    data = sse(*answer[0])
    part = data[: int(len(data) * share)]
    pieces = played(decoder(), part)
    finished = b'"finish_reason": "' in part and part.rindex(b'"finish_reason": "') < part.rfind(b"}")
    failed = [piece.error for piece in pieces if piece.error]
    seen = grammar.read(b"".join(piece.data for piece in pieces), whole=not failed)

    assert not (failed and seen.stop_reason)
    assert failed or finished


@given(answers(), st.floats(0, 1), st.booleans())
def test_an_error_anywhere_before_the_end_is_told_and_ends_nothing(answer: Answer, share: float, stream: bool) -> None:
    events = answer[0]
    at = int(share * next(n for n, one in enumerate(events) if one["choices"][0]["finish_reason"]))
    data = sse(*events[:at], {"error": {"message": "boom"}}, *events[at:])
    pieces = played(decoder(stream=stream), data)
    (fault,) = [piece.error for piece in pieces if piece.error]

    assert fault.message == "boom"
    assert not grammar.read(b"".join(piece.data for piece in pieces), whole=False).stop_reason


wild = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from(["", "stop", "length", "x", "{", "{}", "call_1"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
wild_calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": wild, "id": wild,
            "function": st.fixed_dictionaries({}, optional={"name": wild, "arguments": wild}),
        },
    ),
    max_size=3,
)  # fmt: skip
wild_chunks = st.fixed_dictionaries(
    {},
    optional={"content": wild, "reasoning": wild, "refusal": wild, "tool_calls": wild_calls, "reasoning_details": wild},
)


@given(st.lists(st.tuples(wild_chunks, wild), max_size=6), st.booleans())
def test_any_chunks_obey_the_grammar_or_are_an_error(chunks: list[tuple[dict[str, Any], Any]], stream: bool) -> None:
    events = [{"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} for delta, finish in chunks]
    pieces = played(decoder(stream=stream), sse(*events, DONE))
    data = b"".join(piece.data for piece in pieces)
    failed = any(piece.error for piece in pieces)

    if stream:
        grammar.read(data, whole=not failed)
    else:
        assert failed or all(isinstance(b.get("input", {}), dict) for b in json.loads(data)["content"])


def test_the_next_call_is_streamed_as_soon_as_the_one_before_is_whole() -> None:
    to = decoder()
    pieces = to.feed(sse(fragment(0, A, id="c1", name="Read"), fragment(1, B[:4], id="c2", name="Bash")))
    seen = grammar.read(b"".join(piece.data for piece in pieces), whole=False)

    assert (seen.open, seen.calls) == (1, [("Read", A), ("Bash", B[:4])])


def test_two_calls_of_one_tool_without_ids_are_two() -> None:
    """Where neither an index nor an id tells them apart, whole arguments do."""
    shell = Shell("m", "n", 1)
    writer = MessageWriter(shell)
    composer = Composer(shell, writer, "p", {})
    composer.tool(0, "", "Read", '{"path": "a"}')
    composer.tool(0, "", "Read", '{"path": "b"}')
    composer.end("tool_calls", None, None)
    message = json.loads(writer.taken()[0])

    assert [block["input"] for block in message["content"]] == [{"path": "a"}, {"path": "b"}]
    assert len({block["id"] for block in message["content"]}) == 2


ANOTHER: dict[str, tuple[list[tuple[str, str, str]], int]] = {
    "another id": ([("a", "Read", '{"a": 1}'), ("b", "Read", '{"b": 2}')], 2),
    "another name": ([("", "Read", '{"a": 1}'), ("", "Write", '{"b": 2}')], 2),
    "the same again, whole before": ([("", "Read", '{"a": 1}'), ("", "Read", '{"b": 2}')], 2),
    "the same again, not whole before": ([("", "Read", '{"a":'), ("", "Read", " 1}")], 1),
    "the same id again": ([("a", "Read", '{"a":'), ("a", "Read", " 1}")], 1),
    "no name": ([("a", "Read", '{"a":'), ("", "", " 1}")], 1),
    "the name again without arguments": ([("", "Read", '{"a": 1}'), ("", "Read", "")], 1),
}


@pytest.mark.parametrize(("fragments", "calls"), ANOTHER.values(), ids=ANOTHER)
def test_what_begins_another_call_under_one_index(fragments: list[tuple[str, str, str]], calls: int) -> None:
    shell = Shell("m", "n", 1)
    writer = MessageWriter(shell)
    composer = Composer(shell, writer, "p", {})
    for identifier, name, arguments in fragments:
        composer.tool(0, identifier, name, arguments)
    composer.end("tool_calls", None, None)

    assert len(json.loads(writer.taken()[0])["content"]) == calls
