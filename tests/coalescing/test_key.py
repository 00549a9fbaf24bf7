"""What makes two requests identical."""

from __future__ import annotations

import pytest
from stand_ins import request

from balancer.coalescing.key import key
from balancer.model import Operation

BETA = (b"anthropic-beta", b"a")


def test_requests_that_differ_in_the_single_call_alone_are_identical() -> None:
    assert key(request(headers=(BETA,)), 1, 0) == key(
        request(headers=(BETA, (b"x-stainless-retry-count", b"1"), (b"traceparent", b"x")), id="other"), 1, 0
    )


DIFFERENT = {
    "another body": request(b'{"model":"m","messages":[1]}', (BETA,)),
    "another client": request(headers=(BETA,), client="c"),
    "another beta": request(headers=((b"anthropic-beta", b"b"),)),
    "another version": request(headers=(BETA, (b"anthropic-version", b"2026-10-21"))),
    "another agent": request(headers=(BETA, (b"x-claude-code-agent-id", b"1"))),
    "a header of the user's own": request(headers=(BETA, (b"x-tenant", b"1"))),
    "another kind of client": request(headers=(BETA,), claude_code=True),
    "another query": request(headers=(BETA,), query=b"beta=true"),
    "another question": request(headers=(BETA,), operation=Operation.COUNT_TOKENS),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_others_are_not(name: str) -> None:
    assert key(DIFFERENT[name], 1, 0) != key(request(headers=(BETA,)), 1, 0)


def test_the_hash_is_keyed() -> None:
    assert key(request(), 1, 0) != key(request(), 2, 0)


def test_a_reload_parts_identical_requests() -> None:
    assert key(request(), 1, 0) != key(request(), 1, 1)
