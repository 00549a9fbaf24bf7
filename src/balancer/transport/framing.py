"""One HTTP/1.1 response: from bytes to a head, a body and an end. No socket, no clock.

Bytes are parsed by httptools (llhttp) as they arrive. What is left to us is what a proxy must not get wrong: where the
body ends, that nothing is taken for an end that is none, and how much a peer may send before there is a body.

| state | what has come | what may follow |
|---|---|---|
| `HEAD` | nothing, interim (1xx) responses, a part of the head | a head; an end of the connection breaks it |
| `BODY` | the head | pieces of the body; its end, as the head says where that is |
| `COMPLETE` | all of it | nothing: what comes all the same makes the connection unusable |
| `BROKEN` | what can't be trusted, or too early an end; `error()` says which | nothing: it is dropped |

The ways: `HEAD` to `BODY` to `COMPLETE`; from the first two to `BROKEN`; from all to `BROKEN` when the exchange is
over. There is none back.
"""

from __future__ import annotations

import enum
import ssl

import httptools

from balancer.headers import collector
from balancer.script import Cause
from balancer.transport.answer import UpstreamResponse
from balancer.transport.errors import TransportError
from balancer.transport.limits import LIMITS, Limits

_BODILESS = frozenset({204, 304})
"""Statuses of responses that have no body, whatever their headers say (RFC 9110, section 6.4.1)."""


class State(enum.Enum):
    """How far a response is."""

    HEAD = "head"
    BODY = "body"
    COMPLETE = "complete"
    BROKEN = "broken"


HEAD, BODY, COMPLETE, BROKEN = State  # a global costs a tenth of a member of the class


class HeaderFields:
    """Where a parser puts the fields of a head. One serves all the responses of a connection, one after the other.

    Making the function that is called with each field costs as much as the rest of a response; what it has collected is
    copied into the response, and each response begins with none.
    """

    __slots__ = ("lines", "on_header")

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, bytes]] = []
        self.on_header = collector(self.lines)


class FramedResponse(UpstreamResponse):
    """Reads one response. One object a response: what belongs to the next one can't get into this one."""

    state = HEAD
    headed = False
    """The head has come."""
    _cause = Cause.CLOSED
    _detail = ""
    reusable = False
    """The connection may be used for another exchange, as far as the response says."""
    head_bytes = 0
    """How much has come before the body began."""
    _interims = 0
    _until_close = False
    """The body ends with the connection."""
    _foreign_from: int | None = None
    """Where, among the pieces, those of a second response begin."""

    def __init__(self, fields: HeaderFields, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.pieces: list[bytes] = []
        """What of the body has come; whoever reads it empties the list."""
        self._fields = fields.lines
        self._fields.clear()
        # What the parser calls with each header and each piece of the body: in C, as a stream has hundreds.
        self.on_header = fields.on_header
        self.on_body = self.pieces.append
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read what has come."""
        if self.state is not BODY:
            if self.state is not HEAD:  # it is over: what follows belongs to no exchange, and is no good sign
                self.reusable = False
                return
            self.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(Cause.PROTOCOL, "an upgrade that nobody asked for")
        except httptools.HttpParserError as error:
            self.reusable = False
            self.fail(Cause.PROTOCOL, type(error).__name__)
        if self._fields and len(self._fields) > self.limits.fields_max:  # behind a body there is no other bound
            self.fail(Cause.TOO_LARGE, f"more than {self.limits.fields_max} header fields")
        if self.state is HEAD and self.head_bytes > self.limits.head_max_bytes:
            self.fail(Cause.TOO_LARGE, f"a head of more than {self.limits.head_max_bytes} bytes")
        if self._foreign_from is not None:
            del self.pieces[self._foreign_from :]

    def cut(self, error: Exception | None) -> None:
        """The connection is gone: closed, or as `error` says. That ends the response, well or not."""
        if error is None and self.state is BODY and self._until_close:
            self.state = COMPLETE
        elif isinstance(error, ssl.SSLError) and (reason := _reason(error)) != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            self.fail(Cause.TLS, reason)
        else:
            self.fail(Cause.CLOSED if error is None else Cause.RESET)

    def fail(self, cause: Cause, detail: str = "") -> None:
        """Break it for this reason, if it is not over."""
        if self.state is HEAD or self.state is BODY:
            self._cause, self._detail = cause, detail
            self.state = BROKEN

    def error(self) -> TransportError:
        """Return why it is `BROKEN`."""
        return TransportError(self._cause, self._detail, sent=True, headed=self.headed)

    def discard(self) -> None:
        """The exchange is over: nothing is fed any more, and whoever still reads is told so, whatever there was."""
        self.state = BROKEN
        self._detail = "its exchange is over"
        self.pieces.clear()
        del self._parser  # it holds this object as this object holds it

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.state is COMPLETE:  # a second response to one request: no part of the first, and no good sign
            self.reusable = False
            self._foreign_from = len(self.pieces)

    def on_headers_complete(self) -> None:
        if self.state is not HEAD:
            return
        if len(self._fields) > self.limits.fields_max:
            self.fail(Cause.TOO_LARGE, f"more than {self.limits.fields_max} header fields")
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interims += 1
            if status == 101 or self._interims > self.limits.interim_max:
                self.fail(Cause.PROTOCOL, f"an interim response {status} too many")
            return
        self.status = status
        self.headers = tuple(self._fields)
        self._fields.clear()
        self._find_end()
        if self.state is HEAD:
            self.state, self.headed = BODY, True

    def _find_end(self) -> None:
        """Find out where the body ends; what says two things is believed in neither."""
        last = dict(self.headers)
        self.names = tuple(last) if len(last) == len(self.headers) else ()
        length, coding = last.get(b"content-length"), last.get(b"transfer-encoding")
        if length is not None and coding is not None:
            self.fail(Cause.PROTOCOL, "both content-length and transfer-encoding")
        elif coding is not None and coding.strip().lower() != b"chunked":
            self.fail(Cause.PROTOCOL, "a transfer-encoding that is not just chunked")
        elif len(last) != len(self.headers):
            self._find_end_once()
        self._until_close = length is None and coding is None and self.status not in _BODILESS
        self.encoding = last.get(b"content-encoding")

    def _find_end_once(self) -> None:
        """Some header is there more than once: check that none of those is that say where the body ends."""
        if len({value for name, value in self.headers if name == b"content-length"}) > 1:
            self.fail(Cause.PROTOCOL, "several content-lengths")
        elif sum(name == b"transfer-encoding" for name, _ in self.headers) > 1:
            self.fail(Cause.PROTOCOL, "a transfer-encoding that is not just chunked")

    def on_message_complete(self) -> None:
        if self.state is HEAD:  # an interim response: the real one follows
            self._fields.clear()
        elif self.state is BODY:
            self.reusable = self._parser.should_keep_alive() and not self._until_close
            self.state = COMPLETE


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's word for it; an error that is not OpenSSL's own has none."""
    return getattr(error, "reason", None) or ""
