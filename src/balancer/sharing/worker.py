"""What one of several worker processes shares: the table in shared memory, and its link to the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from balancer.sharing import layout
from balancer.sharing.link import AWAY, Link
from balancer.sharing.memory import Memory, OtherVersion
from balancer.sharing.protocol import VERSION, Answers, Collected, Handler, Report
from balancer.sharing.table import Table

NUMBER = "BALANCER_WORKER"
"""The variable with the number of this worker, from 1."""

PLACE = "BALANCER_SHARING"
"""The variable that says where what is shared is: version, descriptor, column and the path of the hub's socket."""


NOTHING = "-"
"""Stands in the place of the version where there is nothing to share; behind it the variable says why."""


class NotShared(Exception):
    """This worker can't share, and goes on alone. Its words say why."""


class WorkerSharing(Table):
    """The sharing of one worker process."""

    def __init__(self, memory: Memory, column: int, number: int, path: str) -> None:
        super().__init__(memory, column)
        self.number = number
        memory.words[memory.layout.processes // layout.WORD + column] = os.getpid()
        self._link = Link(path, column, number)

    def subscribe(self, kind: str, handler: Handler) -> None:
        """Carry out the commands of this kind that other workers send, one after the other."""
        self._link.subscribe(kind, handler)

    async def command(self, kind: str, body: bytes, within_s: float, *, standing: str = "") -> Answers:
        """Have all other workers carry a command out, and return what they answered."""
        return await self._link.command(kind, body, within_s, standing=standing)

    async def collect(self, within_s: float) -> Collected:
        """Return what the other workers count, as of now."""
        return await self._link.collect(within_s)

    def report_with(self, reporter: Callable[[], Report]) -> None:
        """Have this called for what this worker tells of itself."""
        self._link.report_with(reporter)

    @property
    def trouble(self) -> str:
        """What is wrong with the sharing itself, in plain words; empty: it is well."""
        return super().trouble if self._link.connected else AWAY

    async def start(self) -> None:
        """Begin to listen to commands."""
        await self._link.start()

    async def close(self) -> None:
        """Tell the last report, and leave."""
        await self._link.close()


def joined(environ: Mapping[str, str]) -> WorkerSharing | None:
    """Return what the worker of this environment shares; None: it is not one of several. Raises `NotShared`."""
    where = environ.get(PLACE)
    if not where:
        return None
    version, _, rest = where.partition(":")
    if version == NOTHING:
        raise NotShared(f"the workers share nothing ({rest})")
    if version != str(VERSION):
        raise NotShared(f"the supervisor shares by version {version[:10]}, this worker by version {VERSION}")
    try:
        fd, column, path = rest.split(":", 2)
        number = int(environ.get(NUMBER, "0"))
        return WorkerSharing(Memory(int(fd)), int(column), number, path)
    except OtherVersion:
        raise NotShared("the memory that the workers share is of another version") from None
    except (ValueError, OSError) as error:
        raise NotShared(f"the memory that the workers share can't be used ({type(error).__name__})") from None
