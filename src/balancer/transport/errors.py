"""What can go wrong between us and an upstream."""

from __future__ import annotations

from balancer.script import Cause


class TransportError(Exception):
    """An exchange broke. Never holds a credential."""

    def __init__(self, cause: Cause, detail: str = "", *, sent: bool = False, headed: bool = False) -> None:
        super().__init__(f"{cause}: {detail}" if detail else str(cause))
        self.cause = cause
        self.detail = detail
        self.sent = sent
        """Some of the request may have reached the peer."""
        self.headed = headed
        """The response's head had been received."""
