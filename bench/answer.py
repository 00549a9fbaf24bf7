"""An answer as the client receives it: read to its end, and verified to be complete."""

from __future__ import annotations

import re

from bench.traffic import DELTA_MARK, LAST_CHUNK, STOP_MARK

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


class Incomplete(Exception):
    """The answer is not the whole answer, or not the one expected; the message says why."""


class UpstreamResponse:
    """One answer. `feed` what comes; `end` when the connection does."""

    def __init__(self, events: int | None) -> None:
        self._events = events
        self._buffer = bytearray()
        self._body_at = 0
        self._length: int | None = None
        self._chunked = False
        self._complete = False

    def feed(self, data: bytes) -> bool:
        """Take `data`; True when the answer is complete. Raises `Incomplete` when it ended otherwise."""
        self._buffer += data
        if not self._body_at and not self._read_head():
            return False
        if self._chunked:
            # Neither JSON nor our event streams hold a CRLF, so what looks like the last chunk is it.
            ended = self._buffer.endswith(b"\r\n" + LAST_CHUNK)
        else:
            ended = self._length is not None and len(self._buffer) >= self._body_at + self._length
        if ended:
            self._verify()
        return ended

    def end(self) -> None:
        """The connection is closed. Raises `Incomplete` unless that is a right end."""
        if self._complete or not self._buffer:
            if not self._complete:
                raise Incomplete("closed without an answer")
            return
        if not self._body_at or self._chunked or self._length is not None:
            raise Incomplete(f"closed after {len(self._buffer)} bytes, before the end")
        self._verify()

    def deltas_so_far(self) -> int:
        """Return how many text deltas have come."""
        return self._body().count(DELTA_MARK) if self._body_at else 0

    def _read_head(self) -> bool:
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        self._body_at = head_end + 4
        self._chunked = _CHUNKED.search(self._buffer, 0, head_end) is not None
        found = _LENGTH.search(self._buffer, 0, head_end)
        self._length = int(found[1]) if found else None
        return True

    def _verify(self) -> None:
        if not self._buffer.startswith(b"HTTP/1.1 200 "):
            raise Incomplete(
                bytes(self._buffer[:40]).split(b"\r\n")[0].decode("latin1") + " " + self._body()[:200].decode()
            )
        if self._events is None:
            if not self._body().rstrip().endswith(b"}"):
                raise Incomplete("the message is not whole")
        elif self._buffer.count(DELTA_MARK) != self._events or self._buffer.count(STOP_MARK) != 1:
            # A mark may be cut by the bounds of two chunks: look again without them.
            body = self._body()
            if body.count(DELTA_MARK) != self._events or body.count(STOP_MARK) != 1:
                raise Incomplete(
                    f"{body.count(DELTA_MARK)} deltas of {self._events}, {body.count(STOP_MARK)} message_stop"
                )
        self._complete = True

    def _body(self) -> bytes:
        if not self._chunked:
            return bytes(self._buffer[self._body_at :])
        parts: list[bytes] = []
        at = self._body_at
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            size = int(self._buffer[at:line_end].split(b";")[0], 16) if line_end > at else 0
            if not size:
                return b"".join(parts)
            parts.append(bytes(self._buffer[line_end + 2 : line_end + 2 + size]))
            at = line_end + 2 + size + 2
