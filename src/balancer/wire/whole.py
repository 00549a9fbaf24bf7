"""Answers that are read as a whole: collected within a limit, and checked.

A member of an answer decides something only if it has the type that decides. Of any other type it is as if it were
absent, and what is only carried along is not looked at.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from balancer.model import Fault, Operation, Usage
from balancer.wire.complaints import inner_fault, is_error
from balancer.wire.errors import broken, sort_of
from balancer.wire.loose import COUNTED_MAX, count_of, decoded_object, parsed, string_of

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The largest answer that is held as a whole."""


class Whole:
    """Collects an answer up to a limit. What is beyond it is a fault, and nothing is held any more."""

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self.max_bytes = max_bytes
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
        if self._bytes <= self.max_bytes:
            return None
        self._parts.clear()
        return broken(f"an answer of more than {self.max_bytes} bytes")

    def joined(self) -> bytes:
        """Return all that was kept."""
        return b"".join(self._parts)


Count = Annotated[int, msgspec.Meta(ge=0, lt=COUNTED_MAX)]


class CacheCreation(msgspec.Struct):
    """What went into the prompt cache, by how long it lives."""

    ephemeral_1h_input_tokens: Count | None = None


class ReportedUsage(msgspec.Struct):
    """Usage as the Messages API reports it."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None


_COUNTS = ReportedUsage.__struct_fields__[:4]
(_HOUR,) = CacheCreation.__struct_fields__


def reported(value: Any) -> ReportedUsage | None:
    """Read usage leniently; None where there is none."""
    if not isinstance(value, dict):
        return None
    tokens_in, tokens_out, read, created = (count_of(value.get(name)) for name in _COUNTS)
    kinds = value.get("cache_creation")
    hour = count_of(kinds.get(_HOUR)) if isinstance(kinds, dict) else None
    return ReportedUsage(tokens_in, tokens_out, read, created, CacheCreation(hour))


class Message(msgspec.Struct):
    """What is read of a message, or of an error in its place."""

    type: str | None = None
    content: list[msgspec.Raw] | None = None
    usage: ReportedUsage | None = None
    error: Any = None
    input_transformations: Any = None


def usage_of(reported: ReportedUsage | None, transformations: Any) -> Usage | None:
    """Return what an answer, or an event of it, reports as used; None: nothing.

    `transformations` are its `input_transformations`: an entry for each block of thinking that did not count.
    """
    changed = len(transformations) if transformations and isinstance(transformations, list) else msgspec.UNSET
    if reported is None:
        return Usage(input_transformations=changed) if changed else None
    return Usage(
        reported.input_tokens,
        reported.output_tokens,
        reported.cache_read_input_tokens,
        reported.cache_creation_input_tokens,
        changed,
        (reported.cache_creation and reported.cache_creation.ephemeral_1h_input_tokens) or msgspec.UNSET,
    )


_MESSAGE = msgspec.json.Decoder(Message)


def fitted(value: dict[str, Any]) -> Message:
    """Read a message leniently."""
    content = value.get("content")
    return Message(
        string_of(value.get("type")),
        [msgspec.Raw()] * len(content) if isinstance(content, list) else None,
        reported(value.get("usage")),
        value.get("error"),
        value.get("input_transformations"),
    )


def is_utf8(data: bytes) -> bool:
    """Say whether `data` is UTF-8, as JSON has to be."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_message(body: bytes) -> tuple[Fault | None, Usage | None]:
    """Return the fault of what is no message, and the usage of what is one."""
    try:
        message = _MESSAGE.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        try:
            value = parsed(body)
        except (RecursionError, ValueError):
            return _unparsed(body, "a message"), None
        if not isinstance(value, dict):
            return broken(f"{sort_of(body)} where a message was expected"), None
        message = fitted(value)
    if message.type != "message" or message.error:
        value = decoded_object(body)
        if is_error(value, alone=True):
            return inner_fault(value), None
    if message.type != "message" or message.content is None:
        return broken("JSON that is not a message"), None
    if not is_utf8(body):
        return _unparsed(body, "a message"), None
    return None, usage_of(message.usage, message.input_transformations)


def _unparsed(body: bytes, expected: str) -> Fault:
    """Return the fault of an answer that can't be read."""
    if sort_of(body) == "JSON" and not is_utf8(body):
        return broken(f"JSON that is not UTF-8 where {expected} was expected")
    return broken(f"{sort_of(body)} where {expected} was expected")


def read_count(body: bytes) -> tuple[Fault | None, Usage | None]:
    """Return the fault of what is no count of tokens."""
    answer = decoded_object(body)
    tokens = answer.get("input_tokens")
    if count_of(tokens) is not None:
        return None, None
    if is_error(answer, alone=True):
        return inner_fault(answer), None
    if isinstance(tokens, int | float) and tokens < 0:
        return broken("a negative token count"), None
    return _unparsed(body, "a token count"), None


def plain_count(body: bytes) -> bytes:
    """Return a count of tokens as a client reads it: some servers write it as a float or a string."""
    tokens = decoded_object(body).get("input_tokens")
    return body if type(tokens) is int else b'{"input_tokens":%d}' % (count_of(tokens) or 0)


def _read_models(body: bytes) -> tuple[Fault | None, Usage | None]:
    answer = decoded_object(body)
    if isinstance(answer.get("data"), list):
        return None, None
    return (inner_fault(answer) if is_error(answer, alone=True) else _unparsed(body, "a list of models")), None


READERS = {
    Operation.MESSAGES: read_message,
    Operation.COUNT_TOKENS: read_count,
    Operation.MODELS: _read_models,
}
"""What each operation's answer is checked by: returns the fault of one that is none, and the usage of one that is."""
