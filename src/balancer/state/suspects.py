"""Requests that met the same failure at several providers: what they meet next is held against them.

Without this, one request on which every server fails, repeated by its client, would keep all providers cooling down
for everybody. A request is known by a hash of its body.
"""

from __future__ import annotations

import msgspec

SUSPECTS_MAX = 256
"""How many requests are remembered, the latest."""

SUSPECT_S = 60.0
"""How long after its last failure a request is remembered: clients repeat what failed within seconds."""


class _Met(msgspec.Struct):
    """What one request has met."""

    failure: str
    provider: str
    """Where it met that first."""
    at: float
    suspect: bool = False


class Suspects:
    """What requests have met lately, by hash. Times are on the driver's clock."""

    def __init__(self) -> None:
        self._met: dict[int, _Met] = {}

    def __len__(self) -> int:
        return len(self._met)

    def met(self, witness: int, failure: str, provider: str, now: float) -> bool:
        """Note that a request met `failure` at `provider`; say whether the request itself is suspect.

        It is once a second provider has failed on it in the same way. `witness` 0: it is not known which request.
        """
        if not witness:
            return False
        known = self._met.pop(witness, None)
        if known is None or known.failure != failure or now - known.at > SUSPECT_S:
            known = _Met(failure, provider, now)
        known.at = now
        known.suspect = known.suspect or known.provider != provider
        self._met[witness] = known
        if len(self._met) > SUSPECTS_MAX:
            del self._met[next(iter(self._met))]
        return known.suspect
