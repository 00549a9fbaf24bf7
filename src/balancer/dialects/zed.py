"""Zed's cloud service, with the user's own account.

An account pair is exchanged for a short-lived token; answers are newline-delimited JSON; threads
are kept short here, as the service keeps none. See docs/zed-provider-support.md.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from balancer import credentials
from balancer.convert import zed_answers as answers
from balancer.convert import zed_cost as cost
from balancer.convert import zed_faults as faults
from balancer.convert import zed_modes as modes
from balancer.convert import zed_threads as threads
from balancer.convert import zed_tidy as tidy
from balancer.convert import zed_tokens as tokens
from balancer.convert.zed_options import Options
from balancer.dialect import Ask, Decoder, Flow, FlowFailed, Incapable
from balancer.model import Fault, Headers, Operation, Reply, Usage, WireRequest, header

_JSON = (b"content-type", b"application/json")
_WRAPPED = b"x-zed-server-supports-status-messages"
CATALOGUE_S = 3600.0
"""How long the list of models is kept."""
CATALOGUE_RETRY_S = 60.0
SUMMARY_CHARS = 240_000
SUMMARY_PROMPT = (
    "Summarise the following conversation so that the work can go on from the summary alone: goals, decisions, files, "
    "findings, open tasks. Answer with the summary only.\n\n"
)


@dataclass(slots=True)
class _Plan:
    """What was decided for one request."""

    body: dict[str, Any]
    model: str
    thread: threads.Thread
    thread_id: str
    prompt_id: str
    intent: str
    mode: str
    notes: tuple[str, ...] = ()
    rotation: str = ""


class Zed:
    """The type `zed`."""

    Options = Options
    default_base_url: str | None = "https://cloud.zed.dev"

    def flow(self, ask: Ask) -> Flow:
        bearer = yield from _bearer(ask)
        if ask.operation is Operation.MODELS:
            yield from _proper(ask, bearer, b"GET", b"/models", None)
            return
        catalogue = yield from _catalogue(ask, bearer)
        body = _tidied(ask)
        entry = tidy.zed_model(ask.model, catalogue)
        body["model"] = entry["id"]
        if ask.operation is Operation.COUNT_TOKENS:
            counted = {"provider": "anthropic", "model": entry["id"], "provider_request": body}
            yield from _proper(ask, bearer, b"POST", b"/count_tokens", counted)
            return
        limit = entry.get("max_output_tokens")
        if isinstance(limit, int) and limit > 0:
            body["max_tokens"] = min(body.get("max_tokens") or limit, limit)
        plan = yield from _planned(ask, bearer, body, entry)
        ask.scratch["plan"] = plan
        yield from _proper(ask, bearer, b"POST", b"/completions", _envelope(ask, plan))

    def decoder(self, ask: Ask, head: Reply) -> Decoder:
        if ask.operation is Operation.COUNT_TOKENS:
            return answers.Small(answers.count)
        if ask.operation is Operation.MODELS:
            return answers.Small(answers.listing)
        plan: _Plan | None = ask.scratch.get("plan")
        rotated = ((b"x-balancer-zed-rotation", plan.rotation.encode()),) if plan and plan.rotation else ()

        def learn(word: str, usage: Usage) -> None:
            if plan is not None:
                _learn(ask, plan, word, usage)

        if header(head.headers, b"x-zed-tool-use-limit-reached") is not None:
            learn("tool_use_limit_reached", Usage())
        return answers.Decoder(
            ask.request.model,
            ask.nonce,
            stream=ask.request.stream,
            wrapped=header(head.headers, _WRAPPED) is not None,
            notes=plan.notes if plan else (),
            headers=rotated,
            learn=learn,
        )

    def fault(self, ask: Ask, reply: Reply) -> Fault:
        return faults.of_reply(reply, ask.wall)

    def supports(self, operation: Operation) -> bool:
        return True

    def describe(self, memory: dict[str, Any]) -> dict[str, Any] | None:
        """Return what `/providers` shows: counts and spending, nothing of what was said."""
        known: OrderedDict[str, threads.Thread] = memory.get("threads", OrderedDict())
        ledger: cost.Ledger = memory.get("ledger") or cost.Ledger()
        modes_used = [thread.mode for thread in known.values()]
        return {
            "threads": len(known),
            "rotations": sum(thread.rotations for thread in known.values()),
            "prompts": len(ledger.prompts),
            "spend_usd": round(ledger.total, 6),
            "modes": {mode: modes_used.count(mode) for mode in ("normal", "burn")},
        }


def _options(ask: Ask) -> Options:
    options = ask.provider.options
    return options if isinstance(options, Options) else Options()


def _tidied(ask: Ask) -> dict[str, Any]:
    try:
        return tidy.tidied(faults.object_of(ask.request.body))
    except tidy.Untakable as error:
        raise Incapable(
            f"{ask.provider.name}: Zed can't take {error}; route such requests to another provider"
        ) from None


def _wire(ask: Ask, bearer: Headers, method: bytes, path: bytes, body: Any, **more: Any) -> WireRequest:
    lines: list[tuple[bytes, bytes]] = [*bearer, _JSON]
    if path == b"/completions":
        lines.append((b"x-zed-client-supports-status-messages", b"true"))
        lines.append((b"x-zed-client-supports-stream-ended-request-completion-status", b"true"))
    if version := _options(ask).client_version:
        lines.append((b"x-zed-version", version.encode()))
    over = {name for name, _ in ask.provider.headers}
    lines = [pair for pair in lines if pair[0] not in over] + list(ask.provider.headers)
    written = () if body is None else (msgspec.json.encode(body),)
    target = ask.provider.base_path.encode() + path
    return WireRequest(ask.provider.origin, method, target, tuple(lines), written, **more)


def _bearer(ask: Ask, stale: str = "") -> Generator[WireRequest, Reply, Headers]:
    """Return the header that says who asks; mint a token where none is usable or `stale` was refused."""
    secret = ask.provider.secret
    if ask.provider.passthrough or not tokens.is_pair(secret):
        return credentials.bearer_for(ask.provider, ask.request)
    owner = hashlib.sha256(secret.encode()).hexdigest()
    kept: Any = ask.memory.get("token")
    if ask.memory.get("token_of") == owner and tokens.usable(kept, ask.wall) and kept[0] != stale:
        return _as_bearer(kept[0])
    ask.memory.pop("token", None)
    organization = _options(ask).organization_id
    body = {} if organization is None else {"organization_id": organization}
    account = ((b"authorization", secret.encode()),)
    reply = yield _wire(
        ask, account, b"POST", b"/client/llm_tokens", body, errand=True, single_flight=f"llm_token {owner}"
    )
    token = faults.object_of(reply.body).get("token")
    if not 200 <= reply.status < 300 or not isinstance(token, str) or not token:
        raise FlowFailed(_unminted(reply, ask.wall))
    ask.memory["token"] = (token, tokens.expiry(token, ask.wall))
    ask.memory["token_of"] = owner
    return _as_bearer(token)


def _as_bearer(token: str) -> Headers:
    return ((b"authorization", b"Bearer " + token.encode()),)


def _unminted(reply: Reply, wall: float) -> Fault:
    """Return the fault of a token that was not to be had; the service's words may hold one, so they stay here."""
    if not reply.status or 200 <= reply.status < 300:
        return Fault(502, "api_error", "no LLM token could be had from Zed")
    fault = faults.of_reply(replace(reply, body=b""), wall)
    return replace(fault, message=f"Zed gave no LLM token: status {reply.status}")


def _proper(ask: Ask, bearer: Headers, method: bytes, path: bytes, body: Any) -> Flow:
    """Send the request proper, and once more with a fresh token where the first was refused."""
    reply = yield _wire(ask, bearer, method, path, body)
    if not tokens.is_stale(reply.status, reply.headers) or 200 <= reply.status < 300:
        return
    if ask.provider.passthrough or not tokens.is_pair(ask.provider.secret):
        return
    stale = bearer[0][1].decode().removeprefix("Bearer ")
    fresh = yield from _bearer(ask, stale)
    yield _wire(ask, fresh, method, path, body)


def _catalogue(ask: Ask, bearer: Headers) -> Generator[WireRequest, Reply, list[dict[str, Any]]]:
    """Return the known models; that they can't be had is no reason to fail."""
    known: tuple[float, dict[str, Any]] = ask.memory.get("catalogue", (0.0, {}))
    if known[0] <= ask.wall:
        reply = yield _wire(ask, bearer, b"GET", b"/models", None, errand=True)
        fresh = faults.object_of(reply.body) if reply.status == 200 else {}
        known = (ask.wall + CATALOGUE_S, fresh) if fresh else (ask.wall + CATALOGUE_RETRY_S, known[1])
        ask.memory["catalogue"] = known
    return answers.entries(known[1])


def _planned(
    ask: Ask, bearer: Headers, body: dict[str, Any], entry: dict[str, Any]
) -> Generator[WireRequest, Reply, _Plan]:
    """Decide on thread, mode and budget, and shorten the history where it is time."""
    options = _options(ask)
    management = options.thread_management
    task = threads.task_of(ask.request, body) if management.task_based_isolation else ""
    owner = hashlib.sha256(ask.provider.secret.encode()).hexdigest()[:16]
    key = "|".join((ask.provider.name, owner, ask.request.client, threads.session_of(ask.request, body), task))
    known = ask.memory.setdefault("threads", OrderedDict())
    thread = threads.remembered(known, key, ask.wall, options.ttl_s, management.max_threads)
    full = body["messages"]
    if thread.cut and (len(full) <= thread.cut or threads.prefix_of(full, thread.cut) != thread.prefix):
        thread.cut, thread.prefix, thread.summary = 0, "", ""  # compacted or rewound by the client
    body = _applied(body, full, thread)
    mode, why = _mode(ask, body, entry, thread, threads.prompt_id(threads.thread_id(key, 0), full))
    window = options.context_management.burn_context_tokens if mode == "burn" else options.window
    body, rotation = yield from _rotated(ask, bearer, body, full, thread, window)
    identity = threads.thread_id(key, thread.generation)
    prompt = threads.prompt_id(identity, full, thread.burst)
    mode, why = _budgeted(ask, body, entry["id"], prompt, mode, why)
    notes: tuple[str, ...] = (f"zed: mode {mode} ({why})",) if mode == "burn" else ()
    if rotation:
        notes += (f"zed: thread rotated, {rotation}",)
    return _Plan(body, entry["id"], thread, identity, prompt, threads.intent(body), mode, notes, rotation)


def _applied(body: dict[str, Any], full: list[dict[str, Any]], thread: threads.Thread) -> dict[str, Any]:
    if not thread.cut:
        return body
    return {**body, "messages": threads.shortened(full, thread.cut, thread.summary)}


def _mode(
    ask: Ask, body: dict[str, Any], entry: dict[str, Any], thread: threads.Thread, prompt: str
) -> tuple[str, str]:
    """Return the mode; within a prompt burn is never taken back."""
    options = _options(ask)
    context = options.context_management
    shortens = options.thread_management.auto_rotate and context.summarization_method != "none"
    mode, why = modes.chosen(
        body,
        threads.weight(body),
        route=ask.candidate.mode,
        default=options.default_mode,
        triggers=options.auto_burn_mode_triggers,
        windows=(options.window, 0 if shortens else context.burn_context_tokens),
        burn_exists=entry.get("supports_max_mode") is not False,
    )
    if thread.mode_of == prompt and thread.mode == "burn":
        mode, why = "burn", "sticky"
    if thread.mode_of != prompt:
        thread.burst = 0
    thread.mode_of, thread.mode = prompt, mode
    return mode, why


def _rotated(
    ask: Ask,
    bearer: Headers,
    body: dict[str, Any],
    full: list[dict[str, Any]],
    thread: threads.Thread,
    window: int,
) -> Generator[WireRequest, Reply, tuple[dict[str, Any], str]]:
    """Return the body, shortened where it has reached the threshold, and in a word what was done."""
    options = _options(ask)
    context = options.context_management
    if not options.thread_management.auto_rotate or threads.weight(body) < context.rotation_threshold * window:
        return body, ""
    if context.summarization_method == "none":
        thread.generation += 1
        thread.rotations += 1
        return body, f"none;generation={thread.generation};dropped=0"
    fixed = threads.weight({key: value for key, value in body.items() if key != "messages"})
    cut = threads.cut_for(full, context.keep_last_turns, window // 2 - fixed, thread.cut)
    if not cut:
        return body, ""
    prefix, method = threads.prefix_of(full, cut), "truncate"
    summary = threads.TRUNCATED.format(messages=cut)
    if context.summarization_method == "ai":
        earlier = threads.shortened(full[:cut], thread.cut, thread.summary) if thread.cut else full[:cut]
        said = yield from _summary(ask, bearer, earlier, str(body["model"]), prefix)
        if said:
            summary, method = threads.MARK + said, "ai"
    if thread.prefix != prefix:  # another request of the thread may have been here meanwhile
        thread.cut, thread.prefix, thread.summary = cut, prefix, summary
        thread.generation += 1
        thread.rotations += 1
    return _applied(body, full, thread), f"{method};generation={thread.generation};dropped={thread.cut}"


def _summary(
    ask: Ask, bearer: Headers, messages: list[dict[str, Any]], model: str, prefix: str
) -> Generator[WireRequest, Reply, str]:
    """Return the service's own summary of a history; empty where there is none to be had."""
    context = _options(ask).context_management
    catalogue: tuple[float, dict[str, Any]] = ask.memory.get("catalogue", (0.0, {}))
    name = context.summary_model or catalogue[1].get("default_fast_model") or model
    text = SUMMARY_PROMPT + threads.transcript(messages, SUMMARY_CHARS)
    request = {
        "model": name,
        "max_tokens": context.summary_max_tokens,
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}],
    }
    body = {
        "intent": "thread_context_summarization",
        "provider": "anthropic",
        "model": name,
        "provider_request": request,
    }
    reply = yield _wire(
        ask, bearer, b"POST", b"/completions", body, errand=True, single_flight=f"summary {ask.request.client} {prefix}"
    )
    return answers.text_of(reply.body).strip() if reply.status == 200 else ""


def _budgeted(ask: Ask, body: dict[str, Any], model: str, prompt: str, mode: str, why: str) -> tuple[str, str]:
    """Return the mode that the budget allows. Raises `Incapable` or `FlowFailed` where there is none."""
    control = _options(ask).cost_control
    ledger: cost.Ledger = ask.memory.setdefault("ledger", cost.Ledger())
    expected = Usage(input_tokens=threads.weight(body))
    over = cost.exceeded(ledger, control, prompt, _price(ask, body, model, mode, expected), ask.wall)
    if not over:
        return mode, why
    match control.on_exceed:
        case "force_normal":
            return "normal", "budget"
        case "reject":
            raise FlowFailed(faults.fault_of(402, f"{ask.provider.name}: {over}", None))
        case _:
            raise Incapable(f"{ask.provider.name}: {over}; raise zed_config.cost_control or add a provider")


def _price(ask: Ask, body: dict[str, Any], model: str, mode: str, usage: Usage) -> float:
    options = _options(ask)
    price = cost.price_of(model, options.cost_control)
    if options.wire_profile == "current":
        return cost.by_tokens(usage, price)
    calls = len(threads.tool_calls(body["messages"]))
    return cost.by_prompt(calls, options.thread_management.max_tool_calls_per_prompt, mode, price)


def _learn(ask: Ask, plan: _Plan, word: str, usage: Usage) -> None:
    if word == "tool_use_limit_reached":
        plan.thread.burst += 1
        return
    ledger: cost.Ledger = ask.memory.setdefault("ledger", cost.Ledger())
    ledger.spend(_price(ask, plan.body, plan.model, plan.mode, usage), plan.prompt_id, ask.wall)


def _envelope(ask: Ask, plan: _Plan) -> dict[str, Any]:
    envelope: dict[str, Any] = {}
    if not threads.is_side(plan.intent):
        envelope |= {"thread_id": plan.thread_id, "prompt_id": plan.prompt_id}
    envelope["intent"] = plan.intent
    if _options(ask).wire_profile == "legacy":
        envelope["mode"] = "max" if plan.mode == "burn" else "normal"
    return {**envelope, "provider": "anthropic", "model": plan.model, "provider_request": plan.body}


DIALECT = Zed()
