"""Whose matter a refusal is, wording by wording: a row for each, and variations of them."""

from __future__ import annotations

import json
import re
import time

import pytest
from stand_ins import candidate

from balancer.model import ErrorRule, Fault, RefusalClass, Refused, Reply, Stage
from balancer.policy import refusals
from balancer.policy.classify import judge, judge_of
from balancer.policy.refusal_rows import ROWS
from balancer.policy.refusals import LOOKED_AT_CHARS, strictly_unquoted, unquoted
from balancer.policy.verdicts import Mark, Proof, Scope, Trouble, Verdict
from balancer.wire import complaints, errors

REQUEST, CAPABILITY, ACCOUNT = RefusalClass.REQUEST, RefusalClass.CAPABILITY, RefusalClass.ACCOUNT
LIMIT, MODEL, PROVIDER, INTERMEDIARY = (
    RefusalClass.LIMIT, RefusalClass.MODEL, RefusalClass.PROVIDER, RefusalClass.INTERMEDIARY,
)  # fmt: skip


def fault(status: int, words: str = "", /, **error: object) -> Fault:
    """Return the fault of an answer in the Messages API's shape."""
    said = {"type": "error", "error": {"type": errors.kind_of(status), "message": words, **error}}
    return errors.fault_of(Reply(status, (), json.dumps(said).encode()), 0.0)


def openai(status: int, body: object) -> Fault:
    """Return the fault of an answer in another server's shape."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return complaints.fault_of(Reply(status, ((b"content-type", b"application/json"),), raw), 0.0, "req")


def verdict(of: Fault) -> Verdict:
    return judge(Refused(of, Stage.WAIT))


# What the words say, in a 400 of the Messages API

NO_CREDIT = [
    "You're out of extra usage. Add more at claude.ai/settings/usage and keep going.",
    "Third-party apps now draw from your extra usage, not your plan limits.",
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade.",
    "Insufficient account balance",
    "Your team ran out: no credits left",
    "All of your credits have been exhausted",
    "This account is overdue",
    "Invoice past due; pay it to go on",
    "Please top up your wallet",
    "Access denied, please make sure your account is in good standing.",
    "余额不足或无可用资源包,请充值。",
]
SPEND_CAP = [
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    "This workspace has reached its monthly spend limit.",
    "You have hit your spending cap",
    "Weekly limit reached; it resets on Monday",
    "You've exceeded your plan",
]
KEY_REFUSED = [
    "API key not valid. Please pass a valid API key.",
    "Incorrect API key provided",
    "This api_key has expired",
    "OAuth token has been revoked. Please obtain a new token.",
    "Invalid bearer token",
]
NO_ACCESS = [
    "This credential is only authorized for use with Claude Code and cannot be used for other API requests.",
    "This organization has been disabled.",
    "Your account was suspended for violating the usage policy.",
    "Your subscription has expired",
    "User location is not supported for the API use.",
    "Country, region, or territory not supported",
    "Please complete identity verification first",
    "Third-party clients may not use this login",
]
ABOUT_WHO_ASKS = [
    "Your subscription does not include API access.",
    "Your plan does not include Claude Code.",
    "OAuth authentication is currently not allowed for this organization.",
    "Payment method declined. Please update your billing information.",
    "This API key is not scoped to this workspace.",
    "Your trial has ended.",
    "The credential you sent belongs to another product.",
    "You have used 100% of your weekly usage.",
    "An upgraded membership is needed: see your account",
    "Subscription required. Please subscribe to continue.",
    "The monthly budget of this key is used up.",
    "Account has been flagged by our abuse team.",
    "You have exhausted your capacity on this plan.",
    "Please complete KYC before using the service",
    "A subscription is required before you go on",
]
THINKING = [
    "messages.7.content.34: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response.",
    "messages.3.content.0.thinking: each thinking block must contain thinking",
    "messages.5.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
    "messages.1.content.0: The block is bound to a different conversation. Send `thinking.block_binding."
    "prefix_mismatch_behavior: drop_block` with the header anthropic-beta: thinking-binding-controls-2026-08-01.",
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "messages.2.content.1.signature: Field required",
    "The thinking block belongs to another account",
    "thinking signature could not be verified: a different model made it",
    "Function call is missing a thought_signature in functionCall parts.",
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
    "The encrypted content gAAA could not be verified.",
    "messages.4: redacted_thinking is not decryptable here",
]
BETA = [
    "The long context beta is not yet available for this subscription.",
    "Unexpected value(s) `context-1m-2025-08-07` for the `anthropic-beta` header.",
    "The fast mode beta is not enabled for your organization",
    "unknown beta: interleaved-thinking-2025-05-14",
    "this endpoint takes no anthropic-beta",
]
NOT_HERE = [
    "'claude-haiku-4-5-20251001' does not support the `fallbacks` parameter.",
    "This model does not support assistant message prefill. The conversation must end with a user message.",
    "tools.3.type: web_search_20260209 is not supported on this platform",
    "Sampling parameters are not supported for this model",
    "registry.ollama.ai/library/gemma3:latest does not support tools",
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "This model does not support image input",
    "mcp_servers: MCP is not available for this workspace",
    "Claude Code is not available on your current plan.",
    "Unsupported parameter: 'reasoning_effort'",
]
FILES = [
    "File not found: file_011CNha8iCJcU1wXNR6q4V8w",
    "Container not found: container_011",
    "container: container_011 belongs to a different workspace",
    "The container container_012 has expired",
    "Skill skill_01 does not exist",
    "No batch with the id msgbatch_01",
    "previous_response_id resp_1 is unknown",
]
FIELDS = [
    "messages.1.content.1: `tool_use` ids must be unique",
    "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-x",
    "messages.0.content: Input should be a valid list",
    "tools.0.custom.defer_loading: Extra inputs are not permitted",
    'messages: roles must alternate between "user" and "assistant", but found multiple "user" roles in a row',
    "`max_tokens` must be greater than `thinking.budget_tokens`.",
    "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_01",
    "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum",
    "`temperature` may only be set to 1 when thinking is enabled.",
    "model: Field required",
    "model: String should have at least 1 character",
    "metadata.user_id: your account has been suspended",
    "messages.0.content.0: Input tag 'credit balance' found using 'type' does not match any of the expected tags: 'text'",
    "messages.0.content.0: Input tag 'unknown model' found using 'type' does not match any of the expected tags: 'text'",
    "messages.0.content.0: Input tag 'x' insufficient credit 'y' found using 'type' does not match",
    "tools.0.name: credit balance is too low",
]
ANYBODYS = [
    "", "Bad Request", "Request contains an invalid argument.", "Could not process image",
    "First message must use the \"user\" role",
    "The request body is not valid JSON: unexpected end of data: line 1 column 2",
    "Invalid value: 'credit balance'. Supported values are: 'a' and 'b'.",
    'unexpected token "your account has been suspended"',
    "cannot read `insufficient credit` here",
    "The tag 'x' credit balance is too low 'y' is odd",
    "bad: “payment required”",
]  # fmt: skip

IN_A_400 = {
    **dict.fromkeys(NO_CREDIT, (ACCOUNT, Scope.PROVIDER, Trouble.CREDIT, Proof.CERTAIN)),
    **dict.fromkeys(SPEND_CAP, (ACCOUNT, Scope.PROVIDER, Trouble.SPEND_CAP, Proof.CERTAIN)),
    **dict.fromkeys(KEY_REFUSED, (ACCOUNT, Scope.PROVIDER, Trouble.KEY, Proof.CERTAIN)),
    **dict.fromkeys(NO_ACCESS, (ACCOUNT, Scope.PROVIDER, Trouble.ACCESS, Proof.CERTAIN)),
    **dict.fromkeys(ABOUT_WHO_ASKS, (ACCOUNT, Scope.PROVIDER, Trouble.ACCESS, Proof.UNSURE)),
    **dict.fromkeys((*THINKING, *BETA, *NOT_HERE, *FILES, *ANYBODYS), (CAPABILITY, None, None, Proof.CERTAIN)),
    **dict.fromkeys(FIELDS, (REQUEST, None, None, Proof.CERTAIN)),
    "prompt is too long: 210000 tokens > 200000 maximum": (REQUEST, None, None, Proof.CERTAIN),
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000": (REQUEST, None, None, Proof.CERTAIN),
    "Output blocked by content filtering policy": (REQUEST, None, None, Proof.CERTAIN),
    "capability_rejected: prompt_too_long": (REQUEST, None, None, Proof.CERTAIN),
    "capability_rejected: beta_header:x": (CAPABILITY, None, None, Proof.CERTAIN),
    "Model is overloaded, try again later": (PROVIDER, Scope.MODEL, None, Proof.CERTAIN),
    "Requests rate limit exceeded, please try again later.": (LIMIT, Scope.MODEL, None, Proof.CERTAIN),
    "Extra usage is required for long context requests.": (LIMIT, None, None, Proof.CERTAIN),
    "The model `gpt-9` does not exist or you do not have access to it.": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
    "Output violates our usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO": (REQUEST, None, None, Proof.CERTAIN),
    "Too many concurrent requests": (LIMIT, Scope.MODEL, None, Proof.CERTAIN),
    "Concurrency limit exceeded for account, please retry later": (LIMIT, Scope.MODEL, None, Proof.CERTAIN),
    "Not found the model claude-x or Permission denied": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
    "Model not allowed for this key": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
    "This key can only access models=['gpt-4o']. Tried to access claude-x": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
    "模型 glm-9 不存在，请检查模型代码。": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
    "Your organization does not have access to claude-opus-5-5.": (MODEL, Scope.MODEL, None, Proof.CERTAIN),
}


@pytest.mark.parametrize("words", IN_A_400)
def test_what_the_words_of_a_400_say(words: str) -> None:
    refusal, scope, trouble, proof = IN_A_400[words]
    found = refusals.find(fault(400, words)).row
    follows = verdict(fault(400, words))

    assert (found.refusal, found.scope, found.trouble, found.proof) == (refusal, scope, trouble, proof)
    assert follows.refusal is refusal
    assert follows.retry_elsewhere is (refusal is not REQUEST)
    assert (follows.mark is Mark.BAD) is (scope is not None and proof is Proof.CERTAIN)


REASONS = {
    **dict.fromkeys(THINKING, "400 thinking of another origin"),
    **dict.fromkeys(BETA, "400 unknown beta"),
    **dict.fromkeys(NOT_HERE, "400 not supported here"),
    **dict.fromkeys(FILES, "400 file or container of another account"),
}


@pytest.mark.parametrize("words", REASONS)
def test_a_capability_is_told_by_what_it_is_about_and_not_by_a_single_word(words: str) -> None:
    assert verdict(fault(400, words)).reason == REASONS[words]


# What type and code say, whatever the words

SIGNS: list[tuple[int, dict[str, object], RefusalClass, Trouble | None]] = [
    (400, {"type": "insufficient_quota", "code": "billing_hard_limit_reached"}, ACCOUNT, Trouble.CREDIT),
    (400, {"code": "Arrearage"}, ACCOUNT, Trouble.CREDIT),
    (403, {"code": "insufficient_user_quota"}, ACCOUNT, Trouble.CREDIT),
    (429, {"code": "insufficient_quota"}, ACCOUNT, Trouble.CREDIT),
    (429, {"type": "exceeded_current_quota_error"}, ACCOUNT, Trouble.CREDIT),
    (500, {"code": "pre_consume_token_quota_failed"}, ACCOUNT, Trouble.CREDIT),
    (400, {"type": "billing_error"}, ACCOUNT, Trouble.CREDIT),
    (400, {"type": "authentication_error"}, ACCOUNT, Trouble.KEY),
    (400, {"code": "invalid_api_key"}, ACCOUNT, Trouble.KEY),
    (403, {"code": "unsupported_country_region_territory"}, ACCOUNT, Trouble.ACCESS),
    (400, {"code": "account_deactivated"}, ACCOUNT, Trouble.ACCESS),
    (400, {"code": "limit_requests"}, LIMIT, None),
    (400, {"code": "Throttling.RateQuota"}, LIMIT, None),
    (413, {"type": "tokens", "code": "rate_limit_exceeded"}, LIMIT, None),
    (403, {"status": "RESOURCE_EXHAUSTED"}, LIMIT, None),
    (400, {"code": "model_overloaded"}, PROVIDER, None),
    (400, {"type": "overloaded_error"}, PROVIDER, None),
    (400, {"code": "model_not_found"}, MODEL, None),
    (404, {"code": "DeploymentNotFound"}, MODEL, None),
    (400, {"code": "tool_use_failed"}, CAPABILITY, None),
    (400, {"code": "unsupported_parameter", "param": "top_k"}, CAPABILITY, None),
    (400, {"code": "invalid_encrypted_content"}, CAPABILITY, None),
    (400, {"code": "content_filter"}, REQUEST, None),
    (400, {"code": "data_inspection_failed"}, REQUEST, None),
    (400, {"param": "messages"}, REQUEST, None),
    (400, {"type": "policy_blocked"}, REQUEST, None),
    (403, {"type": "policy_blocked"}, REQUEST, None),
    (429, {"type": "policy_blocked"}, REQUEST, None),
    (500, {"type": "policy_blocked"}, REQUEST, None),
]


@pytest.mark.parametrize(("status", "error", "refusal", "trouble"), SIGNS)
@pytest.mark.parametrize(
    "read", [fault, lambda status, words, /, **error: openai(status, {"error": {"message": words, **error}})]
)
def test_type_and_code_say_it_alone(
    read: object, status: int, error: dict[str, object], refusal: RefusalClass, trouble: Trouble | None
) -> None:
    told = read(status, "Your request was refused.", **error)  # type: ignore[operator]
    row = refusals.find(told).row

    assert (row.refusal, row.trouble) == (refusal, trouble)


def test_a_gateways_own_policy_goes_back_and_is_asked_of_nobody_else() -> None:
    for told in (
        fault(403, "No.", type="policy_blocked"),
        complaints.inner_fault({"type": "policy_blocked", "message": "No."}),
    ):
        follows = verdict(told)
        assert (follows.mark, follows.retry_elsewhere, follows.refusal) == (Mark.NONE, False, REQUEST)
        assert told.kind == "policy_blocked"


OPENAI: dict[str, tuple[Fault, RefusalClass]] = {
    "a page of an edge": (openai(400, b"<html>400 Bad Request</html>"), INTERMEDIARY),
    "Google's list": (
        openai(400, [{"error": {"code": 400, "message": "User location is not supported for the API use.", "status": "FAILED_PRECONDITION"}}]),
        ACCOUNT,
    ),
    "Google's reason": (
        openai(400, [{"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}]),
        ACCOUNT,
    ),
    "what OpenRouter passes on": (
        openai(400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"error":{"code":"rate_limit_exceeded"}}'}}}),
        LIMIT,
    ),
    "Groq's 413": (
        openai(413, {"error": {"message": "Request too large for model `x` on tokens per minute (TPM): Limit 6000", "type": "tokens", "code": "rate_limit_exceeded"}}),
        LIMIT,
    ),
    "Azure's inner error": (
        openai(400, {"error": {"message": "x", "code": "y", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}), REQUEST,
    ),
    "no image": (openai(404, {"error": {"message": "No endpoints found that support image input", "code": 404}}), CAPABILITY),
    "no such model": (openai(404, {"error": {"message": "No endpoints found for foo/bar.", "code": 404}}), MODEL),
}  # fmt: skip


@pytest.mark.parametrize("case", OPENAI)
def test_servers_that_speak_openais_way(case: str) -> None:
    told, refusal = OPENAI[case]

    assert refusals.find(told).row.refusal is refusal


# What the status says, with the form of the answer

BY_STATUS: dict[str, tuple[Fault, RefusalClass, Proof, Scope | None]] = {
    "a model that is missing": (fault(404, "model: claude-x"), MODEL, Proof.CERTAIN, Scope.MODEL),
    "a 404 that says nothing": (fault(404), MODEL, Proof.CERTAIN, Scope.MODEL),
    "a 404 that says no more": (fault(404, "Not Found"), MODEL, Proof.CERTAIN, Scope.MODEL),
    "a 404 about something else": (fault(404, "Invalid URL (POST /v1/x)"), CAPABILITY, Proof.UNSURE, Scope.MODEL),
    "a file": (fault(404, "File not found: file_011"), CAPABILITY, Proof.CERTAIN, None),
    "a container": (fault(404, "Container not found: container_011"), CAPABILITY, Proof.CERTAIN, None),
    "access": (fault(403, "Forbidden"), ACCOUNT, Proof.CERTAIN, Scope.PROVIDER),
    "access to something": (fault(403, "You may not use this tool"), ACCOUNT, Proof.UNSURE, Scope.PROVIDER),
    "a workspace that a client's header names": (
        fault(403, "No access to workspace wrkspc_01"), ACCOUNT, Proof.UNSURE, Scope.PROVIDER,
    ),
    "a model that the plan lacks": (fault(403, "The model claude-x is not available on your plan"), MODEL, Proof.CERTAIN, Scope.MODEL),
    "a gateway without a channel for the model": (
        fault(503, "当前分组 default 下对于模型 x 无可用渠道", code="model_not_found"), MODEL, Proof.CERTAIN, Scope.MODEL,
    ),
    "a suspended account, called a precondition": (fault(412, "Account x is suspended"), ACCOUNT, Proof.CERTAIN, Scope.PROVIDER),
    "safeguards": (fault(403, "Content violates usage guidelines. Team: x"), REQUEST, Proof.CERTAIN, None),
    "moderation": (fault(403, "Your input was flagged by moderation"), REQUEST, Proof.CERTAIN, None),
    "a request that costs more than is left": (
        fault(402, "This request requires more credits, or fewer max_tokens."), ACCOUNT, Proof.UNSURE, Scope.PROVIDER,
    ),
    "a limit of one request": (fault(429, "Extra usage is required for long context requests."), LIMIT, Proof.CERTAIN, None),
    "a limit": (fault(429, "This request would exceed your account's rate limit."), LIMIT, Proof.CERTAIN, Scope.MODEL),
    "an overload": (fault(529, "Overloaded"), PROVIDER, Proof.CERTAIN, Scope.MODEL),
    "a failure": (fault(500, "Internal server error"), PROVIDER, Proof.LIKELY, Scope.PROVIDER),
    "too large, says the API": (fault(413, "Request exceeds the maximum size"), REQUEST, Proof.CERTAIN, None),
    "too large, says a proxy": (errors.fault_of(Reply(413, (), b"<html>413</html>"), 0.0), INTERMEDIARY, Proof.CERTAIN, None),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_STATUS)
def test_what_a_status_says_with_its_words(case: str) -> None:
    told, refusal, proof, scope = BY_STATUS[case]
    row = refusals.find(told).row

    assert (row.refusal, row.proof, row.scope) == (refusal, proof, scope)


FOREIGN = [b"<html>Access denied</html>", b'{"detail":"Forbidden"}', b"blocked by the firewall"]


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("status", [401, 402, 403, 404, 410, 451])
def test_what_is_no_api_error_is_no_word_about_key_account_or_model(status: int, body: bytes) -> None:
    follows = verdict(errors.fault_of(Reply(status, (), body), 0.0))

    assert (follows.refusal, follows.mark, follows.needs_operator) == (INTERMEDIARY, Mark.NONE, None)
    assert (follows.proof, follows.retry_elsewhere) == (Proof.UNSURE, True)


@pytest.mark.parametrize("body", [*FOREIGN, b"", b'{"error":{"type":"invalid_request_error","message":"no"}}'])
@pytest.mark.parametrize("status", [405, 406, 411, 412, 414, 415, 416, 417, 428, 431])
def test_what_follows_from_the_form_of_the_request_blames_nobody_ever(status: int, body: bytes) -> None:
    follows = verdict(errors.fault_of(Reply(status, (), body), 0.0))

    assert (follows.mark, follows.proof, follows.retry_elsewhere) == (Mark.NONE, Proof.CERTAIN, True)


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_page_in_place_of_a_refusal_blames_nobody(status: int, body: bytes) -> None:
    follows = verdict(errors.fault_of(Reply(status, (), body), 0.0))

    assert (follows.mark, follows.proof, follows.retry_elsewhere) == (Mark.NONE, Proof.CERTAIN, True)


# A client's own credential

THEIRS = [
    fault(401), fault(402, "Your subscription has not been paid."), fault(403), fault(429), fault(400, NO_CREDIT[0]),
    fault(400, ABOUT_WHO_ASKS[0]), fault(429, "Extra usage is required for long context requests."),
    fault(400, "rate limit exceeded"), errors.fault_of(Reply(403, (), b"<html>"), 0.0),
]  # fmt: skip


@pytest.mark.parametrize("told", THEIRS, ids=[f"{one.status} {one.message[:20]}" for one in THEIRS])
def test_what_is_said_of_the_clients_own_credential_is_that_clients_alone(told: Fault) -> None:
    follows = judge_of(candidate(passthrough=True), Refused(told, Stage.WAIT))

    assert (follows.mark, follows.client_only, follows.retry_elsewhere) == (Mark.NONE, True, True)
    assert follows.proof is Proof.CERTAIN, "no second request makes it the provider's"
    assert not judge_of(candidate(), Refused(told, Stage.WAIT)).client_only


@pytest.mark.parametrize("told", [fault(500), fault(529), fault(404, "model: x")])
def test_what_is_the_providers_stays_so_with_the_clients_own_credential(told: Fault) -> None:
    theirs, ours = (judge_of(candidate(passthrough=own), Refused(told, Stage.WAIT)) for own in (True, False))

    assert theirs == ours


# Quotation marks

QUOTED = {
    "a 'b' c": "a '…' c",
    "You're out of the user's usage": "You're out of the user's usage",
    'a `b` and "c" d': "a '…' and '…' d",
    "«a» b ‘c’ d “e”": "'…' b '…' d '…'",
    "an open 'quote": "an open 'quote",
}


@pytest.mark.parametrize(("words", "expected"), QUOTED.items())
def test_quoted_parts_are_left_out(words: str, expected: str) -> None:
    assert unquoted(words) == expected


STRICT = {
    "a 'b' c 'd' e": "a '…' e",
    "You're out of it": "You're out of it",
    'say "a\\" credit \\"b" end': "say '…' end",
    "an open 'quote that goes on": "an open '…'",
}


@pytest.mark.parametrize(("words", "expected"), STRICT.items())
def test_for_a_long_cooldown_all_between_quotation_marks_is_left_out(words: str, expected: str) -> None:
    said = strictly_unquoted(words)

    assert said == expected or said.startswith(expected)


# Users' own rows

RULE = ErrorRule("error_rules[0] of a", ACCOUNT, 400, contains="Out of Juice")


def classed(told: Fault, *rules: ErrorRule) -> RefusalClass:
    return refusals.find(told, rules).row.refusal


def test_a_users_row_comes_before_ours() -> None:
    assert classed(fault(400, "max_tokens: out of JUICE now"), RULE) is ACCOUNT
    assert classed(fault(400, "max_tokens: 1"), RULE) is REQUEST
    assert classed(fault(500, "out of juice"), RULE) is PROVIDER, "another status"
    assert classed(fault(400, "The tag 'out of juice' is odd"), RULE) is CAPABILITY, "quoted"
    quotes = ErrorRule("r", LIMIT, contains="tag 'out")
    assert classed(fault(400, "The tag 'out of juice' is odd"), quotes) is LIMIT, "the row has quotes itself"


def test_type_and_code_of_a_users_row_are_compared_whole() -> None:
    assert classed(fault(400, code="E1"), ErrorRule("r", MODEL, code="e1")) is MODEL
    assert classed(fault(400, code="E12"), ErrorRule("r", MODEL, code="e1")) is CAPABILITY
    assert classed(fault(400, type="Odd"), ErrorRule("r", PROVIDER, type="odd")) is PROVIDER
    assert classed(fault(400, status="GONE_FISHING"), ErrorRule("r", PROVIDER, code="gone_fishing")) is PROVIDER
    assert classed(fault(529), ErrorRule("r", REQUEST, type="overloaded_error")) is REQUEST


FOLLOWS = {
    REQUEST: (Mark.NONE, False, None, Scope.PROVIDER, 500),
    CAPABILITY: (Mark.NONE, True, None, Scope.PROVIDER, 500),
    ACCOUNT: (Mark.BAD, True, Trouble.ACCESS, Scope.PROVIDER, 500),
    LIMIT: (Mark.BAD, True, None, Scope.MODEL, 429),
    MODEL: (Mark.BAD, True, None, Scope.MODEL, 404),
    PROVIDER: (Mark.BAD, True, None, Scope.PROVIDER, 500),
}


@pytest.mark.parametrize("refusal", FOLLOWS)
def test_what_follows_from_the_class_of_a_users_row(refusal: RefusalClass) -> None:
    rule = ErrorRule("error_rules[3] of a", refusal, 500)
    follows = judge_of(candidate(error_rules=(rule,)), Refused(fault(500, "x"), Stage.WAIT))
    got = (follows.mark, follows.retry_elsewhere, follows.needs_operator, follows.scope, follows.status)

    assert got == FOLLOWS[refusal]
    assert follows.refusal is refusal
    assert follows.reason == "500 api_error, error_rules[3] of a"


def test_the_first_row_of_a_user_that_fits_decides() -> None:
    assert (
        classed(fault(400, "x"), ErrorRule("r", LIMIT, 500), ErrorRule("s", MODEL, 400), ErrorRule("t", LIMIT, 400))
        is MODEL
    )


# Time


HARD = ["model.", "model ", "model: ", "invalid ", "signature ", "beta ", "'", "a'b ", "`", '"', "your plan ", "file ", "no x ",
        "account is ", "a.0.", "model a-", "models/", "insufficient a ", "the the ", "credits ", "not ", "api key "]  # fmt: skip


@pytest.mark.parametrize("words", HARD)
def test_words_of_any_length_take_a_bounded_time(words: str) -> None:
    told = fault(400, words * 100_000)
    began = time.thread_time()
    refusals.find(told)

    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize("words", HARD)
def test_twice_as_many_words_take_no_more_than_in_proportion(words: str) -> None:
    def took_s(length: int) -> float:
        text = (words * length)[:length]
        spans = []
        for _ in range(2):
            began = time.thread_time()
            for row in ROWS:
                if row.words is not None:
                    row.words.search(text)
            unquoted(text), strictly_unquoted(text)
            spans.append(time.thread_time() - began)
        return min(spans)

    assert took_s(4 * LOOKED_AT_CHARS) < 4 * 4 * max(took_s(LOOKED_AT_CHARS), 0.001)


def test_what_a_refusal_means_stands_at_its_beginning() -> None:
    assert refusals.find(fault(400, "x" * (LOOKED_AT_CHARS - 20) + " credit balance")).row.refusal is ACCOUNT
    assert refusals.find(fault(400, "x" * LOOKED_AT_CHARS + " credit balance")).row.refusal is CAPABILITY


def test_every_row_has_a_name_in_plain_words() -> None:
    assert all(re.fullmatch(r"[A-Za-z' ,]+", row.name) for row in ROWS)
