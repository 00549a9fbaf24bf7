"""What workers and the hub say to each other, and how it goes over a socket: a length of 4 bytes, then MessagePack."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import msgspec

from balancer.sharing.protocol import VERSION

MESSAGE_MAX_BYTES = 32 * 1024 * 1024
"""A longer one is none of ours: its connection is closed."""

_LENGTH = struct.Struct("!I")


class Hello(msgspec.Struct, tag="hello"):
    """A worker is here."""

    column: int
    pid: int
    number: int
    """As people know it, from 1."""
    version: int = VERSION


class Order(msgspec.Struct, tag="order"):
    """Have all other workers carry out a command."""

    id: int
    kind: str
    body: bytes
    within_s: float
    standing: str = ""


class Collect(msgspec.Struct, tag="collect"):
    """Ask all other workers for their reports."""

    id: int
    within_s: float


class Told(msgspec.Struct, tag="told"):
    """A worker's report, by itself; or, with the id of `Do`, its answer."""

    body: bytes
    id: int = 0


class Do(msgspec.Struct, tag="do"):
    """Carry out a command; kind `report`: answer with a report. `id` 0: no answer is wanted."""

    id: int
    kind: str
    body: bytes = b""


class Answered(msgspec.Struct, tag="answered"):
    """How an order, or a collection, went."""

    id: int
    by_worker: dict[int, bytes]
    silent: tuple[int, ...] = ()
    ended: dict[str, list[float]] = {}


Message: TypeAlias = Hello | Order | Collect | Told | Do | Answered

REPORT = "report"

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Message)


def framed(message: Message) -> bytes:
    """Return a message as it goes over the socket."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """Return what comes, until the other side is gone or says what can't be understood."""
    while True:
        try:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if length > MESSAGE_MAX_BYTES:
                return
            message = _decoder.decode(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, msgspec.DecodeError, UnicodeDecodeError):
            return
        yield message
