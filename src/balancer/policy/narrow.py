"""Whether a refusal of the request says more about the provider that gave it: it knows or takes less than others.

Such words go back to the client as they came where it was the provider's turn, because the client asks for less by
them. Where it was asked only because a better one failed, they are no answer: that one may take the request as it is.
"""

from __future__ import annotations

import re

from balancer.model import Outcome, RefusalClass, Refused, Verdict

_LOOKED_AT_CHARS = 2048

_TAKES_LESS = re.compile(
    r"extra inputs are not permitted|additional propert(?:y|ies)|maximum allowed|not (?:supported|available|permitted)"
    r"|(?:unknown|unrecognized|unrecognised|unsupported|unexpected)"
    r" (?:request )?(?:field|parameter|argument|property|key|keyword|tag|input|name)"
    r"|does not match any of the expected tags|does not support",
    re.IGNORECASE,
)


def takes_less(outcome: Outcome, verdict: Verdict) -> bool:
    """Say whether a provider has refused something of the request that another provider may know, or may take."""
    if not isinstance(outcome, Refused) or verdict.refusal is not RefusalClass.REQUEST:
        return False
    return _TAKES_LESS.search(outcome.fault.message[:_LOOKED_AT_CHARS]) is not None
