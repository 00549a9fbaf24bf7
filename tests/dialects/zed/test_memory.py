"""What is remembered of a Zed provider, and what of it is shown."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from balancer.dialect import TypedState
from balancer.dialects.zed import memory
from balancer.dialects.zed.account import Account
from balancer.dialects.zed.options import Options
from balancer.dialects.zed.rotation import Cut

WALL = 1.8e9


def test_idle_threads_are_new_and_the_longest_unused_are_forgotten() -> None:
    kept = memory.Memory()
    kept.thread("a", 0.0, 10, 2)

    assert kept.thread("a", 9.0, 10, 2).generation == 0
    assert kept.thread("a", 30.0, 10, 2).generation == 1
    assert kept.thread("a", 1e6, 0, 2).generation == 1
    kept.thread("b", 0.0, 10, 2)
    kept.thread("c", 0.0, 10, 2)
    assert list(kept.threads) == ["b", "c"]


def test_a_thread_remembers_a_bounded_number_of_cuts_and_prompts() -> None:
    thread = memory.Thread()
    for n in range(20):
        thread.keep(Cut(n, str(n), ""))
        thread.prompt(str(n)).burn = True

    assert [cut.at for cut in thread.cuts] == list(range(19, 11, -1))
    assert thread.generation == 20
    assert len(thread.prompts) == memory.PROMPTS_MAX
    assert thread.prompt("19").burn


def test_rotations_are_shown_with_their_reason_and_without_words() -> None:
    state = TypedState()
    state.put(Account("o", token="canary", plan="zed_pro"))
    kept = state.of(memory.Memory)
    for n in range(30):
        rotation = memory.Rotation(WALL + n, f"id{n}", n, "ai", "about 9 tokens have reached 80% of 10", 12, 8, 9, 4)
        kept.rotated(memory.Thread(), rotation)
    kept.ledger.spend(0.25, "p", WALL)

    shown = memory.described(state, Options.model_validate({"cost_control": {"daily_usd": 1}}), WALL)

    assert shown["rotations"] == 30
    assert len(shown["last_rotations"]) == memory.ROTATIONS_SHOWN
    assert shown["last_rotations"][0] == {
        "at": "2027-01-15T08:00:29+00:00", "thread_id": "id29", "generation": 29, "method": "ai",
        "reason": "about 9 tokens have reached 80% of 10", "messages": 12, "dropped": 8, "tokens_before": 9,
        "tokens_after": 4,
    }  # fmt: skip
    assert shown["budgets"]["daily"] == {"limit_usd": 1, "spent_usd": 0.25, "left_usd": 0.75}
    assert (shown["plan"], shown["prompts"]) == ("zed_pro", 1)
    assert "canary" not in json.dumps(shown) + repr(state) + repr(state.of(Account))


def test_a_rotation_is_told_with_the_next_answer() -> None:
    thread = memory.Thread()
    memory.Memory().rotated(thread, memory.Rotation(WALL, "id", 2, "truncate (no summary)", "why", 9, 7, 5, 1))

    assert thread.untold is not None
    assert thread.untold[0] == "truncate;generation=2;dropped=7"
    assert "truncate (no summary)" in thread.untold[1]
    assert "7 of them were replaced" in thread.untold[1]


def test_two_threads_at_once_break_nothing() -> None:
    """A long request is worked on beside the event loop."""
    kept, before = memory.Memory(), sys.getswitchinterval()

    def work(name: str) -> None:
        for turn in range(3000):
            thread = kept.thread(f"{name} {turn % 5}", 1e9, 0.0, 2)
            thread.prompt(str(turn % 20))
            kept.ledger.hold(f"{name} {turn}", 0.1, 1e9)
            kept.ledger.expected(1e9)
            kept.ledger.spend(0.1, f"{name} {turn}", 1e9 + 86400 * turn)
            kept.ledger.new_blocks(f"{turn % 7}", turn)
            kept.ledger.month(1e9)
            kept.ledger.let_go(f"{name} {turn}")

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, ("a", "b")))
    finally:
        sys.setswitchinterval(before)
    assert kept.ledger.expected(1e9) == 0
    assert len(kept.threads) == 2
