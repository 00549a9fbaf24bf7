"""The entries of the health table know of which providers they speak."""

from __future__ import annotations

import pytest

from balancer.policy.circuit import Health
from balancer.policy.verdicts import Scope
from balancer.state.entries import Entries


def test_a_provider_is_known_as_long_as_it_has_an_entry() -> None:
    entries = Entries()
    whole, model = ("a", Scope.PROVIDER, None), ("a", Scope.MODEL, "m")
    entries[whole] = entries[model] = Health(failures=1)
    entries[model] = Health(failures=2)
    entries["b", Scope.PROVIDER, None] = Health(failures=1)
    assert set(entries.providers) == {"a", "b"}

    del entries[model]
    assert set(entries.providers) == {"a", "b"}
    assert entries.pop(whole, Health()) == Health(failures=1)
    assert entries.pop(whole, Health()) == Health()
    assert set(entries.providers) == {"b"}
    with pytest.raises(KeyError):
        del entries[whole]
    assert set(entries.providers) == {"b"}
