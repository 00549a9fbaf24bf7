"""Deadlines: how long all attempts for a request may take together, and how long one of them."""

from __future__ import annotations

from balancer.model import Request, Timeouts
from balancer.policy.failover import Try

STREAM_MAX_S = 300.0
"""All attempts of a stream until content begins; more where a candidate is given more. Claude Code waits about 360 s
for the head of an answer, and longer for its content."""

WHOLE_ANSWER_S = 600.0
"""All attempts of a non-streaming answer: what the SDKs wait by default."""

COUNT_MAX_S = 3.0
"""All attempts to count tokens: after this an estimate serves better than an exact count."""

CLIENT_MARGIN_S = 5.0
"""How long before the client's own time limit (`x-stainless-timeout`) ours ends: the client is to get the reason
instead of running into its limit. A limit of less than twice this is not kept: hardly an answer would fit."""

TOKENS_PER_S = 20.0
"""A non-streaming answer that comes slower than this has stopped: another provider may be asked."""


def overall_s(request: Request, whole_answer_s: float, stream_s: float = STREAM_MAX_S) -> float:
    """Return how long all attempts for a request may take together, from its arrival, in seconds.

    `whole_answer_s` is what the configuration gives a non-streaming answer, `stream_s` what it gives a stream until
    content begins.
    """
    if request.operation.counts:
        return COUNT_MAX_S
    longest_s = stream_s if request.stream else whole_answer_s
    client_s = request.client_timeout_s
    if client_s is not None and client_s > 2 * CLIENT_MARGIN_S:
        return min(longest_s, client_s - CLIENT_MARGIN_S)
    return longest_s


def patience_s(request: Request, timeouts: Timeouts, step: Try) -> float:
    """Return how long an attempt may take until its content begins; a non-streaming answer begins when it is whole.

    `request_s` is for asking somebody else: where nobody else is left, a stream has all the time that is left, because
    a server that is only slow would have to begin anew. While others are left, a non-streaming answer gets the time
    that `max_tokens` take, and at most half of what is left: a silent provider must not use up what the next one needs.
    """
    if request.stream:
        return step.within_s if step.last_hope else min(timeouts.request_s, step.within_s)
    whole_s = min(timeouts.non_streaming_s, step.within_s)
    if step.last_hope:
        return whole_s
    return min(whole_s, step.within_s / 2, timeouts.request_s + (request.max_tokens or 0) / TOKENS_PER_S)
