"""The way on which messages go between the supervisor and one worker: a pair of sockets. Its end tells of the other's.

Each message is its length (4 bytes, big-endian) and JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import msgspec

from balancer.supervisor.messages import MAX_BYTES

Message = TypeVar("Message")

_ENCODER = msgspec.json.Encoder()


class Channel(Generic[Message]):
    """One end. `Message` is what comes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.json.Decoder[Message]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    @classmethod
    async def over(cls, sock: socket.socket, decoder: msgspec.json.Decoder[Message]) -> Channel[Message]:
        """Return the end that is `sock`, a connected stream socket. It is closed with the channel."""
        return cls(*await asyncio.open_connection(sock=sock), decoder)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, unless the other side is gone."""
        if self._writer.is_closing():
            return
        body = _ENCODER.encode(message)
        self._writer.write(len(body).to_bytes(4, "big") + body)

    async def messages(self) -> AsyncIterator[Message]:
        """Return what comes, until the other side is gone. What is not known is passed over."""
        while True:
            try:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                if size > MAX_BYTES:
                    return
                body = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, OSError):
                return
            with contextlib.suppress(msgspec.MsgspecError):
                yield self._decoder.decode(body)

    def close(self) -> None:
        """Close this end; what was sent still arrives."""
        self._writer.close()
