"""What goes on now and went on lately, for the live page: requests in flight, the last ones, an hour by minutes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from balancer.events import Attempt, Event, RequestBegan, RequestEnded

KEPT = 200
"""So many finished requests are kept."""

IN_FLIGHT_SHOWN = 200

MINUTES = 60
"""So many minutes of each provider are kept."""

BATCH = 256
"""So many events are looked at in one go."""

WINDOW_S = 300.0
"""First tokens of so long are summed up."""

SAMPLES_MAX = 5000

_OK, _HIDDEN, _FAILED = range(3)


class Recent:
    """A listener that remembers. Everything in it is bounded."""

    KINDS: ClassVar[tuple[type[Event], ...]] = (RequestBegan, RequestEnded)

    def __init__(self) -> None:
        self.latest = 0
        """The number of the request that ended last; they are counted from 1."""
        self._in_flight: dict[str, RequestBegan] = {}
        self._waiting: list[RequestEnded] = []
        self._ended: deque[tuple[int, RequestEnded]] = deque(maxlen=KEPT)
        self._minutes: dict[int, dict[str, int]] = {}
        """By minute and provider: the worst that happened."""
        self._first: deque[tuple[float, float]] = deque(maxlen=SAMPLES_MAX)
        self._per_minute: Counter[int] = Counter()
        self._day = ""
        self._hidden = 0
        """How many requests of this day another provider answered, unseen by the client."""

    def take(self, event: Event) -> None:
        """Remember an event."""
        if isinstance(event, RequestBegan):
            self._in_flight[event.id] = event
        elif isinstance(event, RequestEnded):
            self._in_flight.pop(event.id, None)
            self._waiting.append(event)
            self.latest += 1
            if len(self._waiting) >= BATCH:
                self._look()

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self._ended.extend(enumerate(waiting, self.latest - len(waiting) + 1))
        newest, first = -1, self._first
        minutes: dict[str, int] = {}
        for event in waiting:
            minute = int(event.wall // 60)
            if minute != newest:
                newest = minute
                self._begin_day(event.wall)
                minutes = self._minutes.setdefault(minute, {})
            self._per_minute[minute] += 1
            if event.first_content_s is not None:
                first.append((event.wall, event.first_content_s))
            attempts = event.attempts
            if len(attempts) == 1 and event.outcome == "ok":  # so it is most of the time
                minutes.setdefault(attempts[0].provider, _OK)
            else:
                self._look_at(attempts, minutes, good=event.outcome == "ok")
        self._forget()

    def _look_at(self, attempts: Sequence[Attempt], minutes: dict[str, int], *, good: bool) -> None:
        """Look at the attempts of a request that did not go smoothly. `good`: it got its answer all the same."""
        self._hidden += good and any(attempt.outcome in ("refused", "broken") for attempt in attempts)
        for attempt in attempts:
            if attempt.outcome in ("completed", "refused", "broken"):
                went = _OK if attempt.outcome == "completed" else _HIDDEN if good else _FAILED
                minutes[attempt.provider] = max(minutes.get(attempt.provider, _OK), went)

    def _begin_day(self, wall: float) -> None:
        day = time.strftime("%Y-%m-%d", time.localtime(wall))
        if day != self._day:
            self._day, self._hidden = day, 0

    def _forget(self) -> None:
        newest = max(self._minutes, default=0)
        for minute in [m for m in self._minutes if m <= newest - MINUTES]:
            del self._minutes[minute]
            del self._per_minute[minute]

    def in_flight(self, wall: float) -> list[dict[str, Any]]:
        """Return the requests in flight, the oldest first."""
        shown = []
        for event in self._in_flight.values():
            shown.append({**msgspec.to_builtins(event), "age_s": round(max(0.0, wall - event.wall), 1)})
            if len(shown) == IN_FLIGHT_SHOWN:
                break
        return shown

    def ended(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the finished requests after that number, the oldest first."""
        self._look()
        return [{**msgspec.to_builtins(event), "number": number} for number, event in self._ended if number > after]

    def minutes(self, provider: str, wall: float) -> str:
        """Return a provider's last hour, a character a minute, the oldest first.

        `.` nothing, `o` all well, `h` failures that clients did not see, `x` failures that they saw.
        """
        self._look()
        known, now = self._minutes, int(wall // 60)
        nothing: dict[str, int] = {}
        return "".join(
            _MARKS[known.get(minute, nothing).get(provider, -1)] for minute in range(now - MINUTES + 1, now + 1)
        )

    def summary(self, wall: float) -> dict[str, Any]:
        """Return how it goes: in flight, a minute's requests, the first tokens of the last minutes."""
        self._look()
        first = sorted(self._recent_first(wall))
        today = time.strftime("%Y-%m-%d", time.localtime(wall))
        return {
            "in_flight": len(self._in_flight),
            "per_minute": self._per_minute.get(int(wall // 60) - 1, 0),
            "first_token_p50_s": _quantile(first, 0.5),
            "first_token_p95_s": _quantile(first, 0.95),
            "hidden_today": self._hidden if self._day == today else 0,
        }

    def _recent_first(self, wall: float) -> Iterator[float]:
        for at, first_s in reversed(self._first):
            if wall - at > WINDOW_S:
                return
            yield first_s


_MARKS = {-1: ".", _OK: "o", _HIDDEN: "h", _FAILED: "x"}


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 4) if ordered else None
