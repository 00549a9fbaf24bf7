"""The figures the bench gives, and the floors they must reach."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

Unit = Literal["request", "event"]


@dataclass(frozen=True, slots=True)
class Work:
    """Something that every proxy is given to do, and what its CPU may be, as a multiple of nginx's."""

    key: str
    title: str
    size: Literal["small", "large"]
    model: str
    floor: float
    per: Unit = "request"


SMALL = Work("small", "small request", "small", "bench-whole", floor=8)
STREAM = Work("stream", "small request, 300 events", "small", "bench-stream-300", floor=2.5)
LARGE = Work("large", "402 KB request", "large", "bench-whole", floor=5.5)
LARGE_STREAM = Work("large-stream", "402 KB request, 300 events", "large", "bench-stream-300", floor=4)
PACED = Work("paced", "one paced event", "small", "bench-paced", floor=2.5, per="event")
WORKS = (SMALL, STREAM, LARGE, LARGE_STREAM, PACED)


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition of one work through one proxy."""

    cpu_us: float
    """CPU of the whole proxy per request or event."""
    per_s: float
    """Requests or events per second while it lasted; says how busy it was, not how fast it could be."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One work through every proxy: samples of the same repetition stand at the same place."""

    work: Work
    samples: dict[str, list[Sample]]

    def cpu_us(self, name: str) -> float:
        """Return the median cost of `name`."""
        return statistics.median(sample.cpu_us for sample in self.samples[name])

    def ratios(self, name: str) -> list[float]:
        """Return the ratio to nginx of each repetition, smallest first; empty without nginx."""
        pairs = zip(self.samples.get(name, []), self.samples.get("nginx", []), strict=False)
        return sorted(ours.cpu_us / nginx.cpu_us for ours, nginx in pairs)

    def ratio(self, name: str) -> float | None:
        ratios = self.ratios(name)
        return statistics.median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the balancer that is no ratio."""

    title: str
    value: float
    unit: str
    floor: float | None = None
    """It must not be more than this."""
    nginx: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        return self.floor is not None and self.value > self.floor
