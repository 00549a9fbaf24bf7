"""Misbehaviour to order: what an ill provider does, as scripts that are played inside the process.

A drill shows that failing over works before anybody needs it. Nothing of a drill reaches the
provider: the script is played in the place of the exchange with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec

from balancer.dialects.simulated.answers import FakeMessage, Text, block_delta, block_start, deltas, event
from balancer.script import Cause, Data, Fail, Head, Pause, Step
from balancer.wire.errors import kind_of

Script = Callable[[], Iterator[Step]]

FOR_EVER_S = 86_400.0
"""Longer than anybody's patience: the balancer's own deadlines end it."""

PING_EVERY_S = 1.0

STREAM = Head(200, ((b"content-type", b"text/event-stream; charset=utf-8"),))
JSON = Head(200, ((b"content-type", b"application/json"),))
_WEB_PAGE = Head(200, ((b"content-type", b"text/html"),))

_ANSWER = FakeMessage(
    "msg_drill", "drill", (Text("This answer is a drill: it will not reach its end."),), "end_turn", 1, 12
)


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One way to be ill."""

    words: str
    """What the provider does, for people."""
    play: Callable[[bool], Iterator[Step]]
    """The steps, for a request that asked for a stream or not."""


def _error(kind: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": "ordered by a drill"}}


def status(code: int) -> Iterator[Step]:
    """Answer with an error of this HTTP status."""
    headers = [(b"content-type", b"application/json")]
    if code == 429:
        headers.append((b"retry-after", b"5"))
    yield Head(code, tuple(headers))
    yield Data(msgspec.json.encode(_error(kind_of(code))))


def _begun(stream: bool, tokens: int) -> Iterator[Step]:
    """Begin a sound answer; `tokens` of content are the last that comes of it."""
    if not stream:
        yield JSON
        whole = _ANSWER.message()
        yield Data(whole[: len(whole) // 2])
        return
    yield STREAM
    yield Data(_ANSWER.start())
    yield Data(block_start(0, _ANSWER.blocks[0]))
    for delta, _ in zip(deltas(_ANSWER.blocks[0]), range(tokens), strict=False):
        yield Data(block_delta(0, delta))


def _fail(cause: Cause) -> Callable[[bool], Iterator[Step]]:
    def play(stream: bool) -> Iterator[Step]:
        yield Fail(cause)

    return play


def _silent(stream: bool) -> Iterator[Step]:
    yield Pause(FOR_EVER_S)


def _stall(stream: bool) -> Iterator[Step]:
    yield from _begun(stream, 0)
    yield Pause(FOR_EVER_S)


def _stall_after(stream: bool) -> Iterator[Step]:
    yield from _begun(stream, 4)
    yield Pause(FOR_EVER_S)


def _slow(stream: bool) -> Iterator[Step]:
    if not stream:
        yield Pause(FOR_EVER_S)
        return
    yield STREAM
    for _ in range(int(FOR_EVER_S / PING_EVERY_S)):
        yield Data(event({"type": "ping"}))
        yield Pause(PING_EVERY_S)


def _error_event(stream: bool) -> Iterator[Step]:
    if not stream:
        yield JSON
        yield Data(msgspec.json.encode(_error("overloaded_error")))
        return
    yield from _begun(stream, 0)
    yield Data(event(_error("overloaded_error")))


def _error_event_after(stream: bool) -> Iterator[Step]:
    if not stream:
        yield from _error_event(stream)
        return
    yield from _begun(stream, 4)
    yield Data(event(_error("overloaded_error")))


def _empty(stream: bool) -> Iterator[Step]:
    yield STREAM if stream else JSON


def _html(stream: bool) -> Iterator[Step]:
    yield _WEB_PAGE
    yield Data(b"<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>")


def _cut(stream: bool) -> Iterator[Step]:
    yield from _begun(stream, 4)
    yield Fail(Cause.RESET)


def _truncated(stream: bool) -> Iterator[Step]:
    yield from _begun(stream, 4)


def _truncated_before(stream: bool) -> Iterator[Step]:
    yield from _begun(stream, 0)


def _of(code: int) -> Callable[[bool], Iterator[Step]]:
    return lambda stream: status(code)


_STATUS_WORDS = {
    400: "malformed request",
    401: "key refused",
    402: "no credit",
    403: "no permission",
    404: "unknown model",
    413: "request too large",
    429: "rate limit, asks for 5 s of rest",
    500: "internal error",
    502: "bad gateway",
    503: "unavailable",
    504: "gateway timeout",
    529: "overloaded",
}

FAULTS: dict[str, Misbehaviour] = {
    **{str(code): Misbehaviour(f"answers {code} ({words})", _of(code)) for code, words in _STATUS_WORDS.items()},
    "refuse": Misbehaviour("refuses the connection", _fail(Cause.REFUSED)),
    "dns": Misbehaviour("has a name that is not found", _fail(Cause.DNS)),
    "tls": Misbehaviour("has a broken certificate", _fail(Cause.TLS)),
    "reset": Misbehaviour("resets the connection before it answers", _fail(Cause.RESET)),
    "silent": Misbehaviour("takes the request and never says anything", _silent),
    "slow": Misbehaviour("keeps pinging and never comes to the point", _slow),
    "stall": Misbehaviour("begins its answer and falls silent before any content", _stall),
    "stall_after": Misbehaviour("falls silent in the middle of its content", _stall_after),
    "error_event": Misbehaviour("reports an overload inside its 200, before any content", _error_event),
    "error_event_after": Misbehaviour("reports an overload in the middle of its content", _error_event_after),
    "empty": Misbehaviour("answers 200 with nothing in it", _empty),
    "html": Misbehaviour("answers 200 with a web page", _html),
    "cut": Misbehaviour("breaks the connection in the middle of its content", _cut),
    "truncated": Misbehaviour("ends cleanly in the middle of its content, without message_stop", _truncated),
    "truncated_before": Misbehaviour("ends cleanly before any content", _truncated_before),
}
"""Every fault that can be ordered, by its name."""

DIALECT = "anthropic"
"""The provider type that reads what these scripts say."""


def script(fault: str, stream: bool) -> Script:
    """Return the script of `fault`. Raises `KeyError` for a name that is not in `FAULTS`."""
    play = FAULTS[fault].play
    return lambda: play(stream)


@dataclass(frozen=True, slots=True)
class Drill:
    """A provider was told to misbehave."""

    provider: str
    fault: str
    requests_left: int | None = None
    """None: as many as come."""
    until: float | None = None
    """On the driver's monotonic clock, in seconds. None: until it is called off."""

    def spent(self) -> Drill:
        """Return the drill after one more request."""
        return self if self.requests_left is None else replace(self, requests_left=self.requests_left - 1)

    def in_words(self, now: float) -> str:
        """Say how long it lasts, for people: `for 30 s`, `for 3 requests`, `until called off`."""
        limits = [] if self.requests_left is None else [f"for {self.requests_left} requests"]
        if self.until is not None:
            limits.append(f"for {max(0.0, self.until - now):.0f} s")
        return " or ".join(limits) or "until called off"


def due(drill: Drill, now: float) -> bool:
    """Say whether the next request to the provider is to fail."""
    if drill.requests_left is not None and drill.requests_left <= 0:
        return False
    return drill.until is None or now < drill.until
