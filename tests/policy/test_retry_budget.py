"""The retry budget: what a success earns, what a retry costs."""

from __future__ import annotations

import pytest

from balancer.policy.retry_budget import Budget


def test_it_begins_full_and_each_retry_costs_a_token() -> None:
    budget = Budget()

    assert sum(budget.spend() for _ in range(20)) == 10
    assert budget.tokens == 0.0


@pytest.mark.parametrize(("tokens", "spent"), [(0.99, False), (1.0, True), (1.5, True)])
def test_part_of_a_token_buys_nothing(tokens: float, spent: bool) -> None:
    budget = Budget(tokens=tokens)

    assert budget.spend() is spent
    assert budget.tokens == pytest.approx(tokens - spent)


def test_five_successes_earn_one_retry() -> None:
    budget = Budget(tokens=0.0)
    for _ in range(4):
        budget.earn(1.0)
    assert not budget.spend()
    budget.earn(1.0)

    assert budget.tokens == pytest.approx(1.0)
    assert budget.spend()


def test_it_never_holds_more_than_its_capacity() -> None:
    budget = Budget(capacity=3.0, tokens=2.9)
    budget.earn(1.0)
    assert budget.tokens == 3.0
    budget.earn(1.0)

    assert budget.tokens == 3.0
