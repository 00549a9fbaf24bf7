"""What tokens cost: by kind of token, and the most specific pattern of the first table that has one."""

from __future__ import annotations

import pytest

from balancer.model import Usage
from balancer.policy.prices import Price, Prices

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=MILLION), 3.0),
        (Usage(output_tokens=MILLION), 15.0),
        (Usage(cache_read_tokens=MILLION), 0.3),
        (Usage(cache_creation_tokens=MILLION), 3.75),
        (Usage(cache_creation_tokens=MILLION, cache_creation_1h_tokens=MILLION), 6.0),
        (Usage(cache_creation_tokens=MILLION, cache_creation_1h_tokens=400_000), 0.6 * 3.75 + 0.4 * 6.0),
        (Usage(), 0.0),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, dollars: float) -> None:
    assert Price(3, 15).cost_usd(usage) == pytest.approx(dollars)


def test_prices_that_are_given_go_before_those_that_follow() -> None:
    price = Price(2, 8, cache_write_5m=1, cache_write_1h=5, cache_read=0.5)
    usage = Usage(0, 0, MILLION, 2 * MILLION, cache_creation_1h_tokens=MILLION)

    assert price.cost_usd(usage) == pytest.approx(0.5 + 1 + 5)


def test_the_users_table_goes_first_and_in_it_the_most_specific_pattern() -> None:
    own = {"*opus*": Price(1, 1), "claude-opus-9": Price(2, 2)}
    prices = Prices(own, {"claude-opus-9-x": Price(9, 9), "*sonnet*": Price(3, 3)})

    asked = ("claude-opus-9", "claude-opus-9-x", "Claude-OPUS-1", "a-sonnet", "a-sonnet[1m]", "gpt")
    found = [prices.of(model) for model in asked]
    assert [price and price.input for price in found] == [2, 1, 1, 3, 3, None]
