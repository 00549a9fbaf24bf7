"""From a provider's answer to the client: hold back, commit, hand on.

What comes is held back until some of it is content, so that any failure before that can be hidden by asking another
provider. With the first content the response is committed to this provider: the head goes out with what was held, and
from there on everything is handed on as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from balancer.dialect import Ask, Decoder, Stored
from balancer.model import Broken, Completed, Outcome, Piece, Refused, Stage
from balancer.relay.counting import Counting
from balancer.relay.exchange import GoodAnswer
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.relay.record import NO_USAGE, RequestRecord
from balancer.relay.response import COMMITTED, OVER, STREAM_HEADERS, ClientResponse
from balancer.script import Cause
from balancer.state.fleet import Fleet
from balancer.state.resources import Kept
from balancer.transport import TransportError, UpstreamResponse
from balancer.wire.errors import CONTENT_TYPE_JSON, kept_headers
from balancer.wire.event import carries_content
from balancer.wire.stream import PING

LOOK_S = 1.0
"""How often it is looked at, at most, whether what comes is content, in seconds."""


class Receiver:
    """Hands providers' answers on to clients. The fleet learns from it when an answer began."""

    def __init__(
        self, fleet: Fleet, counting: Counting, now: Callable[[], float], limits: RelayLimits = DEFAULT
    ) -> None:
        self.fleet = fleet
        self.counting = counting
        self.now = now
        self.limits = limits

    async def receive(self, record: RequestRecord, response: ClientResponse, ask: Ask, answer: GoodAnswer) -> Outcome:
        """Give the client a provider's answer. Return how it ended.

        Raises `TransportError` where the provider's connection breaks or falls silent, and what the client's writer
        raises.
        """
        decoder, body = answer.decoder, answer.body
        reception = Reception(self, record, response, ask, answer, decoder, body)
        while not decoder.complete:
            data = body.read_nowait()
            if data is None:
                data = await reception.more()
            failure = reception.accept(data)
            if response.state is COMMITTED:
                waiting = response.give(reception.held, last=failure is None and decoder.complete)
                if waiting is not None:
                    await waiting
            if failure is not None:
                return failure
        if response.state is not OVER:
            await response.finish()
        record.notes = decoder.notes
        if ask.operation.openai and (stored := ask.attempt_state.get(Stored)) is not None:
            self.fleet.responses.put(stored.name, Kept(record.provider, record.request.client))
        if reception.sample is not None:
            self.counting.calibrate(reception.sample, ask.candidate, record.usage)
        ended = reception.ended or (rest := body.read_nowait()) == b""
        if not ended and await drain(body, decoder, rest, self.limits.after_end_s):
            record.notes = decoder.notes
        return Completed(record.usage)


class Reception(msgspec.Struct, eq=False):
    """One provider's answer while it is received."""

    _receiver: Receiver
    _record: RequestRecord
    _response: ClientResponse
    _ask: Ask
    _answer: GoodAnswer
    _decoder: Decoder
    _body: UpstreamResponse
    held: list[bytes] = []
    """What the client was not given yet: held back, or of the latest read."""
    ended: bool = False
    """The provider's body has ended, or counts as ended."""
    sample: asyncio.Task[int] | None = None
    """An estimate of the request's tokens, to be compared with the usage that the answer reports."""
    _held_bytes: int = 0
    _unhandled: Sequence[Piece] = ()
    """The latest pieces, where they are more than content that the client took at once."""
    _content_at: float = 0.0
    """When content came last, as far as that was looked at."""
    _look_at: float = 0.0
    """When to look again whether what comes is content. To look at all of it would cost too much."""
    _end_by: float | None = None
    """When a body of which only the end is left to come counts as ended."""

    def more(self) -> Awaitable[bytes | None]:
        """Return what is awaited for more of the body: its next bytes, `b""` at its end.

        Once the response is committed, content goes from the connection to the client without a task in between. Then
        there are no bytes but None, and `accept` finds the pieces that are more than that.
        """
        body, decoder = self._body, self._decoder
        idle_s = self._ask.candidate.provider.timeouts.idle_s
        if decoder.ending:
            return self._read_end(idle_s)
        if self._record.candidate is None:
            left_s = self._answer.deadline - self._receiver.now()
            if left_s <= 0:
                raise TransportError(Cause.SILENT, sent=True)
            return body.read(left_s if self._record.last_hope else min(left_s, idle_s))
        if body.flows:
            self._unhandled = ()
            return body.flow(self._hand_on, idle_s)
        return body.read(idle_s)

    def _hand_on(self, data: bytes) -> bool:
        """Give the client what `data` holds, if it is nothing but content and the client takes it at once."""
        decoder = self._decoder
        pieces = decoder.feed(data)
        if not decoder.complete and not decoder.ending:
            if not pieces:
                return not self._stalls(b"")
            piece, response = pieces[0], self._response
            if len(pieces) == 1 and piece.error is None and piece.usage is None and response.put(piece.data):
                return response.last < self._look_at or not self._stalls(piece.data)
        self._unhandled = pieces
        return False

    def _stalls(self, data: bytes) -> bool:
        """Say whether the answer has made no progress for too long. `data`: what came for the client, as frames."""
        now, stall_s = self._receiver.now(), self._ask.candidate.provider.timeouts.stall_s
        if data and carries_content(data):
            self._content_at, self._look_at = now, now + min(LOOK_S, stall_s / 10)
            return False
        return now - self._content_at >= stall_s

    async def _read_end(self, idle_s: float) -> bytes:
        """Read the end of a body of which nothing else is left to come (`Decoder.ending`).

        Some servers neither report usage nor end the body: what is there after a short time is the answer.
        """
        now = self._receiver.now()
        if self._end_by is None:
            self._end_by = now + self._receiver.limits.ending_s
        left_s = min(idle_s, self._end_by - now)
        try:
            return await self._body.read(left_s) if left_s > 0 else b""
        except TransportError:
            return b""

    def accept(self, data: bytes | None) -> Outcome | None:
        """Hold what comes for the client, and commit the response at the first content.

        `data` is what was read; `b""`: the body has ended; None: see `more`. Returns the failure that ends it.
        """
        record, decoder = self._record, self._decoder
        pieces: Sequence[Piece]
        if data:
            pieces = decoder.feed(data)
        elif data is None:
            pieces = self._unhandled
        else:
            self.ended, pieces = True, decoder.end()
        for piece in pieces:
            if piece.error is not None:
                return Refused(piece.error, record.stage)
            if piece.usage is not None:
                record.usage = piece.usage if record.usage is NO_USAGE else record.usage.merged(piece.usage)
            if record.candidate is not None:
                self.held.append(piece.data)
            elif (failure := self._hold_back(piece)) is not None:
                return failure
        if decoder.complete:
            return None
        if self.ended:
            return Broken(record.stage, Cause.TRUNCATED)
        if record.candidate is None:
            return None
        if (not self.held or self._response.last >= self._look_at) and self._stalls(b"".join(self.held)):
            stall_s = self._ask.candidate.provider.timeouts.stall_s
            return Broken(record.stage, Cause.IDLE_TIMEOUT, f"nothing but pings and the like for {stall_s:g} s")
        return None

    def _hold_back(self, piece: Piece) -> Broken | None:
        """Hold a piece until there is content; with content, commit. Pings are left out: the balancer sends its own."""
        if piece.data != PING:
            self.held.append(piece.data)
            self._held_bytes += len(piece.data)
        if piece.has_content:
            self._commit()
        elif self._held_bytes > self._receiver.limits.held_max_bytes:
            return Broken(Stage.WAIT, Cause.TOO_LARGE, "nothing but preliminaries")
        return None

    def _commit(self) -> None:
        """Content has begun: the answer is this provider's from here on, however it ends."""
        receiver, record, candidate = self._receiver, self._record, self._ask.candidate
        fleet = receiver.fleet
        request, now = record.request, receiver.now()
        record.candidate, record.provider, record.provider_model = candidate, candidate.provider.name, candidate.model
        record.first_content_s = now - record.arrived
        self._content_at = self._look_at = now
        lines = kept_headers(self._answer.head)
        lines += self._decoder.headers
        lines = fleet.secrets.lines(lines)
        lines += record.who_answered(len(record.attempts) + 1)
        if request.operation.streams:
            if request.operation.answers:
                self.sample = receiver.counting.sample(request.body, candidate)
            own = () if candidate.provider.passthrough else lines  # there the account is the client's
            fleet.stats(candidate.provider.name).content_began(record.first_content_s, now, own)
            if fleet.health.entries:
                fleet.health.content_began(candidate, record.attempt_began, now)
            if record.route is not None and not (record.pinned and record.detour):
                left = fleet.pins.put(request, record.route, candidate.provider.name, now)
                if left is not None and fleet.leaves_reasoning(request, left, candidate.provider.name):
                    record.left = left
        elif request.operation.counts:
            lines.append((b"x-balancer-token-source", b"provider"))
        request.drop_body()  # no other provider can be asked any more
        self._response.writer.committed(candidate)
        if request.stream:
            self._response.commit((*STREAM_HEADERS, *lines))
        else:
            self._response.commit((CONTENT_TYPE_JSON, (b"content-length", b"%d" % self._held_bytes), *lines))


async def drain(body: UpstreamResponse, decoder: Decoder, data: bytes | None, within_s: float) -> bool:
    """Read what follows the end of a message, so that the connection can be used again. Return whether there was any.

    `data` is the first of it, where it has come already. The decoder gets it for its notes; the client does not.
    """
    more = False
    try:
        while data := data or await body.read(within_s):
            more = True
            decoder.feed(data)
            data = None
    except TransportError:
        pass
    return more
