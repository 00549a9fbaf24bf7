"""Events of the Messages API's streams: what is read of one, and how one is completed that lacks its name.

A member of an event decides something only if it has the type that decides. Of any other type it is as if it were
absent, and what is only carried along is not looked at.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from balancer.wire import sse
from balancer.wire.loose import decoded_object, object_of, parsed, string_of
from balancer.wire.whole import ReportedUsage, reported

_NAME = re.compile(r"[a-z][a-z_.-]{0,63}")
"""What may be written as the name of an event."""

KINDS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    }
)
"""The events of the Messages API."""


class StartedMessage(msgspec.Struct):
    usage: ReportedUsage | None = None
    input_transformations: Any = None


class Block(msgspec.Struct):
    type: str = ""


class Delta(msgspec.Struct):
    stop_reason: str | None = None


class Event(msgspec.Struct):
    """What is read of an event."""

    type: str = ""
    message: StartedMessage | None = None
    usage: ReportedUsage | None = None
    delta: Delta | None = None
    content_block: Block | None = None
    input_transformations: Any = None


_EVENT = msgspec.json.Decoder(Event)


def decoded(data: bytes) -> Event | None:
    """Return what is read of an event's data; None where it is no JSON object."""
    try:
        return _EVENT.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        pass
    try:
        value = parsed(data)
    except (ValueError, RecursionError):
        return None
    return _fitted(value) if isinstance(value, dict) else None


def _fitted(event: dict[str, Any]) -> Event:
    """Read an event of which some member has an odd type."""
    message = object_of(event.get("message"))
    return Event(
        string_of(event.get("type")),
        StartedMessage(reported(message.get("usage")), message.get("input_transformations")),
        reported(event.get("usage")),
        Delta(string_of(object_of(event.get("delta")).get("stop_reason"))),
        Block(string_of(object_of(event.get("content_block")).get("type"))),
        event.get("input_transformations"),
    )


_BEYOND = ("type", "index")
"""Members of a delta that are no content by themselves."""


def carries_content(block: bytes) -> bool:
    """Say whether frames, as clients get them, bring a message any further: pings, comments and the like do not."""
    for frame in sse.frames(block):
        name, data = sse.fields(frame)
        if name == b"content_block_delta":
            for key, value in object_of(decoded_object(data).get("delta")).items():
                if value and key not in _BEYOND:
                    return True
        elif name == b"content_block_start":
            event = decoded(data)
            if event is not None and event.content_block is not None and event.content_block.type not in ("", "text"):
                return True
        elif name in (b"message_delta", b"message_stop"):
            return True
    return False


def completed(frame: bytes, event: bytes, data: bytes, kind: str) -> bytes:
    """Return a frame whose event line and whose JSON say the same; empty where nothing says what it is.

    `kind` is the type in the JSON, empty where it has none that counts.
    """
    name = event.decode(errors="replace")
    if kind:
        known = kind in KINDS or (not event and _NAME.fullmatch(kind))
        return sse.frame(kind, _one_line(data)) if known else frame
    if name not in KINDS:
        return frame if event else b""
    line = _one_line(data).rstrip()[:-1].rstrip()
    return sse.frame(name, b'%b%b"type":"%b"}' % (line, b"" if line.endswith(b"{") else b",", event))


def _one_line(data: bytes) -> bytes:
    return data.replace(b"\n", b" ").replace(b"\r", b" ")
