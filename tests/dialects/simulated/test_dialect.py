"""What a simulated provider answers, and how it fails to order."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from balancer.dialect import Ask, TypedState
from balancer.dialects.simulated import faults as drills
from balancer.dialects.simulated.dialect import DIALECT, Options
from balancer.model import Candidate, Operation, Origin, Piece, Provider, Reply, Request
from balancer.script import Data, Head, Pause, Step
from balancer.wire import sse
from balancer.wire.history import without_own_thinking

SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "count": {"type": "integer", "minimum": 3}, "extra": {"type": "string"}},
    "required": ["path", "count"],
}
TOOLS = [{"name": "read", "description": "reads", "input_schema": SCHEMA}]


def asking(
    options: Options | None = None,
    operation: Operation = Operation.MESSAGES,
    *,
    state: TypedState | None = None,
    attempt_id: str = "n1",
    **fields: Any,
) -> Ask:
    body = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000} | fields
    origin = Origin(False, "simulated.invalid", 80)
    provider = Provider("sim", "simulated", "http://simulated.invalid", origin, "", options=options)
    request = Request("r1", operation, b"", (), json.dumps(body).encode(), "claude-x", bool(body.get("stream")))
    return Ask(
        request,
        Candidate(provider, "claude-x"),
        operation,
        TypedState() if state is None else state,
        attempt_id=attempt_id,
    )


def steps(ask: Ask) -> list[Step]:
    [sent] = DIALECT.flow(ask)
    assert sent.script is not None
    return list(sent.script())


def played(ask: Ask) -> list[Piece]:
    taken = steps(ask)
    head = next(step for step in taken if isinstance(step, Head))
    decoder = DIALECT.decoder(ask, Reply(head.status, head.headers))
    pieces = [piece for step in taken if isinstance(step, Data) for piece in decoder.feed(step.data)]
    pieces += decoder.end()
    assert decoder.complete
    return pieces


def message(ask: Ask) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(b"".join(piece.data for piece in played(ask)))
    return decoded


def events(ask: Ask) -> list[dict[str, Any]]:
    whole = b"".join(piece.data for piece in played(ask))
    return [json.loads(sse.fields(frame + b"\n\n")[1]) for frame in whole.split(b"\n\n") if frame]


def status_of(ask: Ask) -> int:
    return next(step.status for step in steps(ask) if isinstance(step, Head))


def test_a_message_says_that_it_is_simulated() -> None:
    said = message(asking())

    assert said["type"] == "message"
    assert said["stop_reason"] == "end_turn"
    assert "simulated answer from 'sim' (model claude-x)" in said["content"][0]["text"]
    assert said["usage"]["input_tokens"] > 0
    assert said["usage"]["output_tokens"] > 10


def test_a_stream_has_the_events_of_the_messages_api_in_their_order() -> None:
    kinds = [event["type"] for event in events(asking(stream=True))]

    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[3:-3]) == {"content_block_delta"}


def test_a_stream_says_the_same_as_a_message() -> None:
    streamed = "".join(e["delta"].get("text", "") for e in events(asking(stream=True)) if "delta" in e)

    assert streamed == message(asking())["content"][0]["text"]


def test_a_stream_is_as_fast_as_was_ordered() -> None:
    taken = steps(asking(Options(latency=0.5, speed=50, answer="one two three"), stream=True))

    assert [step.seconds for step in taken if isinstance(step, Pause)] == [0.5, 0.02, 0.02, 0.02]


def test_without_latency_and_speed_nothing_pauses() -> None:
    taken = steps(asking(Options(latency=0, speed=0), stream=True))

    assert not [step for step in taken if isinstance(step, Pause)]


def test_it_thinks_before_it_answers() -> None:
    said = message(asking(Options(thinking=True)))
    streamed = events(asking(Options(thinking=True), stream=True))

    assert [block["type"] for block in said["content"]] == ["thinking", "text"]
    assert said["content"][0]["signature"]
    assert "signature_delta" in [event["delta"].get("type") for event in streamed if "delta" in event]


def test_it_uses_a_tool_with_arguments_that_fit() -> None:
    said = message(asking(Options(tool_use=True), tools=TOOLS))

    use = said["content"][-1]
    assert said["stop_reason"] == "tool_use"
    assert (use["type"], use["name"]) == ("tool_use", "read")
    jsonschema.validate(use["input"], SCHEMA)


def test_a_streamed_tool_use_adds_up_to_its_arguments() -> None:
    streamed = events(asking(Options(tool_use=True), tools=TOOLS, stream=True))

    written = "".join(event["delta"].get("partial_json", "") for event in streamed if "delta" in event)
    jsonschema.validate(json.loads(written), SCHEMA)


RESULT = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]}]
TOOL_CASES = {
    "tools are offered and it may": (Options(tool_use=True), {"tools": TOOLS}, True),
    "tools are offered and it may not": (Options(), {"tools": TOOLS}, False),
    "no tools": (Options(tool_use=True), {}, False),
    "the tool was used already": (Options(tool_use=True), {"tools": TOOLS, "messages": RESULT}, False),
    "any tool is demanded": (Options(), {"tools": TOOLS, "tool_choice": {"type": "any"}}, True),
    "this tool is demanded": (Options(), {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "read"}}, True),
    "another tool is demanded": (Options(), {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, False),
    "no tool is to be used": (Options(tool_use=True), {"tools": TOOLS, "tool_choice": {"type": "none"}}, False),
    "a tool of the server": (Options(tool_use=True), {"tools": [{"type": "web_search", "name": "web_search"}]}, False),
}


@pytest.mark.parametrize(("options", "fields", "used"), TOOL_CASES.values(), ids=TOOL_CASES)
def test_when_a_tool_is_used(options: Options, fields: dict[str, Any], used: bool) -> None:
    assert (message(asking(options, **fields))["stop_reason"] == "tool_use") is used


def test_max_tokens_ends_the_answer() -> None:
    said = message(asking(Options(answer="one two three", thinking=False), max_tokens=2))

    assert said["stop_reason"] == "max_tokens"
    assert said["content"] == [{"type": "text", "text": "one two "}]
    assert said["usage"]["output_tokens"] == 2


def test_it_counts_tokens_from_the_size_of_the_body() -> None:
    ask = asking(operation=Operation.COUNT_TOKENS)

    assert message(ask) == {"input_tokens": len(ask.request.body) // 4}


def test_it_lists_models() -> None:
    listed = message(asking(operation=Operation.MODELS))

    assert {model["type"] for model in listed["data"]} == {"model"}
    assert listed["last_id"] == listed["data"][-1]["id"]


def test_odd_requests_are_answered_too() -> None:
    assert message(asking(tools="what", messages=[1]))["type"] == "message"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", drills.FAULTS)
def test_every_fault_of_the_drills_can_be_ordered(fault: str, stream: bool) -> None:
    """Told by their first step: the silent ones would go on for a day."""
    [sent] = DIALECT.flow(asking(Options(fault=(fault,)), stream=stream))

    assert sent.script is not None
    assert next(sent.script()) == next(drills.script(fault, stream)())


def test_a_status_may_be_written_as_a_number() -> None:
    assert status_of(asking(Options.model_validate({"fault": 503}))) == 503


def test_any_status_can_be_ordered() -> None:
    assert status_of(asking(Options.model_validate({"fault": "status", "fault_status": 418}))) == 418


def test_a_delayed_answer_is_whole() -> None:
    ask = asking(Options.model_validate({"fault": "delay", "fault_delay": 7}))

    assert steps(ask)[0] == Pause(7)
    assert message(ask)["type"] == "message"


def test_only_the_first_requests_fail() -> None:
    options, state = Options(fault=("529",), fault_first=2), TypedState()

    assert [status_of(asking(options, state=state)) for _ in range(4)] == [529, 529, 200, 200]


def test_every_third_request_fails() -> None:
    options, state = Options(fault=("529",), fault_every=3), TypedState()

    assert [status_of(asking(options, state=state)) for _ in range(6)] == [529, 200, 200, 529, 200, 200]


def test_faults_take_turns() -> None:
    options, state = Options(fault=("529", "500")), TypedState()

    assert [status_of(asking(options, state=state)) for _ in range(4)] == [529, 500, 529, 500]


def test_a_share_of_the_requests_fails_and_the_same_nonce_always_does_the_same() -> None:
    options = Options(fault=("529",), fault_rate=0.3)
    told = [status_of(asking(options, attempt_id=f"n{n}")) for n in range(1000)]

    assert 240 <= told.count(529) <= 360
    assert told == [status_of(asking(options, attempt_id=f"n{n}")) for n in range(1000)]


@pytest.mark.parametrize("wrong", [{"fault": "meltdown"}, {"fault": True}, {"fault_rate": 2}, {"latncy": 1}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_its_refusals_are_the_messages_apis() -> None:
    ask = asking(Options(fault=("429",)))
    taken = steps(ask)
    head = next(step for step in taken if isinstance(step, Head))
    body = b"".join(step.data for step in taken if isinstance(step, Data))

    fault = DIALECT.fault(ask, Reply(head.status, head.headers, body))

    assert (fault.kind, fault.retry_after_s) == ("rate_limit_error", 5.0)


def test_a_conversation_can_go_on_with_a_real_provider() -> None:
    """Anthropic refuses ids with other characters, and signatures that are not its own."""
    said = message(asking(Options(thinking=True, tool_use=True), tools=TOOLS, attempt_id="req_1.0"))
    thinking, _, call = said["content"]
    history = json.dumps({"messages": [{"role": "assistant", "content": said["content"]}]}).encode()

    assert re.fullmatch(r"[a-zA-Z0-9_-]+", call["id"])
    assert thinking["type"] == "thinking"
    assert b"thinking" not in without_own_thinking(history)
