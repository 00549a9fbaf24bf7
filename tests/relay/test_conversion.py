"""Which requests are converted off the event loop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balancer.relay.conversion import takes_long

USER = {"role": "user", "content": "a"}


def written(*messages: dict[str, Any], compact: bool = True) -> bytes:
    return json.dumps({"messages": messages}, separators=(",", ":") if compact else None).encode()


BODIES: dict[str, tuple[bytes, bool]] = {
    "a small one": (written(USER), False),
    "a long text": (written({"role": "user", "content": "x" * 400_000}), False),
    "code, full of braces": (written({"role": "user", "content": 'if (x) { y["a"]; }\n' * 20_000}), False),
    "a very long text": (written({"role": "user", "content": "x" * 4_000_000}), True),
    "many short messages": (written(*[USER] * 20_000), True),
    "many short messages, written with blanks": (written(*[USER] * 20_000, compact=False), True),
    "many short blocks": (written({"role": "user", "content": [{"type": "text", "text": "a"}] * 20_000}), True),
}


@pytest.mark.parametrize(("body", "long"), BODIES.values(), ids=BODIES)
def test_what_takes_long(body: bytes, long: bool) -> None:
    assert takes_long(body) is long


def test_what_is_dearer_takes_long_sooner() -> None:
    body = BODIES["a long text"][0]

    assert not takes_long(body)
    assert takes_long(body, 8.0)
