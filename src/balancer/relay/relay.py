"""The driver: the life of a request, on one page. The only hot code that awaits.

It decides nothing: it compares no status, name, time or provider type. `Journey` says what to do
next, a dialect says what to send and what came back, `judge` says what that means.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer import dialects
from balancer.clock import Clock
from balancer.dialect import Ask, Decoder, Dialect, Flow, FlowFailed, Incapable
from balancer.dialects.simulated import faults as drills
from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    Fault,
    Operation,
    Outcome,
    Piece,
    Provider,
    Refused,
    Reply,
    Request,
    Stage,
    Timeouts,
    Unfit,
    Verdict,
    WireRequest,
)
from balancer.policy import exhausted
from balancer.policy.classify import judge_of
from balancer.policy.failover import Journey, Try, Wait
from balancer.redact import scrub, without
from balancer.relay.counting import Counting
from balancer.relay.receive import Ending, Stream, drain
from balancer.relay.record import UNTOLD, Life, patience_s, told
from balancer.relay.response import STREAM_HEADERS, Delivery, Watch
from balancer.relay.writer import Sink
from balancer.state.fleet import Fleet
from balancer.state.stats import Ledger
from balancer.transport import Answer, Transport, TransportError
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body, error_frame, kept_headers
from balancer.wire.stream import PING

_log = logging.getLogger(__name__)

REFUSAL_MAX_BYTES = 1024 * 1024
ERRAND_MAX_BYTES = 16 * 1024 * 1024
"""An errand's or a refusal's body beyond this is not worth having."""

HELD_MAX_BYTES = 32 * 1024 * 1024
"""The most that is held back for want of substance."""

STOPPED = "this balancer was stopped before the answer was whole; ask again"


class Relay:
    """Answers requests."""

    def __init__(self, fleet: Fleet, transport: Transport, clock: Clock) -> None:
        self.fleet = fleet
        self.clock = clock
        self._transport = transport
        self._now = clock.now
        self._wall = clock.wall
        self._watch = Watch(clock.now)
        self._counting = Counting(clock.now)
        self._errands: dict[tuple[object, str], asyncio.Task[Reply]] = {}

    async def answer(self, request: Request, sink: Sink, task: asyncio.Task[Any] | None = None) -> None:
        """Give `sink` the answer to `request`, whatever it takes. `task` is the one that this runs in.

        Returns when the answer is over. Cancelled when the client has left: the provider's
        connection is closed before this returns.
        """
        now = self._now()
        own = ((b"x-balancer-request-id", request.id.encode()),)
        delivery = Delivery(sink, self._watch, task or asyncio.current_task(), request.stream, own, now)
        life = Life(request, delivery, now, len(request.body))
        self.fleet.bus.emit(life.began(self._wall()))
        try:
            with delivery:
                await self._travel(life)
        except asyncio.CancelledError:
            await self._cut_off(life)
            raise
        finally:
            self._tell(life)

    def _tell(self, life: Life) -> None:
        """It is over: count what it used, and tell of it."""
        if life.candidate is not None:
            self.fleet.ledger(life.candidate.provider.name).count(life.usage)
        reason = self._clean(life.reason) if life.reason else ""
        self.fleet.bus.emit(life.ended(self._wall(), self._now(), reason))

    async def _travel(self, life: Life) -> None:
        route = life.route = self.fleet.route(life.request.model)
        if route is None:
            patterns = ", ".join(f"'{pattern}'" for pattern in self.fleet.routing.patterns)
            message = f"no route matches the model '{life.request.model}'; there are routes for {patterns}"
            await self._say(life, exhausted.Answer(404, "not_found_error", message))
            return
        if self.fleet.full:
            life.queued_s = await self.fleet.room(self._now)
            if self.fleet.full:
                await self._say(life, exhausted.no_place(life.request.model))
                return
        with self.fleet as fleet:
            request = life.request
            candidates, life.pinned = fleet.candidates(request, route, self._now())
            life.first = candidates[0] if candidates else None
            if not request.operation.answers:  # those every type can answer
                candidates = [c for c in candidates if dialects.get(c.provider.type).supports(request.operation)]
            journey = life.journey = fleet.journey(request, candidates, life.arrived)
            while not journey.over:
                began = self._now()
                step = journey.next(began, fleet.standing, fleet.rng.random())
                if isinstance(step, Try):
                    candidate = step.candidate
                    outcome = await self._attempt(life, step, began)
                    now = self._now()
                    verdict = journey.record(candidate, outcome)
                    life.attempts.append(told(candidate, outcome, verdict, now - began))
                    fleet.observe(candidate, outcome, verdict, began=began, now=now, wall=self._wall())
                elif isinstance(step, Wait):
                    await (fleet.place_freed(step.seconds) if step.for_place else asyncio.sleep(step.seconds))
                    if step.for_place:
                        journey.queued_s += self._now() - began
                        life.queued_s = journey.queued_s
                else:
                    break
            if not life.delivery.finished:
                await self._conclude(life, journey)

    async def _attempt(self, life: Life, step: Try, began: float) -> Outcome:
        """Ask one provider once."""
        candidate = step.candidate
        with self.fleet.place(candidate, began) as ledger:
            dialect = dialects.get(candidate.provider.type)
            nonce = f"{life.request.id}.{len(life.attempts)}"
            ask = Ask(life.request, candidate, life.request.operation, ledger.memory, self._wall(), nonce)
            try:
                deadline = began + patience_s(life.request, candidate.provider.timeouts, step)
                return await self._exchange(life, dialect, ask, deadline, ledger)
            except Incapable as error:
                return Unfit(str(error))
            except FlowFailed as error:
                return Refused(error.fault, life.stage)
            except TransportError as error:
                stage = life.stage if error.sent or life.delivery.committed else Stage.CONNECT
                return Broken(stage, error.cause, scrub(error.detail, (candidate.provider.secret,)))
            except asyncio.CancelledError:
                outcome = Abandoned(life.stage)
                life.attempts.append(told(candidate, outcome, judge_of(candidate, outcome), self._now() - began))
                raise
            except Exception as error:
                _log.exception("asking %s failed in a way that it should not", candidate.provider.name)
                return Broken(life.stage, "crashed", type(error).__name__)

    async def _exchange(self, life: Life, dialect: Dialect, ask: Ask, deadline: float, ledger: Ledger) -> Outcome:
        """Run the dialect's flow: errands first, then the request proper, repaired if need be."""
        timeouts = ask.candidate.provider.timeouts
        life.usage, life.held_bytes = UNTOLD, 0
        flow: Flow = dialect.flow(ask)
        wire: WireRequest | None = next(flow)
        while wire is not None:
            if wire.errand:
                began, own_time = self._now(), wire.within_s is not None
                reply = await self._errand(wire, timeouts, deadline)
                if own_time:
                    deadline += self._now() - began
                wire = _advance(flow, reply)
                continue
            if ledger.drill and (drilled := self._drilled(wire, ledger, ledger.drill, life.request.stream)):
                wire, dialect = drilled, dialects.get("anthropic")  # drills speak the Messages API
            head_s = max(0.001, deadline - self._now())
            async with self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s) as answer:
                wire = None  # the body of the request must not live as long as the answer
                fine, body = 200 <= answer.status < 300, b""
                if not fine:
                    body = await answer.read_whole(REFUSAL_MAX_BYTES, timeouts.idle_s)
                head = Reply(answer.status, answer.headers, body, answer.names)
                wire = _advance(flow, head)
                if wire is None and fine:
                    return await self._receive(life, ask, dialect.decoder(ask, head), head, answer, deadline)
                if wire is None:
                    return Refused(dialect.fault(ask, head), life.stage)
        return Broken(life.stage, "crashed", "the flow ended without a request")

    def _drilled(self, wire: WireRequest, ledger: Ledger, drill: drills.Drill, stream: bool) -> WireRequest | None:
        """Return what a drill orders to be played instead of `wire`, or None where it is over."""
        if not drills.due(drill, self._now()):
            ledger.drill = None
            return None
        ledger.drill = drill.spent()
        return replace(wire, script=drills.script(drill.fault, stream), body=())

    # What comes back

    async def _receive(
        self, life: Life, ask: Ask, decoder: Decoder, head: Reply, answer: Answer, deadline: float
    ) -> Outcome:
        held: list[bytes] = []
        """What the client has not been given: held back, or of the same read."""
        idle_s = ask.candidate.provider.timeouts.idle_s
        delivery = life.delivery
        source = answer if decoder.ending is None else Ending(answer, decoder, self._now)
        stream: Stream | None = None
        data: bytes | None = None
        while not decoder.complete:
            data = source.take()
            if data is None and delivery.committed and source.flows:
                stream = stream or Stream(decoder, delivery)
                pieces = await stream.follow(source, idle_s)
            else:
                if data is None:
                    data = await source.read(idle_s if delivery.committed else self._left_s(deadline, idle_s))
                pieces = decoder.feed(data) if data else decoder.end()
            for piece in pieces:
                if piece.error is not None:
                    if delivery.committed and (waiting := delivery.give(held, last=False)) is not None:
                        await waiting
                    return Refused(piece.error, life.stage)
                if piece.usage is not None:
                    life.usage = piece.usage if life.usage is UNTOLD else life.usage.merged(piece.usage)
                if delivery.committed:
                    held.append(piece.data)
                elif (broken := self._hold(life, ask, decoder, head, held, piece)) is not None:
                    return broken
            if delivery.committed and (waiting := delivery.give(held, last=decoder.complete)) is not None:
                await waiting
            if data == b"" and not decoder.complete:
                return Broken(life.stage, "truncated")
        if not delivery.finished:
            await delivery.finish()
        self._note(life, ask, decoder)
        if data != b"" and (rest := answer.take()) != b"" and await drain(answer, decoder, rest):
            life.notes = decoder.notes
        return Completed(life.usage)

    def _hold(
        self, life: Life, ask: Ask, decoder: Decoder, head: Reply, held: list[bytes], piece: Piece
    ) -> Broken | None:
        """Hold a piece back, until one has substance."""
        data = b"" if piece.data == PING else piece.data
        held.append(data)
        life.held_bytes += len(data)
        if piece.substance:
            self._commit(life, ask, decoder, head)
        elif life.held_bytes > HELD_MAX_BYTES:
            return Broken(life.stage, "too_large", "nothing but preliminaries")
        return None

    def _note(self, life: Life, ask: Ask, decoder: Decoder) -> None:
        """The answer is whole: keep what was noted on the way, and learn from what it used."""
        life.notes = decoder.notes
        if life.lesson is not None:
            self._counting.learn(life.lesson, ask.candidate, life.usage)

    def _left_s(self, deadline: float, idle_s: float) -> float:
        left_s = deadline - self._now()
        if left_s <= 0:
            raise TransportError("silent", sent=True)
        return min(left_s, idle_s)

    def _commit(self, life: Life, ask: Ask, decoder: Decoder, head: Reply) -> None:
        """The answer has begun: from here on it is this provider's, for better or worse."""
        now, fleet = self._now(), self.fleet
        request, candidate = life.request, ask.candidate
        life.delivery.committed = True
        life.candidate = candidate
        took_s = life.first_substance_s = now - life.arrived
        lines = kept_headers(head)
        lines += decoder.headers
        lines += life.who_answered(len(life.attempts) + 1)
        if request.operation.answers:
            life.lesson = self._counting.lesson(request.body, candidate)
            fleet.substance(candidate, took_s, now)
            if life.route is not None and not life.detour:
                fleet.pin(candidate, request, life.route, now)
        elif request.operation.counts:
            lines.append((b"x-balancer-token-source", b"provider"))
        request.drop_body()  # nobody else can be asked any more
        if request.stream:
            life.delivery.start(200, (*STREAM_HEADERS, *lines))
        else:
            length_line = (b"content-length", b"%d" % life.held_bytes)
            life.delivery.start(200, (CONTENT_TYPE_JSON, length_line, *lines))

    # Errands

    async def _errand(self, wire: WireRequest, timeouts: Timeouts, deadline: float) -> Reply:
        """Run a side errand; those of one key that are under way at once are run once."""
        if not wire.single_flight:
            return await self._fetch(wire, timeouts, deadline)
        key = (wire.origin, wire.single_flight)
        task = self._errands.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(wire, timeouts, deadline))
            self._errands[key] = task
            task.add_done_callback(lambda _: self._errands.pop(key, None))
        return await asyncio.shield(task)

    async def _fetch(self, wire: WireRequest, timeouts: Timeouts, deadline: float) -> Reply:
        if wire.within_s is not None:
            deadline = self._now() + wire.within_s
        head_s = max(0.001, deadline - self._now())
        exchange = self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s)
        try:
            async with asyncio.timeout(wire.within_s), exchange as answer:
                body = await answer.read_whole(ERRAND_MAX_BYTES, timeouts.idle_s)
                return Reply(answer.status, answer.headers, body)
        except TransportError as error:
            return Reply(0, (), error.cause.encode())
        except TimeoutError:
            return Reply(0, (), b"timeout")

    async def list_models(self, provider: Provider, within_s: float) -> bytes | None:
        """Ask one provider for its list of models; None where it can't say, whatever the reason."""
        dialect = dialects.get(provider.type)
        if not dialect.supports(Operation.MODELS) or provider.passthrough:
            return None
        request = Request("models", Operation.MODELS, b"", (), b"", "", stream=False)
        ledger = self.fleet.ledger(provider.name)
        ask = Ask(request, Candidate(provider, ""), Operation.MODELS, ledger.memory, self._wall(), "models")
        try:
            async with asyncio.timeout(within_s):
                return await self._listing(dialect, ask, self._now() + within_s)
        except (TimeoutError, TransportError, Incapable, FlowFailed):
            return None

    async def _listing(self, dialect: Dialect, ask: Ask, deadline: float) -> bytes | None:
        timeouts = ask.provider.timeouts
        flow = dialect.flow(ask)
        wire: WireRequest | None = next(flow)
        reply = Reply(0, ())
        while wire is not None:
            reply = await self._fetch(wire, timeouts, deadline)
            wire = _advance(flow, reply)
        if not 200 <= reply.status < 300:
            return None
        decoder = dialect.decoder(ask, reply)
        pieces = decoder.feed(reply.body) + decoder.end()
        return b"".join(piece.data for piece in pieces) if decoder.complete else None

    # The end

    async def _conclude(self, life: Life, journey: Journey) -> None:
        if life.delivery.committed:
            await self._break(life, journey.attempts[-1][1], journey.attempts[-1][2])
            return
        now = self._now()
        asked = {id(candidate) for candidate, _, _ in journey.attempts}
        resting, _ = self.fleet.resting([c for c in journey.candidates if id(c) not in asked], now)
        _, recovery_s = self.fleet.resting(list(journey.candidates), now)
        attempts = journey.attempts
        answer = exhausted.answer(life.request.model, attempts, resting, recovery_s, crowded=journey.crowded)
        if life.request.operation.counts and answer.reply is None:
            await self._estimate(life)
            return
        await self._say(life, answer)

    async def _estimate(self, life: Life) -> None:
        """No provider could count: say what is likely."""
        try:
            count = await self._counting.count(life.request.body, life.request.model, life.first)
        except msgspec.MsgspecError as error:
            await self._say(life, exhausted.Answer(400, "invalid_request_error", str(error)))
            return
        body = b'{"input_tokens":%d}' % count
        length = (b"content-length", b"%d" % len(body))
        source = (b"x-balancer-token-source", b"estimate")
        life.delivery.start(200, (CONTENT_TYPE_JSON, length, source))
        await life.delivery.write(body, last=True)

    async def _say(self, life: Life, answer: exhausted.Answer) -> None:
        """Tell the client that there is no answer, in the way that is still open."""
        life.outcome = "client_error" if answer.status < 500 and answer.status != 429 else "failed"
        life.reason = answer.message
        if life.delivery.opened:  # a 200 and pings were sent: now only an event can tell
            frame = error_frame(answer.kind_in_stream, self._clean(answer.message), life.request.id)
            await life.delivery.fail(frame)
            return
        if answer.reply is not None:
            body, headers = without(answer.reply.body, self.fleet.secrets), answer.reply.headers
        else:
            body = error_body(answer.kind, self._clean(answer.message), life.request.id)
            headers = (CONTENT_TYPE_JSON, (b"request-id", life.request.id.encode()))
        if answer.retry_after_s is not None:
            headers = (*headers, (b"retry-after", b"%d" % answer.retry_after_s))
        headers = (*headers, *life.who_answered(len(life.attempts)), (b"content-length", b"%d" % len(body)))
        life.delivery.start(answer.status, headers)
        await life.delivery.write(body, last=True)

    async def _break(self, life: Life, outcome: Outcome, verdict: Verdict) -> None:
        """The answer broke off after it had begun: say so, and never end it as if it were whole."""
        life.outcome = "broken_stream"
        life.reason = verdict.reason
        if not life.request.stream:
            await life.delivery.abort()
            return
        manner = self.fleet.config.settings.on_broken_stream
        if manner == "abort" or (manner == "auto" and life.request.claude_code):
            await life.delivery.abort()
            return
        fault = outcome.fault if isinstance(outcome, Refused) else Fault(502, "api_error", "")
        name = life.candidate.provider.name if life.candidate else "the provider"
        await self._tell_broken(
            life, exhausted.shown_kind(fault), f"{name} broke off its answer: {fault.message or verdict.reason}"
        )

    async def _tell_broken(self, life: Life, kind: str, message: str) -> None:
        await life.delivery.fail(error_frame(kind, self._clean(message), life.request.id))

    async def _cut_off(self, life: Life) -> None:
        """The task was cancelled: the client left, took nothing for too long, or time to drain is up."""
        if life.delivery.finished:
            return
        if life.delivery.stuck:
            life.outcome, life.reason = "abandoned", "the client took nothing for too long"
            await life.delivery.abort()
        elif life.delivery.sink.gone:
            life.outcome, life.reason = "abandoned", "the client left"
        elif not life.delivery.committed:
            await self._say(life, exhausted.Answer(503, "api_error", STOPPED, 1))
        else:
            life.outcome, life.reason = "broken_stream", STOPPED
            if life.request.stream:
                await self._tell_broken(life, "api_error", STOPPED)
            else:
                await life.delivery.abort()

    def _clean(self, message: str) -> str:
        return scrub(message, self.fleet.secrets)


def _advance(flow: Flow, reply: Reply) -> WireRequest | None:
    """Tell the flow what came back; return what to send next, or None when it has ended."""
    try:
        return flow.send(reply)
    except StopIteration:
        return None
