"""How an exchange with an upstream may go: why it breaks, and the steps of one that is only played."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from balancer.headers import Headers


class Cause(enum.StrEnum):
    """Why an exchange broke, in the word that logs and events have for it."""

    DNS = "dns"
    """The name was not found."""
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    """Name, TCP, proxy and TLS together took too long."""
    TLS = "tls"
    """The certificate or the handshake; or the connection was cut without the end that TLS has."""
    PROXY = "proxy"
    """The proxy refused, or can't be reached."""
    NOT_ALLOWED = "not_allowed"
    """Its host or its address is one to which no connection may go."""
    RESET = "reset"
    CLOSED = "closed"
    """The end came too early."""
    HEAD_TIMEOUT = "head_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    SILENT = "silent"
    """The relay's: nothing of use came in time."""
    PROTOCOL = "protocol"
    """Not HTTP, or framed in a way that can't be trusted."""
    TOO_LARGE = "too_large"
    """A head or a body beyond its limit."""
    ENCODING = "encoding"
    """A compressed body that can't be decompressed."""
    TRUNCATED = "truncated"
    """The relay's: the body ended well, but not the answer in it."""
    LOCAL = "local"
    """This machine is short of what it takes: descriptors, ports, memory, threads. It is no fault of the provider's."""
    CRASHED = "crashed"
    """The relay's: a fault of the balancer itself."""


NOTHING_SENT = frozenset(
    {
        Cause.DNS,
        Cause.REFUSED,
        Cause.UNREACHABLE,
        Cause.CONNECT_TIMEOUT,
        Cause.TLS,
        Cause.PROXY,
        Cause.LOCAL,
        Cause.NOT_ALLOWED,
    }
)
"""What breaks an exchange before any of its request was sent. (A `TLS` in the middle of an answer says so itself.)"""


@dataclass(frozen=True, slots=True)
class Pause:
    """A script's step: nothing happens for `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Head:
    """A script's step: the response's head."""

    status: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Data:
    """A script's step: some of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """A script's step: the exchange breaks."""

    cause: Cause


Step: TypeAlias = Pause | Head | Data | Fail
"""What a scripted upstream does; the end of the script is the clean end of the body."""
