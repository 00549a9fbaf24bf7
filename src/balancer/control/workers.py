"""All workers of this machine as one balancer: orders reach all of them, and what is shown is of all of them.

Where this process is the only one, there are no others to ask. What others do because this one was told is logged by
this one alone, so that one order is one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from balancer.config import Source
from balancer.control import status
from balancer.control.together import counted, joined
from balancer.dialects.simulated.faults import Drill
from balancer.events import Event, RequestBegan
from balancer.sharing.protocol import Collected, Report, Sharing
from balancer.sharing.reports import unpacked
from balancer.state.fleet import Fleet
from balancer.telemetry.metrics import Metrics

WITHIN_S = 2.0
"""How long the others have for an order. They carry it out between two requests."""

RELOAD_WITHIN_S = 15.0
"""The same, for a configuration: a large one takes seconds to be read on a busy machine."""

COLLECT_WITHIN_S = 1.0
"""How long the others have to tell what they count; after that what they told before stands for it."""

TELL_BEGUN_S = 0.05
"""Requests that have begun are told of so soon: what is killed before has no end in the log."""

RELOAD, WAKE, PAUSE, RESUME, DRILL = "reload", "wake", "pause", "resume", "drill"


class _Reload(msgspec.Struct, frozen=True):
    source: Source
    generation: int


class _Drill(msgspec.Struct, frozen=True):
    provider: str
    fault: str | None = None
    requests_left: int | None = None
    for_s: float | None = None


_FAULTS, _LOST = "local_fault\x1f", "log_lines_lost"
"""How what a process counts of itself is called in a report."""

_encode = msgspec.msgpack.encode
_encode_event = msgspec.msgpack.Encoder().encode


class Board(Protocol):
    """What is asked and told here: one worker's balancer."""

    fleet: Fleet
    metrics: Metrics

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def log_lines_lost(self) -> int: ...


class Workers:
    """The other workers, as this one sees them."""

    def __init__(self, board: Board, sharing: Sharing | None, trouble: str = "") -> None:
        """`trouble`: why there are others with whom nothing is shared; empty: there are none, or all is well."""
        self._board = board
        self._begun: dict[str, RequestBegan] = {}
        """Of the requests that are under way, those of which nobody was told yet."""
        self._trouble = trouble
        self._targets = status.Targets()
        self.sharing = sharing

    async def start(self, follow: Callable[[Source, int], Awaitable[str]]) -> None:
        """Begin to listen to the others. `follow` puts a configuration in force that another worker has read."""
        sharing = self.sharing
        if sharing is None:
            return

        async def reload(body: bytes) -> bytes:
            told = msgspec.msgpack.decode(body, type=_Reload)
            return (await follow(told.source, told.generation)).encode()

        for kind in (WAKE, PAUSE, RESUME):
            sharing.subscribe(kind, self._following(kind))
        sharing.subscribe(RELOAD, reload)
        sharing.subscribe(DRILL, self._drill)
        sharing.report_with(self._report)
        await sharing.start()

    def began(self, event: Event) -> None:
        """Note that a request has begun: if this worker is killed, its supervisor ends it in the log.

        The others are told a little later: most requests are over by then, and cost nothing.
        """
        begun = self._begun
        if not begun:
            asyncio.get_running_loop().call_later(TELL_BEGUN_S, self._tell_begun)
        begun[event.id] = event  # type: ignore[union-attr, assignment]

    def ended(self, event: Event) -> None:
        """Note that a request has ended."""
        if self._begun.pop(event.id, None) is None and self.sharing is not None:  # type: ignore[union-attr]
            self.sharing.ended(event.id)  # type: ignore[union-attr]

    def _tell_begun(self) -> None:
        begun, self._begun = self._begun, {}
        if self.sharing is not None:
            for request_id, event in begun.items():
                self.sharing.began(request_id, _encode_event(event))

    async def close(self) -> None:
        """Tell what was counted, and leave."""
        if self.sharing is not None:
            await self.sharing.close()

    # Orders

    async def tell(self, kind: str, provider: str) -> str:
        """Have the others wake, pause or resume a provider, too; return in words whom the order has reached."""
        standing = f"pause {provider}" if kind in (PAUSE, RESUME) else ""
        return await self._tell(kind, provider.encode(), standing)

    async def tell_drill(self, provider: str, drill: Drill | None) -> str:
        """Have the others inject the same fault; None: none. Return in words whom the order has reached."""
        told = _Drill(provider)
        if drill is not None:
            for_s = None if drill.until is None else drill.until - self._board.now()
            told = _Drill(provider, drill.fault, drill.requests_left, for_s)
        return await self._tell(DRILL, _encode(told), f"drill {provider}")

    async def tell_reload(self, source: Source, generation: int) -> dict[str, Any]:
        """Have the others put this configuration in force; return how that went, as the endpoint's answer shows it."""
        if self.sharing is None:
            return {}
        body = _encode(_Reload(source, generation))
        answers = await self.sharing.command(RELOAD, body, RELOAD_WITHIN_S, standing="reload")
        failed = [answer.decode() for answer in answers.by_worker.values() if answer]
        return {
            "workers": 1 + len(answers.by_worker) - len(failed),
            "not_reloaded": [f"worker {number} did not answer" for number in answers.silent] + failed,
        }

    async def _tell(self, kind: str, body: bytes, standing: str) -> str:
        sharing = self.sharing
        if sharing is None:
            return "all"
        answers = await sharing.command(kind, body, WITHIN_S, standing=standing)
        if answers.silent:
            return "all but " + ", ".join(f"worker {number}" for number in answers.silent)
        return "this worker" if sharing.trouble and not answers.by_worker else "all"

    def _following(self, kind: str) -> Callable[[bytes], Awaitable[bytes]]:
        async def follow(body: bytes) -> bytes:
            self._board.fleet.learn()
            self._board.fleet.orders.follow(kind, body.decode())
            return b""

        return follow

    async def _drill(self, body: bytes) -> bytes:
        told = msgspec.msgpack.decode(body, type=_Drill)
        now = self._board.now()
        until = None if told.for_s is None else now + told.for_s
        drill = None if told.fault is None else Drill(told.provider, told.fault, told.requests_left, until)
        self._board.fleet.orders.follow_drill(told.provider, drill, now)
        return b""

    # What is shown

    @property
    def alone(self) -> bool:
        """There are no other workers, as far as is known."""
        return self.sharing is None and not self._trouble

    async def view(self) -> dict[str, Any]:
        """Return the body of `GET /providers`."""
        return self._view(await self._collected())

    async def metrics(self) -> str:
        """Return the body of `GET /metrics`."""
        collected = await self._collected()
        metrics = self._board.metrics
        if collected is None:
            return metrics.render({**self._view(None, models=False), **_of_process(self._process())})
        others = [*(unpacked(report).counters for report in collected.reports.values()), collected.ended]
        return metrics.render({**self._view(collected, models=False), **_of_process(self._process(), *others)}, others)

    def _process(self) -> dict[str, list[float]]:
        """Return what this process counts of itself, in the form of a report."""
        board = self._board
        faults = {f"{_FAULTS}{kind}": [float(n)] for kind, n in board.fleet.local_faults.counts.items()}
        return {**faults, _LOST: [float(board.log_lines_lost())]}

    async def _collected(self) -> Collected | None:
        return None if self.sharing is None else await self.sharing.collect(COLLECT_WITHIN_S)

    def _view(self, collected: Collected | None, *, models: bool = True) -> dict[str, Any]:
        board, sharing = self._board, self.sharing
        own = status.describe(board.fleet, board.now(), board.wall(), models=models, targets=self._targets)
        if collected is None or sharing is None:
            if self._trouble:
                own["workers"] = {"expected": None, "answered": 1, "silent": [], "trouble": self._trouble}
            return own
        reports = [unpacked(report) for report in collected.reports.values()]
        shown = joined(own, [report for report in reports if report.view], collected.ended)
        shown["workers"] = {
            "expected": sharing.workers,
            "answered": 1 + len(reports) - len(collected.silent),
            "silent": list(collected.silent),
            "trouble": sharing.trouble or None,
        }
        return shown

    def _report(self) -> Report:
        board = self._board
        view = status.describe(board.fleet, board.now(), board.wall(), models=False)
        return Report({**board.metrics.counters(), **counted(view), **self._process()}, _encode(view))


def _of_process(*counters: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the sums of what processes have counted of themselves, as `Metrics.render` wants them."""
    faults: dict[str, int] = {}
    lost = 0
    for one in counters:
        lost += int(sum(one.get(_LOST, ())))
        for name, numbers in one.items():
            if name.startswith(_FAULTS):
                kind = name.removeprefix(_FAULTS)
                faults[kind] = faults.get(kind, 0) + int(sum(numbers))
    return {"local_faults": faults, "log_lines_lost": lost}
