"""The open connections of clients, counted: how many there are, and how much of bodies they made the balancer hold.

Connections and memory are shared by all clients, so both have a bound, and beyond it somebody has to go:

    what is too much     who goes                                                                  how
    connections          the oldest that has never sent a request; else the oldest without one     closed
                         under way; if all are busy, the new one, once it has asked for anything   503
                         else than a probe (`spare`)
    of one address       the new one                                                               503
    bytes of bodies      the connection with the largest body that is not whole                    503

Counts are of one process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

FULL = "too many connections are open (limits.max_connections)"
FULL_ADDRESS = "too many connections of this address are open (limits.max_connections_per_address)"
TOO_MUCH = "too much of request bodies is being received (limits.max_buffered_bytes); try again"

LARGE_BYTES = 64 * 1024
"""A larger body is counted while it is held. All smaller ones that can be in flight fit into memory."""

FULL_BY_MACHINE = "too many connections are open for the files that this process may open (ulimit -n)"

SPARE = 256
"""At most so many connections more may be open for as long as it takes to say 503, or to answer a probe: whoever
watches the balancer must not take it for dead because it is busy."""

KEPT_DESCRIPTORS = 32
"""What the process needs besides connections: its log, its listener, the event loop."""


class Client(Protocol):
    """A connection of a client, as it is counted here."""

    buffered_bytes: int
    """How much has come of a body that is not whole."""

    @property
    def address(self) -> str:
        """The address at its other end."""
        ...

    @property
    def idle(self) -> bool:
        """No request is answered or received."""
        ...

    def shed(self, message: str) -> None:
        """Close it, with an error for the client if a request has begun. Calls `Connections.remove`, now or later."""
        ...

    def turn_away(self, message: str) -> None:
        """Close it with an error, whether or not a request has begun. Calls `Connections.remove`, now or later."""
        ...


class Connections:
    """Counts connections and what they buffer."""

    def __init__(self) -> None:
        self.buffered_bytes = 0
        """Of all bodies that are not whole, and of large ones that are held for a failover."""
        self._most = 1
        self._most_per_address: int | None = None
        self._most_bytes = 0
        self._full = FULL
        self._most_spare = SPARE
        self.on_shortage: Callable[[], None] = _nothing
        """Called when a client is turned away because there are too few descriptors for its connection."""
        self._spare: dict[Client, None] = {}
        """Those beyond the bound, the oldest first."""
        self._silent: dict[Client, None] = {}
        """Those that have not sent a request yet, the oldest first."""
        self._known: dict[Client, None] = {}
        self._addresses: Counter[str] = Counter()

    def apply(
        self,
        *,
        most: int,
        most_per_address: int | None,
        most_bytes: int,
        most_spare: int = SPARE,
        short_of_descriptors: bool = False,
    ) -> None:
        """Use these bounds from now on. What is open stays open.

        `short_of_descriptors`: there may be so many because the process may open so few files.
        """
        self._most, self._most_per_address, self._most_bytes = most, most_per_address, most_bytes
        self._most_spare = most_spare
        self._full = FULL_BY_MACHINE if short_of_descriptors else FULL

    def __len__(self) -> int:
        return len(self._silent) + len(self._known) + len(self._spare)

    def add(self, client: Client) -> str:
        """Count a new connection, and close another one if there are too many. Return why it can't stay, if so."""
        if self._most_per_address is not None:
            if self._addresses[client.address] >= self._most_per_address:
                return FULL_ADDRESS
            self._addresses[client.address] += 1
        if len(self._silent) + len(self._known) >= self._most:
            if (other := self._dispensable()) is None:
                if self._addresses:
                    self._forget_address(client)
                if self._full is FULL_BY_MACHINE:
                    self.on_shortage()
                return self._full
            self.remove(other)
            other.shed(self._full)
        self._silent[client] = None
        return ""

    def spare(self, client: Client) -> None:
        """Keep a connection for which there was no place, for a probe. Of too many the oldest is turned away."""
        if len(self._spare) >= self._most_spare:
            oldest = next(iter(self._spare))
            self.remove(oldest)
            oldest.turn_away(self._full)
        self._spare[client] = None

    def _dispensable(self) -> Client | None:
        """Return the connection that is missed least; None: all are busy."""
        found = next((client for client in self._silent if client.idle), None)
        return found or next((client for client in self._known if client.idle), None)

    def asks(self, client: Client) -> None:
        """A connection sends its first request."""
        if client in self._silent:
            del self._silent[client]
            self._known[client] = None

    def remove(self, client: Client) -> None:
        """A connection is closed. To say so twice does no harm."""
        if client in self._silent:
            del self._silent[client]
        elif client in self._known:
            del self._known[client]
        else:
            self._spare.pop(client, None)
            return
        if self._addresses:
            self._forget_address(client)

    def _forget_address(self, client: Client) -> None:
        self._addresses[client.address] -= 1
        if self._addresses[client.address] <= 0:  # less: it came before addresses were counted
            del self._addresses[client.address]

    def hold(self, size_bytes: int) -> None:
        """So much more of bodies is kept."""
        self.buffered_bytes += size_bytes

    def let_go(self, size_bytes: int) -> None:
        """So much of bodies is not kept any more."""
        self.buffered_bytes -= size_bytes

    def receive(self, client: Client, size_bytes: int) -> None:
        """Count what has come of a body, and end the largest that is not whole if all together are too much."""
        client.buffered_bytes += size_bytes
        self.buffered_bytes += size_bytes
        if self.buffered_bytes > self._most_bytes:
            largest = max((*self._known, client), key=lambda one: one.buffered_bytes)
            self.received(largest)
            largest.shed(TOO_MUCH)

    def received(self, client: Client) -> None:
        """A body is whole, or given up: its connection buffers nothing any more."""
        self.buffered_bytes -= client.buffered_bytes
        client.buffered_bytes = 0


def _nothing() -> None:
    return


def bounded(most: int, descriptors: int) -> int:
    """Return how many connections of clients there may be with so many descriptors: each needs one to a provider."""
    return max(1, min(most, (descriptors - KEPT_DESCRIPTORS - spare_of(descriptors)) // 2))


def spare_of(descriptors: int) -> int:
    """Return how many connections may be open for a moment beyond those, and may wait to be accepted."""
    return max(8, min(SPARE, descriptors // 8))
