"""Answers that are read as a whole: collected within a limit, checked, and passed on as they came."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from balancer.model import Fault, Operation, Piece, Usage
from balancer.wire.decoder import BaseDecoder
from balancer.wire.errors import Error, broken, sort_of, stated

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that is held as a whole."""


class Whole:
    """Collects an answer up to a limit. What is beyond it is a fault, and nothing is held any more."""

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> Fault | None:
        """Keep `data`. Returns the fault of an answer that has become too large."""
        fault = self.count(data)
        if fault is None:
            self._parts.append(data)
        return fault

    def count(self, data: bytes) -> Fault | None:
        """Count `data`, which is held somewhere else. Returns the fault of an answer that has become too large."""
        self._bytes += len(data)
        if self._bytes <= self._max_bytes:
            return None
        self._parts.clear()
        return broken(f"an answer of more than {self._max_bytes} bytes")

    def joined(self) -> bytes:
        """Return all that was kept."""
        return b"".join(self._parts)


class ReportedUsage(msgspec.Struct):
    """Usage as the Messages API reports it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> Usage:
        """Return it in our own words."""
        return Usage(
            self.input_tokens, self.output_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens
        )


class Message(msgspec.Struct):
    """What is read of a message, or of an error in its place."""

    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: ReportedUsage | None = None
    error: Error | None = None
    input_transformations: Any = None


def usage_of(reported: ReportedUsage | None, transformations: Any) -> Usage | None:
    """Return what an answer, or an event of it, reports as used; None: nothing.

    `transformations` are its `input_transformations`: an entry for each block of thinking that did not count.
    """
    if not transformations or not isinstance(transformations, list):
        return reported.usage() if reported else None
    usage = reported.usage() if reported else Usage()
    return replace(usage, input_transformations=len(transformations))


_MESSAGE = msgspec.json.Decoder(Message)


class MessageDecoder(BaseDecoder):
    """Reads a whole JSON answer, and hands it on as it came if it is what was asked for."""

    def __init__(self, operation: Operation, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._read = READERS[operation]
        self._whole: Whole | None = Whole(max_bytes)
        """None: the answer is over."""

    def feed(self, data: bytes) -> list[Piece]:
        fault = self._whole.add(data) if self._whole else None
        return [self._fail(fault)] if fault else []

    def end(self) -> list[Piece]:
        if self._whole is None:
            return []
        body = self._whole.joined()
        fault, usage = self._read(body)
        if fault:
            return [self._fail(fault)]
        self._whole, self.complete = None, True
        return [Piece(body, has_content=True, usage=usage)]

    def _fail(self, fault: Fault) -> Piece:
        self._whole = None
        return Piece(b"", error=fault)


def _read_message(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        message = _MESSAGE.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a message was expected"), None
    if message.type == "error" or message.error:
        return stated(message.error), None
    if message.type != "message" or message.content is None:
        return broken("JSON that is not a message"), None
    return None, usage_of(message.usage, message.input_transformations)


class _Count(msgspec.Struct):
    input_tokens: int


def _read_count(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        count = msgspec.json.decode(body, type=_Count)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a token count was expected"), None
    return (broken("a negative token count"), None) if count.input_tokens < 0 else (None, None)


class _Listing(msgspec.Struct):
    data: list[dict[str, Any]]


def _read_models(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        msgspec.json.decode(body, type=_Listing)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a list of models was expected"), None
    return None, None


READERS = {
    Operation.MESSAGES: _read_message,
    Operation.COUNT_TOKENS: _read_count,
    Operation.MODELS: _read_models,
}
"""What each operation's answer is checked by: returns the fault of one that is none, and the usage of one that is."""
