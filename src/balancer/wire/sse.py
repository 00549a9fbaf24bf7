"""Server-sent events: bytes in, whole frames out, nothing lost, nothing re-written.

A frame is everything up to and including a blank line, in any of the three line endings of the
format (WHATWG HTML, section 9.2). Frames are cut at bytes: text is never decoded here, and
U+2028 or U+0085 inside a string are no line ends.
"""

from __future__ import annotations

import re

MAX_FRAME_BYTES = 44 * 1024 * 1024
"""A longer frame is no frame: the provider is ill, and memory is finite. A file of 32 MB takes 43 MB in base64, and a
server tool brings it as one event."""

_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_LINE = re.compile(rb"\r\n|\n|\r")


class FrameTooLong(Exception):
    """A frame grew beyond `MAX_FRAME_BYTES` without ending."""


def _last_break(data: bytes | bytearray, start: int = 0) -> int:
    """Return the index just after the last blank line of `data`, or 0."""
    if data.endswith(b"\n\n"):
        return len(data)
    if data.find(b"\r", start) < 0:  # JSON strings hold no raw CR, so this is the rule, not the exception
        found = data.rfind(b"\n\n", start)
        return found + 2 if found >= 0 else 0
    last = 0
    for match in _BLANK.finditer(data, start):
        last = match.end()
    return last


class FrameSplitter:
    """Collects bytes until they are whole frames."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.kept = bytearray()
        """What has come of a frame that has not ended; not for others to change."""
        self._max_frame_bytes = max_frame_bytes

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that has not ended."""
        return bytes(self.kept)

    def block(self, data: bytes) -> bytes:
        """Return all the frames that `data` completes, as one run of bytes. Raises `FrameTooLong`."""
        if not self.kept:
            if data.endswith(b"\n\n"):  # so it is most of the time
                return data
            end = _last_break(data)
            if end == len(data):
                return data
            self.kept += data[end:]
            self._check()
            return data[:end]
        # A boundary may lie across the seam: look again at the last three bytes that were there.
        seam = max(0, len(self.kept) - 3)
        self.kept += data
        end = _last_break(self.kept, seam)
        if not end:
            self._check()
            return b""
        if end == len(self.kept):
            whole = bytes(self.kept)
            self.kept.clear()
        else:
            whole = bytes(memoryview(self.kept)[:end])
            del self.kept[:end]
        self._check()
        return whole

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes, one by one. Raises `FrameTooLong`."""
        return frames(self.block(data))

    def _check(self) -> None:
        if len(self.kept) > self._max_frame_bytes:
            raise FrameTooLong(f"a frame of more than {self._max_frame_bytes} bytes")


def frames(block: bytes) -> list[bytes]:
    """Cut a run of whole frames into frames; joined again they are `block`."""
    if not block:
        return []
    if block.find(b"\r") < 0:
        parts = block.split(b"\n\n")
        return [part + b"\n\n" for part in parts[:-1]]
    found: list[bytes] = []
    start = 0
    for match in _BLANK.finditer(block):
        found.append(block[start : match.end()])
        start = match.end()
    return found


def fields(frame: bytes) -> tuple[bytes, bytes]:
    """Return a frame's event name and its data; both empty for a comment."""
    first = frame.find(b"\n")
    if frame[:7] == b"event: " and frame[first : first + 7] == b"\ndata: " and frame.find(b"\r") < 0:
        start = first + 7
        if frame.find(b"\n", start) == len(frame) - 2:  # as nearly everybody writes it
            return frame[7:first], frame[start:-2]
    event = b""
    data: list[bytes] = []
    for line in _LINE.split(frame):
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value
    return event, b"\n".join(data)


def frame(event: str, data: bytes) -> bytes:
    """Return one frame; `data` must be a single line, as JSON is."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
