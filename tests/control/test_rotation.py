"""When keys that programs print are renewed: in time, after a refusal, and not for anything else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from virtual_time import in_virtual_time, settled

from balancer.config import Config, load
from balancer.config.credential_commands import FRESH_S, REFUSED_S, CredentialCommands
from balancer.control.rotation import Rotation
from balancer.events import Reloaded

pytestmark = pytest.mark.live

CANARY = "sk-canary-V9q3XrT7bLw2Zk8N"
TEXT = """
providers:
  - {{name: a, type: anthropic, base_url: "https://a.example.com", auth_value_command: [{python}, print.py]}}
  - {{name: b, type: anthropic, base_url: "https://b.example.com", auth_value: sk-canary-of-b-12345}}
model_routes: {{"*": [{{provider: a}}, {{provider: b}}]}}
"""


class Kept:
    """A configuration that is read again, and how often it was."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.get_running_loop()
        self.commands = CredentialCommands(self.loop.time)
        self.folder = folder
        self.times = 0
        self.path = folder / "providers.yaml"
        self.path.write_text(TEXT.format(python=sys.executable))
        self.prints("key-1")
        self.config: Config = load(self.path, {}, self.commands)
        self.rotation = Rotation(self.commands, lambda: self.config, self.read_again)

    def prints(self, key: str, then: str = "") -> None:
        (self.folder / "print.py").write_text(f"print('{CANARY}-{key}')\n{then}")

    async def read_again(self) -> None:
        self.times += 1
        self.config = load(self.path, {}, self.commands)

    @property
    def key(self) -> str:
        return self.config.providers["a"].secret.removeprefix(CANARY + "-")


@contextlib.asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[Kept]:
    one = Kept(folder)
    task = asyncio.create_task(one.rotation.run())
    await settled()
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_a_key_is_renewed_before_anybody_misses_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.prints("key-2")
        await asyncio.sleep(FRESH_S - 5)
        assert (one.key, one.times) == ("key-1", 0)
        await asyncio.sleep(10)

        assert (one.key, one.times) == ("key-2", 1)


@in_virtual_time
async def test_a_key_is_renewed_when_its_provider_has_refused_it_but_not_in_a_hurry(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.prints("key-2")
        one.rotation.refused("a")
        await asyncio.sleep(3)
        assert (one.key, one.times) == ("key-2", 1)
        one.prints("key-3")
        for _ in range(5):
            one.rotation.refused("a")
        await asyncio.sleep(3)
        assert one.times == 1
        await asyncio.sleep(REFUSED_S)

        assert (one.key, one.times) == ("key-3", 2)


@in_virtual_time
async def test_what_says_nothing_about_a_printed_key_renews_none(tmp_path: Path) -> None:
    async with kept(tmp_path) as one:
        one.rotation.refused("b")
        one.rotation.refused("gone")
        one.rotation.on_event(Reloaded(0.0, 1))
        await asyncio.sleep(FRESH_S / 2)

        assert one.times == 0


@in_virtual_time
async def test_a_failure_is_logged_without_the_key_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with kept(tmp_path) as one:
        one.prints("key-2", "raise SystemExit(7)")
        with caplog.at_level(logging.WARNING):
            one.rotation.refused("a")
            await asyncio.sleep(3)

        assert one.key == "key-1"
        assert [record.getMessage() for record in caplog.records] == [
            "the auth_value_command of a failed: it ended with status 7; the key that it printed before is still used"
        ]
