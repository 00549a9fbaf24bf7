"""Commands and reports over the hub, with its socket."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sharing.tables import until

from balancer.sharing.hub import Hub
from balancer.sharing.link import Link
from balancer.sharing.messages import Hello, Told, framed
from balancer.sharing.protocol import Report


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub()
    await hub.start(tmp_path / "hub")
    yield hub
    await hub.close()


class Joined:
    """Workers that have joined the hub."""

    def __init__(self, path: Path, count: int) -> None:
        self.links = [Link(str(path), n, n + 1) for n in range(count)]
        self.done: list[tuple[int, bytes]] = []
        for n, link in enumerate(self.links):
            link.report_with(lambda n=n: Report({"requests": [float(n)]}))  # type: ignore[misc]
            link.subscribe("wake", self._doing(n))

    def _doing(self, n: int):  # type: ignore[no-untyped-def]
        async def wake(body: bytes) -> bytes:
            self.done.append((n, body))
            return b"%d" % n

        return wake

    async def __aenter__(self) -> list[Link]:
        for link in self.links:
            await link.start()
        await self.links[0].command("nothing", b"", 1.0)
        return self.links

    async def __aexit__(self, *_: object) -> None:
        for link in self.links:
            await link.close()


async def test_an_order_reaches_all_others_before_it_is_answered(hub: Hub, tmp_path: Path) -> None:
    joined = Joined(tmp_path / "hub", 4)
    async with joined as links:
        await _members(hub, 4)

        answers = await links[2].command("wake", b"p0", 1.0)

        assert answers.by_worker == {0: b"0", 1: b"1", 3: b"3"}
        assert answers.silent == ()
        assert sorted(joined.done) == [(0, b"p0"), (1, b"p0"), (3, b"p0")]


async def test_two_workers_may_order_at_the_same_time(hub: Hub, tmp_path: Path) -> None:
    joined = Joined(tmp_path / "hub", 2)
    async with joined as links:
        await _members(hub, 2)

        both = await asyncio.gather(links[0].command("wake", b"a", 1.0), links[1].command("wake", b"b", 1.0))

        assert [answers.by_worker for answers in both] == [{1: b"1"}, {0: b"0"}]


async def test_who_does_not_answer_is_named_and_not_waited_for(hub: Hub, tmp_path: Path) -> None:
    joined = Joined(tmp_path / "hub", 2)
    async with joined as links:
        _, writer = await asyncio.open_unix_connection(tmp_path / "hub")
        writer.write(framed(Hello(5, os.getpid(), 6)))
        writer.write(framed(Told(b"nonsense")))
        await _members(hub, 3)

        answers = await links[0].command("wake", b"p0", 0.05)
        known = await links[0].collect(0.05)

        assert (answers.by_worker, answers.silent) == ({1: b"1"}, (6,))
        assert (set(known.reports), known.silent) == ({1, 5}, (6,))
        writer.close()
        await writer.wait_closed()


async def test_a_handler_that_fails_does_not_end_the_listening(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joined = Joined(tmp_path / "hub", 2)

    async def fails(body: bytes) -> bytes:
        raise RuntimeError

    joined.links[1].subscribe("fails", fails)
    async with joined as links:
        await _members(hub, 2)
        await links[0].command("fails", b"", 1.0)

        assert (await links[0].command("wake", b"", 1.0)).by_worker == {1: b"1"}
        assert "failed in a way that it should not" in caplog.text


async def test_a_lost_hub_is_said_once_and_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    first = Hub()
    await first.start(tmp_path / "hub")
    joined = Joined(tmp_path / "hub", 2)
    async with joined as links:
        await _members(first, 2)
        await first.close()
        await until(lambda: not links[0].connected and not links[1].connected)
        assert (await links[0].command("wake", b"", 0.1)).by_worker == {}
        assert (await links[0].collect(0.1)).reports == {}
        await asyncio.sleep(1.2)
        said = [record for record in caplog.records if "can't be reached" in record.message]
        assert len(said) == 2, "each worker says it once"

        (tmp_path / "hub").unlink(missing_ok=True)
        second = Hub()
        await second.start(tmp_path / "hub")
        await _members(second, 2)

        assert (await links[0].command("wake", b"", 1.0)).by_worker == {1: b"1"}
        await second.close()


async def test_who_joins_later_is_told_what_stands(hub: Hub, tmp_path: Path) -> None:
    early = Joined(tmp_path / "hub", 1)
    async with early as links:
        await links[0].command("wake", b"old", 0.1, standing="wake p0")
        await links[0].command("wake", b"new", 0.1, standing="wake p0")
        await links[0].command("wake", b"past", 0.1)
        late = Joined(tmp_path / "hub", 2)
        late.links = late.links[1:]
        async with late:
            await until(lambda: late.done)

        assert late.done == [(1, b"new")]


async def test_what_is_no_worker_of_this_version_is_not_listened_to(hub: Hub, tmp_path: Path) -> None:
    for first in (b"GET / HTTP/1.1\r\n\r\n", framed(Hello(0, 1, 1, version=99)), framed(Told(b""))):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "hub")
        writer.write(first)
        async with asyncio.timeout(2.0):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def _members(hub: Hub, count: int) -> None:
    await until(lambda: len(hub.members) >= count)
