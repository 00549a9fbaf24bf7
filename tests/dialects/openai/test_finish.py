"""Why an answer has ended, in the words of many servers."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from conversion import DONE, chunk, decoder, fragment, played, sse, written

from balancer.dialects.openai import finish

WORDS: dict[str, list[Any]] = {
    "stop": ["stop", "STOP", "end_turn", "eos", "eosFound", "COMPLETE", "FINISH_REASON_STOP", "stop_sequence"],
    "tool_calls": ["tool_calls", "tool_use", "function_call", "TOOL_CALL", "toolCalls"],
    "length": ["length", "MAX_TOKENS", "max_tokens", "max_output_tokens", "maxPredictedTokensReached", "length_capped"],
    "window": ["model_context_window_exceeded", "model_length", "contextLengthReached", "context_length_exceeded"],
    "content_filter": [
        "content_filter", "content_filter: PROHIBITED_CONTENT", "sensitive", "SAFETY", "refusal", "IMAGE_SAFETY",
        "guardrail_intervened", "policy_violation",
    ],
    "failed": [
        "function_call_filter: MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "insufficient_system_resource",
        "network_error", "engine_overloaded", "abort", "cancelled", "timeout", "error", "OTHER", "unheard_of", 7, {"a": 1},
    ],
    "pause_turn": ["pause_turn"],
}  # fmt: skip


@pytest.mark.parametrize(("meant", "words"), WORDS.items())
def test_what_a_word_means(meant: str, words: list[Any]) -> None:
    assert {str(word): finish.meaning(word) for word in words} == {str(word): meant for word in words}


REASONS = {
    "stop": "end_turn", "tool_calls": "end_turn", "length": "max_tokens", "window": "model_context_window_exceeded",
    "content_filter": "refusal", "pause_turn": "pause_turn",
}  # fmt: skip


@pytest.mark.parametrize(("meant", "words"), [pair for pair in WORDS.items() if pair[0] != "failed"])
def test_the_stop_reason_of_an_answer(meant: str, words: list[Any]) -> None:
    for word in words:
        data = written(played(decoder(stream=False), sse(chunk(content="a"), chunk(word), DONE)))
        assert json.loads(data)["stop_reason"] == REASONS[meant], word


@pytest.mark.parametrize(("word", "stream"), list(product(WORDS["failed"], [True, False])), ids=str)
def test_a_failure_is_one_before_content_and_after(word: Any, stream: bool) -> None:
    for said in ("", "a"):
        pieces = played(decoder(stream=stream), sse(chunk(content=said), chunk(word), DONE))
        faults = [piece.error for piece in pieces if piece.error]

        assert len(faults) == 1
        assert faults[0].status >= 500
        assert b"message_stop" not in b"".join(piece.data for piece in pieces)


def test_overload_is_told_as_that() -> None:
    (fault,) = [piece.error for piece in played(decoder(), sse(chunk("engine_overloaded"))) if piece.error]

    assert (fault.status, fault.kind) == (529, "overloaded_error")


@pytest.mark.parametrize(("first", "second"), [("stop", "length"), ("length", "stop"), ("tool_calls", "MAX_TOKENS")])
def test_of_two_reasons_the_worse_one_counts(first: str, second: str) -> None:
    data = written(played(decoder(stream=False), sse(chunk(first, content="a"), chunk(second), DONE)))

    assert json.loads(data)["stop_reason"] == "max_tokens"


STOP_REASONS: dict[str, tuple[Any, str, str | None]] = {
    "a reason of Claude's": ("end_turn", "end_turn", None),
    "a worse reason": ("max_tokens", "max_tokens", None),
    "a stop sequence": ("END", "stop_sequence", "END"),
    "the id of a token": (151645, "end_turn", None),
    "nothing": (None, "end_turn", None),
}


@pytest.mark.parametrize(("said", "reason", "sequence"), STOP_REASONS.values(), ids=STOP_REASONS)
def test_a_stop_reason_beside_the_finish_reason(said: Any, reason: str, sequence: str | None) -> None:
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": said}]}
    seen = json.loads(written(played(decoder(stream=False), json.dumps(body).encode())))

    assert (seen["stop_reason"], seen["stop_sequence"]) == (reason, sequence)


def test_a_call_stays_a_call_whatever_the_word_for_its_end() -> None:
    for word in WORDS["stop"] + WORDS["tool_calls"]:
        events = fragment(0, "{}", id="c", name="t"), chunk(word), DONE
        assert json.loads(written(played(decoder(stream=False), sse(*events))))["stop_reason"] == "tool_use", word
