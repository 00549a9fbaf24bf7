"""How long it takes to convert a request, guessed from its bytes: a long conversion must not hold up the event loop."""

from __future__ import annotations

LONG_US = 5000.0
"""A longer conversion is done in a thread."""

PER_BYTE_US = 0.003
PER_OBJECT_US = 3.0
"""What a byte and what an object of the body cost: measured with long texts, and with many short messages."""

SHORT_BYTES = 16 * 1024
"""No body as short as this takes long."""

SAMPLES = 16
SAMPLE_BYTES = 1024
"""Objects are counted in so many parts of the body: counting them in all of it would take as long as converting it."""


def takes_long(body: bytes, times: float = 1.0) -> bool:
    """Return whether converting this body is likely to take longer than the event loop can wait.

    `times`: how much dearer it is than was measured for the type `openai` (`Dialect.converts`).
    """
    size = len(body)
    if size <= SHORT_BYTES:
        return False
    long_us = LONG_US / times
    bytes_us = size * PER_BYTE_US
    if bytes_us > long_us:
        return True
    if bytes_us + _objects(body, b"{") * PER_OBJECT_US <= long_us:
        return False
    # The code in a conversation has braces, too; but inside a string a quote has a backslash before it.
    compact = body[:2] == b'{"'
    return not compact or bytes_us + _objects(body, b'{"') * PER_OBJECT_US > long_us


def _objects(body: bytes, mark: bytes) -> float:
    """Return about how often `mark` stands in the body."""
    step = len(body) // SAMPLES
    found = sum(body.count(mark, at, at + SAMPLE_BYTES) for at in range(0, step * SAMPLES, step))
    return found * len(body) / (SAMPLES * SAMPLE_BYTES)
