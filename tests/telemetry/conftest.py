"""Events to write down."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.events import Attempt, RequestEnded
from balancer.model import Usage


def ended(**fields: Any) -> RequestEnded:
    """A request that failed over once and ended well."""
    known: dict[str, Any] = {
        "id": "req_0123456789",
        "wall": 1_800_000_000.125,
        "operation": "messages",
        "model": "claude-x",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "duration_s": 3.25,
        "provider": "b",
        "provider_model": "claude-x",
        "attempts": (
            Attempt("a", "claude-x", "refused", "wait", 0.05, 529, "529 overloaded_error"),
            Attempt("b", "claude-x", "completed", "stream", 3.1, 200),
        ),
        "usage": Usage(100, 20, 5, None),
        "first_content_s": 0.42,
    }
    return RequestEnded(**(known | fields))


@pytest.fixture
def request_ended() -> RequestEnded:
    return ended()
