"""Zed's cloud service, with the user's own account.

An account pair is exchanged for a short-lived token; answers are newline-delimited JSON; threads
are kept short here, as the service keeps none. See docs/zed-provider-support.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer.dialect import Ask, Decoder, Flow, Incapable, TypedState
from balancer.dialects.zed import account, budget, faults, rotation, threads
from balancer.dialects.zed.account import options_of
from balancer.dialects.zed.decoder import Small, ZedDecoder, count, listing
from balancer.dialects.zed.memory import Thread, described, memory_of
from balancer.dialects.zed.options import Options
from balancer.dialects.zed.request import Untakable, fitted, tidied, zed_model
from balancer.dialects.zed.task import Task, begun, blocks, choose, control, expected_usd, make_fit, shorten
from balancer.headers import header
from balancer.model import Fault, Operation, Reply, Usage
from balancer.wire import messages, safeguards
from balancer.wire.loose import decoded_object, object_of

DIGITS_MAX = 15
_WRAPPED = b"x-zed-server-supports-status-messages"
COUNT_MAX_TOKENS = 1024
"""Clients that count send no `max_tokens`, but the service's struct may ask for it."""


@dataclass(slots=True)
class _Sent:
    """What the answer's decoder needs to know of a request; no word of the conversation."""

    task_model: str
    prompt: str
    mode: str
    burst: int
    calls: int
    thread: Thread
    metered: rotation.Metered
    notes: tuple[str, ...]
    untold: tuple[str, str] | None
    charged_usd: float = 0.0
    charged: bool = False


class Zed:
    """The type `zed`."""

    Options = Options
    default_base_url: str | None = "https://cloud.zed.dev"
    checks_actions = False
    converts = 8.0  # it is measured and hashed as well, to know the thread and its size

    def flow(self, ask: Ask) -> Flow:
        if ask.operation is Operation.MODELS:
            yield from account.sent(ask, b"GET", b"/models", None)
            return
        asked = _tidied(ask)  # before anything is sent
        catalogue = yield from account.models(ask)
        entry = _entry(ask, catalogue)
        body = fitted(asked, entry)
        if ask.operation is Operation.COUNT_TOKENS:
            body.setdefault("max_tokens", COUNT_MAX_TOKENS)
            counted = {"provider": "anthropic", "model": entry["id"], "provider_request": body}
            yield from account.sent(ask, b"POST", b"/count_tokens", counted)
            return
        task = begun(ask, catalogue, entry, body)
        choose(task)
        yield from shorten(task)
        make_fit(task)
        reply = yield from account.sent(ask, b"POST", b"/completions", _envelope(task))
        if _is_too_long(ask, reply) and (yield from shorten(task, at_any_size=True)):
            yield from account.sent(ask, b"POST", b"/completions", _envelope(task))

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.operation is Operation.COUNT_TOKENS:
            return Small(count)
        if ask.operation is Operation.MODELS:
            return Small(listing)
        sent = ask.attempt_state.get(_Sent)
        untold = sent.untold if sent else None

        def learn(word: str, value: Any) -> None:
            if sent is not None:
                _learn(ask, sent, word, value)

        _learn_from_head(ask, head, learn)
        decoder = ZedDecoder(
            ask.request.model,
            ask.attempt_id,
            stream=ask.request.stream,
            wrapped=header(head.headers, _WRAPPED) is not None,
            notes=sent.notes if sent else (),
            headers=((b"x-balancer-zed-rotation", untold[0].encode()),) if untold else (),
            learn=learn,
            silent=lambda message: account.silent(ask, message),
        )
        return safeguards.answered(ask.request, decoder)

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        memory_of(ask).ledger.let_go(ask.attempt_id)
        fault = faults.of_reply(reply, ask.wall)
        return replace(fault, message=account.silent(ask, fault.message))

    def supports(self, operation: Operation) -> bool:
        return not operation.openai and not operation.resource

    def describe(self, provider_state: TypedState, options: object, wall: float) -> dict[str, Any] | None:
        return described(provider_state, options if isinstance(options, Options) else Options(), wall)


def _decoded(body: bytes) -> dict[str, Any]:
    """Return a request's JSON; a long one is decoded piece by piece, so that the event loop has its turns meanwhile."""
    try:
        return object_of(messages.decoded(body))
    except msgspec.DecodeError:
        return decoded_object(body)


def _tidied(ask: Ask) -> dict[str, Any]:
    try:
        return tidied(_decoded(ask.request.body))
    except RecursionError:
        raise Incapable("the request is nested too deeply") from None
    except Untakable as error:
        raise _incapable(ask, error) from None


def _entry(ask: Ask, catalogue: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return zed_model(ask.model, catalogue)
    except Untakable as error:
        raise _incapable(ask, error) from None


def _incapable(ask: Ask, error: Untakable) -> Incapable:
    return Incapable(f"{ask.provider.name}: Zed can't take {error}; route such requests to another provider")


def _is_too_long(ask: Ask, reply: Reply) -> bool:
    return not 200 <= reply.status < 300 and faults.is_too_long(faults.of_reply(reply, ask.wall))


# What is sent, and what is learnt from the answer


def _envelope(task: Task) -> dict[str, Any]:
    """Return what is sent, and note it for the answer."""
    ask, thread, full = task.ask, task.thread, task.full
    identity = threads.thread_id(task.key, thread.generation)
    prompt = thread.prompt(task.prompt)
    side = threads.is_side(task.purpose)
    purpose = "user_prompt" if prompt.burst > prompt.answered and not side else task.purpose
    envelope: dict[str, Any] = {}
    if not side:
        envelope["thread_id"] = identity
        envelope["prompt_id"] = threads.prompt_id(identity, full, prompt.burst)
    envelope["intent"] = purpose
    if options_of(ask).wire_profile == "legacy" and not side:
        envelope["mode"] = "max" if task.mode == "burn" else "normal"
    _remember(task, prompt.burst)
    request = {**task.body, "messages": task.sent}
    return {**envelope, "provider": "anthropic", "model": task.entry["id"], "provider_request": request}


def _remember(task: Task, burst: int) -> None:
    kept, full, cut = memory_of(task.ask), task.full, task.cut.at if task.cut else 0
    kept.ledger.hold(task.ask.attempt_id, expected_usd(task), task.ask.wall)
    metered = rotation.Metered(len(full), rotation.prefix_of(full, len(full)), cut, task.fixed_tokens, 0)
    untold = task.thread.untold
    notes: tuple[str, ...] = (f"zed: mode {task.mode} ({task.why})",)
    notes += (untold[1],) if untold else ()
    calls = len(threads.tool_calls(full))
    task.ask.attempt_state.put(
        _Sent(task.entry["id"], task.prompt, task.mode, burst, calls, task.thread, metered, notes, untold)
    )


def _learn_from_head(ask: Ask, head: Reply, learn: Any) -> None:
    """Take in what the service says of plan and usage in its answer's headers."""
    reported = memory_of(ask).reported
    if plan := header(head.headers, b"x-zed-plan"):
        reported["plan"] = plan.decode(errors="replace")
    amount = _number(header(head.headers, b"x-zed-model-requests-usage-amount"))
    limit = _number(header(head.headers, b"x-zed-model-requests-usage-limit"))
    if amount is not None:
        reported["usage"] = {"amount": amount, "limit": "unlimited" if limit is None else limit}
    if header(head.headers, b"x-zed-tool-use-limit-reached") is not None:
        learn("tool_use_limit_reached", None)


def _number(value: bytes | None) -> int | None:
    """Return a header's number; None where it is none, or has more digits than any count."""
    return int(value) if value and value.isdigit() and len(value) <= DIGITS_MAX else None


def _learn(ask: Ask, sent: _Sent, word: str, value: Any) -> None:
    kept = memory_of(ask)
    match word:
        case "tool_use_limit_reached":
            sent.thread.prompt(sent.prompt).burst = sent.burst + 1
        case "usage_updated" if isinstance(value, dict):
            limit = value.get("limit")
            limited = limit.get("limited") if isinstance(limit, dict) else limit
            kept.reported["usage"] = {"amount": value.get("amount"), "limit": limited}
        case "usage":
            _settle(ask, sent, value)
        case "completed":
            prompt = sent.thread.prompt(sent.prompt)
            prompt.answered = max(prompt.answered, sent.burst)
            if sent.thread.untold is sent.untold:
                sent.thread.untold = None
            if tokens := rotation.total(value):
                sent.thread.metered = _metered(sent.metered, tokens)


def _metered(before: rotation.Metered, tokens: int) -> rotation.Metered:
    return rotation.Metered(before.at, before.prefix, before.cut, before.fixed_tokens, tokens)


def _settle(ask: Ask, sent: _Sent, usage: Usage) -> None:
    """Spend what an answer costs so far; one that never began costs nothing."""
    kept = memory_of(ask)
    price = budget.price_of(sent.task_model, control(ask))
    usd = sent.charged_usd
    if options_of(ask).wire_profile == "current":
        usd = budget.by_tokens(usage, price)
    elif not sent.charged:
        fresh = kept.ledger.new_blocks(sent.prompt, blocks(ask, sent.calls)) if sent.mode == "normal" else 0
        usd = price.burn_request if sent.mode == "burn" else fresh * price.prompt
    if not sent.charged:
        kept.modes[sent.mode] += 1
        kept.reasons[sent.notes[0].partition("(")[2].rstrip(")")] += 1
    kept.ledger.let_go(ask.attempt_id)
    kept.ledger.spend(usd - sent.charged_usd, sent.prompt, ask.wall)
    sent.charged_usd, sent.charged = usd, True


DIALECT = Zed()
