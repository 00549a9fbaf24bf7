"""Durations and times of day, as people write them."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_AGO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, None: 1.0}


def span(text: str) -> float:
    """Return seconds: `30s`, `2m`, `1h`, `500ms`, `30`. Raises `ArgumentTypeError`."""
    match = _SPAN.fullmatch(text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text[:100]!r} is no duration; write 30s, 2m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]


def moment(text: str) -> float:
    """Return seconds since the epoch: a duration before now, a time of today, or a date. Raises `ArgumentTypeError`."""
    if match := _AGO.fullmatch(text):
        return time.time() - float(match[1]) * _UNITS_S[match[2]]
    today = f"{datetime.now().astimezone().date()}T"
    for day, written in ((today, today + text), ("", text.replace(" ", "T", 1))):
        try:
            meant = datetime.fromisoformat(written).timestamp()
        except (ValueError, OverflowError):
            continue
        # A time of day that is still to come was yesterday's.
        return meant - 86_400 if day and meant > time.time() else meant
    raise argparse.ArgumentTypeError(f"{text[:100]!r} is no time; write 10m, 2h, 14:30 or 2026-11-28T14:30")


def shown(seconds: float) -> str:
    """Return a duration for people: `8 s`, `9 min 52 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
