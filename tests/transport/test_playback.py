"""Scripts, played in the place of an exchange: what they do, and how long they take."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import in_virtual_time

from balancer.model import Origin, WireRequest
from balancer.script import NOTHING_SENT, Cause, Data, Fail, Head, Pause, Step
from balancer.transport import Transport, TransportError

OK = Head(200, ((b"a", b"b"),))


def played(*steps: Step) -> WireRequest:
    return WireRequest(Origin(tls=False, host="nowhere", port=1), b"POST", b"/", (), script=lambda: iter(steps))


async def ask(*steps: Step, within_s: float = 10) -> tuple[int, bytes]:
    async with Transport().exchange(played(*steps), connect_s=1, head_s=within_s) as answer:
        assert answer.headers == OK.headers
        return answer.status, await answer.read_whole(1000, within_s)


@in_virtual_time
async def test_a_script_is_played_without_a_socket_in_its_own_time() -> None:
    assert await ask(Pause(3), OK, Data(b"x"), Pause(4), Data(b"y"), Pause(5)) == (200, b"xy")
    assert asyncio.get_running_loop().time() == 12.0


@pytest.mark.parametrize("cause", Cause)
@in_virtual_time
async def test_a_failure_before_the_head_was_sent_or_not_as_a_connections_is(cause: Cause) -> None:
    with pytest.raises(TransportError) as caught:
        await ask(Fail(cause))

    assert (caught.value.cause, caught.value.sent, caught.value.headed) == (cause, cause not in NOTHING_SENT, False)


@pytest.mark.parametrize("cause", Cause)
@in_virtual_time
async def test_a_failure_behind_the_head_was_always_sent(cause: Cause) -> None:
    with pytest.raises(TransportError) as caught:
        await ask(OK, Data(b"x"), Fail(cause))

    assert (caught.value.cause, caught.value.sent, caught.value.headed) == (cause, True, True)


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ([Pause(11)], Cause.HEAD_TIMEOUT),
        ([Pause(9), Pause(2), OK], Cause.HEAD_TIMEOUT),
        ([OK, Pause(11)], Cause.IDLE_TIMEOUT),
    ],
)
@in_virtual_time
async def test_who_is_silent_for_longer_than_is_waited_is_given_up(steps: list[Step], cause: Cause) -> None:
    with pytest.raises(TransportError) as caught:
        await ask(*steps)

    assert (caught.value.cause, asyncio.get_running_loop().time()) == (cause, 10.0)


@in_virtual_time
async def test_a_pause_as_long_as_is_waited_is_not_too_long() -> None:
    assert await ask(Pause(10), OK, Data(b"x"), Pause(10), Data(b"y")) == (200, b"xy")


@pytest.mark.parametrize("steps", [[], [Data(b"x")]], ids=["nothing", "a body"])
async def test_a_script_without_a_head_is_no_response(steps: list[Step]) -> None:
    with pytest.raises(TransportError, match="a script without a head"):
        await ask(*steps)
