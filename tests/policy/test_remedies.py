"""What only a person can mend, in plain words."""

from __future__ import annotations

import pytest

from balancer.model import Trouble
from balancer.policy.remedies import in_words, sentence

WORDS = {
    Trouble.KEY: "its key was refused (401 x): check its auth_value in providers.yaml",
    Trouble.ACCESS: "it denies access (401 x): check that the account is enabled and that its key may use this model, "
    "then run balancer wake main",
    Trouble.CREDIT: "its account has no credit (401 x): top up the account, then run balancer wake main",
    Trouble.SPEND_CAP: "its spending limit is reached (401 x): raise the limit, or wait until it is reset, "
    "then run balancer wake main",
    Trouble.CLIENT_KEY: "it refused the credential that this client sent (401 x): sign in again, or check the key "
    "that the client is set to",
    Trouble.ADDRESS: "it has another address (401 x): set its base_url in providers.yaml to the one that it redirects to",
    Trouble.PAUSED: "it was paused by hand (401 x): run balancer resume main",
    Trouble.DISABLED: "it is disabled (401 x): set enabled: true in providers.yaml",
}


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_its_words_and_its_remedy(trouble: Trouble) -> None:
    assert in_words("main", trouble, "401 x") == WORDS[trouble]
    assert sentence("main", trouble, "401 x") == f"main: {WORDS[trouble]}"


def test_without_a_reason_there_are_no_brackets() -> None:
    assert in_words("main", Trouble.PAUSED) == "it was paused by hand: run balancer resume main"


def test_a_name_with_a_blank_can_be_typed_as_it_is_shown() -> None:
    assert in_words("my key", Trouble.PAUSED).endswith("balancer resume 'my key'")


@pytest.mark.parametrize("trouble", Trouble)
def test_the_words_hold_no_address(trouble: Trouble) -> None:
    assert "://" not in in_words("main", trouble)
