"""The ends of requests whose worker was killed: it can't tell them any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from balancer.events import RequestBegan, RequestEnded
from balancer.telemetry.metrics import Metrics

_decoder = msgspec.msgpack.Decoder(RequestBegan)


def cut_off(left: Iterable[bytes], worker: int, wall: float) -> Iterator[RequestEnded]:
    """Return the events by which requests end that a worker has begun (each `RequestBegan`) and not ended.

    Nothing is known of who answered, and of how far the answer came.
    """
    for data in left:
        try:
            began = _decoder.decode(data)
        except msgspec.MsgspecError:
            continue
        yield RequestEnded(
            began.id,
            wall,
            began.operation,
            began.model,
            began.stream,
            0,
            "failed",
            max(0.0, wall - began.wall),
            reason=f"worker {worker}, which served it, has ended",
        )


def counted(events: Iterable[RequestEnded], tell: Callable[[RequestEnded], None]) -> dict[str, list[float]]:
    """Tell of these ends, and return what they add to the metrics."""
    metrics = Metrics()
    for event in events:
        tell(event)
        metrics.take(event)
    return metrics.counters()
