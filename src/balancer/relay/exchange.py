"""Running a dialect's flow: its side requests, then the request proper, which it may repair and send again.

This is the one driver of flows. The relay answers requests with it, lists models with it, and `balancer check --live`
asks providers with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from balancer import dialects
from balancer.dialect import Ask, Decoder, Dialect, Flow, advance
from balancer.dialects.simulated import faults
from balancer.model import Fault, Reply, Timeouts, WireRequest
from balancer.relay import conversion
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.state.stats import ProviderStats
from balancer.transport import TransportError, UpstreamResponse
from balancer.wire.errors import broken, redirected

T = TypeVar("T")

HEAD_MIN_S = 0.001
"""The time for a head when none is left: the transport wants a positive one, and fails with it at once."""


class GoodAnswer(msgspec.Struct):
    """A provider's 2xx answer, to be read while its connection is held."""

    decoder: Decoder
    head: Reply
    """Without a body."""
    body: UpstreamResponse
    deadline: float
    """When its content must have begun, on the driver's clock."""


Receive: TypeAlias = Callable[[GoodAnswer], Awaitable[T]]

Inject: TypeAlias = Callable[[WireRequest], WireRequest | None]
"""Returns what is played instead of a request where a fault is injected; None: the request is sent."""


class Exchanges(Protocol):
    """What a flow is run over: a transport."""

    def exchange(
        self, wire: WireRequest, *, connect_s: float, head_s: float
    ) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Send `wire` and yield the answer once its head is there (`Transport.exchange`)."""
        ...


class FlowRunner:
    """Runs dialects' flows over one transport. `now` is the driver's monotonic clock."""

    def __init__(self, transport: Exchanges, now: Callable[[], float], limits: RelayLimits = DEFAULT) -> None:
        self._transport = transport
        self._now = now
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "converting")
        """One thread: several would take the interpreter from the event loop in turns."""
        self._side_requests: dict[tuple[object, str], asyncio.Task[Reply]] = {}
        """Those under way that others may share, by origin and key."""

    async def run(
        self, dialect: Dialect, ask: Ask, deadline: float, receive: Receive[T], inject: Inject | None = None
    ) -> T | Fault:
        """Ask a provider. Return what `receive` makes of a good answer, or the fault that another one stands for.

        A dialect's contract asks for one comparison: whether a status is 2xx. What any other status means is for the
        dialect to say. Raises `TransportError`, `Incapable`, `FlowFailed`, and what `receive` raises.
        """
        timeouts, now = ask.candidate.provider.timeouts, self._now
        flow: Flow = dialect.flow(ask)
        converts = dialect.converts
        long = converts > 0 and conversion.takes_long(ask.request.body, converts)
        wire: WireRequest | None = await self._off_loop(next, flow, None) if long else next(flow)
        while wire is not None:
            if wire.side_request:
                began, own_time = now(), wire.within_s is not None
                reply = await self._side_request(wire, timeouts, deadline)
                if own_time:
                    deadline += now() - began
                wire = await self._off_loop(advance, flow, reply) if long else advance(flow, reply)
                continue
            if inject is not None and (played := inject(wire)) is not None:
                wire = played
                if ask.operation.openai:  # the provider's own type reads what is played, and finds no content there
                    flow = _sending(played)
                else:
                    dialect = dialects.get(faults.DIALECT)
            head_s = max(HEAD_MIN_S, deadline - now())
            async with self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s) as answer:
                good = 200 <= answer.status < 300
                body = b"" if good else await answer.read_whole(self._limits.refusal_max_bytes, timeouts.idle_s)
                head = Reply(answer.status, answer.headers, body, answer.names)
                if long and not good:  # it may be converted once more
                    wire = await self._off_loop(advance, flow, head)
                else:
                    wire = advance(flow, head)  # the request must not live as long as its answer: it holds the body
                if wire is None and good:
                    return await receive(GoodAnswer(dialect.decoder(ask, head), head, answer, deadline))
                if wire is None:
                    return redirected(dialect.fault(ask, head), head, tls=ask.candidate.provider.origin.tls)
        raise RuntimeError("the flow ended without a request")

    async def _off_loop(self, step: Callable[..., T], *args: object) -> T:
        """Run a step of a flow in the thread for conversions."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(step, *args))

    async def whole(self, dialect: Dialect, ask: Ask, deadline: float) -> bytes | Fault:
        """Ask a provider, and return its whole answer as a client would get it, or the fault.

        Raises `TransportError`, `Incapable` and `FlowFailed`.
        """
        idle_s, max_bytes = ask.candidate.provider.timeouts.idle_s, self._limits.side_request_max_bytes

        async def read(answer: GoodAnswer) -> bytes | Fault:
            decoder = answer.decoder
            body = await answer.body.read_whole(max_bytes, idle_s)
            pieces = [*decoder.feed(body), *decoder.end()]
            if fault := next((piece.error for piece in pieces if piece.error), None):
                return fault
            return b"".join(piece.data for piece in pieces) if decoder.complete else broken("its answer was cut short")

        return await self.run(dialect, ask, deadline, read)

    async def _side_request(self, wire: WireRequest, timeouts: Timeouts, deadline: float) -> Reply:
        """Send a side request; those under way at once with the same key are sent once."""
        if not wire.single_flight:
            return await self._fetch(wire, timeouts, deadline)
        key = (wire.origin, wire.single_flight)
        task = self._side_requests.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(wire, timeouts, deadline))
            self._side_requests[key] = task
            task.add_done_callback(lambda _: self._side_requests.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, wire: WireRequest, timeouts: Timeouts, deadline: float) -> Reply:
        """Return the whole reply to a side request; status 0, with the cause as its body, where there is none."""
        if wire.within_s is not None:
            deadline = self._now() + wire.within_s
        head_s = max(HEAD_MIN_S, deadline - self._now())
        exchange = self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s)
        try:
            async with asyncio.timeout(wire.within_s), exchange as answer:
                body = await answer.read_whole(self._limits.side_request_max_bytes, timeouts.idle_s)
                return Reply(answer.status, answer.headers, body)
        except TransportError as error:
            return Reply(0, (), error.cause.encode())
        except TimeoutError:
            return Reply(0, (), b"timeout")


def _sending(wire: WireRequest) -> Flow:
    """Return a flow that sends `wire`, has done so, and learns nothing from the answer."""

    def flow() -> Flow:
        yield wire

    sending = flow()
    next(sending)
    return sending


def injected(wire: WireRequest, stats: ProviderStats, now: float, *, stream: bool) -> WireRequest | None:
    """Return what plays the provider's ordered fault instead of `wire`; None: no fault is due.

    Counts the request against the order; `Orders.end_due` ends one that is used up.
    """
    order = stats.drill
    if order is None or not faults.due(order, now):
        return None
    stats.drill = order.spent()
    return replace(wire, script=faults.script(order.fault, stream), body=())
