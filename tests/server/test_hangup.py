"""What a hang-up means. Closed terminals are in `supervisor/test_signals.py`."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from balancer.app import create_app
from balancer.server.hangup import Hangup

FILE = "providers: [{name: a, type: simulated}]\nmodel_routes: {'*': [{provider: a}]}\nsettings: {log_file: null}\n"


async def test_an_application_under_another_server_reads_its_file_again(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(FILE)
    app = create_app(str(path))
    read = asyncio.Event()
    app.on_reload = read.set
    await app.start()
    try:
        path.write_text(FILE.replace("name: a", "name: b").replace("provider: a", "provider: b"))
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(read.wait(), 10)
        assert list(app.fleet.config.providers) == ["b"]
    finally:
        await app.stop()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_who_has_another_handler_keeps_it_and_a_hangup_sent_on_purpose_is_no_end() -> None:
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        hangup = Hangup()
    finally:
        signal.signal(signal.SIGHUP, before)

    assert not hangup.is_ours
    assert not hangup.ends()
