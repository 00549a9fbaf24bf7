"""Workers that share and are all in this process: for tests, and for one worker that shares with other machines."""

from __future__ import annotations

import os
from collections.abc import Callable

from balancer.sharing.memory import Memory, made
from balancer.sharing.protocol import Answers, Collected, Handler, Report
from balancer.sharing.reports import add_up, packed
from balancer.sharing.table import Table, ended


class Group:
    """So many workers, on one table. `member(n)` is the sharing of each."""

    def __init__(self, workers: int) -> None:
        self._fd = made(workers)
        self.memory = Memory(self._fd)
        self.members: dict[int, InProcess] = {}
        self.standing: dict[str, tuple[str, bytes]] = {}
        self.ended: dict[str, list[float]] = {}

    def member(self, worker: int) -> InProcess:
        """Return the sharing of a worker that begins now."""
        member = self.members[worker] = InProcess(self, worker)
        return member

    def end(self, worker: int) -> None:
        """End a worker, as if it had been killed."""
        report = self.members.pop(worker).report()
        add_up(self.ended, report.counters)
        ended(self.memory, worker)

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._fd)


class InProcess(Table):
    """One worker of a group."""

    def __init__(self, group: Group, worker: int) -> None:
        super().__init__(group.memory, worker)
        self._group = group
        self._handlers: dict[str, Handler] = {}
        self._reporter: Callable[[], Report] = lambda: Report({})

    def subscribe(self, kind: str, handler: Handler) -> None:
        """Carry out the commands of this kind that other workers send."""
        self._handlers[kind] = handler

    async def command(self, kind: str, body: bytes, within_s: float, *, standing: str = "") -> Answers:
        """Have all other workers carry a command out."""
        if standing:
            self._group.standing[standing] = kind, body
        answers = {}
        for member in list(self._group.members.values()):
            if member is not self:
                answers[member.worker] = await member.carry_out(kind, body)
        return Answers(answers)

    async def carry_out(self, kind: str, body: bytes) -> bytes:
        """Carry a command of another worker out."""
        handler = self._handlers.get(kind)
        return b"" if handler is None else await handler(body)

    async def collect(self, within_s: float) -> Collected:
        """Return what the other workers count."""
        others = {n: member for n, member in self._group.members.items() if member is not self}
        return Collected({n: packed(member.report()) for n, member in others.items()}, dict(self._group.ended))

    def report_with(self, reporter: Callable[[], Report]) -> None:
        """Have this called for what this worker tells of itself."""
        self._reporter = reporter

    def report(self) -> Report:
        """Return what this worker tells of itself."""
        return self._reporter()

    async def start(self) -> None:
        """Carry out what was ordered before."""
        for kind, body in list(self._group.standing.values()):
            await self.carry_out(kind, body)

    async def close(self) -> None:
        """Leave: what it counted is kept."""
        self._group.end(self.worker)
