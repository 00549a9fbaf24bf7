"""Waking, pausing and resuming a provider of a balancer that runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from balancer.cli import build, main
from balancer.commands.arguments import parse

from .conftest import Start, ask, get


@pytest.mark.parametrize("order", ["wake", "pause", "resume"])
def test_an_order_names_a_provider(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = parse(build(), [order, "main", "--url", "http://127.0.0.1:1", "--key", "k"])
    assert (args.name, args.url, args.key) == ("main", "http://127.0.0.1:1", "k")

    with pytest.raises(SystemExit) as ended:
        parse(build(), [order])
    assert ended.value.code == 2
    assert "PROVIDER" in capsys.readouterr().err


@pytest.mark.live
def test_a_provider_is_paused_resumed_and_woken(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start("--port", "0")
    url = running.url()

    assert main(["pause", "quick", "--url", url]) == 0
    told = capsys.readouterr().out
    assert told.startswith("quick: it gets no requests until a restart, or ")
    assert told.endswith(f"resume quick --url {url}; state: paused\n")
    assert "'slow'" in ask(url, max_tokens=8)["content"][0]["text"]
    assert main(["status", "--url", url]) == 0
    assert "paused" in capsys.readouterr().out

    assert main(["resume", "quick", "--url", url]) == 0
    assert capsys.readouterr().out == "quick: it is no longer paused; state: healthy\n"
    assert "'quick'" in ask(url, max_tokens=8)["content"][0]["text"]

    assert main(["wake", "quick", "--url", url]) == 0
    assert capsys.readouterr().out == "quick: its cooldown is ended; state: healthy\n"
    running.until("quick is paused")
    running.until("quick is resumed")
    running.until("quick: cooldown ended by hand")


@pytest.mark.live
def test_an_order_about_nobody_is_refused_with_the_names_there_are(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = start("--port", "0").url()

    for order in ("wake", "pause", "resume"):
        assert main([order, "nobody", "--url", url]) == 1
        assert "there is no provider 'nobody'; there are: quick, slow" in capsys.readouterr().err


def test_without_a_balancer_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wake", "main", "--url", "http://127.0.0.1:9"]) == 1
    assert "no balancer answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_a_wrong_configuration_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("providers: 7\n")

    assert main(["wake", "main", "--config", str(tmp_path / "p.yaml")]) == 2
    assert "p.yaml:1:" in capsys.readouterr().err


@pytest.mark.live
def test_with_several_workers_it_reaches_all_of_them(
    start: Start, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start("--port", "0", "--workers", "2")
    url = running.url()
    get(url, "/health")

    try:
        assert main(["pause", "quick", "--url", url]) == 0
        assert capsys.readouterr().err == ""
        for _ in range(8):
            _, shown = get(url, "/providers")
            assert shown["providers"][0]["state"] == "paused"
    finally:
        running.process.send_signal(signal.SIGTERM)  # the workers end with it
        running.ended()
