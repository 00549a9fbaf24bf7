"""The flow: token, catalogue, request; rotation; budgets. And the decoder, line by line."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from fakezed import EVENTS, MODELS, PAIR, answer, line, problem_of
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider, request

from balancer.dialect import Ask, FlowFailed, Incapable, TypedState
from balancer.dialects.zed.dialect import DIALECT
from balancer.dialects.zed.options import Options
from balancer.model import Candidate, Operation, Piece, Reply, WireRequest

WRAPPED = Reply(200, ((b"x-zed-server-supports-status-messages", b"true"),))
TURNS = [{"role": role, "content": f"{role} {n} " + "x" * 400} for n in range(20) for role in ("user", "assistant")] + [
    {"role": "user", "content": "and now?"}
]


def ask(
    messages: Any = None,
    state: TypedState | None = None,
    *,
    stream: bool = True,
    config: dict[str, Any] | None = None,
    mode: str | None = None,
) -> Ask:
    tool = {"name": "Read", "input_schema": {}}
    body = {"model": "claude-sonnet-4", "max_tokens": 999_999, "tools": [tool], "messages": messages or TURNS[-1:]}
    options = Options.model_validate(config or {})
    candidate = Candidate(provider("z", type="zed", secret=PAIR, options=options), "claude-sonnet-4", mode=mode)
    client = request(json.dumps(body).encode(), stream=stream)
    return Ask(client, candidate, Operation.MESSAGES, TypedState() if state is None else state, 1.8e9, "n")


def run(asked: Ask, summary: bytes = b"") -> tuple[list[WireRequest], dict[str, Any]]:
    """Answer a flow as the service would; return all requests and the last one's body."""
    sent: list[WireRequest] = []
    flow = DIALECT.flow(asked)
    wire = next(flow)
    while True:
        sent.append(wire)
        reply = WRAPPED
        if wire.target == b"/client/llm_tokens":
            reply = Reply(200, (), b'{"token":"llm-canary"}')
        elif wire.target == b"/client/users/me":
            reply = Reply(500, ())
        elif wire.target == b"/models":
            reply = Reply(200, (), json.dumps(MODELS).encode())
        elif wire.side_request:
            reply = Reply(200 if summary else 0, (), summary or b"timeout")
        try:
            wire = flow.send(reply)
        except StopIteration:
            body = json.loads(bytes(sent[-1].body[0]))
            assert not problem_of(body)
            return sent, body


def test_a_token_and_the_catalogue_are_fetched_once() -> None:
    state = TypedState()

    first, body = run(ask(state=state))
    second, again = run(ask(state=state))

    assert [wire.target for wire in first] == [b"/client/users/me", b"/client/llm_tokens", b"/models", b"/completions"]
    assert [wire.target for wire in second] == [b"/completions"]
    assert body == again
    assert body["provider_request"]["max_tokens"] == 64000
    assert "mode" not in body
    assert (b"authorization", b"Bearer llm-canary") in second[0].headers


def test_burn_is_max_on_the_legacy_wire() -> None:
    _, body = run(ask(mode="burn", config={"wire_profile": "legacy"}))

    assert body["mode"] == "max"


@pytest.mark.parametrize("method", ["ai", "truncate"])
def test_a_long_history_is_cut_once_and_stays_so(method: str) -> None:
    state = TypedState()
    config = {"max_context_tokens": 3000, "context_management": {"summarization_method": method}}

    sent, body = run(ask(TURNS, state, config=config), answer())
    longer = [*TURNS, {"role": "assistant", "content": "so"}, {"role": "user", "content": "go on"}]
    second, later = run(ask(longer, state, config=config), answer())

    messages = body["provider_request"]["messages"]
    assert len(messages) < len(TURNS)
    assert ("Hello from" in messages[0]["content"][0]["text"]) is (method == "ai")
    assert later["provider_request"]["messages"][: len(messages)] == messages
    assert later["thread_id"] == body["thread_id"]
    assert len(sent) == (5 if method == "ai" else 4)
    assert len(second) == 1
    described = DIALECT.describe(state, Options(), 1.8e9)
    assert described is not None
    assert described["rotations"] == 1


def test_a_summary_that_fails_is_a_cut() -> None:
    _, body = run(ask(TURNS, config={"max_context_tokens": 3000}))

    assert "was left out" in body["provider_request"]["messages"][0]["content"][0]["text"]


@pytest.mark.parametrize(("on_exceed", "error"), [("failover", Incapable), ("reject", FlowFailed)])
def test_a_spent_budget(on_exceed: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(ask(config={"cost_control": {"daily_usd": 0, "on_exceed": on_exceed}}))


def decoded(asked: Ask, data: bytes) -> tuple[list[Piece], bool]:
    decoder = DIALECT.decoder(asked, WRAPPED)
    pieces = [piece for at in range(len(data)) for piece in decoder.feed(data[at : at + 1])]
    return pieces + decoder.end(), decoder.complete


def test_an_answer_in_single_bytes_streamed_and_whole() -> None:
    streamed, complete = decoded(ask(), answer())
    whole, also = decoded(ask(stream=False), answer())

    assert complete
    assert also
    assert [json.loads(p.data.split(b"data: ")[1])["type"] for p in streamed] == [e["type"] for e in EVENTS]
    message = json.loads(whole[0].data)
    assert message["content"] == [{"type": "text", "text": "Hello from\u2028Zed."}]
    assert (message["stop_reason"], message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (
        "end_turn",
        7,
        5,
    )


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (line({"status": {"failed": {"code": "http_429", "message": "x"}}}), 429),
        (line({"event": {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}}), 529),
        (line({"event": EVENTS[0]}), 502),
        (line({"status": "stream_ended"}), 502),
        (line({"status": "unheard of"}), 502),
        (b"{broken\n", 502),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_answer(lines: bytes, status: int, stream: bool) -> None:
    pieces, complete = decoded(ask(stream=stream), lines)

    assert [piece.error.status for piece in pieces if piece.error] == [status]
    assert not complete


def test_groups_win_over_flat_keys() -> None:
    options = Options.model_validate(
        {"max_context_tokens": 5000, "thread_ttl": 5, "context_management": {"max_context_tokens": 6000}}
    )

    assert (options.window, options.ttl_s) == (6000, 5)


JUNK: list[Any] = [
    None, 5, 2.5, True, "", "x", [], {}, [5], {"type": "text"}, [{"type": "text"}], [{"type": "text", "text": 5}],
    [{"type": "tool_use", "id": "a", "name": "Edit", "input": 5}], [{"type": "thinking", "signature": 5}],
    [{"type": "tool_use", "name": "TodoWrite", "input": {"todos": 5}}], [{"type": "tool_use", "name": []}],
    [{"type": "tool_result", "content": {"a": 1}}], [{"type": "image", "source": {"type": "base64"}}],
    [{"name": "Edit", "input_schema": {}}], [{"name": [], "input_schema": {}}], {"type": "tool", "name": 5},
]  # fmt: skip
KEYS = ("system", "tools", "tool_choice", "thinking", "output_config", "metadata", "max_tokens", "stop_sequences")


@given(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(JUNK)),
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.sampled_from([*JUNK, "hi"]))),
    st.sampled_from([Operation.MESSAGES, Operation.COUNT_TOKENS]),
)
def test_no_request_is_so_odd_that_it_crashes(more: Any, said: list[tuple[str, Any]], operation: Operation) -> None:
    body = {"model": "m", "messages": [{"role": role, "content": content} for role, content in said], **more}
    config = {"max_context_tokens": 1000, "auto_burn_mode_triggers": ["complex_coding_task", "multi_step_analysis"]}
    asked = ask(config=config)
    odd = msgspec.structs.replace(asked, request=request(json.dumps(body).encode()), operation=operation)

    with contextlib.suppress(Incapable, FlowFailed):
        flow = DIALECT.flow(odd)
        next(flow)
        with contextlib.suppress(StopIteration):
            while True:
                flow.send(Reply(200, (), b'{"token":"t"}'))
