"""Newline-delimited JSON: bytes in, whole lines out.

Lines are cut at 0x0A only. Text iterators also cut at U+2028, U+2029 and U+0085, which are legal
unescaped inside JSON strings.
"""

from __future__ import annotations

MAX_LINE_BYTES = 44 * 1024 * 1024
"""A longer line is no line: the provider is ill, and memory is finite. A file of 32 MB takes 43 MB in base64."""


class LineTooLong(Exception):
    """A line grew beyond the limit without ending."""


class LineSplitter:
    """Collects bytes until they are whole lines; blank ones are left out."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._max_line_bytes = max_line_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes. Raises `LineTooLong`."""
        first, end, rest = data.partition(b"\n")
        if not end:
            self._keep(first)
            return []
        lines = [b"".join((*self._parts, first))]
        *whole, last = rest.split(b"\n")
        self._parts, self._bytes = [], 0
        self._keep(last)
        return [line for line in map(bytes.strip, (*lines, *whole)) if line]

    def end(self) -> bytes:
        """Return the last line, which may lack its end; empty if there is none."""
        last = b"".join(self._parts).strip()
        self._parts, self._bytes = [], 0
        return last

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > self._max_line_bytes:
            raise LineTooLong(f"a line of more than {self._max_line_bytes} bytes")
