"""What requests cost, and when a budget is spent."""

from __future__ import annotations

import pytest

from balancer.dialects.zed import budget as cost
from balancer.dialects.zed.options import CostControl, Price
from balancer.model import Usage

WALL = 1.8e9


def test_tokens_are_priced_by_kind() -> None:
    usage = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)

    assert cost.by_tokens(usage, Price()) == pytest.approx(3.3 + 16.5 + 0.33 + 4.125)
    assert cost.by_tokens(Usage(), Price()) == 0


def test_a_prompt_pays_once_for_each_started_block_of_calls() -> None:
    ledger = cost.BudgetLedger()
    steps = (0, 0, 1, 24, 25, 26, 80)

    assert [ledger.new_blocks("p", cost.blocks(calls, 25)) for calls in steps] == [1, 0, 0, 0, 1, 0, 2]


def test_what_is_expected_is_set_aside_until_it_is_known() -> None:
    ledger, control = cost.BudgetLedger(), CostControl(daily_usd=1)
    ledger.hold("a", 0.8, WALL)

    assert cost.exceeded(ledger, control, "p", 0.3, WALL)
    assert cost.exceeded(ledger, control, "p", 0.3, WALL + cost.HELD_S) == "", "its answer never began"
    ledger.let_go("a")
    ledger.spend(0.1, "p", WALL)
    assert cost.exceeded(ledger, control, "p", 0.3, WALL) == ""


def test_the_longest_beginning_of_a_name_has_the_price() -> None:
    control = CostControl(pricing={"claude": Price(input=1), "claude-opus": Price(input=2)})

    assert cost.price_of("claude-opus-4", control).input == 2
    assert cost.price_of("claude-opus-4-1-x", CostControl()).input == 16.5


def test_budgets() -> None:
    ledger = cost.BudgetLedger()
    ledger.spend(1.0, "p", WALL)

    assert cost.exceeded(ledger, CostControl(), "p", 9, WALL) == ""
    assert cost.exceeded(ledger, CostControl(daily_usd=1.5), "p", 0.6, WALL).startswith("daily_usd")
    assert cost.exceeded(ledger, CostControl(daily_usd=1.5), "p", 0.6, WALL + 86400) == ""
    assert cost.exceeded(ledger, CostControl(monthly_usd=1), "q", 0.1, WALL).startswith("monthly_usd")
    assert cost.exceeded(ledger, CostControl(per_prompt_usd=1), "p", 0.1, WALL).startswith("per_prompt_usd")
    assert cost.exceeded(ledger, CostControl(per_prompt_usd=1), "q", 0.1, WALL) == ""


def test_a_ledger_is_bounded() -> None:
    ledger = cost.BudgetLedger()
    for n in range(cost.MAX_PROMPTS + 100):
        ledger.spend(0.001, str(n), WALL + n * 86400)

    assert len(ledger.prompts) == cost.MAX_PROMPTS
    assert len(ledger.days) <= 63
