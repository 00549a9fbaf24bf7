"""Credentials of clients that were refused where another provider answered in its place: told once for each.

The other provider may be paid by somebody else, so a person should know. One table for each process: with several
workers each may tell it once.
"""

from __future__ import annotations

REMEMBERED = 1000
"""How many credentials are remembered, the latest: clients choose them."""


class RefusedCredentials:
    """Which clients' credentials were refused, and where. A credential is known by the hash that names its client."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], None] = {}

    def is_new(self, provider: str, client: str) -> bool:
        """Note that `provider` refused this client's credential; say whether that was not known."""
        key = (provider, client)
        known = key in self._known
        self._known.pop(key, None)
        self._known[key] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return not known
