"""One request on its way to Zed: whose thread it is, in which mode it goes, what it may cost, and how long it is.

Everything is decided here before the request itself is sent; only a summary is asked for on the way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from balancer import claude_code
from balancer.dialect import Ask, FlowFailed, Incapable
from balancer.dialects.zed import budget, modes, rotation, summary, threads
from balancer.dialects.zed.account import Part, options_of
from balancer.dialects.zed.memory import Rotation, Thread, memory_of
from balancer.dialects.zed.options import CostControl
from balancer.dialects.zed.results import LEAST_CHARS, longest
from balancer.headers import header
from balancer.model import Fault, Usage

_MODE = b"x-balancer-zed-mode"
ANSWER_TOKENS = 1000
"""What an answer is taken to cost until it has come."""


@dataclass(slots=True)
class Task:
    """One request on its way to Zed: what is known of it, and what was decided."""

    ask: Ask
    catalogue: list[dict[str, Any]]
    entry: dict[str, Any]
    body: dict[str, Any]
    """As the service takes it, with the client's whole history."""
    key: str
    state: str
    """What it is remembered under: `key`, and whose it is."""
    thread: Thread
    purpose: str
    fixed_tokens: int
    cut: rotation.Cut | None = None
    tokens: int = 0
    mode: str = "normal"
    why: str = ""

    @property
    def full(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["messages"]
        return found

    @property
    def prompt(self) -> str:
        """The prompt's name whatever the generation."""
        return threads.prompt_id(threads.thread_id(self.key, 0), self.full)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The history as it is sent."""
        return rotation.sent(self.full, self.cut, self.thread.result_chars)

    def measure(self) -> None:
        thread = self.thread
        self.cut = rotation.applicable(thread.cuts, self.full)
        self.tokens = rotation.size(self.full, self.cut, self.fixed_tokens, thread.metered, thread.result_chars)

    def window(self, mode: str) -> int:
        """Return how much may be sent, in tokens: what is configured, if the model takes it beside its answer."""
        options = options_of(self.ask)
        limit = options.context_management.burn_context_tokens if mode == "burn" else options.window
        most = (self.entry.get("max_token_count_in_max_mode") if mode == "burn" else None) or self.entry.get(
            "max_token_count"
        )
        if not isinstance(most, int) or most <= 0:
            return limit
        answer = self.body.get("max_tokens")
        return min(limit, max(most - (answer if isinstance(answer, int) else 0), most // 2))


def begun(ask: Ask, catalogue: list[dict[str, Any]], entry: dict[str, Any], body: dict[str, Any]) -> Task:
    """Say whose thread it is, what it is for, and how large it is."""
    management = options_of(ask).thread_management
    isolated = threads.task_of(ask.request, body) if management.task_based_isolation else ""
    owner = hashlib.sha256(ask.provider.secret.encode()).hexdigest()[:16]
    key = "|".join((ask.provider.name, owner, threads.session_of(ask.request, body), isolated))
    state = f"{ask.request.client}|{key}"
    thread = memory_of(ask).thread(state, ask.wall, options_of(ask).ttl_s, management.max_threads)
    purpose = threads.intent(body, small=claude_code.SMALL_MODEL in entry["id"])
    task = Task(ask, catalogue, entry, body, key, state, thread, purpose, rotation.fixed_weight(body))
    task.measure()
    return task


# The mode, and what it may cost


def choose(task: Task) -> None:
    """Decide on the mode; within a prompt burn is taken back only for want of budget."""
    ask, options = task.ask, options_of(task.ask)
    told = _told_mode(ask)
    burn_exists = task.entry.get("supports_max_mode") is not False
    shortens = options.thread_management.auto_rotate and options.context_management.summarization_method != "none"
    mode, why = modes.chosen(
        {**task.body, "messages": task.full},
        task.tokens,
        route=ask.candidate.mode,
        header=told,
        default=options.default_mode,
        triggers=options.auto_burn_mode_triggers,
        windows=(task.window("normal"), 0 if shortens else task.window("burn")),
        burn_exists=burn_exists,
        thresholds=options.burn_thresholds,
    )
    prompt = task.thread.prompt(task.prompt)
    if prompt.burn and burn_exists and mode == "normal" and why != "route":
        mode, why = "burn", "sticky"
    task.mode, task.why = mode, why
    if over := _over(task):
        _save(task, over)
    prompt.burn = prompt.burn or task.mode == "burn"


def _told_mode(ask: Ask) -> str | None:
    """Return the mode that the client asks for in a header; None: it does not. Raises `FlowFailed`."""
    value = header(ask.request.headers, _MODE) if options_of(ask).mode_header else None
    told = (value or b"").decode(errors="replace").strip()
    if not told:
        return None
    if (mode := modes.WORDS.get(told.lower())) is None:
        words = f"{_MODE.decode()}: must be normal or burn"
        raise FlowFailed(Fault(400, "invalid_request_error", words, callers_own=True))
    return mode


def _over(task: Task) -> str:
    ledger = memory_of(task.ask).ledger
    return budget.exceeded(ledger, control(task.ask), task.prompt, expected_usd(task), task.ask.wall)


def _save(task: Task, over: str) -> None:
    """Go without burn mode where that helps, or not at all. Raises `Incapable` or `FlowFailed`."""
    manner, name = control(task.ask).on_exceed, task.ask.provider.name
    if task.mode == "burn" and (manner == "force_normal" or task.why not in modes.ASKED):
        task.mode, task.why = "normal", "budget"
        over = _over(task)
    if not over or manner == "force_normal":
        return
    if manner == "reject":
        raise FlowFailed(Fault(402, "billing_error", f"{name}: {over}", callers_own=True))
    raise Incapable(f"{name}: {over}; raise zed_config.cost_control or add a provider")


def control(ask: Ask) -> CostControl:
    return options_of(ask).cost_control


def expected_usd(task: Task) -> float:
    limit = task.body.get("max_tokens")
    answer = min(limit, ANSWER_TOKENS) if isinstance(limit, int) else ANSWER_TOKENS
    price = budget.price_of(task.entry["id"], control(task.ask))
    if options_of(task.ask).wire_profile == "current":
        return budget.by_tokens(Usage(input_tokens=task.tokens, output_tokens=answer), price)
    if task.mode == "burn":
        return price.burn_request
    paid = memory_of(task.ask).ledger.blocks.get(task.prompt, 0)
    return max(0, blocks(task.ask, len(threads.tool_calls(task.full))) - paid) * price.prompt


def blocks(ask: Ask, calls: int) -> int:
    return budget.blocks(calls, options_of(ask).thread_management.max_tool_calls_per_prompt)


# Rotation


def shorten(task: Task, *, at_any_size: bool = False) -> Part[bool]:
    """Rotate the thread where it is time, and say whether what is sent became shorter."""
    options = options_of(task.ask)
    context, window = options.context_management, task.window(task.mode)
    share = 1.0 if threads.is_side(task.purpose) else context.rotation_threshold
    threshold = int(share * window)
    if not options.thread_management.auto_rotate or (task.tokens < threshold and not at_any_size):
        return False
    reason = f"about {task.tokens} tokens have reached {share:.0%} of {window}"
    if at_any_size:
        reason = f"the service said that about {task.tokens} tokens are too many"
    if context.summarization_method == "none":
        _renew(task, threshold, reason)
        return False
    shorter = yield from _cut(task, reason)
    if task.tokens >= window or (at_any_size and not shorter):
        shorter = _shorten_results(task, threshold, reason) or shorter
    return shorter


def _cut(task: Task, reason: str) -> Part[bool]:
    """Replace the earlier part of the history, and say whether there was a place for that."""
    context = options_of(task.ask).context_management
    held = task.cut.at if task.cut else 0
    room_tokens = task.window(task.mode) // 2 - task.fixed_tokens
    at = rotation.cut_for(task.full, context.keep_last_turns, room_tokens, held)
    if not at:
        return False
    prefix = rotation.prefix_of(task.full, at)
    text, method = yield from _replacement(task, at, prefix)
    before = task.tokens
    task.measure()  # another request of the thread may have been here meanwhile
    if task.cut is None or task.cut.at < at:
        task.thread.keep(rotation.Cut(at, prefix, text))
        task.measure()
        _note(task, method, reason, at, before)
    return True


def _shorten_results(task: Task, threshold: int, reason: str) -> bool:
    """Leave out the middles of the largest results until the history fits, and say whether any was shortened."""
    thread, before = task.thread, task.tokens
    most_chars = longest(task.sent)
    if most_chars <= LEAST_CHARS:
        return False
    while task.tokens >= threshold and most_chars > LEAST_CHARS:
        most_chars = max(LEAST_CHARS, most_chars // 2)
        thread.result_chars, thread.metered = most_chars, None
        task.measure()
    if task.tokens >= before:
        return False
    thread.generation += 1
    _note(task, "results", reason, 0, before)
    return True


def _replacement(task: Task, at: int, prefix: str) -> Part[tuple[str, str]]:
    """Return what is to stand for the first `at` messages, and by which method that was made."""
    held, ask = task.cut, task.ask
    count = at - (held.at if held else 0)
    if options_of(ask).context_management.summarization_method == "truncate":
        return rotation.TRUNCATED.format(messages=at), "truncate"
    earlier = held.applied(task.full[:at]) if held else task.full[:at]
    said = yield from summary.summary_of(ask, task.catalogue, earlier, task.entry["id"], f"{task.state} {prefix}")
    _charge(ask, said.model, task.prompt, said.usage)
    if said.text:
        return rotation.MARK + said.text, "ai"
    method = f"truncate (no summary was to be had: {said.why or 'it was empty'})"
    if held:
        return rotation.ALSO_TRUNCATED.format(summary=held.summary, messages=count), method
    return rotation.TRUNCATED.format(messages=at), method


def _charge(ask: Ask, model: str, prompt: str, usage: Usage) -> None:
    """Spend what a summary cost on the prompt that needed it."""
    if options_of(ask).wire_profile == "current" and rotation.total(usage):
        usd = budget.by_tokens(usage, budget.price_of(model, control(ask)))
        memory_of(ask).ledger.spend(usd, prompt, ask.wall)


def _renew(task: Task, threshold: int, reason: str) -> None:
    """Give the thread a new id and nothing else, once for each time that it has grown by so much."""
    thread = task.thread
    if task.tokens < thread.renewed_tokens:
        thread.renewed_tokens = 0
    if task.tokens < thread.renewed_tokens + threshold:
        return
    thread.renewed_tokens = task.tokens
    thread.generation += 1
    _note(task, "none", reason, 0, task.tokens)


def _note(task: Task, method: str, reason: str, dropped: int, before: int) -> None:
    thread = task.thread
    identity = threads.thread_id(task.key, thread.generation)
    numbers = (len(task.full), dropped, before, task.tokens)
    rotated = Rotation(task.ask.wall, identity, thread.generation, method, reason, *numbers)
    memory_of(task.ask).rotated(thread, rotated)


def make_fit(task: Task) -> None:
    """See to it that what is left fits: in the larger window, or not here. Raises `FlowFailed`."""
    window = task.window(task.mode)
    if task.tokens < window:
        return
    asked_normal = task.mode == "normal" and task.why in ("route", "header", "budget", "the model has no burn mode")
    if task.mode == "normal" and not asked_normal and task.tokens < task.window("burn"):
        task.mode, task.why = "burn", "context_overflow"
        if not _over(task):
            task.thread.prompt(task.prompt).burn = True
            return
        task.mode, task.why = "normal", "budget"
    words = claude_code.prompt_too_long(task.tokens, window)
    raise FlowFailed(Fault(400, "invalid_request_error", words, elsewhere=True))
