"""Watching a file: changed, replaced, gone for a moment, half written; and the file of variables beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from balancer.config import watch as watching
from balancer.config.watch import stamp, watch

LOOK_S = 0.01


@asynccontextmanager
async def watched(path: Path, on_change: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    task = asyncio.create_task(watch(path, on_change, interval_s=LOOK_S))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Reader:
    """Reads the file whenever it is told to, if it can."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: asyncio.Queue[str] = asyncio.Queue()
        self.fails = 0
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        if self.fails:
            self.fails -= 1
            return False
        self.read.put_nowait(self.path.read_text())
        return True


async def test_changes_are_noticed_and_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    reader = Reader(path)
    async with watched(path, reader):
        assert await reader.read.get() == "one"
        path.write_text("changed")
        assert await reader.read.get() == "changed"

        path.unlink()
        (tmp_path / "new").write_text("replaced")
        (tmp_path / "new").rename(path)
        assert await reader.read.get() == "replaced"

        (tmp_path / ".env").write_text("A=1")
        assert await reader.read.get() == "replaced"
        (tmp_path / ".env").unlink()
        assert await reader.read.get() == "replaced"


async def test_a_file_that_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    reader = Reader(path)
    reader.fails = 3
    async with watched(path, reader):
        assert await reader.read.get() == "one"
        assert reader.asked == 4
        path.write_text("changed")
        assert await reader.read.get() == "changed"


async def test_watching_goes_on_after_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    errors: list[Exception] = [ValueError("odd"), RuntimeError("can't start new thread")]
    done = asyncio.Event()

    async def changed() -> bool:
        if errors:
            raise errors.pop()
        done.set()
        return True

    async with watched(path, changed):
        await done.wait()
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("odd",)
    ], "a shortage passes, and is told of elsewhere"


async def test_a_file_that_grows_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("begin ")
    reader = Reader(path)
    async with watched(path, reader):
        for _ in range(20):  # more often than it is looked at
            with path.open("a") as file:
                file.write("more ")
            await asyncio.sleep(LOOK_S / 4)
        path.write_text("whole")
        text = await reader.read.get()
    assert text == "whole"


async def test_a_change_of_the_same_size_with_the_time_put_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    before = path.stat()
    reader = Reader(path)
    async with watched(path, reader):
        assert await reader.read.get() == "one"
        path.write_text("two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert await reader.read.get() == "two"


async def test_the_content_is_looked_at_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CONTENT_EVERY", 3)
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    reader = Reader(path)
    async with watched(path, reader):
        for _ in range(3):
            assert await reader.read.get() == "one"


def test_a_stamp_tells_contents_apart(tmp_path: Path) -> None:
    path, env, other = tmp_path / "providers.yaml", tmp_path / ".env", tmp_path / "other"
    path.write_text("ab")
    first = stamp(path)
    os.utime(path)
    assert stamp(path) == first
    env.write_text("")
    second = stamp(path)
    assert second != first
    path.write_text("a")
    env.write_text("b")
    third = stamp(path)
    assert third not in (first, second)
    other.write_text("c")
    assert stamp(path, [other]) != third
    other.unlink()
    assert stamp(path, [other]) == stamp(path, [other]), "what is not there is no error"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        stamp(path)
