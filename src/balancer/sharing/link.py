"""A worker's connection to the hub: commands both ways, and reports. Where the hub is away, it is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable

from balancer.sharing.messages import REPORT, Answered, Collect, Do, Hello, Order, Told, framed, messages
from balancer.sharing.protocol import Answers, Collected, Handler, Report
from balancer.sharing.reports import packed

_log = logging.getLogger(__name__)

AGAIN_S = 0.5
"""How long to wait before the hub is tried again."""

REPORT_EVERY_S = 1.0
"""How often a worker reports by itself: so much of its counters is lost if it is killed and nobody asked."""

AWAY = "the hub of the workers can't be reached: orders reach one worker, and counters are this worker's"


class Link:
    """The connection of one worker."""

    def __init__(self, path: str, column: int, number: int) -> None:
        self.path = path
        self.connected = False
        self._hello = Hello(column, os.getpid(), number)
        self._handlers: dict[str, Handler] = {}
        self._reporter: Callable[[], Report] = lambda: Report({})
        self._reported = b""
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answered]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._said_away = False

    def subscribe(self, kind: str, handler: Handler) -> None:
        """Carry out the commands of this kind that other workers send."""
        self._handlers[kind] = handler

    def report_with(self, reporter: Callable[[], Report]) -> None:
        """Have this called for what this worker tells of itself."""
        self._reporter = reporter

    async def start(self) -> None:
        """Connect, and go on doing so whenever the connection is lost."""
        await self._connect()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._report_by_itself())]

    async def close(self) -> None:
        """Tell the last report, and leave."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        writer, self._writer, self.connected = self._writer, None, False
        if writer is not None:
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(framed(Told(self._report())))
                async with asyncio.timeout(1.0):
                    await writer.drain()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    # Orders

    async def command(self, kind: str, body: bytes, within_s: float, *, standing: str = "") -> Answers:
        """Have all other workers carry a command out, and return what they answered."""
        asked = next(self._ids)
        answered = await self._ask(asked, framed(Order(asked, kind, body, within_s, standing)), within_s)
        return Answers() if answered is None else Answers(answered.by_worker, answered.silent)

    async def collect(self, within_s: float) -> Collected:
        """Return what the other workers count, as of now."""
        asked = next(self._ids)
        answered = await self._ask(asked, framed(Collect(asked, within_s)), within_s)
        return Collected() if answered is None else Collected(answered.by_worker, answered.ended, answered.silent)

    async def _ask(self, asked: int, data: bytes, within_s: float) -> Answered | None:
        """Send what is to be answered; None: there is no answer, or no hub."""
        if self._writer is None or not self.connected:
            return None
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._asked[asked] = future
        try:
            self._writer.write(data)
            async with asyncio.timeout(within_s + 1.0):
                return await future
        except (TimeoutError, OSError):
            return None
        finally:
            del self._asked[asked]

    # The connection

    async def _connect(self) -> asyncio.StreamReader | None:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self.path)
        except OSError as error:
            if not self._said_away:
                self._said_away = True
                _log.warning("%s (%s); it is tried again", AWAY, error.strerror or type(error).__name__)
            return None
        self._writer.write(framed(self._hello))
        self.connected = True
        if self._said_away:
            self._said_away = False
            _log.warning("the hub of the workers is there again")
        return self._reader

    async def _run(self) -> None:
        while True:
            if self.connected:
                await self._listen(self._reader)
                self._lost()
            await asyncio.sleep(AGAIN_S)
            await self._connect()

    def _lost(self) -> None:
        self.connected = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._asked.values():
            future.cancel()
        self._said_away = True
        _log.warning("%s; it is tried again", AWAY)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Carry out what comes, one after the other, until the connection ends."""
        orders: asyncio.Queue[Do] = asyncio.Queue()
        worker = asyncio.get_running_loop().create_task(self._carry_out(orders))
        try:
            async for message in messages(reader):
                if isinstance(message, Do):
                    if message.kind == REPORT:  # at once: it waits for nothing
                        self._send(Told(self._report(), message.id))
                    else:
                        orders.put_nowait(message)
                elif isinstance(message, Answered):
                    future = self._asked.get(message.id)
                    if future is not None and not future.done():
                        future.set_result(message)
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    async def _carry_out(self, orders: asyncio.Queue[Do]) -> None:
        while True:
            order = await orders.get()
            answer = b""
            if (handler := self._handlers.get(order.kind)) is not None:
                try:
                    answer = await handler(order.body)
                except Exception:  # a fault of ours must not end the task that listens to all orders
                    _log.exception("the order %s failed in a way that it should not", order.kind[:40])
            if order.id:
                self._send(Told(answer, order.id))

    def _send(self, message: Told) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framed(message))

    # Reports

    def _report(self) -> bytes:
        return packed(self._reporter())

    async def _report_by_itself(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            if self.connected:
                report = self._report()
                if report != self._reported:
                    self._reported = report
                    self._send(Told(report))
