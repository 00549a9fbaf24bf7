"""What ends by itself: long cooldowns that a probe proves right, and injected faults whose time is up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from virtual_time import in_virtual_time
from worlds import GOOD, JSON, World, error, script

from balancer import config
from balancer.clock import Clock
from balancer.control.recovery import WITHIN_S, Recovery
from balancer.dialects.simulated.faults import Drill
from balancer.events import Drilled, ProviderWoken
from balancer.model import Operation
from balancer.policy.probing import JITTER, PROBE_AT_S
from balancer.script import Cause, Data, Fail, Pause, Step

LIST = script(JSON, Data(b'{"data":[{"type":"model","id":"m"}],"has_more":false}'))
COUNT = script(JSON, Data(b'{"input_tokens": 3}'))
MISSING = error(404, "not_found_error")
KEY = error(401, "authentication_error")
ACCESS = error(403, "permission_error")
CREDIT = error(402, "billing_error")
DOWN: list[Step] = [Fail(Cause.REFUSED)]

ONE = """
providers: [{{name: a, type: {type}, base_url: "http://127.0.0.1:1001", auth_value: {secret}, request_timeout: 1}}]
model_routes: {{"m": [{{provider: a}}]}}
settings: {{drills: true{settings}}}
"""


class Watched:
    """A world with one provider, and its recovery running."""

    def __init__(self, world: World, recovery: Recovery) -> None:
        self.world = world
        self.recovery = recovery
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()

    @property
    def probes(self) -> list[str]:
        """The targets of what was sent besides requests of clients."""
        sent = self.world.transport.sent
        return [w.target.decode() for w in sent if w.method == b"GET" or w.target.endswith(b"count_tokens")]

    @property
    def woken(self) -> list[str]:
        return [event.by for event in self.world.events if isinstance(event, ProviderWoken)]

    def is_usable(self) -> bool:
        route = self.world.fleet.route("m")
        assert route is not None
        (one,) = self.world.fleet._everybody(route, "m", Operation.MESSAGES)
        return self.world.fleet.health.availability(one, self.loop.time()).usable

    async def until(self, after_s: float) -> None:
        """Return that long after the beginning."""
        await asyncio.sleep(self.began + after_s - self.loop.time())


@contextlib.asynccontextmanager
async def watched(
    *scripts: list[Step], settings: str = "", kind: str = "anthropic", secret: str = "sk-secret-of-a"
) -> AsyncIterator[Watched]:
    """Run a world whose first request fails as the first script says; the others are for what is asked after it."""
    world = World(list(scripts), text=ONE.format(settings=settings, type=kind, secret=secret))
    loop = asyncio.get_running_loop()
    recovery = Recovery(world.relay, Clock(loop.time, lambda: 1.8e9 + loop.time()), random.Random(3))
    world.fleet.bus.add(recovery.on_event, Recovery.KINDS)
    task = asyncio.create_task(recovery.run())
    try:
        await world.ask()
        yield Watched(world, recovery)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@in_virtual_time
async def test_a_key_that_is_mended_ends_its_cooldown_at_the_next_probe() -> None:
    async with watched(KEY, KEY, LIST, GOOD) as one:
        await one.until(29.9)
        assert one.probes == []
        await one.until(60.0)
        assert one.probes == ["/v1/models"]
        assert not one.is_usable()
        await one.until(60.0 * (1 + JITTER))
        assert one.probes == ["/v1/models"] * 2

        assert one.is_usable()
        assert one.woken == ["probe"]
        taker = await one.world.ask()
        assert taker.status == 200
        await one.until(3600.0)
        assert len(one.probes) == 2, "it is well"


@in_virtual_time
async def test_there_are_no_more_probes_than_planned_each_at_its_time() -> None:
    async with watched(KEY) as one:
        for number, at_s in enumerate(PROBE_AT_S):
            await one.until(at_s - 0.01)
            assert len(one.probes) == number
            await one.until(at_s * (1 + JITTER))
            assert len(one.probes) == number + 1
        await one.until(590.0)

        assert len(one.probes) == len(PROBE_AT_S)
        assert not one.is_usable()
        assert one.world.fleet.stats("a").requests == 1, "a probe is no request of a client"


@in_virtual_time
async def test_where_there_is_no_list_of_models_tokens_are_counted() -> None:
    async with watched(KEY, MISSING, COUNT) as one:
        await one.until(36.0)

        assert one.probes == ["/v1/models", "/v1/messages/count_tokens"]
        assert one.woken == ["probe"]
        asked = one.world.transport.sent[-1]
        assert b'"model":"m"' in b"".join(asked.body)
        assert (b"x-api-key", b"sk-secret-of-a") in asked.headers


@in_virtual_time
async def test_an_endpoint_that_does_not_check_keys_deceives_once() -> None:
    async with watched(KEY, LIST, KEY, LIST) as one:
        await one.until(36.0)
        assert (one.probes, one.woken) == (["/v1/models"], ["probe"])

        await one.world.ask()  # the key is refused still
        assert not one.is_usable()
        await one.until(36.0 + 590.0)
        assert one.probes == ["/v1/models"], "its list proves nothing"
        assert one.woken == ["probe"]


TRUSTED_AGAIN: dict[str, Callable[[Watched], object]] = {
    "a person wakes it": lambda one: one.world.fleet.orders.wake("a", 0.0),
    "it is configured anew": lambda one: one.world.fleet.reload(
        config.parse(ONE.format(settings="", type="anthropic", secret="s2"), "p", {}), 0.0
    ),
}


@pytest.mark.parametrize("event", TRUSTED_AGAIN.values(), ids=TRUSTED_AGAIN)
@in_virtual_time
async def test_a_probe_that_deceived_is_believed_again_when(event: Callable[[Watched], object]) -> None:
    async with watched(KEY, LIST, KEY, KEY, LIST) as one:
        await one.until(36.0)
        await one.world.ask()
        event(one)
        await one.world.ask()
        await asyncio.sleep(36.0)

        assert one.probes == ["/v1/models"] * 2
        assert one.woken.count("probe") == 2


@in_virtual_time
async def test_a_probe_that_deceived_is_believed_again_when_it_has_answered() -> None:
    async with watched(KEY, LIST, KEY, GOOD, KEY, LIST) as one:
        await one.until(36.0)
        await one.world.ask()
        await asyncio.sleep(600.0)
        await one.world.ask()  # well
        await one.world.ask()
        await asyncio.sleep(36.0)

        assert one.probes == ["/v1/models"] * 2


@in_virtual_time
async def test_credit_is_not_probed_for() -> None:
    async with watched(CREDIT, LIST) as one:
        await one.until(590.0)

        assert (one.probes, one.woken) == ([], [])


@in_virtual_time
async def test_access_that_was_never_denied_to_a_probe_proves_nothing() -> None:
    async with watched(ACCESS, LIST) as one:
        await one.until(590.0)

        assert len(one.probes) == len(PROBE_AT_S)
        assert one.woken == []


@in_virtual_time
async def test_access_that_a_probe_was_denied_and_is_granted_ends_the_cooldown() -> None:
    async with watched(ACCESS, ACCESS, LIST) as one:
        await one.until(72.0)

        assert one.woken == ["probe"]


LONG = ", failure_cooldown: {seconds: 600, backoff: constant}"


@in_virtual_time
async def test_a_provider_that_can_be_reached_again_ends_a_long_cooldown() -> None:
    async with watched(DOWN, DOWN, DOWN, DOWN, LIST, settings=LONG) as one:
        await one.until(30.0)
        for at_s in (36.0, 72.0):
            await one.until(at_s)
        assert one.woken == ["probe"], one.world.events


@in_virtual_time
async def test_a_short_cooldown_is_not_probed() -> None:
    async with watched(DOWN, settings=", failure_cooldown: 59") as one:
        await one.until(590.0)

        assert one.probes == []


@in_virtual_time
async def test_a_probe_that_gets_no_answer_is_given_up() -> None:
    async with watched(KEY, [Pause(10_000)], LIST) as one:
        await one.until(36.0 + WITHIN_S)
        assert one.probes == ["/v1/models"], "the other endpoint is not asked either"
        await one.until(72.0 + WITHIN_S)

        assert one.woken == ["probe"]


PREVENTED = {
    "it is paused": lambda world: world.fleet.orders.pause("a", 0.0),
    "the balancer drains": lambda world: setattr(world.fleet, "draining", True),
    "it is woken": lambda world: world.fleet.orders.wake("a", 0.0),
}


@pytest.mark.parametrize("event", PREVENTED.values(), ids=PREVENTED)
@in_virtual_time
async def test_nothing_is_probed_when(event: Any) -> None:
    async with watched(KEY) as one:
        event(one.world)
        await one.until(590.0)

        assert one.probes == []


@in_virtual_time
async def test_what_is_paused_during_its_probe_stays_as_it_is() -> None:
    async with watched(KEY, [Pause(3), *LIST]) as one:
        await one.until(1.0)
        due_at = one.recovery._plans["a"].due_at
        assert due_at is not None
        await asyncio.sleep(due_at + 1.0 - one.loop.time())
        assert one.probes == ["/v1/models"]
        one.world.fleet.orders.pause("a", 0.0)
        await asyncio.sleep(WITHIN_S)
        assert one.woken == []

        one.world.fleet.orders.resume("a", 0.0)
        await one.until(590.0)
        assert one.woken == ["probe"], "it is probed again after the pause"


@in_virtual_time
async def test_the_clients_own_credential_is_not_there_to_probe_with() -> None:
    async with watched(DOWN, LIST, settings=LONG, secret="passthrough") as one:
        await one.until(590.0)

        assert one.probes == []


@in_virtual_time
async def test_a_type_that_only_lists_models_is_probed_by_that() -> None:
    async with watched(KEY, KEY, LIST, kind="openai") as one:
        await one.until(72.0)

        assert one.probes[0].endswith("/models")
        assert one.woken == ["probe"]


@in_virtual_time
async def test_a_provider_that_is_gone_is_forgotten() -> None:
    async with watched(KEY) as one:
        text = (
            ONE.format(settings="", type="anthropic", secret="s")
            .replace("name: a", "name: z")
            .replace("provider: a", "provider: z")
        )
        one.world.fleet.reload(config.parse(text, "p", {}), 0.0)
        await one.until(590.0)

        assert one.probes == []
        assert one.recovery._plans == {}


# Injected faults


@in_virtual_time
async def test_an_injected_fault_ends_at_its_time_and_so_does_what_it_caused() -> None:
    async with watched(GOOD) as one:
        now = one.loop.time()
        one.world.fleet.orders.inject("a", Drill("a", "401", until=now + 30.0), now, 0.0)
        await one.world.ask()
        assert not one.is_usable()
        await one.until(29.9)
        assert not one.is_usable()
        await one.until(30.1)

        assert one.is_usable()
        assert one.woken == ["drill"]
        assert [event.until for event in one.world.events if isinstance(event, Drilled)] == ["for 30 s", "over"]
        assert one.probes == [], "what an injected fault has caused is not probed"


@in_virtual_time
async def test_a_fault_for_some_requests_ends_with_the_last_of_them() -> None:
    async with watched(GOOD) as one:
        now = one.loop.time()
        one.world.fleet.orders.inject("a", Drill("a", "401", requests_left=1), now, 0.0)
        await one.world.ask()

        assert one.is_usable()
        assert one.woken == ["drill"]
        assert (await one.world.ask()).status == 200


# The task


@in_virtual_time
async def test_a_fault_of_ours_ends_no_task(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(KEY, LIST) as one:
        broken = [True]
        ask_free = one.world.relay.ask_free

        async def failing(*args: Any) -> Any:
            if broken.pop() if broken else False:
                raise LookupError("a fault of ours")
            return await ask_free(*args)

        monkeypatch.setattr(one.world.relay, "ask_free", failing)
        await one.until(36.0)
        assert "probing a failed in a way that it should not" in caplog.text
        await one.until(72.0)

        assert one.woken == ["probe"]


@in_virtual_time
async def test_without_anything_to_do_it_sleeps() -> None:
    async with watched(GOOD) as one:
        timers = one.loop.timers  # type: ignore[attr-defined]
        await one.until(86_400.0)

        assert one.loop.timers - timers <= 1  # type: ignore[attr-defined]
        assert await one.recovery.step() is None


@in_virtual_time
async def test_it_knows_when_something_is_due() -> None:
    async with watched(KEY) as one:
        due_s = await one.recovery.step()
        assert due_s is not None
        assert 30.0 <= due_s <= 36.0
        now = one.loop.time()
        one.world.fleet.orders.inject("a", Drill("a", "529", until=now + 5.0), now, 0.0)

        assert await one.recovery.step() == pytest.approx(5.0)
