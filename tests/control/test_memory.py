"""What was learnt of the providers outlives a restart, in a small file."""

from __future__ import annotations

import asyncio
import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from virtual_time import in_virtual_time

from balancer import config
from balancer.clock import SYSTEM, Clock
from balancer.control.memory import EVERY_S, MAX_BYTES, Memory, beside
from balancer.dialects.openai.lessons import KEPT_S, Lessons
from balancer.events import Bus
from balancer.state.fleet import Fleet

TWO = """
providers:
  - {{name: a, type: openai, base_url: "http://127.0.0.1:{port}", auth_value: sk-secret-canary}}
  - {{name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-canary}}
model_routes: {{"*": [{{provider: a}}, {{provider: b}}]}}
"""
NOW = 1.8e9
CLOCK = Clock(SYSTEM.now, lambda: NOW)


def fleet(port: int = 1001) -> Fleet:
    return Fleet(config.parse(TWO.format(port=port), "p.yaml", {}), Bus(), random.Random(1))


def lessons(of: Fleet) -> Lessons:
    return of.stats("a").provider_state.of(Lessons)


def kept(path: Path) -> Any:
    return json.loads(path.read_bytes())


def saved(path: Path, wall: float = NOW) -> None:
    before = fleet()
    lessons(before).keep("gpt", "drop:stop", wall)
    Memory(before, CLOCK, path).save()


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "l.learnt.json"
    saved(path)
    after = fleet()

    Memory(after, CLOCK, path).restore()

    assert lessons(after).learnt("gpt", NOW) == ["drop:stop"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert b"canary" not in path.read_bytes()


def test_lessons_keep_their_age(tmp_path: Path) -> None:
    path = tmp_path / "l.learnt.json"
    saved(path, NOW - KEPT_S - 1)
    after = fleet()

    Memory(after, CLOCK, path).restore()

    assert lessons(after).by_model == {}


def test_what_was_learnt_at_another_address_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "l.learnt.json"
    saved(path)
    after = fleet(port=1009)

    Memory(after, CLOCK, path).restore()

    assert lessons(after).by_model == {}


DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "another form": b'{"providers": []}',
    "deeply nested": b'{"providers":' + b"[" * 100_000,
    "too large": b" " * (MAX_BYTES + 1),
    "no lessons": json.dumps(
        {
            "providers": {
                "a": {
                    "type": "openai",
                    "base_url": "http://127.0.0.1:1001",
                    "learnt": {
                        "gpt": {
                            "drop:a b": NOW, "limit:x": NOW, "config:tool_id_max=1": NOW, "config:nothing=1": NOW,
                            "most:temperature=x": NOW, "set:stream=true?max_tokens>x": NOW, "odd": NOW,
                            "config:stop=x": NOW, "drop:stop": "yesterday", "drop:top_p": NOW + 60,
                        },
                        "other": 1,
                    },
                },
                "gone": {"type": "openai", "base_url": "x", "learnt": {}},
            }
        }
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "l.learnt.json"
    path.write_bytes(data)
    after = fleet()

    Memory(after, CLOCK, path).restore()

    assert lessons(after).by_model == {}


def test_nothing_is_written_where_nothing_was_learnt(tmp_path: Path) -> None:
    Memory(fleet(), CLOCK, tmp_path / "l.learnt.json").save()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    saved(tmp_path / "file" / "l.learnt.json")

    assert "what was learnt of the providers can't be kept" in caplog.text


@in_virtual_time
async def test_what_is_learnt_is_written_soon(tmp_path: Path) -> None:
    one, path = fleet(), tmp_path / "l.learnt.json"
    memory = Memory(one, CLOCK, path)
    memory.restore()
    lessons(one).keep("gpt", "drop:stop", NOW)
    running = asyncio.get_running_loop().create_task(memory.run())
    await asyncio.sleep(EVERY_S * 1.5)
    while not path.exists():  # noqa: ASYNC110 - it is written by a thread, and virtual time passes at once
        await asyncio.sleep(EVERY_S)
    running.cancel()

    assert kept(path)["providers"]["a"]["learnt"] == {"gpt": {"drop:stop": NOW}}


def test_where_it_lies() -> None:
    assert beside("logs/logs.jsonl") == Path("logs/logs.learnt.json")
    assert beside(None) is None
