"""`GET /providers`: every field, and what it is made of."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from state.world import OVERLOADED, read

from balancer import config
from balancer.config.tls import ServerTls
from balancer.control.status import Targets, describe, moment, overview, written
from balancer.dialects.simulated.faults import Drill
from balancer.model import Operation, Usage
from balancer.policy.verdicts import Mark, Scope, Trouble, Verdict

from .board import Board

NEW = {
    "name": "a", "type": "anthropic", "base_url": "http://127.0.0.1:1", "enabled": True, "healthy": True,
    "state": "healthy", "failure_count": 0, "needs_operator": None, "resting_for_s": 0.0, "resting_models": {},
    "counting_resting_for_s": 0.0, "last_error": None, "in_flight": 0, "requests": 0, "successes": 0, "failures": 0,
    "latency": {"first_substance_s": None, "first_substance_ewma_s": 0.0, "duration_ewma_s": 0.0},
    "tokens": {"input": 0, "output": 0, "cache_read": 0, "cache_creation": 0},
    "organization": None,
    "models": [{"pattern": "*", "model": "passthrough", "priority": 1, "weight": 1.0}],
}  # fmt: skip


def shown(board: Board, name: str = "a") -> dict[str, Any]:
    providers = describe(board.fleet, board.at, board.wall())["providers"]
    return next(provider for provider in providers if provider["name"] == name)


def failed(**more: Any) -> Verdict:
    return Verdict(Mark.BAD, reason="401 authentication_error", status=401, **more)


def test_a_provider_that_was_never_asked() -> None:
    assert shown(Board()) == NEW


def test_the_balancer_as_a_whole() -> None:
    board = Board("selection_strategy: round_robin")
    board.world.fail("b", 0.0)
    board.fleet.budget.tokens = 7.26
    with board.fleet.admit():
        whole = describe(board.fleet, 1.0, 0.0)

    assert [provider["name"] for provider in whole.pop("providers")] == ["a", "b"]
    assert whole == {
        "selection_strategy": "round_robin", "generation": 0, "total_providers": 2, "healthy_providers": 1,
        "in_flight": 1, "retry_budget": 7.3, "total_model_routes": 1, "tls": None, "refused_configuration": [],
        "needs_restart": [],
    }  # fmt: skip


def test_what_clients_are_served_with_and_what_was_refused() -> None:
    board = Board()
    tls = ServerTls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "d", Path("cert.pem"), ("box.example",), 1.8e9, True)
    board.fleet.config = replace(board.fleet.config, tls=tls)
    board.fleet.refused = ("providers.yaml:5: no",)
    whole = describe(board.fleet, 1.0, 0.0)

    assert whole["tls"] == {
        "names": ["box.example"],
        "expires": "2027-01-15T08:00:00+00:00",
        "client_certificates": True,
    }
    assert whole["refused_configuration"] == ["providers.yaml:5: no"]
    board.fleet.reload(board.fleet.config, 2.0)
    assert describe(board.fleet, 1.0, 0.0)["refused_configuration"] == []


def test_what_was_counted() -> None:
    board = Board()
    stats = board.fleet.stats("a")
    board.world.succeed("a", 2.0, began=1.0)
    board.world.fail("a", 3.0)
    stats.content_began(0.123456, 2.0)
    stats.count(Usage(1, 2, 3, 4))
    with board.fleet.admission.slot(board.world.candidate("a"), 3.0):
        board.at = 4.0
        told = shown(board)

    assert (told["in_flight"], told["requests"], told["successes"], told["failures"]) == (1, 1, 1, 1)
    assert told["latency"] == {
        "first_substance_s": 0.1235,
        "first_substance_ewma_s": 0.1235,
        "duration_ewma_s": 1.0,
    }
    assert told["tokens"] == {"input": 1, "output": 2, "cache_read": 3, "cache_creation": 4}
    assert told["last_error"] == {
        "kind": "overloaded_error", "status": 529, "message": "529 overloaded_error", "at": 1003.0,
    }  # fmt: skip


@pytest.mark.parametrize("trouble", [Trouble.KEY, Trouble.CREDIT, Trouble.ACCESS, Trouble.SPEND_CAP])
def test_what_only_a_person_can_mend_is_named_until_it_answers(trouble: Trouble) -> None:
    board = Board()
    board.world.fail("a", 0.0, failed(needs_operator=trouble))
    board.at = 1.0
    told = shown(board)
    assert (told["state"], told["healthy"], told["failure_count"], told["resting_for_s"]) == (
        "resting",
        False,
        1,
        599.0,
    )
    assert "(401 authentication_error): " in told["needs_operator"]

    board.at = 700.0
    assert shown(board)["needs_operator"] == told["needs_operator"], "its cooldown is over, but nobody has mended it"
    board.world.succeed("a", 701.0)
    assert shown(board)["needs_operator"] is None


def test_an_ordinary_cooldown_needs_nobody() -> None:
    board = Board()
    board.world.fail("a", 0.0)

    assert shown(board)["needs_operator"] is None


def test_each_scope_has_its_own_place() -> None:
    board = Board()
    board.world.fail("a", 0.0, failed(scope=Scope.MODEL, cooldown_s=30.0))
    counting = board.world.candidate("a", Operation.COUNT_TOKENS)
    board.world.observe(counting, OVERLOADED, failed(scope=Scope.COUNTING, cooldown_s=20.0), 0.0)
    board.at = 5.0
    told = shown(board)

    assert (told["state"], told["resting_for_s"]) == ("healthy", 0.0)
    assert told["resting_models"] == {"m": 25.0}
    assert told["counting_resting_for_s"] == 15.0


ONLY = """
providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}]
model_routes:
  "m": [{provider: a}]
  "n": [{provider: a}]
"""


def test_a_provider_all_of_whose_models_cool_down_is_in_cooldown() -> None:
    board = Board()
    board.fleet.reload(config.parse(ONLY, "p", {}), 0.0)
    for model, named_s in (("m", 30.0), ("n", 20.0)):
        assert shown(board)["state"] == "healthy"
        board.world.observe(
            board.world.candidate("a", model=model), OVERLOADED, failed(scope=Scope.MODEL, cooldown_s=named_s), 0.0
        )
    board.at = 5.0
    told = shown(board)

    assert (told["state"], told["healthy"], told["resting_for_s"]) == ("resting", False, 15.0)
    board.at = 21.0
    assert shown(board)["state"] == "healthy", "one of them may be asked"


def test_a_fault_that_is_injected_is_shown() -> None:
    board = Board()
    board.fleet.orders.inject("a", Drill("a", "cut"), 0.0, 0.0)

    assert shown(board)["drill"] == {"fault": "cut"}
    assert "drill" not in shown(board, "b")


def test_seconds_are_shown_with_one_decimal() -> None:
    board = Board()
    board.world.fail("a", 0.0, failed(cooldown_s=30.0))
    board.at = 0.25

    assert shown(board)["resting_for_s"] == 29.8


def test_each_provider_has_its_own_targets() -> None:
    board = Board()
    text = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}
model_routes:
  "x": [{provider: a, model: n, priority: 3, weight: 2}]
  "*": [{provider: b}]
"""
    board.fleet.reload(config.parse(text, "p", {}), 0.0)

    assert shown(board)["models"] == [{"pattern": "x", "model": "n", "priority": 3, "weight": 2.0}]
    assert shown(board, "b")["models"] == [{"pattern": "*", "model": "passthrough", "priority": 1, "weight": 1.0}]


STATES = {"healthy": 2, "probing": 2, "paused": 1, "resting": 1}


@pytest.mark.parametrize(("state", "healthy"), STATES.items())
def test_who_counts_as_healthy(state: str, healthy: int) -> None:
    board = Board()
    if state == "paused":
        board.fleet.orders.pause("a", 0.0)
    elif state != "healthy":
        board.world.fail("a", 0.0)
    board.at = 60.0 if state == "probing" else 1.0
    with board.fleet.admission.slot(board.world.candidate("a"), board.at):
        told = shown(board)

        assert (told["state"], told["healthy"]) == (state, healthy == 2)
        assert overview(board.fleet, board.at) == {"total": 2, "healthy": healthy}


def test_a_type_with_words_of_its_own_adds_them() -> None:
    board = Board(names="a")
    text = 'providers: [{name: a, type: zed, auth_value: s}]\nmodel_routes: {"*": [{provider: a}]}\n'
    board.fleet.reload(config.parse(text, "p", {}), 0.0)

    assert isinstance(shown(board)["zed"], dict)


def test_the_metrics_get_of_each_provider_what_they_need() -> None:
    board = Board()
    board.world.fail("a", 0.0)
    board.fleet.local_faults.count("ports", "", 0.0)
    seen = moment(board.fleet, 1.0, 4)
    whole = describe(board.fleet, 1.0, 0.0)

    assert seen["log_lines_lost"] == 4
    assert seen["local_faults"]["ports"] == 1
    for few, all_of_it in zip(seen["providers"], whole["providers"], strict=True):
        assert few == {key: all_of_it[key] for key in few}
        assert "models" not in few


def test_what_is_written_in_pieces_is_what_is_described() -> None:
    board, targets = Board(), Targets()
    board.world.fail("a", 0.0)
    for _ in range(2):  # the second time the targets are known
        text = b"".join(written(board.fleet, targets, 1.0, 2.0))
        assert json.loads(text) == json.loads(json.dumps(describe(board.fleet, 1.0, 2.0)))
    board.fleet.reload(read(names="b"), 0.0)
    assert json.loads(b"".join(written(board.fleet, targets, 1.0, 2.0)))["total_providers"] == 1
