"""Batches, files, skills, stored responses: each request goes to one provider, and what is made stays with its maker.

There is no failing over as with messages. What makes something is asked of the next provider only while nothing was
sent; what is about an id goes to the provider that keeps it. Answers are handed on as they come; only JSON is read
whole, because it holds ids and addresses.
"""

from __future__ import annotations

import asyncio

from balancer import dialects
from balancer.clock import Clock
from balancer.dialect import Ask
from balancer.headers import REQUEST_ID, Headers, header
from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    Operation,
    Outcome,
    Provider,
    Refused,
    Reply,
    ResourceRequest,
    Stage,
)
from balancer.policy import resources as policy
from balancer.policy.classify import judge_of
from balancer.policy.exhausted import RETRY_AFTER_MIN_S, ErrorReply
from balancer.policy.resources import Follows
from balancer.policy.routes import in_audience
from balancer.redact import Inventory, scrub
from balancer.relay import border
from balancer.relay.exchange import Exchanges
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.relay.record import RequestRecord
from balancer.relay.writer import ResponseWriter
from balancer.state.fleet import Fleet
from balancer.state.resources import Kept, Resources
from balancer.transport import TransportError, UpstreamResponse
from balancer.wire.error_shapes import shape_of
from balancer.wire.errors import CONTENT_TYPE_JSON, kept_headers

_KEPT = frozenset({b"content-type", b"content-disposition", b"content-length", b"etag", b"last-modified"})
"""Headers of an answer that describe what was stored."""

FULL = ErrorReply(503, "api_error", "every place is taken by other requests; try again soon", RETRY_AFTER_MIN_S)


class ResourceRelay:
    """Answers requests about batches, files, skills and stored responses."""

    def __init__(self, fleet: Fleet, transport: Exchanges, clock: Clock, limits: RelayLimits = DEFAULT) -> None:
        self._fleet = fleet
        self._transport = transport
        self.now = self._now = clock.now
        self._wall = clock.wall
        self._limits = limits

    async def answer(self, request: ResourceRequest, writer: ResponseWriter) -> None:
        """Give `writer` the answer to `request`. Is cancelled when the client has left."""
        record = RequestRecord(request, self._now(), len(request.body))
        self._fleet.bus.emit(record.began(self._wall()))
        try:
            await self._run(request, _Response(record, writer, self._fleet.secrets))
        except asyncio.CancelledError:
            record.close("abandoned", "the client left")
            await writer.abort()
            raise
        finally:
            self._fleet.bus.emit(record.ended(self._wall(), self._now()))

    async def _run(self, request: ResourceRequest, response: _Response) -> None:
        fleet, name = self._fleet, request.resource_id
        if not await self._may_come():
            await response.fail(FULL)
            return
        if name is not None and self._table(request).is_foreign(name, request.client):
            await response.fail(ErrorReply(404, "not_found_error", f"there is no {name}"))
            return
        candidates = self._candidates(request)
        if not candidates:
            await response.fail(self._nobody(request))
            return
        if not await self._may_come():
            await response.fail(FULL)
            return
        with fleet.admit():
            for candidate in candidates:
                outcome = await self._attempt(request, response, candidate, last=candidate is candidates[-1])
                if response.started or not policy.goes_on(request, outcome):
                    break
            if response.started and isinstance(outcome, Broken):
                response.record.close("broken_stream", judge_of(candidate, outcome).reason)
                await response.writer.abort()
            elif not response.started:
                words = outcome.fault.message if isinstance(outcome, Refused) else ""
                await response.fail(policy.unanswered(request, candidate, outcome, scrub(words, fleet.secrets)))

    def _table(self, request: ResourceRequest) -> Resources:
        """Return where it stands who keeps what the request is about."""
        return self._fleet.responses if request.operation.openai else self._fleet.resources

    async def _may_come(self) -> bool:
        """Wait for a place in the balancer; say whether there is one. No client's share counts here."""
        admission = self._fleet.admission
        if admission.has_place():
            return True
        await admission.wait(self._now)
        return admission.has_place()

    def _nobody(self, request: ResourceRequest) -> ErrorReply:
        kept = self._table(request).find(request.resource_id or "")
        if kept is not None:
            message = f"{kept.provider} keeps {request.resource_id}, and is paused, disabled or gone"
            return ErrorReply(503, "api_error", message, retrying_helps=False)
        word, kind = request.operation.word.replace("_", " "), "openai" if request.operation.openai else "anthropic"
        message = f"no usable provider has {word}; add one of type {kind} to providers.yaml, or enable it"
        return ErrorReply(501, "not_supported", message, retrying_helps=False)

    def _candidates(self, request: ResourceRequest) -> list[Candidate]:
        """Return who may be asked, one after the other."""
        fleet, operation, grant = self._fleet, request.operation, request.grant
        able = [
            Candidate(provider, "", operation=operation)
            for provider in policy.by_priority(fleet.config.providers, fleet.config.routes)
            if provider.name not in fleet.health.paused
            and dialects.get(provider.type).supports(operation)
            and (grant is None or not grant.providers or provider.name in grant.providers)
        ]
        able = list(in_audience(able, fleet.config.settings.passthrough_to))
        kept = None if request.resource_id is None else self._table(request).find(request.resource_id)
        if kept is not None:
            return [one for one in able if one.provider.name == kept.provider]
        now, availability = self._now(), fleet.health.availability
        usable = [one for one in able if availability(one, now).usable]
        return policy.asked(request, able, usable)

    async def _attempt(
        self, request: ResourceRequest, response: _Response, candidate: Candidate, *, last: bool
    ) -> Outcome:
        """Ask one provider, and give the client its answer. Return how that ended."""
        began = self._now()
        outcome: Outcome = Abandoned(Stage.WAIT)
        try:
            outcome = await self._exchange(request, response, candidate, last=last)
        except TransportError as error:
            stage = Stage.STREAM if response.started else Stage.WAIT if error.sent else Stage.CONNECT
            outcome = Broken(stage, error.cause, error.detail)
        finally:
            outcome = border.cleaned(outcome, self._fleet.secrets, request)
            response.record.attempted(candidate, outcome, judge_of(candidate, outcome), self._now() - began)
        return outcome

    async def _exchange(
        self, request: ResourceRequest, response: _Response, candidate: Candidate, *, last: bool
    ) -> Outcome:
        """Send the request, and hand on the answer if it is for the client."""
        provider, dialect = candidate.provider, dialects.get(candidate.provider.type)
        times, limits = provider.timeouts, self._limits
        with self._fleet.admission.slot_beyond(candidate, self._now()) as stats:
            ask = Ask(request, candidate, request.operation, stats.provider_state, self._wall(), request.id)
            wire = next(dialect.flow(ask))
            exchange = self._transport.exchange(wire, connect_s=times.connect_s, head_s=times.non_streaming_s)
            async with exchange as answer:
                if 200 <= answer.status < 300:
                    if request.content or not _is_json(answer):
                        await response.stream(provider, answer)
                    else:
                        body = await answer.read_whole(limits.side_request_max_bytes, times.idle_s)
                        await response.whole(provider, answer, self._seen(request, provider, body))
                    return Completed()
                body = await answer.read_whole(limits.refusal_max_bytes, times.idle_s)
                fault = dialect.fault(ask, Reply(answer.status, answer.headers, body))
                by_id, theirs = request.resource_id is not None, provider.passthrough
                if policy.follows(answer.status, by_id=by_id, last=last, passthrough=theirs) is Follows.GIVE:
                    fault = border.cleaned_fault(Refused(fault, Stage.WAIT), self._fleet.secrets, request)
                    # Its words may quote the request: they go to the client and are not logged.
                    response.record.close(policy.refused(answer.status), f"{answer.status} {fault.kind}")
                    said = Reply(answer.status, answer.headers) if fault.reply is None else fault.reply
                    await response.refusal(provider, answer, said)
                return Refused(fault, Stage.WAIT)

    def _seen(self, request: ResourceRequest, provider: Provider, body: bytes) -> bytes:
        """Note what a good answer tells, and return it as the client is to get it."""
        resources, name = self._table(request), request.resource_id
        if name is not None:
            if resources.find(name) is None:
                resources.put(name, Kept(provider.name))
        elif request.method == b"POST":
            if (made := policy.id_of(body)) is not None:
                resources.put(made, Kept(provider.name, request.client))
        elif len(resources):
            body = policy.without_foreign(body, lambda listed: resources.is_foreign(listed, request.client))
        return policy.with_own_addresses(body) if request.operation is Operation.BATCHES else body


class _Response:
    """What the client is given."""

    def __init__(self, record: RequestRecord, writer: ResponseWriter, secrets: Inventory) -> None:
        self.secrets = secrets
        self.record = record
        self.writer = writer
        self.started = False

    def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.record.status = status
        self.writer.start(status, headers)

    async def whole(self, provider: Provider, answer: UpstreamResponse, body: bytes) -> None:
        """Give a body that was read whole."""
        self._start(answer.status, self._headers(provider, answer, len(body)))
        await self.writer.write(body, last=True)

    async def refusal(self, provider: Provider, answer: UpstreamResponse, said: Reply) -> None:
        """Give what a provider said when it refused."""
        lines = [line for line in self._headers(provider, answer, len(said.body)) if line[0] not in _KEPT]
        self._start(said.status, (*lines, CONTENT_TYPE_JSON, (b"content-length", b"%d" % len(said.body))))
        await self.writer.write(said.body, last=True)

    async def stream(self, provider: Provider, answer: UpstreamResponse) -> None:
        """Hand a body on as it comes. Raises `TransportError` where it breaks off."""
        self._start(answer.status, self._headers(provider, answer, None))
        while data := await answer.read(provider.timeouts.idle_s):
            await self.writer.write(data)
        await self.writer.finish()

    async def fail(self, error: ErrorReply) -> None:
        """Give an error of the balancer's own."""
        request_id, shape = self.record.request.id, shape_of(self.record.request.operation)
        self.record.close(error.outcome, error.logged)
        body = shape.body(error.kind, error.message, request_id)
        lines = [CONTENT_TYPE_JSON, (b"content-length", b"%d" % len(body)), (REQUEST_ID, request_id.encode())]
        lines.append((shape.id_header, request_id.encode()))
        lines += self.record.who_answered(len(self.record.attempts))
        if error.retry_after_s is not None:
            lines.append((b"retry-after", b"%d" % error.retry_after_s))
        if not error.retrying_helps:
            lines.append((b"x-should-retry", b"false"))
        self._start(error.status, tuple(lines))
        await self.writer.write(body, last=True)

    def _headers(self, provider: Provider, answer: UpstreamResponse, length: int | None) -> Headers:
        """Return the head of a provider's answer. `length`: that of a body that was read whole."""
        self.record.provider = provider.name
        lines = kept_headers(Reply(answer.status, answer.headers, names=answer.names))
        lines += [line for line in answer.headers if line[0] in _KEPT]
        lines = self.secrets.lines(lines)
        if length is not None:
            lines = [line for line in lines if line[0] != b"content-length"]
            lines.append((b"content-length", b"%d" % length))
        lines.append((REQUEST_ID, self.record.request.id.encode()))
        lines.append((b"x-balancer-provider", provider.name.encode("ascii", "replace")))
        lines.append((b"x-balancer-attempts", b"%d" % (len(self.record.attempts) + 1)))
        return tuple(lines)


def _is_json(answer: UpstreamResponse) -> bool:
    kind = header(answer.headers, b"content-type") or b""
    return kind.partition(b";")[0].strip().lower() == b"application/json"
