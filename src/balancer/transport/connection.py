"""One HTTP/1.1 connection to an upstream: bytes to head and body, with flow control.

Bytes are parsed by httptools (llhttp) as they arrive. What is left to us is what a proxy must not
get wrong: where the body ends, that nothing is taken for an end that is none, and that no more is
kept in memory than the reader can take.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import httptools

from balancer.headers import Headers, collector
from balancer.transport.answer import UpstreamResponse
from balancer.transport.errors import TransportError

HEAD_MAX_BYTES = 64 * 1024
FIELDS_MAX = 200
INTERIM_MAX = 10
"""How many 1xx answers may come before the real one."""

BUFFER_BYTES = 64 * 1024
"""More than this unread pauses the upstream."""

_BODILESS = frozenset({204, 304})


class UpstreamConnection(asyncio.Protocol, UpstreamResponse):
    """A connection, used for one exchange at a time."""

    flows = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self.on_idle_end: Callable[[UpstreamConnection], None] | None = None
        """Called when the peer closes the connection, or says anything, while nobody uses it."""
        self.idle_since = 0.0
        """The pool's own: when it was given back."""
        self.lost = False
        self._used = False
        """An exchange is under way."""
        self._timer: asyncio.TimerHandle | None = None
        self._look_when = 0.0
        self._deadline = 0.0
        self._cause = ""
        self._waiter: asyncio.Future[None] | None = None
        self._give: Callable[[bytes], bool] | None = None
        """Who takes what comes, as it comes, and how long to wait for more."""
        self._give_within_s = 0.0
        self._chunks: list[bytes] = []
        self.on_body = self._chunks.append
        """What the parser calls with each piece of the body: in C, as a stream has hundreds."""
        self._fields: list[tuple[bytes, bytes]] = []
        self.on_header = collector(self._fields)
        self._begin()
        self._parser = httptools.HttpResponseParser(self)

    def _begin(self) -> None:
        """Forget the last exchange."""
        self.status = 0
        self.headers: Headers = ()
        self.encoding: bytes | None = None
        self._fields.clear()
        self._head_bytes = 0
        self._interims = 0
        self._headed = False
        self._complete = False
        self._to_close = False
        self._keep = False
        self._error: TransportError | None = None
        self._chunks.clear()
        self._foreign_from: int | None = None
        """Where the pieces of a second answer to one request begin."""
        self._unread = 0
        self._paused = False
        self.received = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._complete or not self._used:
            self._strangers()
            return
        self.received = True
        if not self._headed:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("protocol", "an upgrade that nobody asked for")
        except httptools.HttpParserError as error:
            self._keep = False
            self._fail("protocol", type(error).__name__)
        if len(self._fields) > FIELDS_MAX:  # in a head or behind a body, where there is no other bound
            self._fail("too_large", f"more than {FIELDS_MAX} header fields")
        if self._foreign_from is not None:
            del self._chunks[self._foreign_from :]
        if self._headed:
            self._unread += len(data)
            if self._unread > BUFFER_BYTES and not self._paused and self._transport is not None and not self.lost:
                self._paused = True
                self._transport.pause_reading()
        elif self._head_bytes > HEAD_MAX_BYTES:
            self._fail("too_large", f"a head of more than {HEAD_MAX_BYTES} bytes")
        if self._give is None or not self._hand_on(self._give):
            self._wake()

    def eof_received(self) -> bool:
        return False  # close: a half-closed upstream will say no more

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self._used:
            self._cancel_timer()
            if self.on_idle_end:
                self.on_idle_end(self)
            return
        if self._complete or self._error:
            pass
        elif exc is None and self._headed and self._to_close:
            self._complete = True
        elif isinstance(exc, ssl.SSLError) and exc.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            self._fail("tls", exc.reason or "")
        else:
            self._fail("closed" if exc is None else "reset")
        self._wake()

    def _strangers(self) -> None:
        """Bytes that belong to no exchange: whatever they are, this connection can't be trusted."""
        self._keep = False
        if not self._used and self.on_idle_end:
            self.on_idle_end(self)
        self.close()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._complete:  # a second answer to one request: no part of the first, and no good sign
            self._keep = False
            self._foreign_from = len(self._chunks)

    def on_headers_complete(self) -> None:
        if self._error or self._complete:
            return
        if len(self._fields) > FIELDS_MAX:
            self._fail("too_large", f"more than {FIELDS_MAX} header fields")
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interims += 1
            if status == 101 or self._interims > INTERIM_MAX:
                self._fail("protocol", f"an interim answer {status} too many")
            return
        self.status = status
        self.headers = tuple(self._fields)
        self._fields.clear()
        self._frame()
        self._headed = not self._error

    def _frame(self) -> None:
        """Find out where the body ends; what says two things is believed in neither."""
        last = dict(self.headers)
        self.names = tuple(last) if len(last) == len(self.headers) else ()
        length, coding = last.get(b"content-length"), last.get(b"transfer-encoding")
        if length is not None and coding is not None:
            self._fail("protocol", "both content-length and transfer-encoding")
        elif coding is not None and coding.strip().lower() != b"chunked":
            self._fail("protocol", "a transfer-encoding that is not just chunked")
        elif len(last) != len(self.headers):
            self._frame_once()
        self._to_close = length is None and coding is None and self.status not in _BODILESS
        self.encoding = last.get(b"content-encoding")

    def _frame_once(self) -> None:
        """Some header stands there more than once: see that none of those does that say where the body ends."""
        if len({value for name, value in self.headers if name == b"content-length"}) > 1:
            self._fail("protocol", "several content-lengths")
        elif sum(name == b"transfer-encoding" for name, _ in self.headers) > 1:
            self._fail("protocol", "a transfer-encoding that is not just chunked")

    def on_message_complete(self) -> None:
        if self._error or self._complete:
            return
        if not self.status:  # an interim answer: the real one follows
            self._fields.clear()
            return
        self._keep = self._parser.should_keep_alive() and not self._to_close
        self._complete = True

    def _fail(self, cause: str, detail: str = "") -> None:
        if self._error is None and not self._complete:
            self._error = TransportError(cause, detail, sent=True, headed=self._headed)
            if self._transport is not None and not self.lost:
                self._transport.abort()

    # What the exchange calls

    def send(self, pieces: list[bytes | memoryview]) -> None:
        """Write a request. Nothing is joined or kept here but what the socket did not take yet."""
        self._begin()
        self._used = True
        transport = self._transport
        if transport is None or self.lost or transport.is_closing():
            raise TransportError("closed", sent=False)
        for piece in pieces:
            transport.write(piece)

    async def head(self, within_s: float) -> None:
        """Wait until `status` and `headers` are there."""
        while not self._headed:
            if self._error:
                raise self._error
            await self._news(within_s, "head_timeout")

    async def flow(self, give: Callable[[bytes], bool], within_s: float) -> None:
        if self._chunks or (self._complete and not self._error):
            return
        if self._error:
            raise self._error
        self._give, self._give_within_s = give, within_s
        try:
            await self._news(within_s, "idle_timeout")
        finally:
            self._give = None

    def _hand_on(self, give: Callable[[bytes], bool]) -> bool:
        """Give what has come to whoever takes it; False: whoever waits has to see to it, and is given no more."""
        if not self._complete and self._error is None:
            self._deadline = self._loop.time() + self._give_within_s
            if not self._chunks:
                return True  # some of what stands around the chunks
            try:
                if give(self._arrived()):
                    return True
            except Exception as error:  # it is not the peer's fault: whoever waits is to hear of it
                if self._waiter is not None and not self._waiter.done():
                    self._waiter.set_exception(error)
        self._give = None
        return False

    async def read(self, within_s: float) -> bytes:
        while not self._chunks:
            if self._error:
                raise self._error
            if self._complete:
                return b""
            await self._news(within_s, "idle_timeout")
        return self._arrived()

    def take(self) -> bytes | None:
        if self._chunks:
            return self._arrived()
        return b"" if self._complete and not self._error else None

    def _arrived(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            if self._transport is not None and not self.lost:
                self._transport.resume_reading()
        return data

    def release(self) -> bool:
        """End the exchange; say whether the connection can be used for another."""
        transport = self._transport
        clean = (
            self._complete
            and self._keep
            and not self.lost
            and not self._chunks
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # the answer came before the request was out
        )
        self._used = False
        self._waiter = None
        if not clean:
            self.close()
        return clean

    def close(self) -> None:
        """Close at once."""
        self._cancel_timer()
        if self._transport is not None and not self.lost:
            self._transport.abort()

    # Waiting

    def _news(self, within_s: float, cause: str) -> asyncio.Future[None]:
        """Return what is done when anything happens, and fails with `cause` when nothing does.

        One lazy timer serves all the waits of all the exchanges: it looks when it is time how much is left.
        """
        deadline = self._deadline = self._loop.time() + within_s
        if self._timer is None:
            self._look_at(deadline)
        elif self._look_when > deadline:
            self._timer.cancel()
            self._look_at(deadline)
        self._cause = cause
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _look_at(self, when: float) -> None:
        self._timer, self._look_when = self._loop.call_at(when, self._tick), when

    def _tick(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._loop.time() < self._deadline - 0.001:
            self._look_at(self._deadline)
            return
        error = TransportError(self._cause, sent=True, headed=self._headed)
        self._error = self._error or error
        waiter.set_exception(error)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (self._chunks or self._error or self._complete or self._headed):
            waiter.set_result(None)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
