"""The driver: the life of a request, on one page. The only hot code that awaits.

It decides nothing: it compares no status, name, time or provider type. `Failover` says what to do
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
from balancer.policy.deadlines import patience_s
from balancer.policy.failover import Failover, Try, Wait
from balancer.redact import scrub, without
from balancer.relay.counting import Counting
from balancer.relay.receive import EndingResponse, Stream, drain
from balancer.relay.record import UNTOLD, RequestRecord, told
from balancer.relay.response import STREAM_HEADERS, ClientResponse, Watch
from balancer.relay.writer import ResponseWriter
from balancer.state.fleet import Fleet
from balancer.state.stats import ProviderStats
from balancer.transport import Transport, TransportError, UpstreamResponse
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body, error_frame, kept_headers
from balancer.wire.stream import PING

_log = logging.getLogger(__name__)

REFUSAL_MAX_BYTES = 1024 * 1024
SIDE_REQUEST_MAX_BYTES = 16 * 1024 * 1024
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
        self._side_requests: dict[tuple[object, str], asyncio.Task[Reply]] = {}

    async def answer(self, request: Request, writer: ResponseWriter, task: asyncio.Task[Any] | None = None) -> None:
        """Give `sink` the answer to `request`, whatever it takes. `task` is the one that this runs in.

        Returns when the answer is over. Cancelled when the client has left: the provider's
        connection is closed before this returns.
        """
        now = self._now()
        own = ((b"x-balancer-request-id", request.id.encode()),)
        response = ClientResponse(writer, self._watch, task or asyncio.current_task(), request.stream, own, now)
        record = RequestRecord(request, response, now, len(request.body))
        self.fleet.bus.emit(record.began(self._wall()))
        try:
            with response:
                await self._travel(record)
        except asyncio.CancelledError:
            await self._cut_off(record)
            raise
        finally:
            self._tell(record)

    def _tell(self, record: RequestRecord) -> None:
        """It is over: count what it used, and tell of it."""
        if record.candidate is not None:
            self.fleet.stats(record.candidate.provider.name).count(record.usage)
        reason = self._clean(record.reason) if record.reason else ""
        self.fleet.bus.emit(record.ended(self._wall(), self._now(), reason))

    async def _travel(self, record: RequestRecord) -> None:
        route = record.route = self.fleet.route(record.request.model)
        if route is None:
            patterns = ", ".join(f"'{pattern}'" for pattern in self.fleet.routing.patterns)
            message = f"no route matches the model '{record.request.model}'; there are routes for {patterns}"
            await self._say(record, exhausted.ErrorReply(404, "not_found_error", message))
            return
        admission = self.fleet.admission
        if admission.full:
            record.queued_s = await admission.wait(self._now)
            if admission.full:
                await self._say(record, exhausted.no_place(record.request.model))
                return
        fleet, request = self.fleet, record.request
        with fleet.admit():
            candidates, record.pinned = fleet.candidates(request, route, self._now())
            record.first = candidates[0] if candidates else None
            if not request.operation.answers:  # those every type can answer
                candidates = [c for c in candidates if dialects.get(c.provider.type).supports(request.operation)]
            failover = record.failover = fleet.failover(request, candidates, record.arrived)
            while not failover.phase.ended:
                began = self._now()
                step = failover.next(began, fleet.health.availability, fleet.rng.random())
                if isinstance(step, Try):
                    candidate = step.candidate
                    outcome = await self._attempt(record, step, began)
                    now = self._now()
                    verdict = failover.record(candidate, outcome)
                    record.attempts.append(told(candidate, outcome, verdict, now - began))
                    fleet.observe(
                        candidate,
                        outcome,
                        verdict,
                        began=began,
                        now=now,
                        wall=self._wall(),
                        injected=record.fault_injected,
                    )
                elif isinstance(step, Wait):
                    await (admission.slot_freed(step.seconds) if step.for_place else asyncio.sleep(step.seconds))
                    if step.for_place:
                        failover.queued_s += self._now() - began
                        record.queued_s = failover.queued_s
                else:
                    break
            if not record.response.finished:
                await self._conclude(record, failover)

    async def _attempt(self, record: RequestRecord, step: Try, began: float) -> Outcome:
        """Ask one provider once."""
        candidate = step.candidate
        with self.fleet.admission.slot(candidate, began) as stats:
            dialect = dialects.get(candidate.provider.type)
            attempt_id = f"{record.request.id}.{len(record.attempts)}"
            ask = Ask(record.request, candidate, record.request.operation, stats.memory, self._wall(), attempt_id)
            try:
                deadline = began + patience_s(record.request, candidate.provider.timeouts, step)
                return await self._exchange(record, dialect, ask, deadline, stats)
            except Incapable as error:
                return Unfit(str(error))
            except FlowFailed as error:
                return Refused(error.fault, record.stage)
            except TransportError as error:
                stage = record.stage if error.sent or record.response.committed else Stage.CONNECT
                return Broken(stage, error.cause, scrub(error.detail, (candidate.provider.secret,)))
            except asyncio.CancelledError:
                outcome = Abandoned(record.stage)
                record.attempts.append(told(candidate, outcome, judge_of(candidate, outcome), self._now() - began))
                raise
            except Exception as error:
                _log.exception("asking %s failed in a way that it should not", candidate.provider.name)
                return Broken(record.stage, "crashed", type(error).__name__)

    async def _exchange(
        self, record: RequestRecord, dialect: Dialect, ask: Ask, deadline: float, stats: ProviderStats
    ) -> Outcome:
        """Run the dialect's flow: errands first, then the request proper, repaired if need be."""
        timeouts = ask.candidate.provider.timeouts
        record.usage, record.held_bytes, record.fault_injected = UNTOLD, 0, False
        flow: Flow = dialect.flow(ask)
        wire: WireRequest | None = next(flow)
        while wire is not None:
            if wire.side_request:
                began, own_time = self._now(), wire.within_s is not None
                reply = await self._side_request(wire, timeouts, deadline)
                if own_time:
                    deadline += self._now() - began
                wire = _advance(flow, reply)
                continue
            if stats.drill and (drilled := self._drilled(wire, stats, stats.drill, record.request.stream)):
                wire, dialect = drilled, dialects.get("anthropic")  # drills speak the Messages API
                record.fault_injected = True
            head_s = max(0.001, deadline - self._now())
            async with self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s) as answer:
                wire = None  # the body of the request must not live as long as the answer
                fine, body = 200 <= answer.status < 300, b""
                if not fine:
                    body = await answer.read_whole(REFUSAL_MAX_BYTES, timeouts.idle_s)
                head = Reply(answer.status, answer.headers, body, answer.names)
                wire = _advance(flow, head)
                if wire is None and fine:
                    return await self._receive(record, ask, dialect.decoder(ask, head), head, answer, deadline)
                if wire is None:
                    return Refused(dialect.fault(ask, head), record.stage)
        return Broken(record.stage, "crashed", "the flow ended without a request")

    def _drilled(
        self, wire: WireRequest, stats: ProviderStats, drill: drills.Drill, stream: bool
    ) -> WireRequest | None:
        """Return what a drill orders to be played instead of `wire`, or None where it is over."""
        if not drills.due(drill, self._now()):
            stats.drill = None
            return None
        stats.drill = drill.spent()
        return replace(wire, script=drills.script(drill.fault, stream), body=())

    # What comes back

    async def _receive(
        self, record: RequestRecord, ask: Ask, decoder: Decoder, head: Reply, answer: UpstreamResponse, deadline: float
    ) -> Outcome:
        held: list[bytes] = []
        """What the client has not been given: held back, or of the same read."""
        idle_s = ask.candidate.provider.timeouts.idle_s
        response = record.response
        source = answer if decoder.ending is None else EndingResponse(answer, decoder, self._now)
        stream: Stream | None = None
        data: bytes | None = None
        while not decoder.complete:
            data = source.take()
            if data is None and response.committed and source.flows:
                stream = stream or Stream(decoder, response)
                pieces = await stream.follow(source, idle_s)
            else:
                if data is None:
                    data = await source.read(idle_s if response.committed else self._left_s(deadline, idle_s))
                pieces = decoder.feed(data) if data else decoder.end()
            for piece in pieces:
                if piece.error is not None:
                    if response.committed and (waiting := response.give(held, last=False)) is not None:
                        await waiting
                    return Refused(piece.error, record.stage)
                if piece.usage is not None:
                    record.usage = piece.usage if record.usage is UNTOLD else record.usage.merged(piece.usage)
                if response.committed:
                    held.append(piece.data)
                elif (broken := self._hold(record, ask, decoder, head, held, piece)) is not None:
                    return broken
            if response.committed and (waiting := response.give(held, last=decoder.complete)) is not None:
                await waiting
            if data == b"" and not decoder.complete:
                return Broken(record.stage, "truncated")
        if not response.finished:
            await response.finish()
        self._note(record, ask, decoder)
        if data != b"" and (rest := answer.take()) != b"" and await drain(answer, decoder, rest):
            record.notes = decoder.notes
        return Completed(record.usage)

    def _hold(
        self, record: RequestRecord, ask: Ask, decoder: Decoder, head: Reply, held: list[bytes], piece: Piece
    ) -> Broken | None:
        """Hold a piece back, until one has substance."""
        data = b"" if piece.data == PING else piece.data
        held.append(data)
        record.held_bytes += len(data)
        if piece.has_content:
            self._commit(record, ask, decoder, head)
        elif record.held_bytes > HELD_MAX_BYTES:
            return Broken(record.stage, "too_large", "nothing but preliminaries")
        return None

    def _note(self, record: RequestRecord, ask: Ask, decoder: Decoder) -> None:
        """The answer is whole: keep what was noted on the way, and learn from what it used."""
        record.notes = decoder.notes
        if record.lesson is not None:
            self._counting.learn(record.lesson, ask.candidate, record.usage)

    def _left_s(self, deadline: float, idle_s: float) -> float:
        left_s = deadline - self._now()
        if left_s <= 0:
            raise TransportError("silent", sent=True)
        return min(left_s, idle_s)

    def _commit(self, record: RequestRecord, ask: Ask, decoder: Decoder, head: Reply) -> None:
        """The answer has begun: from here on it is this provider's, for better or worse."""
        now, fleet = self._now(), self.fleet
        request, candidate = record.request, ask.candidate
        record.response.committed = True
        record.candidate = candidate
        took_s = record.first_content_s = now - record.arrived
        lines = kept_headers(head)
        lines += decoder.headers
        lines += record.who_answered(len(record.attempts) + 1)
        if request.operation.answers:
            record.lesson = self._counting.lesson(request.body, candidate)
            fleet.stats(candidate.provider.name).content_began(took_s, now)
            if record.route is not None and not record.detour:
                fleet.pins.put(request, record.route, candidate.provider.name, now)
        elif request.operation.counts:
            lines.append((b"x-balancer-token-source", b"provider"))
        request.drop_body()  # nobody else can be asked any more
        if request.stream:
            record.response.start(200, (*STREAM_HEADERS, *lines))
        else:
            length_line = (b"content-length", b"%d" % record.held_bytes)
            record.response.start(200, (CONTENT_TYPE_JSON, length_line, *lines))

    # Errands

    async def _side_request(self, wire: WireRequest, timeouts: Timeouts, deadline: float) -> Reply:
        """Run a side errand; those of one key that are under way at once are run once."""
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
        if wire.within_s is not None:
            deadline = self._now() + wire.within_s
        head_s = max(0.001, deadline - self._now())
        exchange = self._transport.exchange(wire, connect_s=timeouts.connect_s, head_s=head_s)
        try:
            async with asyncio.timeout(wire.within_s), exchange as answer:
                body = await answer.read_whole(SIDE_REQUEST_MAX_BYTES, timeouts.idle_s)
                return Reply(answer.status, answer.headers, body)
        except TransportError as error:
            return Reply(0, (), error.cause.encode())
        except TimeoutError:
            return Reply(0, (), b"timeout")

    async def list_models(self, provider: Provider, within_s: float) -> bytes | None:
        """Ask one provider for its list of models; None where it can't say, whatever the reason."""
        if not dialects.get(provider.type).supports(Operation.MODELS) or provider.passthrough:
            return None
        try:
            async with asyncio.timeout(within_s):
                listed = await self.ask_free(provider, Operation.MODELS, "", within_s)
        except (TimeoutError, TransportError, Incapable, FlowFailed):
            return None
        return None if isinstance(listed, Fault) else listed

    async def ask_free(self, provider: Provider, operation: Operation, model: str, within_s: float) -> bytes | Fault:
        """Ask a provider something that costs nothing (its models, a count of tokens), and return its whole answer.

        Raises `TransportError`, `Incapable` and `FlowFailed`.
        """
        question = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        body = b"" if operation is Operation.MODELS else msgspec.json.encode(question)
        request = Request(operation.word, operation, b"", ((b"content-type", b"application/json"),), body, model, False)
        stats = self.fleet.stats(provider.name)
        ask = Ask(request, Candidate(provider, model), operation, stats.memory, self._wall(), operation.word)
        return await self._whole(dialects.get(provider.type), ask, self._now() + within_s)

    async def _whole(self, dialect: Dialect, ask: Ask, deadline: float) -> bytes | Fault:
        timeouts = ask.provider.timeouts
        flow = dialect.flow(ask)
        wire: WireRequest | None = next(flow)
        reply = Reply(0, ())
        while wire is not None:
            reply = await self._fetch(wire, timeouts, deadline)
            wire = _advance(flow, reply)
        if reply.status == 0:
            raise TransportError(reply.body.decode("ascii", "replace"), sent=False)
        if not 200 <= reply.status < 300:
            return dialect.fault(ask, reply)
        decoder = dialect.decoder(ask, reply)
        pieces = decoder.feed(reply.body) + decoder.end()
        if fault := next((piece.error for piece in pieces if piece.error), None):
            return fault
        return b"".join(piece.data for piece in pieces)

    # The end

    async def _conclude(self, record: RequestRecord, failover: Failover) -> None:
        if record.response.committed:
            await self._break(record, failover.attempts[-1][1], failover.attempts[-1][2])
            return
        now = self._now()
        unasked, recovery_s = self.fleet.unasked(record.request, failover, now)
        attempts = failover.attempts
        answer = exhausted.answer(record.request.model, attempts, unasked, recovery_s, overloaded=failover.overloaded)
        if record.request.operation.counts and answer.reply is None:
            await self._estimate(record)
            return
        await self._say(record, answer)

    async def _estimate(self, record: RequestRecord) -> None:
        """No provider could count: say what is likely."""
        try:
            count = await self._counting.count(record.request.body, record.request.model, record.first)
        except msgspec.MsgspecError as error:
            await self._say(record, exhausted.ErrorReply(400, "invalid_request_error", str(error)))
            return
        body = b'{"input_tokens":%d}' % count
        length = (b"content-length", b"%d" % len(body))
        source = (b"x-balancer-token-source", b"estimate")
        record.response.start(200, (CONTENT_TYPE_JSON, length, source))
        await record.response.write(body, last=True)

    async def _say(self, record: RequestRecord, answer: exhausted.ErrorReply) -> None:
        """Tell the client that there is no answer, in the way that is still open."""
        record.outcome = "client_error" if answer.status < 500 and answer.status != 429 else "failed"
        record.reason = answer.message
        if record.response.opened:  # a 200 and pings were sent: now only an event can tell
            frame = error_frame(answer.kind_in_stream, self._clean(answer.message), record.request.id)
            await record.response.fail(frame)
            return
        if answer.reply is not None:
            body, headers = without(answer.reply.body, self.fleet.secrets), answer.reply.headers
        else:
            body = error_body(answer.kind, self._clean(answer.message), record.request.id)
            headers = (CONTENT_TYPE_JSON, (b"request-id", record.request.id.encode()))
        if answer.retry_after_s is not None:
            headers = (*headers, (b"retry-after", b"%d" % answer.retry_after_s))
        if not answer.retrying_helps:
            headers = (*headers, (b"x-should-retry", b"false"))
        headers = (*headers, *record.who_answered(len(record.attempts)), (b"content-length", b"%d" % len(body)))
        record.response.start(answer.status, headers)
        await record.response.write(body, last=True)

    async def _break(self, record: RequestRecord, outcome: Outcome, verdict: Verdict) -> None:
        """The answer broke off after it had begun: say so, and never end it as if it were whole."""
        record.outcome = "broken_stream"
        record.reason = verdict.reason
        if not record.request.stream:
            await record.response.abort()
            return
        manner = self.fleet.config.settings.on_broken_stream
        if manner == "abort" or (manner == "auto" and record.request.claude_code):
            await record.response.abort()
            return
        fault = outcome.fault if isinstance(outcome, Refused) else Fault(502, "api_error", "")
        name = record.candidate.provider.name if record.candidate else "the provider"
        await self._tell_broken(
            record, exhausted.shown_kind(fault), f"{name} broke off its answer: {fault.message or verdict.reason}"
        )

    async def _tell_broken(self, record: RequestRecord, kind: str, message: str) -> None:
        await record.response.fail(error_frame(kind, self._clean(message), record.request.id))

    async def _cut_off(self, record: RequestRecord) -> None:
        """The task was cancelled: the client left, took nothing for too long, or time to drain is up."""
        if record.response.finished:
            return
        if record.response.stuck:
            record.outcome, record.reason = "abandoned", "the client took nothing for too long"
            await record.response.abort()
        elif record.response.writer.gone:
            record.outcome, record.reason = "abandoned", "the client left"
        elif not record.response.committed:
            await self._say(record, exhausted.ErrorReply(503, "api_error", STOPPED, 1))
        else:
            record.outcome, record.reason = "broken_stream", STOPPED
            if record.request.stream:
                await self._tell_broken(record, "api_error", STOPPED)
            else:
                await record.response.abort()

    def _clean(self, message: str) -> str:
        return scrub(message, self.fleet.secrets)


def _advance(flow: Flow, reply: Reply) -> WireRequest | None:
    """Tell the flow what came back; return what to send next, or None when it has ended."""
    try:
        return flow.send(reply)
    except StopIteration:
        return None
