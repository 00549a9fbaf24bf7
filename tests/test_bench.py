"""The bench measures what it says, and an answer that is not whole never counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import convert, meter
from bench.answer import Incomplete, UpstreamResponse
from bench.figures import LARGE, SMALL, WORKS, Comparison, Figure, Sample, Work
from bench.ground import Cores
from bench.phases import TINY
from bench.report import Report
from bench.traffic import CLOSING, DELTA, OPENING, STREAM_HEAD, ask, burst, chunk, manner_of, whole

ROOT = Path(__file__).parent.parent
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the accounting of Linux")


@LINUX
@pytest.mark.live
@pytest.mark.timeout(120)
def test_a_tiny_run_measures_everything() -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "--no-litellm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for title in (work.title for work in WORKS):
        assert f"\n| {title} " in done.stdout
    for title in ("idle RSS", "an open stream", "added time to first byte", "abandoned streams still open"):
        assert f"\n| {title}" in done.stdout


@pytest.mark.live
def test_a_part_that_is_not_known_is_said() -> None:
    command = [sys.executable, "-m", "bench", "--only", "smal"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such part: smal" in done.stderr


STREAM = burst(300)
COMPLETE = {
    "a message": (None, [whole()]),
    "a message whose end comes later": (None, [whole()[:300], whole()[300:]]),
    "a stream": (300, [STREAM]),
    "a stream whose last chunk is cut": (300, [STREAM[:-2], STREAM[-2:]]),
    "a mark cut by two chunks": (
        1,
        [STREAM_HEAD + OPENING + chunk(b"event: content_blo") + chunk(b"ck_delta\n") + CLOSING],
    ),
}


@pytest.mark.parametrize(("events", "parts"), COMPLETE.values(), ids=COMPLETE)
def test_a_whole_answer_is_complete_with_its_last_byte(events: int | None, parts: list[bytes]) -> None:
    answer = UpstreamResponse(events)
    assert [answer.feed(part) for part in parts] == [False] * (len(parts) - 1) + [True]
    answer.end()


WRONG = {
    "a refusal": (None, b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}", "503"),
    "a message cut in its JSON": (None, b'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"a":', "not whole"),
    "one delta too few": (300, burst(299), "299 deltas of 300"),
    "no message_stop": (1, STREAM_HEAD + OPENING + DELTA + b"0\r\n\r\n", "0 message_stop"),
    "a message where a stream was asked": (300, whole(), "0 deltas"),
}


@pytest.mark.parametrize(("events", "data", "why"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_incomplete(events: int | None, data: bytes, why: str) -> None:
    with pytest.raises(Incomplete, match=why):
        UpstreamResponse(events).feed(data)


@pytest.mark.parametrize("received", [b"", whole()[:100], STREAM[:-1]], ids=["nothing", "half a head", "no last chunk"])
def test_a_connection_that_closes_early_is_incomplete(received: bytes) -> None:
    answer = UpstreamResponse(3)
    assert not answer.feed(received)
    with pytest.raises(Incomplete, match="closed"):
        answer.end()


def test_requests_are_distinct_and_of_their_size() -> None:
    for size, least, most in (("small", 500, 2_000), ("large", 402_000, 402_000)):
        one, other = (b"".join(ask(size, "bench-whole").pieces(number)) for number in (1, 2))
        head, _, body = one.partition(b"\r\n\r\n")
        assert one != other
        assert f"Content-Length: {len(body)}".encode() in head
        assert least <= len(body) <= most


def test_a_model_that_is_not_ours_has_no_manner() -> None:
    assert manner_of("anthropic/bench-paced-100x30").every_ms == 30
    with pytest.raises(ValueError, match="claude"):
        manner_of("claude-opus-5-5")


@pytest.mark.live
@LINUX
def test_the_meter_counts_threads_and_children() -> None:
    burn = "import time\nwhile time.process_time() < 0.1: pass\n"
    both = (
        f"import subprocess, sys, threading\ncode = {burn!r}\n"
        "thread = threading.Thread(target=exec, args=(code, {}))\nthread.start(); thread.join()\n"
        "child = subprocess.Popen([sys.executable, '-c', code + 'print(1, flush=True)\\ninput()'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(1, flush=True); input(); child.communicate(b'\\n')"
    )
    command = [sys.executable, "-c", both]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert len(meter.family(process.pid)) == 2
        assert meter.cpu_s(process.pid) >= 0.2
        assert meter.rss_bytes(process.pid) > 5_000_000
        process.communicate(b"\n")


def test_a_report_says_what_is_missed() -> None:
    def compared(work: Work, ours: list[float]) -> Comparison:
        return Comparison(work, {"nginx": [Sample(10, 1)] * 3, "balancer": [Sample(cpu, 1) for cpu in ours]})

    report = Report(Cores(frozenset(), frozenset()), TINY)
    report.comparisons = [compared(SMALL, [70, 79, 999]), compared(LARGE, [50, 56, 60])]
    report.figures = [Figure("idle RSS", 81, "MB", floor=80), Figure("added time", 0.4, "ms", floor=1)]
    report.failures = ["run: 1 failed"]
    assert report.missed() == ["402 KB request: 5.60 > 5.5", "idle RSS: 81.00 > 80 MB", "run: 1 failed"]


@pytest.mark.live
def test_litellm_is_measured_with_its_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "litellm"
    program.write_text(f"#!{sys.executable} -I\n")
    monkeypatch.setenv("BENCH_LITELLM", str(program))

    assert convert.interpreter_of(str(program)) == [sys.executable, "-I"]
    assert convert.interpreter_of(str(tmp_path / "nowhere")) is None
    # this Python has none
    assert "could not be measured" in convert.beside_litellm(b"{}", convert.Costs(1.0, 1.0))


def test_an_exchange_is_a_request_and_its_chunks() -> None:
    assert convert.Costs(2.0, 10.0).exchange_ms == 2.0 + convert.EXCHANGE_CHUNKS * 0.01
