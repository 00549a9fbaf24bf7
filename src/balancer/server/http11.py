"""The short way in: the server's connections, with the hot paths served straight from the parser.

uvicorn keeps listening, signals, draining and everything that is not hot. For a plain
`POST /v1/messages` its ASGI cycle (scope, events, a copy of the body, two passes over the headers)
costs three times what the work itself does: 47 us against 16 us for a small request. So this
protocol takes those requests when they are whole, and writes their answers itself. Whatever is
unusual (HTTP/1.0, chunked requests, `expect`, pipelining, a refused client) goes uvicorn's way,
which serves the same `Messages` through ASGI.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from balancer.headers import Headers, collector
from balancer.server.access import Admitted
from balancer.server.asgi import BODY_IDLE_S, BODY_MIN_BYTES_PER_S
from balancer.server.endpoint import Messages
from balancer.server.exchange import Exchange
from balancer.server.rejected import new_id
from balancer.wire.errors import CONTENT_TYPE_JSON, error_body

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

_log = logging.getLogger(__name__)

HEAD_MAX_BYTES = 64 * 1024
"""A request's line and headers beyond this are refused: Claude Code's are 2 KB."""

HEAD_WITHIN_S = 30.0
"""How long a head may take to come whole, and how long a new connection may say nothing."""

TOO_LONG = f"the request's line and headers are longer than {HEAD_MAX_BYTES} bytes"

_PATHS = {b"/v1/messages": "/v1/messages", b"/v1/messages/count_tokens": "/v1/messages/count_tokens"}


class Host(Protocol):
    """What answers: the application."""

    messages: Messages

    @property
    def max_body_bytes(self) -> int: ...

    def admit(self, path: str, method: str, client: tuple[str, int] | None, headers: Headers) -> Admitted | None:
        """Say whether this request may come in by the short way."""
        ...


class ClientConnection(HttpToolsProtocol):
    """A connection of a client."""

    cycle: Any
    """What is under way: an `Exchange`, or a cycle of uvicorn's."""

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
        self._exchange: Exchange | None = None
        """The request that comes or is answered the short way."""
        self._coming = False
        """Its body is not here yet."""
        self._patience: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._awaited: Exchange | None = None
        """Whose body did not come in one piece, and since when it is waited for."""
        self._awaited_since = 0.0
        self._ahead: Any = None
        """What is answered while requests behind it wait for their turn: uvicorn knows only the last of them."""
        self._in_head = False
        """In a head, or in what may be the trailers of a body."""
        self._in_trailers = False
        self._head_bytes = 0
        """What has come of a head (or of trailers) that did not come in one piece."""
        self._head_timer: asyncio.TimerHandle | None = None
        """Runs while a head is waited for."""
        self._read_bytes = 0
        self._wrong = ""
        """Why a head that could be parsed is refused."""
        self._worker: asyncio.Task[None] | None = None
        """Answers what comes the short way."""
        self._next: asyncio.Future[Exchange | None] | None = None
        """What it answers next, while it waits for that; None: nothing any more."""
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        self._read_bytes = len(data)
        if self._in_head:
            self._head_bytes += len(data)
        self._idle_since = None
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.send_400_response("")
        except HttpParserUpgrade:  # to what nobody here speaks; the request itself was served
            self._unsupported_upgrade_warning()
        if self._coming:
            self._wait_for_more()
        elif self._in_head:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self._exchange
        super().connection_lost(exc)
        if self._patience is not None:
            self._patience.cancel()
        for timer in (self._idle_timer, self._head_timer):
            if timer is not None:
                timer.cancel()
        if exchange is not None:
            exchange.left()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.disconnected = True
            ahead.message_event.set()
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self.cycle = self._exchange = self._awaited = None  # they know this connection, and the collector comes late

    # What the parser calls

    def on_message_begin(self) -> None:
        self.url = b""
        self._fields.clear()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None or self._read_bytes > HEAD_MAX_BYTES:
            self._end_head()
        if not self._takes():
            self._go_the_long_way()

    def _takes(self) -> bool:
        """Begin an exchange, if this request is a plain one for a hot path."""
        raw_path, _, query = self.url.partition(b"?")
        path = _PATHS.get(raw_path)
        cycle = self.cycle
        if path is None or (cycle is not None and not cycle.response_complete):
            return False
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return False
        admitted = self._host.admit(path, "POST", self.client, tuple(self._fields))
        if admitted is None:
            return False
        first = admitted.first
        length = first.get(b"content-length", b"")
        if b"expect" in first or not length.isdigit() or not 0 < int(length) <= self._host.max_body_bytes:
            return False
        self._exchange = exchange = Exchange(
            admitted,
            path,
            query,
            parser.should_keep_alive(),
            self.on_response_complete,
            self.transport,
            self.flow,
            self.server_state.default_headers,
        )
        self.cycle = exchange
        self._coming = True
        return True

    def _end_head(self) -> None:
        """Stop waiting for a head. Raises `ValueError`, which refuses it, if it is too long."""
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self._fields) > HEAD_MAX_BYTES:
            self._refuse_head(TOO_LONG)

    def _refuse_head(self, why: str) -> None:
        self._wrong = why
        raise ValueError(why)  # the parser stops at it, and uvicorn sends its 400

    def _go_the_long_way(self) -> None:
        for name, value in self._fields:  # the parser takes any coding, as long as the last is `chunked`
            if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                self._refuse_head("a transfer-encoding other than chunked is not supported")
        url, headers = self.url, self._fields
        if not self.pipeline:
            self._ahead = self.cycle
        super().on_message_begin()
        self.headers += headers  # in place: the scope has this very list
        self.url = url
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """It may be the last chunk's. What follows then is as long as a head at most: the parser keeps all of it."""
        self._in_head = self._in_trailers = True
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        if self._coming and self._exchange is not None:
            self._exchange.parts.append(body)
        elif self.cycle is not self._exchange:
            self._in_head = self._in_trailers = False
            super().on_body(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self.cycle is not exchange:
            self._in_head = self._in_trailers = False
            self._head_bytes = 0
            super().on_message_complete()
            return
        if not self._coming:
            return
        self._coming = False
        if self._next is not None and not self._next.done():
            self._next.set_result(exchange)
        else:
            self._worker = self.loop.create_task(self._work(exchange))  # held here: the loop holds it weakly

    async def _work(self, exchange: Exchange) -> None:
        """Answer the requests of this connection, one after the other: a task of its own for each costs 5 us more.

        The server waits for its tasks when it is stopped, so this is one of them only while it answers.
        """
        task = self._worker = cast("asyncio.Task[None]", asyncio.current_task())
        messages = self._host.messages
        while True:
            self.tasks.add(task)
            try:  # nothing here may hold the body: an open stream would hold it too
                await messages.answer(exchange.admitted, exchange.path, exchange.query, exchange.body(), exchange, task)
            except Exception:
                _log.exception("a request failed in a way that it should not")
                if not exchange.finished:
                    await exchange.abort()
            finally:
                self.tasks.discard(task)
            if not exchange.finished and not exchange.gone:
                self.transport.close()
            if self.transport.is_closing() or self._worker is not task:  # the next request did not wait for us
                return
            self._next = self.loop.create_future()
            following = await self._next
            if following is None:
                return
            exchange = following

    def send_400_response(self, msg: str) -> None:
        """As uvicorn calls it: what came is not HTTP."""
        self._refuse(400, self._wrong or "this is not a valid HTTP request")

    def _refuse(self, status: int, message: str) -> None:
        """Answer a request that never became one, in the shape of every other error, and close."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not self._coming:
            if type(cycle) is Exchange or self.pipeline or cycle.response_started or not cycle.more_body:
                self.transport.close()  # an answer is on its way: nothing else may come between
                return
            cycle.disconnected = True  # its body went wrong: nobody waits for the rest
            cycle.message_event.set()
        request_id = new_id()
        body = error_body("invalid_request_error", message, request_id)
        lines = [
            STATUS_LINE[status],
            *[b"%b: %b\r\n" % pair for pair in (*self.server_state.default_headers, CONTENT_TYPE_JSON)],
            b"x-balancer-request-id: %b\r\nrequest-id: %b\r\n" % (request_id.encode(), request_id.encode()),
            b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            body,
        ]
        self.transport.write(b"".join(lines))
        self.transport.close()

    # A head or a body that does not come

    def _wait_for_head(self) -> None:
        if self.transport.is_closing():
            return
        if self._head_bytes > HEAD_MAX_BYTES:
            self._refuse(400, TOO_LONG)
        elif self._head_timer is None and not self._in_trailers:  # a body is waited for already
            self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_for_head()  # it came while another answer is under way
        elif self._in_head:
            self._refuse(408, "the request's headers did not come to their end")
        else:
            self.transport.close()

    def _wait_for_more(self) -> None:
        self._heard_at = self.loop.time()
        if self._awaited is not self._exchange:
            self._awaited, self._awaited_since = self._exchange, self._heard_at
        if self._patience is None:
            self._patience = self.loop.call_later(BODY_IDLE_S, self._tick)

    def _tick(self) -> None:
        self._patience = None
        exchange = self._exchange
        if not self._coming or exchange is None:
            return
        now = self.loop.time()
        left_s = self._heard_at + BODY_IDLE_S - now
        waited_s = now - self._awaited_since
        drips = waited_s >= BODY_IDLE_S and sum(map(len, exchange.parts)) < waited_s * BODY_MIN_BYTES_PER_S
        if left_s > 0.001 and not drips:
            self._patience = self.loop.call_later(left_s, self._tick)
            return
        self._refuse(408, "the request body stopped before its end")
        self._coming = False

    # Keep-alive: one lazy timer a connection, not one a request

    def on_response_complete(self) -> None:
        if self.pipeline or type(self.cycle) is not Exchange:
            self._ahead = self.pipeline[-1][0] if self.pipeline else None
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._idle_timer = None
        if self._idle_since is None:
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0.001:
            self._idle_timer = self.loop.call_later(left_s, self._close_if_idle)
        else:
            self.timeout_keep_alive_handler()
