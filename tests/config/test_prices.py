"""Files of prices: the one that ships, and the user's own with what can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer import config
from balancer.config.prices import MAX_BYTES, read, shipped
from balancer.policy.prices import Prices

FILE = """
providers:
  - {{name: a, type: simulated, price_factor: 1.1}}
model_routes: {{"*": [{{provider: a}}]}}
settings: {{prices: "{path}"}}
"""


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("claude-sonnet-4-5-20250929", 3),
        ("anthropic/claude-haiku-4.5", 1),
        ("claude-3-5-haiku-latest", 0.8),
        ("claude-opus-4-1", 15),
        ("claude-opus-4-5", 5),
        ("gpt-4o-mini", 0.15),
        ("gpt-5", 1.25),
    ],
)
def test_prices_ship_for_models_that_people_use(model: str, dollars: float) -> None:
    price = Prices(shipped()).of(model)
    assert price is not None
    assert price.input == dollars


def test_a_file_of_ones_own_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text('models: {"*sonnet*": {input: 7, output: 8}}')
    found = config.parse(FILE.format(path=path), "providers.yaml", {})
    price = Prices(*found.prices).of("claude-sonnet-4-5")

    assert price is not None
    assert (price.input, price.output) == (7, 8)
    assert found.providers["a"].price_factor == 1.1
    path.write_text('models: {"*sonnet*": {input: 9, output: 8}}')
    assert config.parse(FILE.format(path=path), "providers.yaml", {}).digest != found.digest, "it is taken over"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [", "line 1"),
        ("models: {a: {input: -1, output: 1}}", "input"),
        ("models: {a: {input: 1}}", "output"),
        ("models: {a: {input: 1, output: 1, cash: 2}}", "cash"),
        ("prices: {}", "prices"),
        ("x" * (MAX_BYTES + 1), "larger"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read(path)
    with pytest.raises(config.ConfigError) as wrong:
        config.parse(FILE.format(path=path), "providers.yaml", {})
    (problem,) = wrong.value.problems
    assert problem.line == 5
    assert words in problem.message


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="prices can't be read: No such file"):
        config.parse(FILE.format(path=tmp_path / "none.yaml"), "providers.yaml", {})
