"""The supervisor: starts workers, watches them, replaces those that end or hang, and ends when it is told to.

    signal            what it does
    TERM, INT         drains: workers let answers under way end; a second time: ends at once
    HUP               reads the configuration's file again
    USR2              rolling restart: for each worker a new one is started, and when it serves the old one leaves

Its rule: what serves is never stopped because something else can't start. A worker that can't start is tried again,
with waits that double. Only where none has ever served does the supervisor give up, because then nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from balancer.sharing.machine import Machine
from balancer.supervisor.backoff import Backoff
from balancer.supervisor.cut_off import counted, cut_off
from balancer.supervisor.messages import (
    AskRestart,
    Beat,
    Begin,
    Drain,
    EndNow,
    FileRead,
    FromWorker,
    Known,
    Leave,
    Leaves,
    Loaded,
    ReadFile,
    RestartEnded,
    Restarts,
    Serves,
    TakeOver,
    Tell,
)
from balancer.supervisor.process import Process, Step, in_words
from balancer.supervisor.surroundings import Configuration, Reporter, Sockets
from balancer.supervisor.systemd import Notifier

_log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often it looks at its workers, if nothing happens."""

SILENT_S = 5.0
"""A worker that says nothing for so long hangs: it says something each second."""

START_S = 60.0
"""The longest that a worker may take to serve."""

ASIDE_S = 0.5
"""How long a worker has to say what it knows of the providers."""

AFTER_DRAIN_S = 5.0
"""How much longer than its answers a worker may take to end."""

FOR_ALL_S = 0.1
"""How long the signal that a worker got may take to reach the supervisor too."""

NOW_S = 3.0
"""How long a worker may take to end where it is not to wait."""

STARTUP_FAILED = 3
DRAIN_FAILED = 1

REASONS = ("start", "crash", "hang", "signal")
"""Why a worker had to be started again: it could not start; it ended by itself; it hung; somebody ended it."""


@dataclass(slots=True)
class Place:
    """Where one worker stands; its number stays while processes come and go."""

    number: int
    backoff: Backoff = field(default_factory=Backoff)
    now: Process | None = None
    """Whoever holds the place."""
    start_at: float = math.inf
    """When a new one is to be started."""
    failed: bool = False
    """The latest could not start."""


class Supervisor:
    """Several workers as one balancer."""

    def __init__(
        self,
        workers: int,
        sockets: Sockets,
        configuration: Configuration,
        reporter: Reporter,
        machine: Machine,
        notifier: Notifier,
        on_serving: Callable[[], None],
    ) -> None:
        self.restarts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._configuration = configuration
        self._places = [Place(number) for number in range(1, workers + 1)]
        self._processes: set[Process] = set()
        self._sockets = sockets
        self._reporter = reporter
        self._machine = machine
        self._notifier = notifier
        self._on_serving = on_serving
        self.knows: Callable[[], bytes] | None = None
        """Says what the supervisor's own process knows of the providers, while it serves itself."""
        self._told_serving = False
        self._wake = asyncio.Event()
        self._answers: dict[Process, asyncio.Future[bytes]] = {}
        self._restart: asyncio.Task[str] | None = None
        self._looked_at = time.monotonic()
        self._drains_until = math.inf
        """When workers that still drain are killed; infinite: the balancer is not being stopped."""
        self._code = 0

    @property
    def draining(self) -> bool:
        return self._drains_until < math.inf

    # Orders

    def drain(self) -> None:
        """Let answers under way end, then end. The second time: do not wait."""
        now = time.monotonic()
        if self.draining:
            self._send_all(EndNow())
            self._drains_until = min(self._drains_until, now + NOW_S)
        else:
            self._drains_until = now + self._configuration.drain_s + AFTER_DRAIN_S
            self._notifier.stops(self._configuration.drain_s)
            if self._restart is not None:
                self._restart.cancel()
            elsewhere = self._sockets.let_go()
            self._send_all(Drain(elsewhere))
        self._wake.set()

    def read_file(self) -> None:
        """Have everybody read the configuration's file again."""
        self._notifier.reloads()
        self._configuration.look(self._notifier.serves)
        self._send_all(ReadFile())

    def restart(self) -> asyncio.Task[str]:
        """Replace all workers, one after the other. The result says why it could not be done; empty: it was."""
        if self._restart is None or self._restart.done():
            self._restart = asyncio.get_running_loop().create_task(self._replace_all())
        return self._restart

    # Life

    async def run(self) -> int:
        """Serve until the balancer is stopped, or can't begin. Returns the exit code."""
        await self._machine.start()
        try:
            await self._serve()
        finally:
            # After a fault of this program nobody is killed: workers let their answers end when they see it gone.
            await self._machine.close()
        return self._code

    async def _serve(self) -> None:
        for place in self._places:
            await self._start(place)
        while not self._is_over():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            self._wake.clear()
            try:
                await self._look()
            except Exception:  # what serves goes on
                _log.exception("a fault of the supervisor")
                await asyncio.sleep(LOOK_S)
        for process in self._processes:
            process.kill("end")
        while self._processes:
            await self._reap()
            await asyncio.sleep(0.01)

    def child_ended(self) -> None:
        """A child process has ended; which one is found out soon."""
        self._wake.set()

    def _is_over(self) -> bool:
        if self.draining:
            return not self._processes
        if not self._told_serving and all(place.failed for place in self._places):
            self._code = STARTUP_FAILED
            return True
        return False

    async def _look(self) -> None:
        now = time.monotonic()
        late = now - self._looked_at > SILENT_S / 2
        self._looked_at = now
        self._notifier.lives(now)
        await self._reap()
        for process in self._processes:
            if late:  # this process stood still itself: it knows nothing of the others
                process.heard_at = now
            if process.step is Step.STARTING:
                if now - process.started_at > START_S:
                    process.kill("start")
            elif now - process.heard_at > SILENT_S:
                process.kill("hang")
            if now > min(self._drains_until, process.leaves_until) and not process.killed_for:
                self._code = DRAIN_FAILED
                process.kill("drain")
        if not self.draining:
            for place in self._places:
                if now >= place.start_at:
                    await self._start(place)

    async def _start(self, place: Place) -> None:
        place.start_at = math.inf
        try:
            place.now = await self._new(place.number)
        except OSError as error:
            self._reporter.warn(f"worker {place.number} can't be started: {error.strerror or error}")
            place.start_at = time.monotonic() + place.backoff.ended(0)

    async def _new(self, number: int) -> Process:
        """Start a process for a place. Raises `OSError`."""
        begin = Begin(
            number,
            len(self._places),
            self._configuration.source,
            self._configuration.overrides,
            self._sockets.descriptors,
            self._sockets.own(number),
            *self._configuration.opened_for,
            dict(self.restarts),
        )
        machine = self._machine
        process = await Process.start(begin, machine.environment(number), machine.descriptors(), time.monotonic())
        self._processes.add(process)
        process.listen(self._take)
        return process

    # What workers say

    def _take(self, process: Process, message: FromWorker) -> None:
        process.heard_at = time.monotonic()
        match message:
            case Beat():
                pass
            case Loaded():
                process.step = Step.LOADED
                asyncio.get_running_loop().create_task(self._hand_over(process))
            case Serves():
                self._serves(process)
            case Known(state=state):
                if (answer := self._answers.pop(process, None)) is not None and not answer.done():
                    answer.set_result(state)
            case Leaves():
                process.left_by_itself = True
                # The same signal may be on its way to the supervisor, if it was sent to all.
                asyncio.get_running_loop().call_later(FOR_ALL_S, self._left_alone, process)
            case FileRead():
                self._configuration.look()
            case AskRestart():
                self._answer_restart(process)

    def _let_leave(self, process: Process) -> None:
        if not self.draining:
            process.step = Step.LEAVING
            process.leaves_until = time.monotonic() + self._configuration.drain_s + AFTER_DRAIN_S
            process.channel.send(Leave())

    def _left_alone(self, process: Process) -> None:
        """A worker was sent a signal to end, by somebody else: another takes its place at once."""
        place = self._places[process.number - 1]
        if self.draining or place.now is not process:
            return
        self._let_leave(process)
        place.now, place.start_at = None, time.monotonic()
        self._count(process, "signal", "told to end by a signal", 0.0)
        self._wake.set()

    def _count(self, process: Process, reason: str, how: str, wait_s: float) -> None:
        """Say, and count, that a worker has ended and another is started in its place."""
        self.restarts[reason] += 1
        self._reporter.ended(process.number, process.pid, reason, how, wait_s)
        self._send_all(Restarts(dict(self.restarts)))

    def _serves(self, process: Process) -> None:
        process.step = Step.SERVING
        process.served_at = time.monotonic()
        for place in self._places:
            if place.now is process:
                place.failed = False
        if self.draining:
            process.channel.send(Drain(self._sockets.let_go()))
        elif not self._told_serving:
            self._told_serving = True
            self._notifier.serves()
            self._on_serving()
        self._wake.set()

    def _answer_restart(self, process: Process) -> None:
        def tell(task: asyncio.Task[str]) -> None:
            failure = "the balancer is being stopped" if task.cancelled() else ""
            if not task.cancelled():
                failure = "a fault of the supervisor" if task.exception() else task.result()
            process.channel.send(RestartEnded(failure))

        self.restart().add_done_callback(tell)

    async def _hand_over(self, process: Process) -> None:
        """Have a new worker know what the one knows whose place it takes, or any other."""
        holder = next((place.now for place in self._places if place.number == process.number), None)
        others = [one for one in (holder, *(place.now for place in self._places)) if one is not None]
        known = next((one for one in others if one is not process and one.step is Step.SERVING), None)
        state = b""
        if self.knows is not None:
            state = self.knows()
        elif known is not None:
            answer = self._answers[known] = asyncio.get_running_loop().create_future()
            known.channel.send(Tell())
            with contextlib.suppress(TimeoutError):
                state = await asyncio.wait_for(answer, ASIDE_S)
        process.channel.send(TakeOver(state))

    def _send_all(self, message: Drain | EndNow | ReadFile | Restarts) -> None:
        for process in self._processes:
            process.channel.send(message)

    # The end of workers

    async def _reap(self) -> None:
        now = time.monotonic()
        for process in list(self._processes):
            if (code := process.ended()) is None:
                continue
            self._processes.discard(process)
            await process.close()
            if left := self._machine.worker_ended(process.number):
                self._machine.count(counted(cut_off(left, process.number, time.time()), self._reporter.tell))
            place = self._places[process.number - 1]
            if place.now is not process:
                self._ended_aside(process, code)
                continue
            place.now = None
            place.failed = not process.served_at
            if self.draining:
                if code and process.served_at:
                    self._code = self._code or DRAIN_FAILED
                    self._reporter.warn(f"worker {process.number} (pid {process.pid}) ended with {in_words(code)}")
                continue
            wait_s = place.backoff.ended(process.served_s(now))
            place.start_at = now + wait_s
            self._count(process, _reason(process, code), in_words(code), wait_s)

    def _ended_aside(self, process: Process, code: int) -> None:
        """A worker has ended that held no place: it has left it, or was to take it."""
        if code and process.step is Step.LEAVING:
            how = in_words(code)
            self._reporter.warn(f"worker {process.number} (pid {process.pid}) ended with {how} while it was leaving")

    # Rolling restart

    async def _replace_all(self) -> str:
        self._reporter.say("rolling restart: every worker is replaced by a new one")
        for place in self._places:
            if failure := await self._replace(place):
                self._reporter.warn(f"rolling restart given up: {failure}; the workers that serve go on")
                return failure
        self._reporter.say("rolling restart: all workers are replaced")
        return ""

    async def _replace(self, place: Place) -> str:
        """Start another process for a place; when it serves, the old one leaves. Return why it does not."""
        try:
            process = await self._new(place.number)
        except OSError as error:
            return f"a new worker can't be started: {error.strerror or error}"
        while process.step is not Step.SERVING:
            await asyncio.sleep(0.02)
            if process not in self._processes:
                return f"the new worker {place.number} ended before it served"
        old, place.now = place.now, process
        place.start_at = math.inf
        if old is not None:
            self._let_leave(old)
        return ""


def _reason(process: Process, code: int) -> str:
    if process.killed_for:
        return process.killed_for
    if process.left_by_itself or code < 0:
        return "signal"
    return "crash" if process.served_at else "start"
