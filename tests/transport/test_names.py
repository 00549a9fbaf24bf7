"""Names are looked up in threads of their own: one at a time for each name, and no slow one holds up others."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections import Counter
from collections.abc import Sequence

import pytest
from shortages import no_descriptors

from balancer.policy import shortage
from balancer.transport import names
from balancer.transport.names import FAILED_KEPT_S, FAILED_MAX, THREADS_MAX, Names, resolved


class Resolver:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.slow = threading.Event()
        self.at = 0.0
        self.names = Names(self, lambda: self.at)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self.slow.wait(10)
        if host.endswith("missing"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ("192.0.2.1", "192.0.2.2")

    async def find(self, host: str) -> Sequence[str]:
        return await self.names.addresses(host, 80)


async def test_a_name_is_looked_up_once_for_all_who_ask_meanwhile() -> None:
    resolver = Resolver()
    waiting = [asyncio.ensure_future(resolver.find("slow")) for _ in range(50)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    resolver.slow.set()

    assert await asyncio.gather(*waiting[1:]) == [("192.0.2.1", "192.0.2.2")] * 49
    assert resolver.asked == {"slow": 1}
    await resolver.find("slow")
    assert resolver.asked == {"slow": 2}, "what was found is not kept: it may change"


async def test_a_slow_name_holds_up_no_other() -> None:
    resolver = Resolver()
    slow = [asyncio.ensure_future(resolver.find(f"slow-{number}")) for number in range(THREADS_MAX - 1)]
    await asyncio.sleep(0)

    async with asyncio.timeout(2):
        for number in range(20):
            assert await resolver.find(f"quick-{number}")
    resolver.slow.set()
    await asyncio.gather(*slow)


async def test_there_are_no_more_threads_than_the_bound_and_the_rest_waits() -> None:
    resolver = Resolver()
    many = [asyncio.ensure_future(resolver.find(f"slow-{number}")) for number in range(THREADS_MAX + 10)]
    await asyncio.sleep(0.05)
    running = sum(thread.name == "name-lookup" for thread in threading.enumerate())
    resolver.slow.set()
    await asyncio.gather(*many)

    assert running == THREADS_MAX
    assert len(resolver.asked) == THREADS_MAX + 10


async def test_a_name_that_is_not_found_is_not_looked_up_again_at_once() -> None:
    resolver = Resolver()
    for _ in range(5):
        with pytest.raises(socket.gaierror) as caught:
            await resolver.find("missing")
        assert caught.value.errno == socket.EAI_NONAME
    assert resolver.asked["missing"] == 1
    resolver.at += FAILED_KEPT_S
    with pytest.raises(socket.gaierror):
        await resolver.find("missing")
    assert resolver.asked["missing"] == 2


async def test_how_many_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "FAILED_MAX", 3)
    resolver = Resolver()
    for number in range(10):
        with pytest.raises(socket.gaierror):
            await resolver.find(f"{number}-missing")
    assert len(resolver.names._failed) <= 3 < FAILED_MAX


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%lo"])
async def test_an_address_is_itself(address: str) -> None:
    resolver = Resolver()

    assert await resolver.find(address) == (address,)
    assert not resolver.asked


async def test_this_machine_s_own_name_leads_here() -> None:
    found = await Names().addresses("localhost", 80)

    assert {"127.0.0.1", "::1"} & set(found)


async def test_a_lookup_that_lacks_descriptors_does_not_blame_the_name() -> None:
    with no_descriptors(), pytest.raises(OSError, match="open files") as caught:
        resolved("no-such-host.invalid", 80)
    assert caught.value.errno == errno.EMFILE

    def short(host: str, port: int) -> Sequence[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    lookup = Names(short)
    for _ in range(2):
        with pytest.raises(OSError, match="open files") as caught:
            await lookup.addresses("host", 80)
        assert shortage.kind_of(caught.value) == "descriptors"
    assert not lookup._failed
