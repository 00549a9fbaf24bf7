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
    "another idempotency key": request(headers=(BETA, (b"idempotency-key", b"1"))),
    "another question": request(headers=(BETA,), operation=Operation.COUNT_TOKENS),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_others_are_not(name: str) -> None:
    assert key(DIFFERENT[name], 1, 0) != key(request(headers=(BETA,)), 1, 0)


def test_the_hash_is_keyed() -> None:
    assert key(request(), 1, 0) != key(request(), 2, 0)


def test_a_reload_parts_identical_requests() -> None:
    assert key(request(), 1, 0) != key(request(), 1, 1)


ALONE = [
    (b"x-balancer-dedup", b"off"), (b"x-balancer-dedup", b" OFF "), (b"x-balancer-dedup", b"false"),
    (b"cache-control", b"no-cache"), (b"cache-control", b"No-Store"), (b"cache-control", b"max-age=0, no-cache"),
]  # fmt: skip


@pytest.mark.parametrize("line", ALONE)
def test_who_asks_for_an_answer_of_its_own_is_joined_with_nobody(line: tuple[bytes, bytes]) -> None:
    assert key(request(headers=(BETA, line)), 1, 0) is None
    assert key(request(headers=(BETA, (b"cache-control", b"max-age=1"), line)), 1, 0) is None


@pytest.mark.parametrize("line", [(b"x-balancer-dedup", b"on"), (b"x-balancer-dedup", b"")])
def test_who_does_not_is_joined(line: tuple[bytes, bytes]) -> None:
    assert key(request(headers=(BETA, line)), 1, 0) == key(request(headers=(BETA,)), 1, 0)


def test_requests_with_the_same_idempotency_key_are_identical() -> None:
    same = [key(request(headers=((b"idempotency-key", value),)), 1, 0) for value in (b"1", b"1", b"2")]

    assert same[0] == same[1] != same[2]
