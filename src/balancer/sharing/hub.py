"""The hub: hands commands from each worker to all others, and keeps what outlives a worker. It runs in the supervisor.

What it keeps: the latest report of each worker, the sum of the counters of those that have ended, and the commands that
still stand, for workers that begin later.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Coroutine
from pathlib import Path

from balancer.sharing.messages import REPORT, Answered, Collect, Do, Hello, Message, Order, Told, framed, messages
from balancer.sharing.protocol import VERSION
from balancer.sharing.reports import add_up, unpacked

WAITING_MAX_BYTES = 8 * 1024 * 1024
"""A worker for which more than this waits to be read is left alone: it comes again, and is told what stands."""

LONGEST_S = 30.0
"""No order waits for longer."""


class _Member:
    """A worker's connection."""

    def __init__(self, hello: Hello, writer: asyncio.StreamWriter) -> None:
        self.column = hello.column
        self.pid = hello.pid
        self.number = hello.number
        self._writer = writer
        self.asked: dict[int, asyncio.Future[bytes]] = {}

    def send(self, message: Message) -> None:
        """Send a message, unless it has not taken those before."""
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > WAITING_MAX_BYTES:
            self._writer.transport.abort()
            return
        self._writer.write(framed(message))

    def leave(self) -> None:
        """Close the connection: nobody waits for its answers any more."""
        for future in self.asked.values():
            future.cancel()
        self._writer.close()


class Hub:
    """All workers of a machine, as their supervisor sees them."""

    def __init__(self) -> None:
        self.ended: dict[str, list[float]] = {}
        """The counters of all workers that have ended, added up."""
        self.members: dict[int, _Member] = {}
        self.reports: dict[int, tuple[int, bytes]] = {}
        """By column: the process, and what it reported last."""
        self._standing: dict[str, tuple[str, bytes]] = {}
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen at this path. Raises `OSError`."""
        self._server = await asyncio.start_unix_server(self._serve, path)
        os.chmod(path, 0o600)

    async def close(self) -> None:
        """Leave all workers, and listen no more."""
        if self._server is not None:
            self._server.close()
        for member in list(self.members.values()):
            member.leave()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def worker_ended(self, column: int) -> None:
        """Keep what this worker has counted: it has ended."""
        if (member := self.members.pop(column, None)) is not None:
            member.leave()
        if (known := self.reports.pop(column, None)) is not None:
            add_up(self.ended, unpacked(known[1]).counters)

    # Workers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        member: _Member | None = None
        try:
            async for message in messages(reader):
                if member is not None:
                    self._take(member, message)
                elif isinstance(message, Hello) and message.version == VERSION:
                    member = self._join(message, writer)
                else:
                    return
        except asyncio.CancelledError:
            return  # the hub is being closed: nobody waits for this task
        finally:
            if task is not None:
                self._tasks.discard(task)
            if member is not None:
                self._gone(member)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    def _join(self, hello: Hello, writer: asyncio.StreamWriter) -> _Member:
        known = self.reports.get(hello.column)
        if known is not None and known[0] != hello.pid:
            self.worker_ended(hello.column)
        if (before := self.members.pop(hello.column, None)) is not None:
            before.leave()
        member = self.members[hello.column] = _Member(hello, writer)
        for kind, body in self._standing.values():
            member.send(Do(0, kind, body))
        return member

    def _gone(self, member: _Member) -> None:
        for future in member.asked.values():
            future.cancel()
        if self.members.get(member.column) is member:
            del self.members[member.column]

    def _take(self, member: _Member, message: Message) -> None:
        match message:
            case Told(body=body, id=0):
                self.reports[member.column] = member.pid, body
            case Told(body=body, id=asked):
                if (future := member.asked.get(asked)) is not None and not future.done():
                    future.set_result(body)
            case Order():
                self._begin(self._order(member, message))
            case Collect():
                self._begin(self._collect(member, message))
            case _:
                return

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Orders

    async def _order(self, member: _Member, order: Order) -> None:
        if order.standing:
            self._standing[order.standing] = order.kind, order.body
        by_worker, silent = await self._ask_others(member, order.kind, order.body, order.within_s)
        member.send(Answered(order.id, by_worker, silent))

    async def _collect(self, member: _Member, asked: Collect) -> None:
        by_worker, silent = await self._ask_others(member, REPORT, b"", asked.within_s)
        for column, report in by_worker.items():
            if (one := self.members.get(column)) is not None:
                self.reports[column] = one.pid, report
        reports = {column: report for column, (_, report) in self.reports.items() if column != member.column}
        member.send(Answered(asked.id, reports, silent, self.ended))

    async def _ask_others(
        self, member: _Member, kind: str, body: bytes, within_s: float
    ) -> tuple[dict[int, bytes], tuple[int, ...]]:
        """Have all others carry out a command; return their answers, and the numbers of those that gave none."""
        asked = next(self._ids)
        loop = asyncio.get_running_loop()
        others = [one for one in self.members.values() if one is not member]
        for one in others:
            one.asked[asked] = loop.create_future()
            one.send(Do(asked, kind, body))
        futures = [one.asked[asked] for one in others]
        if futures:
            await asyncio.wait(futures, timeout=min(within_s, LONGEST_S))
        answers, silent = {}, []
        for one, future in zip(others, futures, strict=True):
            del one.asked[asked]
            if future.done() and not future.cancelled():
                answers[one.column] = future.result()
            elif self.members.get(one.column) is one:  # else it has ended: there is nobody to answer
                silent.append(one.number)
            future.cancel()
        return answers, tuple(sorted(silent))
