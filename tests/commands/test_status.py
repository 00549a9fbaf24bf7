"""The providers of a balancer that runs, for people and for programs, in any width."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from balancer.cli import main
from balancer.commands.status import lines

from .conftest import ROOT, Running, Start, ask, environment

WITHIN_S = 20.0
NOW = time.mktime((2026, 11, 28, 12, 3, 4, 0, 0, -1))


def provider(**fields: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "name": "a-provider-s-name",
        "type": "anthropic",
        "state": "healthy",
        "resting_for_s": 0.0,
        "in_flight": 1,
        "requests": 1900,
        "successes": 7,
        "failures": 2,
        "latency": {"first_substance_s": 0.5},
        "tokens": {"input": 1200, "output": 30},
        "last_error": None,
    }
    return known | fields


def told(*providers: dict[str, Any], width: int | None = None, **view: Any) -> list[str]:
    known = {"healthy_providers": 1, "total_providers": 1, "selection_strategy": "priority"}
    return [line.plain for line in lines(known | view | {"providers": list(providers)}, width, NOW)]


LONG = "529 overloaded_error " + "and so on " * 40 + "END"


def test_until_when_and_the_last_error_stand_in_lines_of_their_own_and_whole() -> None:
    resting = provider(
        state="resting",
        resting_for_s=592.4,
        last_error={"status": 529, "kind": "overloaded_error", "message": LONG, "at": NOW - 64},
    )
    title, _, row, until, error = told(resting, width=80)

    assert title == "1 of 1 providers healthy, strategy priority"
    assert row.split()[:2] == ["a-provider-s-name", "resting"]
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW + 592.4))
    assert until in (
        f"    cooldown until {local}, 9 min 52 s left",
        f"    cooldown until {local[11:]}, 9 min 52 s left",
    )
    assert re.fullmatch(rf"    last error .*12:02:00 \(1 min 4 s ago\): {LONG}", error)


def test_what_a_person_must_do_comes_first() -> None:
    needy = provider(state="resting", resting_for_s=9.0, needs_operator="401: the key is refused")

    assert told(needy)[3] == "    NEEDS YOU: 401: the key is refused"


def test_a_provider_that_is_paused_and_models_in_cooldown_and_drills() -> None:
    resting = {"resting_models": {"claude-x": 30}, "counting_resting_for_s": 20}
    shown = told(provider(state="paused", drill={"fault": "529"}, **resting))

    assert "paused" in shown[2]
    assert re.fullmatch(r"    paused by hand; to undo that: \S*balancer resume a-provider-s-name", shown[3])
    assert "cooldown for counting tokens until" in shown[4]
    assert "20 s left" in shown[4]
    assert "cooldown of claude-x until" in shown[5]
    assert "30 s left" in shown[5]
    assert shown[6] == "    fault injection: 529"


def test_an_error_names_its_status_and_kind_once() -> None:
    named = provider(last_error={"status": 529, "kind": "overloaded_error", "message": "529 overloaded_error busy"})
    bare = provider(last_error={"status": 401, "kind": "authentication_error", "message": "no such key"})

    assert told(named)[3] == "    last error: 529 overloaded_error busy"
    assert told(bare)[3] == "    last error: 401 authentication_error no such key"


DROPPED = {
    None: ["provider", "state", "type", "in flight", "requests", "ok", "failed", "first token", "tokens in→out"],
    120: ["provider", "state", "type", "in flight", "requests", "ok", "failed", "first token", "tokens in→out"],
    80: ["provider", "state", "in flight", "requests", "ok", "failed", "first token"],
    40: ["provider", "state", "requests"],
    10: ["provider", "state"],
}


@pytest.mark.parametrize(("width", "headings"), DROPPED.items())
def test_columns_that_do_not_fit_are_left_out(width: int | None, headings: list[str]) -> None:
    shown = told(provider(), width=width)[1]

    assert re.split(r" {2,}", shown) == headings
    assert width is None or width < 20 or len(shown) <= width


def test_no_terminal_obeys_what_was_sent() -> None:
    nasty = "x\x1b[2J\n\u202e[red]"
    error = {"status": nasty, "kind": nasty, "message": nasty, "at": "never"}
    shown = told(
        provider(name=nasty, state=nasty, type=nasty, last_error=error, needs_operator=nasty, drill={"fault": nasty},
                 resting_models={nasty: "x"}, latency=1, tokens="x", in_flight=nasty),
        selection_strategy=nasty,
    )  # fmt: skip

    assert all(line.isprintable() for line in shown)


@pytest.mark.live
def test_status_shows_the_providers(start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = start("--port", "0").url()
    ask(url)

    assert main(["status", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 providers healthy" in shown
    row = next(line for line in shown.splitlines() if "quick" in line)
    assert "healthy" in row
    assert "→" in row, "in a pipe nothing has to fit"

    assert main(["status", "--url", url, "--json"]) == 0
    assert [p["name"] for p in json.loads(capsys.readouterr().out)["providers"]] == ["quick", "slow"]


def test_where_no_balancer_answers_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "http://127.0.0.1:9"]) == 1

    assert "balancer: error: no balancer answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_a_configuration_that_is_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", "none.yaml"]) == 2

    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.live
def test_watching_goes_on_over_a_restart(start: Start, config_file: Path) -> None:
    first = start("--port", "0")
    url = first.url()
    watching = start(
        argv=[sys.executable, "-m", "balancer.cli", "status", "--watch", "--url", url], PYTHONPATH=str(ROOT / "src")
    )
    watching.until("2 of 2 providers healthy")
    first.process.send_signal(signal.SIGTERM)
    assert first.ended() == 0
    gone = watching.until("gone since")
    assert re.fullmatch(rf"no balancer at {url}: gone since \d\d:\d\d:\d\d, trying again", gone)

    start("--port", url.rpartition(":")[2]).url()
    watching.until(url)  # the line that is there only when it answers
    _interrupt(watching)


@pytest.mark.live
def test_watching_may_begin_before_the_balancer(start: Start, config_file: Path) -> None:
    first = start("--port", "0")
    url = first.url()
    first.process.send_signal(signal.SIGTERM)
    first.ended()
    watching = start(
        argv=[sys.executable, "-m", "balancer.cli", "status", "--watch", "--url", url], PYTHONPATH=str(ROOT / "src")
    )
    watching.until("trying again")

    start("--port", url.rpartition(":")[2]).url()
    watching.until("2 of 2 providers healthy")
    _interrupt(watching)


def _interrupt(watching: Running) -> None:
    watching.process.send_signal(signal.SIGINT)
    assert watching.ended() == 0
    assert watching.err == []


@pytest.mark.live
def test_in_a_terminal_of_80_columns(start: Start, config_file: Path) -> None:
    url = start("--port", "0").url()
    assert main(["drill", "quick", "--fault", "401", "--url", url]) == 0
    ask(url, max_tokens=5)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "balancer.cli", "status", "--url", url]
    env = environment(PYTHONPATH=str(ROOT / "src"), TERM="xterm")
    env.pop("COLUMNS", None)
    with subprocess.Popen(command, env=env, stdin=child, stdout=child) as process:
        assert process.wait(WITHIN_S) == 0
    shown = b""
    while select.select([parent], [], [], 0)[0]:
        shown += os.read(parent, 65536)
    os.close(child)
    os.close(parent)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert max(map(len, plain)) <= 80
    assert re.match(r"quick +resting", plain[2])
    assert any("cooldown until" in line for line in plain)
    assert any("last error" in line and "401" in line for line in plain)
