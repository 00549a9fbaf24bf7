"""The safety judge (`settings.safety_judge`): verdicts on the actions of an answer whose provider gives none.

Such an answer is handed on as it comes, up to where it says that there is no verdict. That, and what follows, is held
back while the judge is asked, by a request of its own that goes the way of every other. A judge that fails leaves the
answer as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from balancer.dialect import Decoder
from balancer.headers import Headers
from balancer.model import Candidate, Operation, Outcome, Piece, Request, Route
from balancer.policy.deadlines import CLIENT_MARGIN_S
from balancer.relay import conversion
from balancer.relay.exchange import GoodAnswer, Receive
from balancer.relay.limits import RelayLimits
from balancer.relay.writer import ResponseWriter
from balancer.transport import TransportError, UpstreamResponse
from balancer.wire import safety_judge
from balancer.wire.safeguards import WithoutVerdict, results
from balancer.wire.safety_judge import KIND, Action, Actions

_log = logging.getLogger(__name__)

ANSWER_MAX_BYTES = 256 * 1024
"""No list of verdicts is longer."""

_ENDED, _SETTLED = b"the body has ended", b"the judge has answered"
"""What a judged body says instead of bytes of the provider; compared by identity."""

_FRAME = b"event: message_delta\n"
"""Begins the frame that says so, as the balancer writes it."""

Answer = Callable[[Request, ResponseWriter, None, Route], Awaitable[None]]
"""Answers a request by a given route, in the current task: the relay itself."""

Ask = Callable[[Sequence[Action]], Awaitable[bytes | None]]
"""Returns what `safeguard_results` is to be; None: the judge gave no verdict."""


class Judging:
    """Asks the judge about answers without verdicts."""

    def __init__(self, answer: Answer, now: Callable[[], float], limits: RelayLimits) -> None:
        self._answer = answer
        self._now = now
        self._limits = limits

    async def receive(self, receive: Receive[Outcome], judge: Route, request: Request, answer: GoodAnswer) -> Outcome:
        """Receive an answer; where it is one without verdicts, those of the judge are put in."""
        decoder = answer.decoder
        if not isinstance(decoder, WithoutVerdict) or KIND not in decoder.asked:
            return await receive(answer)
        body = request.body  # it is dropped as soon as content has begun
        long = conversion.takes_long(body)
        about = await asyncio.to_thread(safety_judge.context, body) if long else safety_judge.context(body)
        if about is None:
            return await receive(answer)

        async def ask(actions: Sequence[Action]) -> bytes | None:
            given = await self._verdicts(judge, request, about, actions)
            if given is None:
                return None
            checked = {"type": "available", "tool_uses": given}
            none = {"type": "unavailable", "reason": "error"}
            return results({kind: checked if kind == KIND else none for kind in decoder.asked})

        held = HeldDecoder(decoder, stream=request.stream)
        judged = JudgedBody(answer.body, held, ask, self._now, self._limits.ending_s)
        return await receive(GoodAnswer(held, answer.head, judged, answer.deadline))

    async def _verdicts(
        self, judge: Route, request: Request, about: str, actions: Sequence[Action]
    ) -> dict[str, dict[str, object]] | None:
        """Return the judge's verdicts by the ids of the actions; None: it gave none."""
        asked = safety_judge.judgeable(actions)
        if not asked:
            return None if actions else {}
        model = judge.targets[0].model
        own = Request(
            f"{request.id}.check",
            Operation.MESSAGES,
            b"",
            ((b"content-type", b"application/json"),),
            safety_judge.question(model, about, asked),
            model,
            stream=False,
            client_timeout_s=self._limits.check_s + CLIENT_MARGIN_S,
            client=request.client,
            user_agent=request.user_agent,
            grant=request.grant,
        )
        collected = Collected()
        try:
            await self._answer(own, collected, None, judge)
        except Exception:
            _log.exception("asking the safety judge failed in a way that it should not")
            return None
        if collected.status != 200 or collected.cut:
            return None
        return safety_judge.verdicts(b"".join(collected.parts), asked, actions)


class HeldDecoder:
    """The decoder of an answer that holds its end back until `settle`."""

    def __init__(self, inner: WithoutVerdict, *, stream: bool) -> None:
        self._inner = inner
        self._actions = Actions(stream=stream)
        self._stream = stream
        self._held: list[Piece] = []
        self._note = ""
        self._settled = False
        self.waiting = False
        """Something is held back."""
        self.complete = False
        self.headers: Headers = inner.headers
        self.ending: bool | None = None
        """Never known: `JudgedBody` waits for the end itself."""

    @property
    def inner(self) -> Decoder:
        return self._inner

    @property
    def actions(self) -> list[Action]:
        """The actions of the answer, which has come that far."""
        return self._actions.whole()

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._inner.notes, self._note) if self._note else self._inner.notes

    def feed(self, data: bytes) -> list[Piece]:
        if data is _SETTLED:
            self._settled = True
            held, self._held = self._held, []
            self.complete = self._inner.complete
            return held
        return self._passed(self._inner.end() if data is _ENDED else self._inner.feed(data))

    def end(self) -> list[Piece]:
        return []  # the body has said so before, by `_ENDED`

    def settle(self, verdicts: bytes | None) -> None:
        """Put in what the judge said; None: the answer says, as before, that there is no verdict."""
        self.waiting = False
        self._note = "safety judge: no verdict" if verdicts is None else "safety judge: asked"
        if verdicts is not None:
            old, first = self._inner.results, self._held[0]
            at = first.data.rfind(old)
            first.data = first.data[:at] + verdicts + first.data[at + len(old) :]

    def _passed(self, pieces: list[Piece]) -> list[Piece]:
        """Return the pieces up to where the answer says that there is no verdict; what follows is held."""
        for at, piece in enumerate(() if self._settled else pieces):
            self._actions.look(piece)
            if (found := piece.data.rfind(self._inner.results)) >= 0:
                self._held, self.waiting = pieces[at:], True
                begin = piece.data.rfind(_FRAME, 0, found) if self._stream else 0
                if begin <= 0:
                    return pieces[:at]
                before = Piece(piece.data[:begin], piece.has_content)
                piece.data = piece.data[begin:]
                return [*pieces[:at], before]
        self.complete = self._inner.complete
        return pieces


class JudgedBody(UpstreamResponse):
    """The body of an answer, with the judge's answer in its course."""

    def __init__(
        self, body: UpstreamResponse, decoder: HeldDecoder, ask: Ask, now: Callable[[], float], ending_s: float
    ) -> None:
        self.status, self.headers, self.names = body.status, body.headers, body.names
        self._body = body
        self._decoder = decoder
        self._ask = ask
        self._now = now
        self._ending_s = ending_s
        self._end_by: float | None = None
        self._ended = False

    def read_nowait(self) -> bytes | None:
        if self._decoder.waiting:
            return None
        if self._ended:
            return b""
        data = self._body.read_nowait()
        return self._end() if data == b"" else data

    async def read(self, within_s: float) -> bytes:
        if self._decoder.waiting:
            self._decoder.settle(await self._ask(self._decoder.actions))
            return _SETTLED
        if self._ended:
            return b""
        data = await (self._read_end(within_s) if self._decoder.inner.ending else self._body.read(within_s))
        return data or self._end()

    def _end(self) -> bytes:
        """Note that the body has ended. The decoder is told by `_ENDED`, unless it has all that it needs."""
        self._ended = True
        return b"" if self._decoder.complete else _ENDED

    async def _read_end(self, within_s: float) -> bytes:
        """Read where only the end is left to come: what is there after a short time is the answer."""
        now = self._now()
        if self._end_by is None:
            self._end_by = now + self._ending_s
        left_s = min(within_s, self._end_by - now)
        try:
            return await self._body.read(left_s) if left_s > 0 else b""
        except TransportError:
            return b""


class Collected:
    """Takes the judge's answer."""

    dedup = ""
    gone = True
    """Where the request is cancelled, whoever waits for the answer has gone."""

    def __init__(self) -> None:
        self.status = 0
        self.parts: list[bytes] = []
        self.cut = False
        """It is not the whole answer."""
        self._bytes = 0

    def start(self, status: int, headers: Headers) -> None:
        self.status = status

    def put(self, data: bytes, *, last: bool = False) -> bool:
        self._bytes += len(data)
        if self._bytes > ANSWER_MAX_BYTES:
            self.cut = True
        else:
            self.parts.append(data)
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self.put(data)

    async def finish(self) -> None: ...

    def committed(self, candidate: Candidate) -> None: ...

    def mark_unshareable(self) -> None:
        self.cut = True

    async def abort(self) -> None:
        self.cut = True
