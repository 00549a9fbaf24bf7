"""A line of the JSON log as what it tells of, and that for people. A log is outside text: any line may be anything."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec

from balancer.events import Attempt, Event, RequestBegan, RequestEnded
from balancer.telemetry.console import how, outcome, printable
from balancer.telemetry.levels import Entry, LogLine

LONGEST = 4000
"""Of a text that is shown in full, in characters."""

_FAILED = frozenset({"refused", "broken", "unfit"})
_FAILED_ENDS = frozenset({"failed", "broken_stream", "client_error"})
_SIGNS_OF_FAILURE = tuple(f'"outcome":"{word}"'.encode() for word in sorted(_FAILED | _FAILED_ENDS))

_HEAD_BYTES = 120
"""Time, level and event stand within these."""


class Unknown(msgspec.Struct, frozen=True):
    """An event that this version does not know, as another one has written it."""

    wall: float
    fields: dict[str, Any]


Line = Entry | Unknown


def decoded(line: bytes) -> Line | None:
    """Return what a line tells of; None: it can't be read."""
    try:
        fields = msgspec.json.decode(line)
        kind = LogLine if fields["event"] == "said" else Event
        return msgspec.convert({**fields, "type": fields["event"]}, kind)
    except msgspec.ValidationError:
        wall = fields.get("wall")
        return Unknown(wall, fields) if isinstance(wall, int | float) else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, ValueError):
        return None


def is_about(line: bytes, event: str) -> bool:
    """Say whether a line tells of that kind of event, without decoding it."""
    return f'"event":"{event}"'.encode() in line[:_HEAD_BYTES]


def may_have_failed(line: bytes) -> bool:
    """Say no where a request surely went well, without decoding it."""
    return is_about(line, "request_ended") and any(sign in line for sign in _SIGNS_OF_FAILURE)


def has_failed(entry: Line) -> bool:
    """Say whether it is a request of which an attempt or the end failed. That the client left is no failure."""
    return isinstance(entry, RequestEnded) and (
        entry.outcome in _FAILED_ENDS or any(attempt.outcome in _FAILED for attempt in entry.attempts)
    )


def unknown(entry: Unknown) -> str:
    """Return a line for an event that this version does not know."""
    at = time.strftime("%H:%M:%S", time.localtime(entry.wall))
    level = printable(str(entry.fields.get("level", "")), 8)
    shown = {k: v for k, v in entry.fields.items() if k not in ("time", "wall", "level", "event")}
    return f"{at} {level:<7} {printable(str(entry.fields.get('event')))} {printable(json.dumps(shown), 1000)}"


def record(began: RequestBegan | None, ended: RequestEnded | None) -> str:
    """Return everything that the log holds of one request."""
    request = ended or began
    if request is None:
        return ""
    rows = [("request", request.id), ("model", f"{request.model} ({_manner(request)})")]
    if began is not None:
        rows += _asked(began)
    if ended is None:
        return _aligned([*rows, ("outcome", "not in the log: it is still running, or the balancer was killed")])
    rows += _answered(ended)
    attempts = [_attempt(number, attempt) for number, attempt in enumerate(ended.attempts, 1)]
    return "\n".join([_aligned(rows), "attempts" if attempts else "attempts   none", *attempts])


def _manner(request: RequestBegan | RequestEnded) -> str:
    return f"{request.operation}, streamed" if request.stream else request.operation


def _asked(began: RequestBegan) -> list[tuple[str, str]]:
    rows = [("began", f"{_moment(began.wall)}, {began.body_bytes:,} bytes")]
    who = [began.user_agent, f"client {began.client}" if began.client else ""]
    return [*rows, ("by", ", ".join(filter(None, who)))] if any(who) else rows


def _answered(ended: RequestEnded) -> list[tuple[str, str]]:
    first = ended.first_content_s
    took = f", first token {first:.2f} s" if first is not None else ""
    rows = [
        ("ended", f"{_moment(ended.wall)}, total {ended.duration_s:.2f} s{took}"),
        ("outcome", f"{outcome(ended)} (status {ended.status})"),
        ("reason", ended.reason),
        ("provider", f"{ended.provider} ({ended.provider_model})" if ended.provider_model else ended.provider),
        ("tokens", _tokens(ended)),
        ("queued", f"{ended.queued_s:.2f} s" if ended.queued_s else ""),
        ("coalesced", {"leader": "others shared its answer", "follower": "with another request"}.get(ended.dedup, "")),
        ("pinned", "its conversation stays with the provider that was asked first" if ended.pinned else ""),
    ]
    return [*rows, *(("note", note) for note in ended.notes)]


def _tokens(ended: RequestEnded) -> str:
    usage = ended.usage
    read, written = usage.cache_read_tokens or 0, usage.cache_creation_tokens or 0
    taken = (usage.input_tokens or 0) + read + written
    if not taken and usage.output_tokens is None:
        return ""
    kinds = [(read, "read from the cache"), (written, "written to it")]
    cached = ", ".join(f"{count:,} {what}" for count, what in kinds if count)
    return f"{taken:,} in{cached and f' ({cached})'}, {usage.output_tokens or 0:,} out"


def _attempt(number: int, attempt: Attempt) -> str:
    said = how(attempt)
    reason = printable(attempt.reason, LONGEST)
    told = reason if reason.startswith(str(attempt.status)) else f"{said} {reason}" if reason not in said else said
    drill = " (drill)" if attempt.drill and "(drill)" not in told else ""
    where = (
        "" if attempt.outcome == "completed" else f", {printable(attempt.outcome)} in stage {printable(attempt.stage)}"
    )
    name = f"{printable(attempt.provider)} ({printable(attempt.model)})"
    return f"  {number}. {name}  {attempt.duration_s:.2f} s{where}: {told}{drill}"


def _moment(wall: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
    except (OverflowError, ValueError, OSError):  # no calendar has it
        return str(wall)


def _aligned(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<9}  {printable(words, LONGEST)}" for name, words in rows if words)
