"""Refusals by status: one at least for each row of the table of refusals, as providers word them.

What a provider type or the address of a provider decides (`SAID_BY_OURSELVES`) is in no words of a provider.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from live.harness import Peer, Seen

from balancer.model import Fault, Reply
from balancer.wire import errors

SAID_BY_OURSELVES = frozenset(
    {
        "the request's own, says the provider type",
        "too much for this provider",
        "redirected",  # these two are said where an address redirects to https, or for good
        "redirected for good",
    }
)
PAGE = b"<!DOCTYPE html><html><head><title>Attention required</title></head><body>Blocked.</body></html>"


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses, and the row of the table that it belongs to."""

    row: str
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        """Answer so."""
        more = {name.replace("-", "_"): value for name, value in self.headers}
        await peer.whole(self.status, self.body, **{"content_type": self._content_type, **more})

    @property
    def _content_type(self) -> str:
        return "text/html" if self.body.startswith(b"<") else "application/json"

    @property
    def fault(self) -> Fault:
        """What the balancer reads of it."""
        headers = (("content-type", self._content_type), *self.headers)
        reply = Reply(self.status, tuple((name.encode(), value.encode()) for name, value in headers), self.body)
        return errors.fault_of(reply, 0.0)


def said(row: str, status: int, words: str, headers: dict[str, str] | None = None, **error: Any) -> Refusal:
    """Return a refusal in the Messages API's shape; `error` are more fields of its error."""
    inner = {"type": errors.kind_of(status), "message": words, **error}
    body = json.dumps({"type": "error", "error": inner}).encode()
    return Refusal(row, status, body, tuple((headers or {}).items()))


def bare(row: str, status: int, body: bytes = PAGE, **headers: str) -> Refusal:
    """Return a refusal in no API's shape: a page, if nothing else is said."""
    return Refusal(row, status, body, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


ACCOUNT = {
    "400 out of extra usage": said(
        "no credit", 400, "You're out of extra usage. Add more at claude.ai and keep going."
    ),
    "400 usage limits until a date": said(
        "spending limit",
        400,
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    ),
    "400 credential for another client only": said(
        "account or region",
        400,
        "This credential is only authorized for use with Claude Code and cannot be used for other API requests.",
    ),
    "400 no credit, by its type alone": said("no credit", 400, "Your request was refused.", type="insufficient_quota"),
    "400 spending limit, by its code alone": said("spending limit", 400, "Refused.", code="spend_limit_reached"),
    "400 key not valid": said("key refused", 400, "API key not valid. Please pass a valid API key."),
    "400 key refused, by its code alone": said("key refused", 400, "Refused.", code="invalid_api_key"),
    "403 account out of use, by its code alone": said("account or region", 403, "Refused.", code="account_deactivated"),
    "402 too little credit for this request": said(
        "too little credit for this request", 402, "This request requires more credits, or fewer max_tokens."
    ),
    "400 plan without API access": said("about who asks", 400, "Your plan does not include Claude Code."),
    "403 a tool that is denied": said("access to something denied", 403, "You may not use this tool."),
    "403 permission denied": said("access denied", 403, "Permission denied."),
    "401 without a word about why": said("key refused", 401, "Not today."),
    "402 without a word about why": said("no credit", 402, "Not today."),
    "429 not to be retried": said("not to be retried", 429, "Enough.", {"x-should-retry": "false"}),
}
LIMITS = {
    "429 for long context": said("long context", 429, "Extra usage is required for long context requests."),
    "400 rate limit": said("rate limit", 400, "Rate limit reached for requests"),
    "402 rate limit, by its code alone": said("rate limit", 402, "Refused.", code="throttling"),
    "429 with its end in the body only": said("rate limit", 429, "Please try again in 20s."),
    "429 with its end in a field of the body": said("rate limit", 429, "Refused.", details=[{"retryDelay": "20s"}]),
}
MODELS = {
    "400 unknown model, by its code alone": said("unknown model", 400, "Refused.", code="model_not_found"),
    "410 retired model": said("unknown model", 410, "This model has been retired."),
    "404 without a word": said("unknown model", 404, "Not found"),
    "503 no channel for the model": said("no channel for the model", 503, "No available channels for claude-x"),
    "400 overloaded": said("overloaded", 400, "The model is overloaded, come back later"),
    "529 in words of its own": said("overloaded", 529, "Capacity is short in this region."),
    "500 with an overloaded_error": said("overloaded", 500, "Busy.", type="overloaded_error"),
}
CAPABILITIES = {
    "400 beta that the subscription has not": said(
        "unknown beta", 400, "The long context beta is not yet available for this subscription."
    ),
    "400 parameter that the model has not": said(
        "not supported here", 400, "'claude-haiku-4-5' does not support the `fallbacks` parameter."
    ),
    "400 thinking that was changed": said(
        "thinking of another origin",
        400,
        "messages.7.content.34: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
    ),
    "400 thinking of another conversation": said(
        "thinking of another origin",
        400,
        "messages.1.content.0: The block is bound to a different conversation. Send the header anthropic-beta: x.",
    ),
    "404 file of another account": said("file or container of another account", 404, "File not found: file_011CNha8"),
    "400 container that has expired": said(
        "file or container of another account", 400, "The container container_012 has expired"
    ),
    "400 capability_rejected": said(
        "capability rejected, in Claude Code's words", 400, "capability_rejected: web_search is not offered here"
    ),
    "400 in words that nobody knows": said("nobody's in particular", 400, "The moon is in the wrong house."),
    "404 something else is missing": said("something else is missing", 404, "There is no such thing as a free lunch."),
}
BETWEEN = {
    "400 with a firewall's page": bare("no API's error", 400),
    "401 with a firewall's page": bare("no API's error", 401),
    "404 with a page": bare("no API's error", 404),
    "414 with a page": bare("form of the request", 414),
    "415 without a body": bare("form of the request", 415, b""),
    "416 without a body": bare("form of the request", 416, b""),
    "431 with a page": bare("form of the request", 431),
}
FAILED = {
    "301 to somewhere else": bare("failed", 301, b"", location="http://127.0.0.1:9/v1/messages"),
    "499 context canceled": said("failed", 499, "context canceled"),
    "500 context canceled": said("failed", 500, "context canceled"),
    "226, which is no status of this API": bare("an unusual status", 226, b""),
}
HIDDEN = {**ACCOUNT, **LIMITS, **MODELS, **CAPABILITIES, **BETWEEN, **FAILED}
"""Another provider is asked, and the client sees nothing of it."""

CALLERS = {
    "400 about a gateway's policy": said("policy blocked", 400, "Our policy says no.", type="policy_blocked"),
    "403 content policy, by its code alone": said("content policy", 403, "Refused.", code="content_policy_violation"),
    "400 prompt too long, in OpenAI's words": said(
        "prompt too long", 400, "This model's maximum context length is 128000 tokens. However, you requested 130000."
    ),
    "400 capability_rejected: media_budget": said(
        "too much of the request, in Claude Code's words", 400, "capability_rejected: media_budget"
    ),
    "400 model is missing in the request": said("a field of the request", 400, "model: Field required"),
    "400 that quotes words about credit": said(
        "a field of the request",
        400,
        "Input tag 'credit balance' found using 'type' does not match any of the expected tags",
    ),
    "413 by its type": said("request too large", 413, "Too much.", type="request_too_large"),
    "422 without a reason": said("unprocessable", 422, "No."),
}
"""The caller's own: returned as it came, byte for byte, and nobody else is asked."""

WINDOW = Refusal(
    "account's window",
    429,
    b'{"type":"error","error":{"type":"rate_limit_error","message":"Used up."}}',
    (
        ("retry-after", "9000"),
        ("anthropic-ratelimit-unified-status", "rejected"),
        ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
        ("anthropic-ratelimit-unified-5h-status", "rejected"),
    ),
)
