"""Durations as people write them."""

from __future__ import annotations

import argparse
import re

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def span(text: str) -> float:
    """Return seconds: `30s`, `2m`, `1h`, `500ms`, `30`. Raises `ArgumentTypeError`."""
    match = _SPAN.fullmatch(text)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30s, 2m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]
