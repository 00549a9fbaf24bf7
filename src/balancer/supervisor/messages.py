"""What the supervisor and a worker say to each other.

They may be of different versions while one replaces the other, so a message that is not known is passed over, and one
that is known never gets another meaning: a new meaning is a new message.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from balancer.config import Source

MAX_BYTES = 64 * 1024 * 1024
"""Of one message: a configuration, or all that a worker knows of its providers."""


# From the supervisor


class Begin(msgspec.Struct, tag="begin"):
    """The first message to a worker: who it is, and what it serves."""

    worker: int
    """Its number, from 1."""
    workers: int
    """How many there are."""
    source: Source
    """The configuration in force. It is used instead of the file."""
    overrides: dict[str, str | int | bool]
    """What was given on the command line."""
    sockets: tuple[int, ...]
    """Descriptors of the sockets that listen."""
    own: int | None
    """The one of them that is this worker's; None: all workers share all of them."""
    host: str = ""
    """What the sockets were opened for, as it was configured then."""
    port: int = 0
    reuse_port: bool = False
    restarts: dict[str, int] = {}


class TakeOver(msgspec.Struct, tag="take_over"):
    """What another worker knew of the providers; it is told before this one serves."""

    state: bytes


class Leave(msgspec.Struct, tag="leave"):
    """Others serve in your place: take no more connections, answer on those you have, then end."""


class Tell(msgspec.Struct, tag="tell"):
    """Say what you know of the providers (`Known`)."""


class Drain(msgspec.Struct, tag="drain"):
    """The balancer is being stopped: let answers under way end, then end."""

    elsewhere: bool = False
    """Somebody else listens on the same address, or keeps what comes there: take no more, and let go of the sockets."""


class EndNow(msgspec.Struct, tag="end_now"):
    """End without waiting for answers."""


class ReadFile(msgspec.Struct, tag="read_file"):
    """Read the configuration's file again."""


class Restarts(msgspec.Struct, tag="restarts"):
    """How often workers of this balancer had to be started again, by reason."""

    by_reason: dict[str, int]


class RestartEnded(msgspec.Struct, tag="restart_ended"):
    """A rolling restart is over."""

    failure: str = ""
    """Why the old workers go on; empty: all were replaced."""


# From a worker


class Loaded(msgspec.Struct, tag="loaded"):
    """It could serve; it waits for `TakeOver`."""


class Serves(msgspec.Struct, tag="serves"):
    """It accepts connections."""


class Beat(msgspec.Struct, tag="beat"):
    """Its event loop runs."""


class Known(msgspec.Struct, tag="known"):
    """The answer to `Tell`."""

    state: bytes


class Leaves(msgspec.Struct, tag="leaves"):
    """It was sent a signal to end, alone."""


class FileRead(msgspec.Struct, tag="file_read"):
    """It has put a changed file in force."""


class AskRestart(msgspec.Struct, tag="ask_restart"):
    """Somebody ordered a rolling restart by way of this worker."""


ToWorker: TypeAlias = Begin | TakeOver | Leave | Tell | Drain | EndNow | ReadFile | Restarts | RestartEnded
FromWorker: TypeAlias = Loaded | Serves | Beat | Known | Leaves | FileRead | AskRestart
