"""How long the relay waits and how much it keeps. An argument: a test waits less, a simulation varies it."""

from __future__ import annotations

import msgspec


class RelayLimits(msgspec.Struct, frozen=True):
    """Times in seconds, sizes in bytes."""

    # The client's response (`response`)

    hold_max_s: float = 10.0
    """The longest time that a stream's client is sent nothing at all. Then it gets a 200 and a ping: Claude Code
    and the SDKs accept pings before `message_start`, and many proxies cut a connection that is silent for 60 s."""
    ping_s: float = 10.0
    """A stream that was silent for this long gets a ping from the balancer."""
    stuck_s: float = 120.0
    """A client that takes nothing for this long is cut off."""
    look_every_s: float = 0.05
    """The shortest time between two looks at all responses: it bounds what many cost that are due together."""

    # The safety judge (`judging`)

    check_s: float = 30.0
    """How long the end of an answer is held back for verdicts. Its client gets pings meanwhile."""

    # The provider's answer (`receive`, `exchange`)

    held_max_bytes: int = 32 * 1024 * 1024
    """The most that is held back of an answer that has no content yet."""
    after_end_s: float = 1.0
    """How long a provider may take to end its body after the end of the message.
    If it does, its connection is reused."""
    ending_s: float = 2.0
    """How long a provider may take to end an answer that is complete but for its end (`Decoder.ending`)."""
    refusal_max_bytes: int = 1024 * 1024
    """The largest body of an error that is read."""
    side_request_max_bytes: int = 16 * 1024 * 1024
    """The largest answer to a side request, and the largest list of models, that is read."""


DEFAULT = RelayLimits()
