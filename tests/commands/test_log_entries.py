"""One line of the log: whatever stands in it, it is told or passed over, and no terminal obeys it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from telemetry.conftest import ended

from balancer.commands.log_entries import Unknown, decoded, has_failed, is_about, may_have_failed, record, unknown
from balancer.events import Attempt, CooldownStarted, Reloaded, RequestBegan
from balancer.model import Usage
from balancer.telemetry.jsonlines import line
from balancer.telemetry.levels import Entry, Level, LogLine

BEGAN = RequestBegan("req_0123456789", 1_800_000_000.0, "messages", "claude-x", True, 48_213, "ab12", "claude-cli/2")

WRITTEN: dict[str, Entry] = {
    "an end": ended(),
    "a beginning": BEGAN,
    "a cooldown": CooldownStarted(1.0, "a", 8.0, "529", 1),
    "a reload": Reloaded(1.0, 3, ("a",)),
    "a library": LogLine(1.0, Level.ERROR, "x", "y"),
}


@pytest.mark.parametrize("entry", WRITTEN.values(), ids=WRITTEN)
def test_what_was_written_is_read_back(entry: Entry) -> None:
    assert decoded(line(entry)) == entry


BROKEN = {
    "nothing": b"",
    "no JSON": b"hello",
    "half a line": line(ended())[:80],
    "no object": b"[1]",
    "no event": b'{"time":"x"}',
    "an event that is none": b'{"event":[]}',
    "no letters": b'{"event":"\xff"}',
    "too deep": b"[" * 100_000,
    "no time": b'{"event":"new","wall":"x"}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_can_not_be_read_is_passed_over(data: bytes) -> None:
    assert decoded(data) is None


def test_an_event_of_another_version_is_shown_as_it_stands() -> None:
    entry = decoded(b'{"event":"provider_moved","wall":1800000000.5,"level":"INFO","provider":"a\\u001b[2J\x7f"}')

    assert isinstance(entry, Unknown)
    told = unknown(entry)
    assert 'INFO    provider_moved {"provider": "a' in told
    assert told.isprintable()


FAILED: dict[str, tuple[dict[str, Any], bool]] = {
    "a failed attempt, a good end": ({}, True),
    "all well": ({"attempts": (Attempt("b", "m", "completed", "stream", 1.0),)}, False),
    "a failed end": ({"attempts": (), "outcome": "failed"}, True),
    "a broken stream": ({"attempts": (), "outcome": "broken_stream"}, True),
    "the client's mistake": ({"attempts": (), "outcome": "client_error"}, True),
    "the client left": (
        {"attempts": (Attempt("b", "m", "abandoned", "stream", 1.0),), "outcome": "abandoned"},
        False,
    ),
    "no attempt": ({"attempts": ()}, False),
}


@pytest.mark.parametrize(("fields", "failed"), FAILED.values(), ids=FAILED)
def test_what_has_failed(fields: dict[str, Any], failed: bool) -> None:
    entry = ended(**fields)

    assert has_failed(entry) is failed
    assert may_have_failed(line(entry)) is failed


def test_other_events_are_no_failed_requests() -> None:
    assert not has_failed(CooldownStarted(1.0, "a", 8.0, "529", 1))
    assert not may_have_failed(line(CooldownStarted(1.0, "a", 8.0, "529", 1)))
    assert is_about(line(BEGAN), "request_began")


def test_a_whole_record() -> None:
    told = record(BEGAN, ended(queued_s=0.5, dedup="leader", pinned=True, notes=("dropped a beta",)))

    for words in (
        "request    req_0123456789",
        "model      claude-x (messages, streamed)",
        "48,213 bytes",
        "by         claude-cli/2, client ab12",
        "total 3.25 s, first token 0.42 s",
        "outcome    ok (status 200)",
        "provider   b (claude-x)",
        "tokens     105 in (5 read from the cache), 20 out",
        "queued     0.50 s",
        "coalesced  others shared its answer",
        "pinned     ",
        "note       dropped a beta",
        "attempts\n  1. a (claude-x)  0.05 s, refused in stage wait: 529 overloaded_error\n  2. b (claude-x)  3.10 s: ok",
    ):
        assert words in told


def test_a_failure_is_told_once_and_whole() -> None:
    reason = "connection refused by the host after a long while"
    attempts = (
        Attempt("a", "m", "broken", "connect", 0.1, None, reason),
        Attempt("b", "m", "refused", "wait", 0.1, 500, "500 api_error", drill=True),
    )
    told = record(
        None, ended(attempts=attempts, outcome="failed", status=503, reason="nobody", usage=Usage(), provider="")
    )

    assert told.count(reason) == 1
    assert "outcome    503 failed (status 503)\nreason     nobody\n" in told
    assert "2. b (m)  0.10 s, refused in stage wait: 500 api_error (drill)" in told
    assert "tokens" not in told


def test_a_request_that_has_not_ended() -> None:
    assert "still running" in record(BEGAN, None)


def test_a_request_that_nobody_was_asked_for() -> None:
    assert record(None, ended(attempts=())).endswith("attempts   none")


@pytest.mark.parametrize("nasty", ["\x1b[2J", "\x9b31m", "a\nb", "‮", "\x07"])
def test_no_terminal_obeys_a_log(nasty: str) -> None:
    fields: dict[str, Any] = json.loads(line(ended(outcome="failed")))
    began: dict[str, Any] = json.loads(line(BEGAN))
    for record_of in (fields, began):
        for key, value in record_of.items():
            if isinstance(value, str) and key != "event":
                record_of[key] = value + nasty
    fields["attempts"] = [{k: v + nasty if isinstance(v, str) else v for k, v in a.items()} for a in fields["attempts"]]
    fields["notes"] = [nasty]
    one, other = decoded(json.dumps(began).encode()), decoded(json.dumps(fields).encode())

    told = record(one, other)  # type: ignore[arg-type]
    assert all(row.isprintable() for row in told.split("\n"))
    assert len(told.split("\n")) == len(record(BEGAN, ended(outcome="failed", notes=("n",))).split("\n"))


def test_a_time_that_no_calendar_has() -> None:
    assert "1e+300" in record(None, ended(wall=1e300))
