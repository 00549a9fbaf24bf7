"""Watching a file: changed, replaced, gone for a moment; and the file of variables beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from balancer.config.watch import watch


async def test_changes_are_noticed_and_a_missing_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text("one")
    changes: asyncio.Queue[str] = asyncio.Queue()

    async def changed() -> None:
        changes.put_nowait(path.read_text())

    task = asyncio.create_task(watch(path, changed, interval_s=0.01))
    assert await changes.get() == "one"
    path.write_text("changed")
    assert await changes.get() == "changed"

    path.unlink()
    (tmp_path / "new").write_text("replaced")
    (tmp_path / "new").rename(path)
    assert await changes.get() == "replaced"

    (tmp_path / ".env").write_text("A=1")
    assert await changes.get() == "replaced"
    (tmp_path / ".env").unlink()
    assert await changes.get() == "replaced"

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_certificate_and_its_key_are_noticed_together_when_both_are_there(tmp_path: Path) -> None:
    path, cert, key = (tmp_path / name for name in ("providers.yaml", "cert.pem", "key.pem"))
    for file in (path, cert, key):
        file.write_text("old")
    changes: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def changed() -> None:
        changes.put_nowait((cert.read_text(), key.read_text() if key.exists() else "gone"))

    task = asyncio.create_task(watch(path, changed, interval_s=0.1, more=lambda: (cert, key)))
    assert await changes.get() == ("old", "old")
    cert.write_text("new one")
    await asyncio.sleep(0.02)
    key.write_text("new one")
    assert await changes.get() == ("new one", "new one")

    key.unlink()
    assert await changes.get() == ("new one", "gone")
    key.write_text("back")
    assert await changes.get() == ("new one", "back")
    await asyncio.sleep(0.5)
    assert changes.empty()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
