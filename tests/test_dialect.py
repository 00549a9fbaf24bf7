"""What a provider type is given: its own objects in their own types, and a flow that is stepped."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from pydantic import BaseModel
from stand_ins import provider, request, wire_request

from balancer.dialect import Ask, Flow, FlowFailed, Incapable, TypedState, advance
from balancer.model import Candidate, Fault, Operation, Reply


@dataclass
class Tokens:
    token: str = field(default="sk-canary", repr=True)


@dataclass
class Counts:
    asked: int = 0


def test_each_class_has_one_object_that_is_kept() -> None:
    state = TypedState()
    state.of(Counts).asked += 1
    state.of(Counts).asked += 1

    assert state.of(Counts) == Counts(2)
    assert state.of(Tokens) == Tokens()
    assert TypedState().of(Counts) == Counts(0), "and is nobody else's"


def test_an_object_that_was_put_takes_the_place_of_the_one_before() -> None:
    state = TypedState()
    assert state.get(Counts) is None

    state.of(Counts)
    state.put(other := Counts(7))

    assert state.get(Counts) is state.of(Counts) is other


def test_what_is_kept_is_in_no_repr() -> None:
    state = TypedState()
    state.of(Tokens)
    ask = Ask(request(body=b"sk-canary"), Candidate(provider(), "m"), Operation.MESSAGES, state, attempt_state=state)

    assert "canary" not in repr(state) + repr(ask)
    assert "Tokens" in repr(state)


class Own(BaseModel):
    size: int = 1


class Others(BaseModel):
    size: int = 2


@pytest.mark.parametrize(("options", "size"), [(Own(size=5), 5), (Others(), 1), (None, 1)])
def test_options_are_of_the_dialects_class_or_its_defaults(options: object, size: int) -> None:
    ask = Ask(request(), Candidate(provider(options=options), "m"), Operation.MESSAGES, TypedState())

    assert ask.options(Own).size == size


def test_a_flow_is_stepped_to_its_end() -> None:
    told: list[int] = []
    first, second = wire_request(), wire_request()

    def flow() -> Flow:
        told.append((yield first).status)
        told.append((yield second).status)

    running = flow()

    assert next(running) is first
    assert advance(running, Reply(401, ())) is second
    assert advance(running, Reply(200, ())) is None
    assert told == [401, 200]


@pytest.mark.parametrize("error", [Incapable("no"), FlowFailed(Fault(502, "api_error", "no"))])
def test_what_a_flow_raises_comes_out(error: Exception) -> None:
    def flow() -> Flow:
        yield wire_request()
        raise error

    running = flow()
    next(running)
    with pytest.raises(type(error), match="no"):
        advance(running, Reply(200, ()))
