"""What can go wrong between us and an upstream, in one word each."""

from __future__ import annotations

CAUSES = frozenset(
    {
        "dns",  # the name was not found
        "refused",
        "unreachable",
        "connect_timeout",  # name, TCP, proxy and TLS together took too long
        "tls",  # the certificate or the handshake
        "proxy",  # the proxy refused, or can't be reached
        "reset",
        "closed",  # the end came too early
        "head_timeout",
        "idle_timeout",
        "silent",  # said by the relay: nothing of use in time
        "protocol",  # not HTTP, or framed in a way that can't be trusted
        "too_large",  # a head or a body beyond its limit
        "encoding",  # a compressed body that can't be decompressed
    }
)


class TransportError(Exception):
    """An exchange broke. Never holds a credential."""

    def __init__(self, cause: str, detail: str = "", *, sent: bool = False, headed: bool = False) -> None:
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause = cause
        """One of `CAUSES`."""
        self.detail = detail
        self.sent = sent
        """Some of the request may have reached the peer."""
        self.headed = headed
        """The response's head had been received."""
