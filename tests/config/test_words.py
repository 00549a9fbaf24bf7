"""The words that people write in the place of ours, and where ours belong."""

from __future__ import annotations

import pytest

from balancer.config import words
from balancer.config.model import ProviderEntry, Settings, TargetEntry


@pytest.mark.parametrize("written", ["api_key", "apiKey", "API-KEY", "api key"])
def test_the_way_of_writing_a_key_does_not_matter(written: str) -> None:
    assert words.aside(written, ProviderEntry) == ("auth_value", None)


def test_every_word_of_others_stands_for_a_key_that_there_is() -> None:
    for table, model in (
        (words.ASIDE, ProviderEntry),
        (words.ASIDE_SETTINGS, Settings),
        (words.ASIDE_TARGET, TargetEntry),
    ):
        assert {ours for ours in table.values() if ours.split(".")[0] not in model.model_fields} == set()
        assert {theirs for theirs in table if theirs != words.folded(theirs)} == set(), "looked up folded"


def test_every_value_of_others_stands_for_a_value_that_there_is() -> None:
    for key, table in words.CHOICES.items():
        for model in (ProviderEntry, Settings, TargetEntry):
            if allowed := words.choices_of(model, key):
                assert set(table.values()) <= set(allowed), key


def test_a_key_in_the_wrong_place_is_told_its_own() -> None:
    assert "providers" in (words.elsewhere("auth_type", Settings) or "")
    assert "settings" in (words.elsewhere("selection_strategy", ProviderEntry) or "")
    assert "model_routes" in (words.elsewhere("weight", Settings) or "")
    assert "left margin" in (words.elsewhere("model_routes", Settings) or "")
    assert words.elsewhere("nonsense", Settings) is None


def test_no_word_that_may_be_quoted_looks_like_a_key() -> None:
    assert {word for word in words.known() if word.startswith("sk-") or len(word) > 40} == set()
