"""How a request ends that gets no answer, or not the whole of one.

The client learns of it in the way that the state of its response still allows: by a status while it is silent, by an
event once the stream is open, and by a cut connection where the body must end otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from balancer.clock import Clock
from balancer.model import Outcome, Refused
from balancer.policy import exhausted
from balancer.policy.exhausted import ErrorReply
from balancer.policy.failover import Failover
from balancer.policy.verdicts import Verdict
from balancer.redact import scrub
from balancer.relay.counting import Counting
from balancer.relay.record import RequestRecord
from balancer.relay.response import COMMITTED, ENDING, OPEN, OVER, STUCK, ClientResponse
from balancer.state.fleet import Fleet
from balancer.wire.error_shapes import shape_of
from balancer.wire.errors import CONTENT_TYPE_JSON


class Endings:
    """Ends requests for which there is no whole answer."""

    def __init__(self, fleet: Fleet, counting: Counting, clock: Clock) -> None:
        self._fleet = fleet
        self._counting = counting
        self._now = clock.now
        self._wall = clock.wall

    async def conclude(self, record: RequestRecord, response: ClientResponse, failover: Failover) -> None:
        """End a request whose failover is over without a whole answer."""
        attempts = failover.attempts
        if response.state in (COMMITTED, ENDING):
            _, outcome, verdict = attempts[-1]
            await self._break_off(record, response, outcome, verdict)
            return
        fleet, now = self._fleet, self._now()
        unasked, recovery_s = fleet.unasked(record.request, failover, now)
        reply = exhausted.answer(
            record.request.model,
            attempts,
            unasked,
            recovery_s,
            overloaded=failover.overloaded,
            now=now,
            wall=self._wall(),
            secrets=fleet.secrets,
        )
        if record.skipped:
            reply = replace(reply, message=exhausted.with_skipped(reply.message, record.skipped))
        if record.request.operation.counts and exhausted.is_to_be_estimated(attempts, reply):
            await self.estimate(record, response)
        else:
            await self.send_error(record, response, reply)

    async def send_error(self, record: RequestRecord, response: ClientResponse, reply: ErrorReply) -> None:
        """Send the client an error instead of an answer: as a status, or as an event of a stream that is open."""
        message, request_id = self._clean(reply.message), record.request.id
        shape = shape_of(record.request.operation)
        # A provider's own words may quote the request: they go to the client and are not logged.
        own_words = reply.reply is not None and record.attempts
        record.close(reply.outcome, record.attempts[-1].reason if own_words else self._clean(reply.logged))
        if response.state is OPEN:
            await response.fail(shape.frame(reply.kind_in_stream, message, request_id))
            return
        if reply.reply is not None:
            body, headers = reply.reply.body, reply.reply.headers
        else:
            body = shape.body(reply.kind, message, request_id)
            headers = (CONTENT_TYPE_JSON, (shape.id_header, request_id.encode()), *reply.limits)
        if reply.retry_after_s is not None:
            headers = (*headers, (b"retry-after", b"%d" % reply.retry_after_s))
        if not reply.retrying_helps:
            headers = (*headers, (b"x-should-retry", b"false"))
        headers = (*headers, *record.who_answered(len(record.attempts)), (b"content-length", b"%d" % len(body)))
        response.start(reply.status, headers)
        await response.write(body, last=True)

    async def cut_off(self, record: RequestRecord, response: ClientResponse) -> None:
        """End a request whose task was cancelled: its client left or is stuck, or the balancer is being stopped."""
        state = response.state
        if state is OVER:
            return
        if state is STUCK:
            record.close("abandoned", "the client took nothing for too long")
            await response.abort()
        elif response.writer.gone:
            record.close("abandoned", "the client left")
        elif state in (COMMITTED, ENDING):
            record.close("broken_stream", exhausted.STOPPED.message)
            await self._send_event_or_cut(record, response, exhausted.STOPPED.kind, exhausted.STOPPED.message)
        else:
            await self.send_error(record, response, exhausted.STOPPED)

    async def _break_off(
        self, record: RequestRecord, response: ClientResponse, outcome: Outcome, verdict: Verdict
    ) -> None:
        """End a response whose provider failed after content. It never ends as a whole one would."""
        record.close("broken_stream", self._clean(verdict.reason))
        if isinstance(outcome, Refused) and outcome.fault.reply is not None and response.state is COMMITTED:
            # The provider's own event says so, in the client's own API: it is the end of the stream.
            await response.fail(outcome.fault.reply.body)
            return
        setting = self._fleet.config.settings.on_broken_stream
        if exhausted.cuts_connection(setting, claude_code=record.request.claude_code):
            await response.abort()
        else:
            kind, message = exhausted.broken_off(record.provider, outcome, verdict)
            await self._send_event_or_cut(record, response, kind, self._clean(message))

    async def _send_event_or_cut(
        self, record: RequestRecord, response: ClientResponse, kind: str, message: str
    ) -> None:
        """Send the failure as an event where the response is a stream and not at its end; else cut the connection."""
        if record.request.stream and response.state is not ENDING:
            await response.fail(shape_of(record.request.operation).frame(kind, message, record.request.id))
        else:
            await response.abort()

    async def estimate(self, record: RequestRecord, response: ClientResponse) -> None:
        """Answer a request to count tokens with an estimate: nobody could answer it, or it found no place."""
        try:
            count = await self._counting.count(record.request.body, record.request.model, record.first)
        except msgspec.MsgspecError as error:
            await self.send_error(record, response, exhausted.not_countable(str(error)))
            return
        body = b'{"input_tokens":%d}' % count
        length = (b"content-length", b"%d" % len(body))
        response.start(200, (CONTENT_TYPE_JSON, length, (b"x-balancer-token-source", b"estimate")))
        await response.write(body, last=True)

    def _clean(self, message: str) -> str:
        """Return a message without any secret of the configuration."""
        return scrub(message, self._fleet.secrets)
