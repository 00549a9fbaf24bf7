"""How long one attempt may take to begin its answer."""

from __future__ import annotations

from balancer.model import Request, Timeouts
from balancer.policy.failover import Try

TOKENS_PER_S = 20.0
"""A non-streaming answer that comes slower than this has stopped: another provider may be asked."""


def patience_s(request: Request, timeouts: Timeouts, step: Try) -> float:
    """Return how long an attempt may take until its content begins; a non-streaming answer begins when it is whole.

    While other candidates are left, a non-streaming answer gets the time that `max_tokens` take, and at most half of
    what is left: a silent provider must not use up what the next one needs.
    """
    if request.stream:
        return min(timeouts.request_s, step.within_s)
    whole_s = min(timeouts.non_streaming_s, step.within_s)
    if step.last_hope:
        return whole_s
    return min(whole_s, step.within_s / 2, timeouts.request_s + (request.max_tokens or 0) / TOKENS_PER_S)
