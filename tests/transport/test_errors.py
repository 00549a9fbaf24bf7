"""What went wrong, in a word and a detail."""

from __future__ import annotations

import pytest

from balancer.script import Cause
from balancer.transport import TransportError


@pytest.mark.parametrize("cause", Cause)
def test_an_error_is_told_by_its_word(cause: Cause) -> None:
    assert str(TransportError(cause)) == cause.value
    assert str(TransportError(cause, "why")) == f"{cause.value}: why"


def test_nothing_was_sent_unless_it_is_said() -> None:
    error = TransportError(Cause.REFUSED)

    assert (error.sent, error.headed, error.detail) == (False, False, "")
