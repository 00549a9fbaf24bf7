"""The named keys of the balancer (`settings.auth.keys[]`) with what they have used, over reloads too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from balancer.config.keys import NamedKey
from balancer.model import Route
from balancer.policy import routes as routing
from balancer.policy.grants import KeyGrant, KeyUse


class Grants:
    """What each name has used stays with the name."""

    def __init__(self, use_of: Callable[[str], KeyUse] = lambda name: KeyUse()) -> None:
        """`use_of` makes what a name has used so far."""
        self._uses: dict[str, KeyUse] = {}
        self._use_of = use_of

    def apply(self, keys: Iterable[NamedKey]) -> dict[bytes, KeyGrant]:
        """Put these keys in force, and return their grants by the SHA-256 of the key."""
        keys = list(keys)
        self._uses = {key.name: self._uses.get(key.name) or self._use_of(key.name) for key in keys}
        return {key.digest: _grant(key, self._uses[key.name]) for key in keys}


def _grant(key: NamedKey, use: KeyUse) -> KeyGrant:
    models = routing.compile([Route(pattern, ()) for pattern in key.models])
    return KeyGrant(
        key.name,
        use,
        rights=key.rights,
        may_ask=(lambda model: models.match(model) is not None) if key.models else None,
        providers=key.providers,
        rpm=key.rpm,
        tokens_per_minute=key.tokens_per_minute,
        max_in_flight=key.max_in_flight,
        expires=key.expires,
    )
