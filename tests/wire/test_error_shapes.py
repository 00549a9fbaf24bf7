"""The balancer's own errors, in the words of the API that was asked."""

from __future__ import annotations

import json

import pytest

from balancer.model import Operation
from balancer.wire import sse
from balancer.wire.error_shapes import OPENAI_PING, shape_of
from balancer.wire.errors import STATUS_OF


def test_the_messages_api_is_what_is_spoken_where_nothing_else_is_known() -> None:
    for operation in (None, Operation.MESSAGES, Operation.COUNT_TOKENS, Operation.MODELS):
        told = json.loads(shape_of(operation).body("api_error", "down", "req_1"))
        assert told == {"type": "error", "error": {"type": "api_error", "message": "down"}, "request_id": "req_1"}
        assert shape_of(operation).id_header == b"request-id"


@pytest.mark.parametrize("kind", [*STATUS_OF, "not_supported", "something new"])
@pytest.mark.parametrize("operation", [Operation.CHAT_COMPLETIONS, Operation.RESPONSES])
def test_openais_errors_have_four_members(operation: Operation, kind: str) -> None:
    error = json.loads(shape_of(operation).body(kind, "no", "req_1"))["error"]

    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "no"
    assert shape_of(operation).id_header == b"x-request-id"


def test_an_error_in_a_stream_of_chunks_is_the_body_of_one() -> None:
    frame = shape_of(Operation.CHAT_COMPLETIONS).frame("overloaded_error", "no", "req_1")

    assert sse.fields(frame) == (b"", shape_of(Operation.CHAT_COMPLETIONS).body("overloaded_error", "no", "req_1"))


def test_an_error_in_a_stream_of_events_is_an_event() -> None:
    name, data = sse.fields(shape_of(Operation.RESPONSES).frame("rate_limit_error", "no", "req_1"))
    told = json.loads(data)

    assert (name, told["type"], told["message"]) == (b"error", "error", "no")
    assert told["code"] == told["error"]["code"] == "rate_limit_exceeded"


def test_a_ping_is_a_comment() -> None:
    assert sse.frames(OPENAI_PING) == [OPENAI_PING]
    assert sse.fields(OPENAI_PING) == (b"", b"")
