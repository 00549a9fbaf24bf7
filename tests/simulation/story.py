"""The story of a simulation: what happened when, to whom, as a timeline that people read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

Line: TypeAlias = tuple[float, str, str, tuple[object, ...]]
"""When, who, a template, and what fills it in: put into words only if somebody reads it."""


@dataclass(slots=True)
class Story:
    """What happened in one simulation, in its order."""

    lines: list[Line] = field(default_factory=list)

    def tell(self, now: float, who: str, words: str, *details: object) -> None:
        """Add a line."""
        self.lines.append((now, who, words, details))

    def text(self) -> str:
        """Return all of it."""
        return "\n".join(f"{now:10.3f}  {who:<6} {words % details}" for now, who, words, details in self.lines)

    def about(self, numbers: set[str]) -> str:
        """Return what these requests, and everything that is no request, did."""
        kept = [line for line in self.lines if line[1] in numbers or not line[1].startswith("#")]
        return Story(kept).text()

    def digest(self) -> str:
        """Return a hash: two runs with the same one went the same way."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]
