"""What a simulated provider may do with one request, step by step, and whose matter each of it is."""

from __future__ import annotations

import enum
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from balancer.script import Cause, Data, Fail, Head, Step
from balancer.wire.stream import PING


class Blame(enum.Enum):
    """Whose matter the outcome of an exchange is: what the balancer must conclude from it."""

    NOBODY = "nobody"
    """The answer is good."""
    PROVIDER = "provider"
    MODEL = "model"
    """The provider, for this model only."""
    ACCOUNT = "account"
    REQUEST = "request"
    """Every provider would refuse it: no health may change."""
    CAPABILITY = "capability"
    """This provider can't take it, another may: no health may change."""


Timed: TypeAlias = tuple[float, Step]
"""Seconds after the request was sent, and what happens then."""


@dataclass(slots=True)
class Behaviour:
    """What one provider does with one request."""

    kind: str
    blame: Blame
    steps: list[Timed]
    content: bytes = b""
    """The body that a client gets of it, if it gets all that comes."""
    whole: bool = False
    """`content` is a whole answer."""
    named_s: float | None = None
    """How long the provider asks to be left in peace."""

    @property
    def decided_s(self) -> float:
        """When the last step comes: until then the driver's own deadlines may decide otherwise."""
        return self.steps[-1][0] if self.steps else 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a provider knows of the request that it is to answer."""

    mark: str
    """Names this exchange: it stands in whatever the provider says."""
    stream: bool
    counts: bool
    latency_s: float
    """How long its answers take to begin."""
    rng: random.Random
    named_s: float | None = None
    """The time that it names when it refuses."""


SSE = Head(200, ((b"content-type", b"text/event-stream"), (b"request-id", b"req_up")))
JSON = Head(200, ((b"content-type", b"application/json"),))
HTML = Head(200, ((b"content-type", b"text/html"),))
GAP_MAX_S = 4.0
"""The longest pause in a good answer: shorter than every `stream_idle_timeout`."""
NEVER_S = 86_400.0
"""Longer than any deadline."""


def _frame(event: str, **more: object) -> bytes:
    return f"event: {event}\ndata: {json.dumps({'type': event, **more}, separators=(',', ':'))}\n\n".encode()


USAGE = {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}
START = _frame(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
)
OPENED = _frame("content_block_start", index=0, content_block={"type": "text", "text": ""})
END = (
    _frame("content_block_stop", index=0)
    + _frame(
        "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={**USAGE, "output_tokens": 5}
    )
    + _frame("message_stop")
)
ERROR_EVENT = _frame("error", error={"type": "overloaded_error", "message": "Overloaded"})
_DELTA = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    '"delta":{"type":"text_delta","text":"%s: an error: message_stop"}}\n\n'
)
_MESSAGE = (
    '{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"%s"}],'
    '"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":5,"cache_read_input_tokens":3}}'
)


def _whole(asked: Asked) -> bytes:
    """Return the body of a good answer that is not streamed."""
    if asked.counts:
        return b'{"input_tokens":7}'
    return (_MESSAGE % asked.mark).encode()


def good(asked: Asked) -> Behaviour:
    """Answer well: in one read, in a few, or in many with pauses and with frames cut anywhere."""
    at, rng = asked.latency_s, asked.rng
    if not asked.stream:
        body = _whole(asked)
        return Behaviour("good", Blame.NOBODY, [(at, JSON), (at, Data(body))], body, whole=True)
    delta = (_DELTA % asked.mark).encode()
    chance = rng.random()
    if chance < 0.3:
        content = START + OPENED + delta + END
        return Behaviour("good", Blame.NOBODY, [(at, SSE), (at, Data(content))], content, whole=True)
    steps: list[Timed] = [(at * 0.5, SSE), (at * 0.5, Data(START + OPENED))]
    if chance < 0.4:
        steps += [(at * 0.7, Data(PING)), (at * 0.8, Data(PING))]
    gap_s = 0.02 if chance < 0.7 else rng.random() * GAP_MAX_S
    count = rng.randrange(1, 5)
    content = START + OPENED + delta * count + END
    if chance < 0.9:
        steps += [(at + gap_s * number, Data(delta)) for number in range(count)]
        steps.append((at + gap_s * count, Data(END)))
    else:
        rest = delta * count + END
        cut = rng.randrange(1, len(rest))
        steps += [(at, Data(rest[:cut])), (at + gap_s, Data(rest[cut:]))]
    return Behaviour("good", Blame.NOBODY, steps, content, whole=True)


def _begun(asked: Asked) -> tuple[list[Timed], bytes, float]:
    """Return the steps of an answer whose content has begun, that content, and when it goes on."""
    at = asked.latency_s
    if asked.stream:
        content = START + OPENED + (_DELTA % asked.mark).encode() * 2
        return [(at, SSE), (at, Data(content))], content, at + asked.rng.random() * 3.0
    body = _whole(asked)[:9]
    return [(at, JSON), (at, Data(body))], b"", at + 0.1


Refuse: TypeAlias = Callable[[Asked], Behaviour]


def _refusal(blame: Blame, status: int, kind: str, words: str = "no", *, names: str = "") -> Refuse:
    """Refuse with an error of the Messages API. `names`: the header that says how long it lasts."""

    def refuse(asked: Asked) -> Behaviour:
        headers = [(b"content-type", b"application/json")]
        named_s = asked.named_s if names else None
        if named_s is not None and names == "retry-after":
            headers.append((b"retry-after", b"%d" % named_s))
        elif named_s is not None:
            headers.append((b"retry-after-ms", b"%d" % (named_s * 1000)))
        body = json.dumps({"type": "error", "error": {"type": kind, "message": f"{words} ({asked.mark})"}}).encode()
        steps: list[Timed] = [(asked.latency_s, Head(status, tuple(headers))), (asked.latency_s, Data(body))]
        return Behaviour(f"{status} {kind}", blame, steps, body, named_s=named_s)

    return refuse


def _fails(cause: Cause, after_s: float | None = None) -> Refuse:
    """Break the exchange for this reason; `after_s`: so late, not after the latency."""

    def fail(asked: Asked) -> Behaviour:
        at = asked.latency_s if after_s is None else after_s
        return Behaviour(cause.value, Blame.PROVIDER, [(at, Fail(cause))])

    return fail


def _says(kind: str, *says: Step) -> Refuse:
    """Send this, whatever was asked."""

    def say(asked: Asked) -> Behaviour:
        return Behaviour(kind, Blame.PROVIDER, [(asked.latency_s, step) for step in says])

    return say


def _silent(asked: Asked) -> Behaviour:
    return Behaviour("silence", Blame.PROVIDER, [(NEVER_S, Fail(Cause.CLOSED))])


def _silent_after_head(asked: Asked) -> Behaviour:
    head = SSE if asked.stream else JSON
    steps: list[Timed] = [(asked.latency_s, head)]
    if asked.stream:
        steps.append((asked.latency_s, Data(START)))
    return Behaviour("silence after the head", Blame.PROVIDER, [*steps, (NEVER_S, Fail(Cause.CLOSED))])


def _pings_only(asked: Asked) -> Behaviour:
    if not asked.stream:
        return _silent(asked)
    steps: list[Timed] = [(asked.latency_s, SSE)]
    steps += [(asked.latency_s + 7.0 * number, Data(PING)) for number in range(60)]
    return Behaviour("pings only", Blame.PROVIDER, [*steps, (NEVER_S, Fail(Cause.CLOSED))])


def _trickles(asked: Asked) -> Behaviour:
    """Begin so late that the deadlines may have passed."""
    late = Asked(asked.mark, asked.stream, asked.counts, 4.0 + asked.rng.random() * 60.0, asked.rng)
    answer = good(late)
    answer.kind = "slow"
    return answer


def _breaks(kind: str, *end: Step) -> Refuse:
    """Begin a good answer, and end it badly."""

    def break_off(asked: Asked) -> Behaviour:
        steps, content, at = _begun(asked)
        return Behaviour(kind, Blame.PROVIDER, steps + [(at, step) for step in end], content)

    return break_off


def _falls_silent(asked: Asked) -> Behaviour:
    steps, content, _ = _begun(asked)
    return Behaviour("falls silent", Blame.PROVIDER, [*steps, (NEVER_S, Fail(Cause.CLOSED))], content)


def _tells_and_stays(asked: Asked) -> Behaviour:
    """Say in the middle of an answer that it failed, and leave the connection open."""
    steps, content, at = _begun(asked)
    told: Timed = (at, Data(ERROR_EVENT if asked.stream else b""))
    return Behaviour("tells, and stays", Blame.PROVIDER, [*steps, told, (NEVER_S, Fail(Cause.CLOSED))], content)


PASSING: dict[str, Refuse] = {
    "refused": _fails(Cause.REFUSED),
    "no name": _fails(Cause.DNS),
    "no way": _fails(Cause.UNREACHABLE),
    "no connection": _fails(Cause.CONNECT_TIMEOUT, 5.0),
    "no TLS": _fails(Cause.TLS),
    "reset": _fails(Cause.RESET),
    "closed": _fails(Cause.CLOSED),
    "no HTTP": _fails(Cause.PROTOCOL),
    "500": _refusal(Blame.PROVIDER, 500, "api_error"),
    "502": _refusal(Blame.PROVIDER, 502, "api_error"),
    "503 named": _refusal(Blame.PROVIDER, 503, "api_error", names="retry-after"),
    "529": _refusal(Blame.PROVIDER, 529, "overloaded_error"),
    "529 named": _refusal(Blame.PROVIDER, 529, "overloaded_error", names="retry-after"),
    "504": _refusal(Blame.PROVIDER, 504, "timeout_error"),
    "HTML": _says("HTML", HTML, Data(b"<html>\n\n</html>")),
    "empty": _says("empty", SSE),
    "204": _says("204", Head(204)),
    "garbage": _says("garbage", SSE, Data(START + b"data: {oops\n\n")),
    "error event": _says("error event", SSE, Data(START + OPENED), Data(ERROR_EVENT)),
    "cut before content": _says("cut before content", SSE, Data(START + OPENED)),
    "reset after head": _says("reset after head", SSE, Fail(Cause.RESET)),
    "silence": _silent,
    "silence after head": _silent_after_head,
    "pings only": _pings_only,
}
"""What goes wrong with the provider before any content; another provider can answer, and it may be over soon."""

SILENT = frozenset({"silence", "silence after head", "pings only"})
"""Of those, what shows only with time."""

BREAKS: dict[str, Refuse] = {
    "broken by a reset": _breaks("broken by a reset", Fail(Cause.RESET)),
    "broken by a close": _breaks("broken by a close", Fail(Cause.CLOSED)),
    "truncated": _breaks("truncated", Data(b"")),
    "broken by an error event": _breaks("broken by an error event", Data(ERROR_EVENT)),
    "broken by an error event, and left open": _tells_and_stays,
    "broken by garbage": _breaks("broken by garbage", Data(b"event: message_delta\ndata: {oops\n\n")),
    "falls silent": _falls_silent,
}
"""What goes wrong after content of a stream has been sent."""

LIMITS: dict[str, Refuse] = {
    "429 named": _refusal(Blame.MODEL, 429, "rate_limit_error", names="retry-after"),
    "429 named in ms": _refusal(Blame.MODEL, 429, "rate_limit_error", names="retry-after-ms"),
    "429": _refusal(Blame.MODEL, 429, "rate_limit_error"),
    "404": _refusal(Blame.MODEL, 404, "not_found_error", "model: m"),
}
"""What concerns one model of the provider."""

ACCOUNT: dict[str, Refuse] = {
    "401": _refusal(Blame.ACCOUNT, 401, "authentication_error"),
    "402": _refusal(Blame.ACCOUNT, 402, "billing_error"),
    "403": _refusal(Blame.ACCOUNT, 403, "permission_error"),
    "400 about credit": _refusal(
        Blame.ACCOUNT, 400, "invalid_request_error", "Your credit balance is too low to access the API"
    ),
}
"""What only a person can mend."""

SLOW: dict[str, Refuse] = {"slow": _trickles}

BAD_REQUESTS: dict[str, Refuse] = {
    "400": _refusal(Blame.REQUEST, 400, "invalid_request_error", "messages: at least one message is needed"),
    "413": _refusal(Blame.REQUEST, 413, "request_too_large", "Request exceeds the maximum size"),
    "422": _refusal(Blame.REQUEST, 422, "invalid_request_error", "temperature: must be at most 1"),
}
"""What the request itself has made."""

TOO_LONG = _refusal(Blame.REQUEST, 400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum")
"""What a model with a small context says to a long prompt."""

UNKNOWN_BETA = _refusal(
    Blame.CAPABILITY, 400, "invalid_request_error", "Unexpected value(s) `x` for the `anthropic-beta` header"
)
"""What a provider says that does not know a beta."""

FAULTS: dict[str, Refuse] = {**PASSING, **BREAKS, **LIMITS, **ACCOUNT, **SLOW}
