"""`balancer usage` beside a balancer that runs: for people, for programs, for spreadsheets; and a kill loses nothing."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from balancer.cli import main

from .conftest import Start, ask


def test_usage_is_shown_in_each_form(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    one = start("--port", "0")
    url = one.url()
    assert main(["usage", "--url", url]) == 0
    assert "no requests since" in capsys.readouterr().out
    ask(url)
    rows = _rows(url, capsys)
    assert rows[0]["requests"] == 1
    assert main(["usage", "--url", url, "--by", "model"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["model", "asked"]
    assert main(["usage", "--url", url, "--csv"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert (head.split(",")[:2], row.split(",")[1]) == (["day", "requests"], "1")
    assert main(["usage", "--url", url, "--since", "soon"]) == 1
    assert "a span like 24h" in capsys.readouterr().err

    os.kill(one.process.pid, signal.SIGKILL)
    one.ended()
    again = start("--port", "0")
    assert _rows(again.url(), capsys)[0]["requests"] == 1, "what was written outlives a kill"


def _rows(url: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, int]]:
    ends = time.monotonic() + 10
    while True:
        assert main(["usage", "--url", url, "--json"]) == 0
        rows: list[dict[str, int]] = json.loads(capsys.readouterr().out)["groups"]
        if rows:
            return rows
        assert time.monotonic() < ends
        time.sleep(0.05)
