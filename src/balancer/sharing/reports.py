"""What workers report of themselves: as bytes, and added up."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from balancer.sharing.protocol import Report

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


def packed(report: Report) -> bytes:
    """Return a report as bytes."""
    return _encoder.encode(report)


def unpacked(data: bytes) -> Report:
    """Return the report that these bytes hold; an empty one, where they hold none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Report({})


def add_up(total: dict[str, list[float]], counters: Mapping[str, list[float]]) -> None:
    """Add counters to a sum, name by name and number by number."""
    for name, numbers in counters.items():
        known = total.get(name)
        if known is None or len(known) != len(numbers):
            total[name] = list(numbers)
        else:
            total[name] = [one + other for one, other in zip(known, numbers, strict=True)]
