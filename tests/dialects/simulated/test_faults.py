"""Misbehaviour to order is the misbehaviour that was ordered."""

from __future__ import annotations

from itertools import islice

import pytest

from balancer.dialects.simulated import faults as drills
from balancer.dialects.simulated.faults import FAULTS, Drill, due
from balancer.model import Operation, Piece
from balancer.script import Data, Fail, Head, Pause
from balancer.wire.stream import StreamDecoder
from balancer.wire.whole import MessageDecoder


def pieces(fault: str, stream: bool) -> list[Piece]:
    """Everything that a decoder makes of the fault's first steps; the silent ones never end."""
    steps = list(islice(drills.script(fault, stream)(), 50))
    decoder = StreamDecoder() if stream else MessageDecoder(Operation.MESSAGES)
    told = [piece for step in steps if isinstance(step, Data) for piece in decoder.feed(step.data)]
    if not any(isinstance(step, Pause | Fail) for step in steps):
        told += decoder.end()
    assert not decoder.complete
    return told


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_is_ever_a_whole_answer(fault: str, stream: bool) -> None:
    """It breaks, goes on without end, is an error by its status, or is an error by its content."""
    steps = list(islice(drills.script(fault, stream)(), 50))

    head = next((step for step in steps if isinstance(step, Head)), None)
    by_itself = any(isinstance(step, Fail | Pause) for step in steps) or (head is not None and head.status >= 400)
    assert by_itself or any(piece.error for piece in pieces(fault, stream))


AFTER_CONTENT = frozenset({"stall_after", "error_event_after", "cut", "truncated"})
"""Of a stream these can't be hidden: the client has some of the answer already."""


@pytest.mark.parametrize("fault", FAULTS)
def test_content_comes_only_of_those_that_say_so(fault: str) -> None:
    substance = any(piece.has_content for piece in pieces(fault, stream=True))

    assert substance is (fault in AFTER_CONTENT)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_script_can_be_played_twice(fault: str) -> None:
    script = drills.script(fault, True)

    assert list(islice(script(), 20)) == list(islice(script(), 20))


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(KeyError):
        drills.script("meltdown", True)


DUE = {
    "for ever": (Drill("a", "529"), 1e9, True),
    "requests are left": (Drill("a", "529", requests_left=1), 0.0, True),
    "no request is left": (Drill("a", "529", requests_left=1).spent(), 0.0, False),
    "in time": (Drill("a", "529", until=10.0), 9.9, True),
    "over": (Drill("a", "529", until=10.0), 10.0, False),
    "in time, but none left": (Drill("a", "529", requests_left=0, until=10.0), 1.0, False),
}


@pytest.mark.parametrize(("drill", "now", "expected"), DUE.values(), ids=DUE)
def test_when_a_drill_is_due(drill: Drill, now: float, expected: bool) -> None:
    assert due(drill, now) is expected


WORDS = {
    "until called off": Drill("a", "529"),
    "for 3 requests": Drill("a", "529", requests_left=3),
    "for 30 s": Drill("a", "529", until=40.0),
    "for 3 requests or for 30 s": Drill("a", "529", requests_left=3, until=40.0),
}


@pytest.mark.parametrize(("words", "drill"), WORDS.items())
def test_how_long_a_drill_lasts_in_words(words: str, drill: Drill) -> None:
    assert drill.in_words(10.0) == words


def test_a_drill_is_over_after_so_many_requests() -> None:
    drill = Drill("a", "529", requests_left=2)
    met = 0
    while due(drill, 0.0):
        drill = drill.spent()
        met += 1

    assert met == 2
