"""A request that goes well gets no dearer unawares: calls and bytecodes stay within `bench/budget.toml`."""

from __future__ import annotations

import sys

from bench import work


async def test_a_warm_request_keeps_to_its_budget() -> None:
    found, allowed = await work.measured(), work.budget()
    assert found.keys() == allowed.keys()
    for kind, counted in found.items():
        calls, bytecodes = counted.totals
        assert 100 < calls <= allowed[kind]["calls"], kind
        if sys.version_info[:2] == (3, 11):  # another version compiles to other bytecodes
            assert calls < bytecodes <= allowed[kind]["bytecodes"], kind
