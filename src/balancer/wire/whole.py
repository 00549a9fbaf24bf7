"""Whole answers of the Messages API: read to the end, checked, and passed on as they came."""

from __future__ import annotations

from typing import Any

import msgspec

from balancer.model import BaseDecoder, Fault, Operation, Piece, Usage
from balancer.wire.errors import (
    Error,
    broken,
    sort_of,
    stated,
)

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest non-streaming answer that is taken."""


class ReportedUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> Usage:
        return Usage(
            self.input_tokens, self.output_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens
        )


class Message(msgspec.Struct):
    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: ReportedUsage | None = None
    error: Error | None = None


_MESSAGE = msgspec.json.Decoder(Message)


class MessageDecoder(BaseDecoder):
    """Reads a whole JSON answer, and hands it on as it came if it is what was asked for."""

    def __init__(self, operation: Operation) -> None:
        self.complete = False
        self._operation = operation
        self._parts: list[bytes] = []
        self._bytes = 0
        self._failed = False

    def feed(self, data: bytes) -> list[Piece]:
        self._bytes += len(data)
        if self._failed:
            return []
        if self._bytes > MAX_ANSWER_BYTES:
            self._failed = True
            self._parts.clear()
            return [Piece(b"", error=broken(f"an answer of more than {MAX_ANSWER_BYTES} bytes"))]
        self._parts.append(data)
        return []

    def end(self) -> list[Piece]:
        if self._failed or self.complete:
            return []
        body = b"".join(self._parts)
        fault, usage = _READERS[self._operation](body)
        if fault:
            self._failed = True
            return [Piece(b"", error=fault)]
        self.complete = True
        return [Piece(body, has_content=True, usage=usage)]


def _read_message(body: bytes) -> tuple[Fault | None, Usage | None]:
    try:
        message = _MESSAGE.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return broken(f"{sort_of(body)} where a message was expected"), None
    if message.type == "error" or message.error:
        return stated(message.error), None
    if message.type != "message" or message.content is None:
        return broken("JSON that is not a message"), None
    return None, message.usage.usage() if message.usage else None


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


_READERS = {
    Operation.MESSAGES: _read_message,
    Operation.COUNT_TOKENS: _read_count,
    Operation.MODELS: _read_models,
}
