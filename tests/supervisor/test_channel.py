"""What goes between the supervisor and a worker."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from balancer.config import Source
from balancer.supervisor import messages
from balancer.supervisor.channel import Channel
from balancer.supervisor.messages import Beat, Begin, FromWorker, Known, Serves, ToWorker


async def test_messages_arrive_whole_in_order_and_without_those_that_are_not_known() -> None:
    ours, theirs = socket.socketpair()
    sends = await Channel.over(ours, msgspec.json.Decoder(ToWorker))
    reads = await Channel.over(theirs, msgspec.json.Decoder(FromWorker))

    class FromTheFuture(msgspec.Struct, tag="from_the_future"):
        about: int = 1

    for message in (Beat(), FromTheFuture(), Known(b"x" * 1_000_000), Serves()):
        sends.send(message)
    sends.close()
    got = [message async for message in reads.messages()]
    reads.close()

    assert [type(message) for message in got] == [Beat, Known, Serves]
    assert got[1] == Known(b"x" * 1_000_000)


async def test_a_side_that_is_gone_ends_the_messages_and_takes_no_more() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours, msgspec.json.Decoder(FromWorker))
    theirs.sendall((messages.MAX_BYTES + 1).to_bytes(4, "big") + b"rest")

    assert [message async for message in channel.messages()] == [], "longer than any message"
    theirs.close()
    channel.close()
    channel.send(Beat())
    await asyncio.sleep(0)


def test_what_a_worker_is_told_at_its_beginning_holds_the_bytes_and_shows_no_secret() -> None:
    begin = Begin(1, 2, Source("a.yaml", b"\xff key: sk-secret"), {"port": 0}, (5, 6), 5)

    assert msgspec.json.decode(msgspec.json.encode(begin), type=Begin) == begin
    assert "sk-secret" not in repr(begin)
