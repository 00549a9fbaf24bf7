"""`GET /usage`: the ledger as JSON, and what is wrong with a question."""

from __future__ import annotations

from pathlib import Path

import pytest
from control.board import Board
from telemetry.usage.test_ledger import ended, ledger

from balancer.telemetry.usage.ledger import Ledger


def board(folder: Path) -> Board:
    made = Board()
    made.ledger = ledger(folder, wall=1000.0)
    return made


async def test_usage_is_told_by_group(tmp_path: Path) -> None:
    asked = board(tmp_path)
    assert isinstance(asked.ledger, Ledger)
    asked.ledger.take(ended(1, wall=990.0))
    asked.ledger.take(ended(2, wall=10.0))
    asked.ledger.close()
    asked = board(tmp_path)
    answer = await asked.get("/usage?by=project&since=5m")
    told = answer.json()

    assert answer.status_code == 200
    assert told["by"] == "project"
    assert told["since"] == "1970-01-01T00:11:40Z"
    (group,) = told["groups"]
    assert (group["project"], group["requests"], group["input_tokens"]) == ("acme", 1, 1000)
    assert group["cache_share"] == pytest.approx(500 / 1800, abs=1e-4)
    assert told["total"]["cost_usd"] == group["cost_usd"] > 0
    assert (await asked.get("/usage")).json()["by"] == "day"


@pytest.mark.parametrize(
    ("query", "words"),
    [("by=weather", "day, model, provider"), ("since=soon", "a span like 24h"), ("by=" + "x" * 99, "by")],
)
async def test_a_wrong_question_says_what_can_be_asked(tmp_path: Path, query: str, words: str) -> None:
    answer = await board(tmp_path).get(f"/usage?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


async def test_without_a_ledger_it_says_what_to_set() -> None:
    answer = await Board().get("/usage")
    assert answer.status_code == 404
    assert "settings.usage" in answer.json()["error"]["message"]


async def test_a_ledger_that_cant_be_read_is_503(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("no folder")
    assert (await board(tmp_path).get("/usage")).status_code == 503
