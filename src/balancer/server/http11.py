"""The connections of clients, with plain requests for the hot paths answered straight from the parser.

uvicorn listens, handles signals, drains, and does everything that is not hot. For a plain `POST /v1/messages` its ASGI
cycle (scope, events, a copy of the body, two passes over the headers) costs three times what the work itself does:
47 us against 16 us for a small request. So a plain request becomes an `Exchange` here, and is answered without ASGI.
All others (HTTP/1.0, chunked bodies, `expect`, pipelined, refused, other paths) are handed on to uvicorn, which serves
the same `Messages` through ASGI. Both answer alike: `tests/server/test_http11.py` gives both the same bytes.

A connection is in one state of reading (`Reading`), whatever is being answered at the same time:

    state      the parser is                         ends with                  if it takes too long
    IDLE       between two requests                  a head's first byte        closed: `head_s` on a new connection,
                                                                                then uvicorn's `timeout_keep_alive`
    HEAD       in a request's line or headers        their end: BODY or PASSED  408 after `head_s`
    BODY       in the body of an exchange            its end: IDLE              408 by `BodyTimer`
    PASSED     in the body of a request of uvicorn's its end: IDLE, or a chunk  408 by `BodyTimer`
    TRAILERS   behind the head of a chunk, which     data: PASSED, end: IDLE    408 by `BodyTimer`; 400 beyond
               may be the last one                                              `head_max_bytes`
    CLOSED     refused: nothing is read any more

What is answered is uvicorn's `cycle`: None (nothing), an `Exchange` (until its answer is complete), or a cycle of
uvicorn's own, which stays there when its answer is complete. Requests that came ahead of time wait in `pipeline`, and
`cycle` is then the last of them; the one that is being answered is `_ahead`. While something is answered, IDLE has no
time limit: the client waits for us.

Time comes from the loop alone, and there are two timers a connection, both lazy: `_timer` for the next head, and
`_body_timer`, made with the first body that does not come in one read.
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import TYPE_CHECKING, Any, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from balancer.headers import collector, written
from balancer.server.access import Admitted, Gate
from balancer.server.connection_task import ConnectionTask
from balancer.server.connections import FULL, FULL_BY_MACHINE, Connections
from balancer.server.endpoint import Messages
from balancer.server.exchange import Exchange
from balancer.server.limits import TIMER_SLACK_S, BodyTimer, ClientLimits
from balancer.server.paths import OPERATIONS, PROBES
from balancer.server.rejected import Rejected, error_reply, new_id
from balancer.server.uvicorn_internals import STATUS_LINE, HttpToolsProtocol
from balancer.state.fleet import Fleet

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

NEVER = math.inf

_HOT = {path.encode(): (path, operation) for path, operation in OPERATIONS.items()}


_ASKS_FOR_UPGRADE = (b"upgrade", b"http2-settings", b"connection")


class Host(Protocol):
    """What a connection needs of the application."""

    messages: Messages
    fleet: Fleet
    gate: Gate
    limits: ClientLimits
    connections: Connections


class Reading(enum.Enum):
    """What the parser of a connection is in the middle of."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    PASSED = "passed"
    TRAILERS = "trailers"
    CLOSED = "closed"


IDLE, HEAD, BODY, PASSED, TRAILERS, CLOSED = Reading


class HeadRefused(Exception):
    """A head that can be parsed, but is not served. Its words go to the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ClientConnection(HttpToolsProtocol):
    """A connection of a client."""

    cycle: Any

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._fields: list[tuple[bytes, bytes]] = []
        """The headers of the request that comes."""
        self.on_header = collector(self._fields)  # type: ignore[method-assign, assignment]
        super().__init__(config, server_state, app_state, _loop)
        self._host = cast("Host", config.loaded_app)
        self._limits = self._host.limits
        self.buffered_bytes = 0
        self._asked = False
        """A request has come."""
        self._reading = IDLE
        self._ahead: Any = None
        """What is answered while requests behind it wait for their turn."""
        self._read_bytes = 0
        """The size of the latest read."""
        self._head_bytes = 0
        """How much of a head, or of trailers, came after the read in which it began."""
        self._deadline = NEVER
        """When a head must be whole or, in IDLE, have begun."""
        self._timer_at = NEVER
        """When `_timer` fires. Later than the deadline it never is; earlier it may be."""
        self._timer: asyncio.TimerHandle | None = None
        self._body_timer: BodyTimer | None = None
        self._task: ConnectionTask

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._task = ConnectionTask(self._host.messages, self.tasks, transport, self.loop)
        if why := self._host.connections.add(self):
            if why in (FULL, FULL_BY_MACHINE):
                self._serve_probes_only(why)
            else:
                self._refuse(503, why)
                return
        self._deadline = self.loop.time() + self._limits.head_s
        self._arm()

    def _serve_probes_only(self, why: str) -> None:
        """There is no place for this connection; but whoever asks whether the balancer lives gets an answer."""

        def on_headers_complete() -> None:
            if self.url.partition(b"?")[0].decode("latin-1") not in PROBES:
                raise HeadRefused(why, 503)
            type(self).on_headers_complete(self)

        self._host.connections.spare(self)
        self.on_headers_complete = on_headers_complete  # type: ignore[method-assign]
        self.parser = HttpRequestParser(self)  # it has the methods that there are when it is made

    def data_received(self, data: bytes) -> None:
        size = self._read_bytes = len(data)
        reading = self._reading
        if reading is not IDLE:
            if reading is CLOSED:
                return
            self._head_bytes += size  # where no head is read this says nothing: a head, or trailers, begin with 0
        try:
            self.parser.feed_data(data)
        except HttpParserError as error:
            self._refuse(*_words(error))
        except HttpParserUpgrade as error:
            self._without_upgrade(data[error.args[0] :])
        reading = self._reading
        if reading is IDLE or reading is CLOSED:
            return
        if reading is HEAD:
            self._wait_for_head()
            return
        (self._body_timer or self._new_body_timer()).add(size)
        self._host.connections.receive(self, size)
        if reading is TRAILERS and self._head_bytes > self._limits.head_max_bytes:
            self._refuse(400, self._too_long())

    def _without_upgrade(self, rest: bytes) -> None:
        """Serve a request that asks for another protocol as if it did not (RFC 9110, section 7.8).

        The parser takes what follows such a head for the other protocol, so a new one reads the request anew, without
        the headers that ask for it. `rest` is what came behind the head.
        """
        method = self.parser.get_method()
        lines = tuple([pair for pair in self._fields if pair[0] not in _ASKS_FOR_UPGRADE])
        if method == b"CONNECT" or len(lines) == len(self._fields):  # it is no offer that can be left out
            self._refuse(405, f"{method.decode('ascii', 'replace')[:20]} is not served here")
            return
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, written(lines))
        self.parser = HttpRequestParser(self)
        self._reading = IDLE
        self.data_received(head + rest)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # tells `cycle`
        connections = self._host.connections
        if self.buffered_bytes:
            connections.received(self)
        connections.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._body_timer is not None:
            self._body_timer.close()
        ahead = self._ahead
        if ahead is not None:
            ahead.disconnected = True
            ahead.message_event.set()
        self._task.end()
        # All of these know this connection, and Python's collector of cycles comes late.
        self.cycle = self._ahead = self._timer = self._body_timer = None
        vars(self).pop("on_headers_complete", None)

    # What the parser calls

    def on_message_begin(self) -> None:
        self.url = b""
        self._fields.clear()
        self._reading = HEAD
        self._deadline = NEVER

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._reading = IDLE  # it comes again: `_without_upgrade`
            return
        if not self._asked:
            self._asked = True
            self._host.connections.asks(self)
        if self._deadline is not NEVER or self._read_bytes > self._limits.head_max_bytes:
            self._check_head()
        if not self._begin_exchange():
            self._pass_on()

    def _check_head(self) -> None:
        """A head that came in several reads, or in a large one, is whole. Raises `HeadRefused` if it is too long."""
        self._deadline = NEVER
        fields = self._fields
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in fields])
        if size > self._limits.head_max_bytes:
            raise HeadRefused(self._too_long())

    def _begin_exchange(self) -> bool:
        """Begin an exchange, if this is a plain request for a hot path; say whether it is."""
        raw_path, _, query = self.url.partition(b"?")
        hot = _HOT.get(raw_path)
        cycle = self.cycle
        if hot is None or (cycle is not None and not cycle.response_complete):
            return False
        parser, host = self.parser, self._host
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        path, operation = hot
        admitted = host.gate.check(path, "POST", self.client, tuple(self._fields))
        if not isinstance(admitted, Admitted) or host.fleet.draining:
            return False
        first = admitted.first
        length = first.get(b"content-length", b"")
        if b"expect" in first or not length.isdigit() or not 0 < int(length) <= host.fleet.rules.max_body_bytes:
            return False
        self.cycle = Exchange(
            admitted,
            operation,
            query,
            parser.should_keep_alive(),
            self.on_response_complete,
            self.transport,
            self.flow,
            self.server_state.default_headers,
        )
        self._reading = BODY
        return True

    def _pass_on(self) -> None:
        """Let uvicorn serve this request. Raises `HeadRefused`."""
        for name, value in self._fields:  # the parser takes any coding, as long as the last is `chunked`
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise HeadRefused("a transfer-encoding other than chunked is not supported")
        url, headers = self.url, self._fields
        if not self.pipeline:
            self._ahead = self.cycle
        super().on_message_begin()
        self.headers += headers  # in place: the scope has this very list
        self.url = url
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()
        self._reading = PASSED

    def on_chunk_header(self) -> None:
        self._reading = TRAILERS  # behind the last one trailers come, and the parser keeps all of them
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        if self._reading is BODY:
            self.cycle.parts.append(body)
        else:
            self._reading = PASSED
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        reading, self._reading = self._reading, IDLE
        if self._body_timer is not None:
            self._body_timer.waiting = False
            self._host.connections.received(self)
        if reading is BODY:
            self._task.give(self.cycle)
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # it was answered before its body had come
            self._wait_for_request()

    # What `Connections` asks

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def idle(self) -> bool:
        return self._reading in (IDLE, HEAD) and not self._answers()

    def shed(self, message: str) -> None:
        if self._reading is IDLE:  # there is nothing to be answered
            self._reading = CLOSED
            self.transport.close()
        else:
            self._refuse(503, message)

    def turn_away(self, message: str) -> None:
        self._refuse(503, message)

    # What does not come in time, or is no request

    def _arm(self) -> None:
        """Have `_look` called at the deadline."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self.loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if self._deadline is NEVER:
            return
        now = self.loop.time()
        if self._deadline - now > TIMER_SLACK_S:
            self._arm()
        elif self._reading is not HEAD:
            self.transport.close()
        elif self._answers():  # the client may not have seen yet that it could go on
            self._deadline = now + self._limits.head_s
            self._arm()
        else:
            self._refuse(408, "the request's headers did not come to their end")

    def _answers(self) -> bool:
        """Say whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        """Nothing is under way: give the client `timeout_keep_alive` to begin another request."""
        self._deadline = self.loop.time() + self.timeout_keep_alive
        if self._deadline < self._timer_at:
            self._arm()

    def _wait_for_head(self) -> None:
        """A head has begun, and is not whole."""
        if self._deadline is NEVER:
            self._head_bytes = 0
            self._deadline = self.loop.time() + self._limits.head_s
            if self._deadline < self._timer_at:
                self._arm()
        elif self._head_bytes > self._limits.head_max_bytes:
            self._refuse(400, self._too_long())

    def _new_body_timer(self) -> BodyTimer:
        self._body_timer = timer = BodyTimer(self.loop, self._limits, self._body_is_late)
        return timer

    def _body_is_late(self) -> None:
        # Where uvicorn does not read, it is not the client's fault.
        if self.flow.read_paused and self._body_timer is not None:
            self._body_timer.add(0)
        else:
            self._refuse(408, "the request body stopped before its end")

    def _too_long(self) -> str:
        return f"the request's line and headers are longer than {self._limits.head_max_bytes} bytes"

    def _refuse(self, status: int, message: str) -> None:
        """Answer what has begun to come with an error, and close; where an answer is on its way, only close."""
        cycle, reading, self._reading = self.cycle, self._reading, CLOSED
        if self.transport.is_closing():
            return
        if cycle is not None and reading is not BODY:
            if reading is PASSED or reading is TRAILERS:  # it is the cycle's own body that went wrong
                silent = cycle.response_started or bool(self.pipeline)
                if not silent:
                    cycle.disconnected = True
                    cycle.message_event.set()
            else:
                silent = not cycle.response_complete
            if silent:
                self.transport.close()
                return
        kind = "api_error" if status >= 500 else "invalid_request_error"
        headers, body = error_reply(Rejected(status, kind, message), new_id(), close=True)
        lines = written((*self.server_state.default_headers, *headers))
        self.transport.write(b"".join((STATUS_LINE[status], lines, b"\r\n", body)))
        self.transport.close()

    # What is answered

    def on_response_complete(self) -> None:
        if self.pipeline or type(self.cycle) is not Exchange:
            self._ahead = self.pipeline[-1][0] if self.pipeline else None
            super().on_response_complete()
            self._unset_keepalive_if_required()  # one timer is enough
            if self._reading is IDLE and not self._answers() and not self.transport.is_closing():
                self._wait_for_request()
            return
        self.cycle = None
        self.server_state.total_requests += 1
        if self._reading is IDLE and not self.transport.is_closing():
            self._deadline = self.loop.time() + self.timeout_keep_alive
            if self._deadline < self._timer_at:
                self._arm()


def _words(error: HttpParserError) -> tuple[int, str]:
    """Return why the parser stopped, for the client: a status and words."""
    cause = error.__context__
    return (cause.status, str(cause)) if isinstance(cause, HeadRefused) else (400, "this is not a valid HTTP request")
