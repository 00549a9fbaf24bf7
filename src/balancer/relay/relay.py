"""The driver: one request from its arrival to its end.

It decides nothing. `Failover` says what to do next, a dialect what to send and what came back, `classify` what that
means, `exhausted` what a client is told. The relay compares no error status, name, provider type or setting; it reads
the clock for them, awaits for them, and compares time only with the deadlines that they give.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import msgspec

from balancer import dialects
from balancer.clock import Clock
from balancer.dialect import Ask, FlowFailed, Incapable
from balancer.headers import REQUEST_ID
from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    Fault,
    OpenAIRequest,
    Operation,
    Outcome,
    Provider,
    Refused,
    Request,
    Route,
    Stage,
    Unfit,
    WireRequest,
)
from balancer.policy import exhausted, shortage
from balancer.policy.classify import judge_of
from balancer.policy.deadlines import overall_s, patience_s
from balancer.policy.exhausted import ErrorReply
from balancer.policy.failover import Failover, Try, Wait
from balancer.relay import border
from balancer.relay.counting import Counting
from balancer.relay.endings import Endings
from balancer.relay.exchange import Exchanges, FlowRunner, Inject, injected
from balancer.relay.judging import Judging
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.relay.receive import Receiver
from balancer.relay.record import NO_USAGE, RequestRecord
from balancer.relay.response import OVER, ClientResponse, Watch
from balancer.relay.writer import ResponseWriter
from balancer.script import Cause
from balancer.state.admission import SlotTaken
from balancer.state.fleet import Fleet
from balancer.state.stats import ProviderStats
from balancer.transport import TransportError
from balancer.wire.error_shapes import OPENAI_PING

_log = logging.getLogger(__name__)


class Relay:
    """Answers requests."""

    def __init__(self, fleet: Fleet, transport: Exchanges, clock: Clock, limits: RelayLimits = DEFAULT) -> None:
        self.fleet = fleet
        self.clock = clock
        self._now = clock.now
        self._wall = clock.wall
        counting = Counting(clock.now)
        self._watch = Watch(clock.now, limits)
        self._flows = FlowRunner(transport, clock.now, limits)
        self._receive = Receiver(fleet, counting, clock.now, limits).receive
        self._endings = Endings(fleet, counting, clock)
        self._judging = Judging(self.answer, clock.now, limits)

    async def answer(
        self,
        request: Request,
        writer: ResponseWriter,
        task: asyncio.Task[Any] | None = None,
        route: Route | None = None,
    ) -> None:
        """Give `writer` the answer to `request`. `task` is the one that this runs in; None: the current one.

        `route` is whom to ask in place of the routes of the file.

        Returns when the answer is over, an error's answer included. Is cancelled when the client has left; the
        provider's connection is closed before the cancellation goes on. Raises what the writer raises.
        """
        now = self._now()
        own = ((REQUEST_ID, request.id.encode()),)
        response = ClientResponse(writer, self._watch, task or asyncio.current_task(), request.stream, own, now)
        if request.operation.openai:
            response.ping = OPENAI_PING
        record = RequestRecord(request, now, len(request.body))
        record.route = route
        self.fleet.bus.emit(record.began(self._wall()))
        try:
            with response:
                await self._run(record, response)
        except asyncio.CancelledError:
            await self._endings.cut_off(record, response)
            raise
        finally:
            if request.on_drop is not None:
                request.drop_body()
            record.status, record.dedup = response.status, writer.dedup
            if record.left:
                self.fleet.bus.emit(record.reasoning_left(self._wall()))
            self.fleet.bus.emit(record.ended(self._wall(), self._now()))

    async def _run(self, record: RequestRecord, response: ClientResponse) -> None:
        """Find the route and a place in the balancer, then fail over until there is an answer."""
        request, fleet = record.request, self.fleet
        route = record.route
        if route is None:
            route = record.route = fleet.route(request.model)
        if route is None:
            await self._endings.send_error(record, response, exhausted.no_route(request.model, fleet.routing.patterns))
            return
        admission = fleet.admission
        waits = admission.full or (admission.selective and not admission.may_come(request.client))
        if waits and route is not fleet.safety_judge and not await self._may_come(record, response, route):
            return
        with fleet.admit(request.client):
            candidates, record.pinned = fleet.candidates(request, route, self._now())
            record.first = candidates[0] if candidates else None
            if not request.operation.answers:  # those every type can answer
                everybody = candidates
                candidates = [c for c in everybody if _speaks(c.provider, request.operation)]
                if request.operation.openai and (reply := self._unspoken(record, route, everybody, candidates)):
                    await self._endings.send_error(record, response, reply)
                    return
            failover = fleet.failover(request, candidates, record.arrived)
            while not failover.phase.ended:
                began = self._now()
                step = failover.next(began, fleet.health.availability, fleet.rng.random())
                if isinstance(step, Try):
                    candidate = step.candidate
                    try:
                        outcome = await self._attempt(record, response, step, began)
                    except SlotTaken:
                        record.outrun = True
                        continue
                    if type(outcome) is not Completed:
                        outcome = border.cleaned(outcome, fleet.secrets, request)
                    now = self._now()
                    verdict = failover.record(candidate, outcome)
                    record.attempted(candidate, outcome, verdict, now - began)
                    if verdict.retry_elsewhere:
                        fleet.choose_again(request, route, failover, outcome, now)
                    fleet.observe(
                        candidate,
                        outcome,
                        verdict,
                        began=began,
                        now=now,
                        wall=self._wall(),
                        injected=record.fault_injected,
                        request=request,
                    )
                elif isinstance(step, Wait):
                    await self._wait(step, record, failover)
                else:
                    break
            if response.state is not OVER:
                await self._endings.conclude(record, response, failover)
            if len(failover.attempts) > 1 and record.candidate is not None:
                self._tell_replaced(record, failover)

    async def _wait(self, step: Wait, record: RequestRecord, failover: Failover) -> None:
        """Wait as failover says: for a place at a provider, or until one has recovered."""
        began = self._now()
        if not step.for_place:
            await asyncio.sleep(step.seconds)
            return
        await self.fleet.admission.slot_freed(step.seconds)
        failover.queued_s += self._now() - began
        record.queued_s = failover.queued_s

    async def _may_come(self, record: RequestRecord, response: ClientResponse, route: Route) -> bool:
        """Wait for a place in the balancer. Say whether there is one; else the client has its answer."""
        request, fleet = record.request, self.fleet
        if request.operation.counts:  # an estimate at once serves better than a place later
            candidates, _ = fleet.candidates(request, route, self._now())
            record.first = candidates[0] if candidates else None
            await self._endings.estimate(record, response)
            return False
        longest_s = overall_s(request, fleet.rules.whole_answer_s)
        record.queued_s = await fleet.admission.wait(self._now, longest_s, request.client)
        if fleet.admission.may_come(request.client):
            return True
        await self._endings.send_error(record, response, exhausted.no_place(request.model))
        return False

    def _unspoken(
        self, record: RequestRecord, route: Route, everybody: list[Candidate], speaking: list[Candidate]
    ) -> ErrorReply | None:
        """Leave in `speaking` who may be asked. Return what to tell if that is nobody.

        Who is skipped because its type does not speak OpenAI's API is noted.
        """
        operation, providers = record.request.operation, self.fleet.config.providers
        skipped = [c.provider for c in everybody if not any(c is one for one in speaking)]
        record.skipped = tuple(f"{provider.name} (type {provider.type})" for provider in skipped)
        if speaking:
            if isinstance(asked := record.request, OpenAIRequest) and asked.previous is not None:
                responses = self.fleet.responses
                if responses.is_foreign(asked.previous, asked.client):
                    return exhausted.no_response(asked.previous)
                if kept := responses.find(asked.previous):  # nobody else knows it
                    speaking[:] = [c for c in speaking if c.provider.name == kept.provider] or speaking
            record.first = speaking[0]
            return None
        named = dict.fromkeys(target.provider for target in route.targets if target.provider in providers)
        out = [name for name in named if _speaks(providers[name], operation)]
        return exhausted.not_spoken(route.pattern, operation, record.skipped, out)

    async def _attempt(self, record: RequestRecord, response: ClientResponse, step: Try, began: float) -> Outcome:
        """Ask one provider once, and give the client its answer if it is a good one. Return how that ended."""
        candidate, request = step.candidate, record.request
        record.usage, record.fault_injected, record.last_hope = NO_USAGE, False, step.last_hope
        record.attempt_began = began
        with self.fleet.admission.slot(candidate, began, record.outrun) as stats:
            attempt_id = f"{request.id}.{len(record.attempts)}"
            ask = Ask(request, candidate, request.operation, stats.provider_state, self._wall(), attempt_id)
            inject: Inject | None = None
            if stats.drill is not None:
                inject = partial(self._inject, record, stats)
            try:
                deadline = began + patience_s(request, candidate.provider.timeouts, step)
                receive = partial(self._receive, record, response, ask)
                if (judge := self.fleet.safety_judge) is not None:
                    receive = partial(self._judging.receive, receive, judge, request)
                dialect = dialects.get(candidate.provider.type)
                result = await self._flows.run(dialect, ask, deadline, receive, inject)
                return Refused(result, record.stage) if isinstance(result, Fault) else result
            except Incapable as error:
                return Unfit(str(error))
            except FlowFailed as error:
                return Refused(error.fault, record.stage)
            except TransportError as error:
                stage = record.stage if error.sent or record.candidate is not None else Stage.CONNECT
                return Broken(stage, error.cause, error.detail)
            except asyncio.CancelledError:
                outcome = Abandoned(record.stage)
                record.attempted(candidate, outcome, judge_of(candidate, outcome), self._now() - began)
                raise
            except Exception as error:
                if kind := shortage.kind_of(error):
                    self.fleet.local_faults.count(kind, "a request could not be sent to its provider", self._now())
                    return Broken(record.stage, Cause.LOCAL, kind)
                _log.exception("asking %s failed in a way that it should not", candidate.provider.name)
                return Broken(record.stage, Cause.CRASHED, type(error).__name__)
            finally:
                if record.candidate is not None:
                    stats.count(record.usage)

    def _tell_replaced(self, record: RequestRecord, failover: Failover) -> None:
        """Log, once for each credential, that another provider answers in the place of one that refused a client's own.

        It may be somebody else who pays for that.
        """
        client = record.request.client
        for candidate, _, verdict in failover.attempts:
            name = candidate.provider.name
            if verdict.client_only and self.fleet.refused_credentials.is_new(name, client):
                _log.warning(
                    "%s refused the credential that client %s sent (%s): %s answers in its place",
                    name,
                    client or "(unnamed)",
                    verdict.reason,
                    record.provider,
                )

    def _inject(self, record: RequestRecord, stats: ProviderStats, wire: WireRequest) -> WireRequest | None:
        """Return what is played instead of `wire` where a fault was ordered, and note that it was."""
        played = injected(wire, stats, self._now(), stream=record.request.stream)
        if played is not None:
            record.fault_injected = True
        return played

    async def list_models(self, provider: Provider, within_s: float) -> bytes | None:
        """Return one provider's list of models in the Messages API's shape; None where it has none to give."""
        if not _speaks(provider, Operation.MODELS) or provider.passthrough:
            return None
        try:
            async with asyncio.timeout(within_s):
                listed = await self.ask_free(provider, Operation.MODELS, "", within_s)
        except (TimeoutError, TransportError, Incapable, FlowFailed):
            return None
        return None if isinstance(listed, Fault) else self.fleet.secrets.without(listed, short=False)

    async def ask_free(self, provider: Provider, operation: Operation, model: str, within_s: float) -> bytes | Fault:
        """Ask a provider something that costs nothing: its models, or how many tokens a word has.

        Returns its whole answer, or the fault. Raises `TransportError`, `Incapable` and `FlowFailed`.
        """
        question = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        body = b"" if operation is Operation.MODELS else msgspec.json.encode(question)
        headers = ((b"content-type", b"application/json"),)
        request = Request(operation.word, operation, b"", headers, body, model, stream=False)
        memory = self.fleet.stats(provider.name).provider_state
        ask = Ask(request, Candidate(provider, model), operation, memory, self._wall(), operation.word)
        return await self._flows.whole(dialects.get(provider.type), ask, self._now() + within_s)


def _speaks(provider: Provider, operation: Operation) -> bool:
    """Say whether a provider of this type can be asked this at all."""
    return dialects.get(provider.type).supports(operation)
