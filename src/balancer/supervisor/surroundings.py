"""What the supervisor needs of others: the configuration, the sockets, and somebody to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from balancer.config import Source
from balancer.events import RequestEnded


class Configuration(Protocol):
    """The configuration in force, as it is handed to workers."""

    source: Source
    overrides: dict[str, str | int | bool]
    opened_for: tuple[str, int, bool]
    """Host, port and `reuse_port` when the sockets were opened."""

    @property
    def drain_s(self) -> float:
        """The longest that a drain may take."""
        ...

    def look(self, then: Callable[[], None] | None = None) -> None:
        """Put the file in force as it is now, if it can be used. `then` is called afterwards."""
        ...


class Sockets(Protocol):
    """What is listened on."""

    @property
    def descriptors(self) -> tuple[int, ...]: ...

    def own(self, number: int) -> int | None:
        """Return the one of them that is a worker's own; None: all workers share all of them."""
        ...

    def let_go(self) -> bool:
        """The balancer is being stopped. Say whether somebody else listens or keeps what comes; then close them."""
        ...


class Reporter(Protocol):
    """Where the supervisor says what happens."""

    def ended(self, worker: int, pid: int, reason: str, how: str, wait_s: float) -> None:
        """A worker has ended that should not have, and is started again after `wait_s`."""
        ...

    def tell(self, event: RequestEnded) -> None:
        """A request has ended with its worker."""
        ...

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...
