"""What is remembered of a Zed provider: its threads, what was rotated, what was spent. In memory only."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from balancer.dialect import Ask, TypedState
from balancer.dialects.zed.account import Account
from balancer.dialects.zed.budget import BudgetLedger
from balancer.dialects.zed.options import Options
from balancer.dialects.zed.rotation import Cut, Metered

PROMPTS_MAX = 8
"""Of so many prompts of a thread it is remembered how they were sent."""
CUTS_MAX = 8
"""So many cuts of a thread are remembered: histories of one thread may differ, and a client may rewind."""
ROTATIONS_SHOWN = 20


@dataclass(slots=True)
class Prompt:
    """How a prompt is sent."""

    burn: bool = False
    burst: int = 0
    """How often the service's limit of tool calls was reached in it."""
    answered: int = 0
    """The burst whose first request was answered."""


@dataclass(slots=True)
class Thread:
    """What is remembered of a thread."""

    generation: int = 0
    last_seen: float = 0.0
    cuts: list[Cut] = field(default_factory=list)
    metered: Metered | None = None
    prompts: OrderedDict[str, Prompt] = field(default_factory=OrderedDict)
    renewed_tokens: int = 0
    """How large it was when it got a new id and nothing else."""
    result_chars: int | None = None
    """How much is sent of the text of a result, since one was too large for the window; None: all of it."""
    untold: tuple[str, str] | None = None
    """A rotation that no answer has told of yet, in the words of the header and of the log."""

    def keep(self, cut: Cut) -> None:
        """Remember a cut; what follows is a new generation."""
        self.cuts = [cut, *self.cuts][:CUTS_MAX]
        self.metered = None
        self.generation += 1

    def prompt(self, name: str) -> Prompt:
        """Return what is remembered of a prompt."""
        found = self.prompts.setdefault(name, Prompt())
        with suppress(KeyError):  # another flow, in another thread, may have forgotten it just now
            self.prompts.move_to_end(name)
        while len(self.prompts) > PROMPTS_MAX:
            self.prompts.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Rotation:
    """That a thread was rotated, why, and what it held. Not a word of what was said."""

    at: float
    """Seconds since the epoch."""
    thread_id: str
    """The new one."""
    generation: int
    method: str
    """`ai`, `truncate`, `results` (only the middles of large results are left out) or `none`; with why not `ai` where
    that was wanted."""
    reason: str
    messages: int
    """How many the history had."""
    dropped: int
    """How many of them the summary stands for."""
    tokens_before: int
    tokens_after: int

    @property
    def header(self) -> str:
        return f"{self.method.partition(' ')[0]};generation={self.generation};dropped={self.dropped}"

    @property
    def words(self) -> str:
        return (
            f"zed: thread rotated ({self.method}) to {self.thread_id}, generation {self.generation}: {self.reason}; "
            f"it held {self.messages} messages, {self.dropped} of them were replaced, "
            f"about {self.tokens_before} tokens became {self.tokens_after}"
        )

    def shown(self) -> dict[str, Any]:
        date = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="seconds")
        names = ("thread_id", "generation", "method", "reason", "messages", "dropped", "tokens_before", "tokens_after")
        return {"at": date, **{name: getattr(self, name) for name in names}}


@dataclass(slots=True)
class Memory:
    """All that is remembered of one provider but its account."""

    threads: OrderedDict[str, Thread] = field(default_factory=OrderedDict)
    ledger: BudgetLedger = field(default_factory=BudgetLedger)
    rotations: int = 0
    last_rotations: deque[Rotation] = field(default_factory=lambda: deque(maxlen=ROTATIONS_SHOWN))
    modes: Counter[str] = field(default_factory=Counter)
    """How many requests were sent in each."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why they were."""
    reported: dict[str, Any] = field(default_factory=dict)
    """What the service itself says of plan and usage."""

    def thread(self, key: str, wall: float, ttl_s: float, limit: int) -> Thread:
        """Return a thread; an idle one is a new generation, the longest unused are forgotten."""
        thread = self.threads.setdefault(key, Thread(last_seen=wall))
        with suppress(KeyError):
            self.threads.move_to_end(key)
        if ttl_s and wall - thread.last_seen > ttl_s:
            thread.generation += 1
        thread.last_seen = wall
        while len(self.threads) > limit:
            self.threads.popitem(last=False)
        return thread

    def rotated(self, thread: Thread, rotation: Rotation) -> None:
        """Note a rotation, to be told of with the thread's next answer."""
        self.rotations += 1
        self.last_rotations.append(rotation)
        thread.untold = (rotation.header, rotation.words)


def memory_of(ask: Ask) -> Memory:
    """Return what is remembered of the provider that is asked."""
    return ask.provider_state.of(Memory)


def described(provider_state: TypedState, options: Options, wall: float) -> dict[str, Any]:
    """Return what `/providers` shows: numbers and ids, nothing of what was said."""
    memory = provider_state.of(Memory)
    ledger, control = memory.ledger, options.cost_control
    plan = memory.reported.get("plan") or provider_state.of(Account).plan
    return {
        "plan": plan or None,
        "reported_usage": memory.reported.get("usage"),
        "threads": len(memory.threads),
        "prompts": ledger.prompt_count,
        "rotations": memory.rotations,
        "last_rotations": [rotation.shown() for rotation in reversed(tuple(memory.last_rotations))],
        "modes": {mode: memory.modes[mode] for mode in ("normal", "burn")},
        "mode_reasons": dict(memory.reasons),
        "spend_usd": round(ledger.total, 6),
        "budgets": {
            "on_exceed": control.on_exceed,
            "daily": _budget(control.daily_usd, ledger.today(wall)),
            "monthly": _budget(control.monthly_usd, ledger.month(wall)),
            "per_prompt": {"limit_usd": control.per_prompt_usd},
            "set_aside_usd": round(ledger.expected(wall), 6),
        },
    }


def _budget(limit_usd: float | None, spent_usd: float) -> dict[str, float | None]:
    left = None if limit_usd is None else round(max(0.0, limit_usd - spent_usd), 6)
    return {"limit_usd": limit_usd, "spent_usd": round(spent_usd, 6), "left_usd": left}
