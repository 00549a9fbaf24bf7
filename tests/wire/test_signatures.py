"""Signatures of our making: what they carry is read again, and others' are never taken for them."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.wire.signatures import OWN_PREFIX, is_own, signed, unsigned


@pytest.mark.parametrize("payload", [{}, {"provider": "p", "details": [{"text": "\u00e9"}]}])
def test_what_we_signed_is_read_again(payload: dict[str, Any]) -> None:
    assert unsigned(signed(payload)) == payload


@pytest.mark.parametrize("signature", ["theirs", "", None, 5, [OWN_PREFIX], f" {OWN_PREFIX}"])
def test_what_others_signed_is_nothing_to_us(signature: Any) -> None:
    assert unsigned(signature) is None
    assert not is_own(signature)


@pytest.mark.parametrize("rest", ["!", "AAA", "bm9wZQ==", "W10=", "/" * 9])
def test_a_signature_of_ours_that_was_damaged_carries_nothing(rest: str) -> None:
    assert unsigned(OWN_PREFIX + rest) == {}
