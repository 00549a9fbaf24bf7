"""Which of equal candidates is the better one for a request: by what it asks for, and by whose its reasoning is.

Thinking is bound to the account that made it. At another account of the same organization it still counts; elsewhere
it is dropped, or refused. An organization is known by a short hash, "" where it is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from balancer.model import Candidate, Outcome, Refused, Stage

OrganizationOf: TypeAlias = Callable[[Candidate], str]

_WORDS_MAX_CHARS = 2048
_THINKING = re.compile(
    r"\b(?:redacted_)?thinking\b.{0,200}\b(?:block|signature|cannot be modified|must contain|expected)"
    r"|\bsignature\b.{0,80}\bthinking\b|(?:invalid|unexpected|missing).{0,40}\bsignature\b"
    r"|expected.{0,4}\bthinking\b|\bblock is bound to a different\b",
    re.IGNORECASE | re.DOTALL,
)


def checking_first(candidates: Sequence[Candidate], doubt: Callable[[Candidate], int]) -> list[Candidate]:
    """Return the candidates with those first, within each priority, of which it is least doubtful that they check."""
    return sorted(candidates, key=lambda c: (c.priority, doubt(c)))


def same_organization_first(candidates: Sequence[Candidate], organization: str, of: OrganizationOf) -> list[Candidate]:
    """Return the candidates with those of an organization first, within each priority."""
    return sorted(candidates, key=lambda c: (c.priority, of(c) != organization))


def refuses_thinking(outcome: Outcome) -> bool:
    """Return whether a provider refused the request for thinking in its history that it does not accept."""
    if not isinstance(outcome, Refused) or outcome.stage is Stage.STREAM or outcome.fault.status not in (400, 422):
        return False
    return _THINKING.search(outcome.fault.message[:_WORDS_MAX_CHARS]) is not None
