"""One request on its way: what is known of it so far, and how it is told of."""

from __future__ import annotations

import asyncio

import msgspec

from balancer import events
from balancer.model import (
    Abandoned,
    Broken,
    Candidate,
    Completed,
    Outcome,
    Refused,
    Request,
    Route,
    Stage,
    Unfit,
    Usage,
    Verdict,
)
from balancer.policy.failover import Failover
from balancer.relay.response import ClientResponse

UNTOLD = Usage()


class RequestRecord(msgspec.Struct):
    """One request on its way."""

    request: Request
    response: ClientResponse
    arrived: float
    body_bytes: int
    failover: Failover | None = None
    route: Route | None = None
    attempts: list[events.Attempt] = []
    usage: Usage = UNTOLD
    held_bytes: int = 0
    """How much of the answer of this attempt was held back."""
    candidate: Candidate | None = None
    """Whose answer the client got."""
    first: Candidate | None = None
    """Who is asked first."""
    lesson: asyncio.Task[int] | None = None
    """An estimate that the usage of the answer will correct."""
    first_content_s: float | None = None
    queued_s: float = 0.0
    pinned: bool = False
    outcome: str = "ok"
    reason: str = ""
    notes: tuple[str, ...] = ()
    fault_injected: bool = False
    """The present attempt met a fault that was ordered."""

    @property
    def stage(self) -> Stage:
        return Stage.STREAM if self.response.committed else Stage.WAIT

    @property
    def detour(self) -> bool:
        """The conversation's own provider had no place for this request: that is no reason to move."""
        own = self.first
        if not self.pinned or own is None or own is self.candidate:
            return False
        return all(attempt.provider != own.provider.name for attempt in self.attempts)

    def began(self, wall: float) -> events.RequestBegan:
        """Return the event that it has arrived."""
        request = self.request
        return events.RequestBegan(
            request.id,
            wall,
            request.operation.word,
            request.model,
            request.stream,
            self.body_bytes,
            request.client,
        )

    def ended(self, wall: float, now: float, reason: str) -> events.RequestEnded:
        """Return the event that it is over; `reason` is fit to be shown."""
        request, candidate = self.request, self.candidate
        return events.RequestEnded(
            request.id,
            wall,
            request.operation.word,
            request.model,
            request.stream,
            self.response.status,
            self.outcome,
            now - self.arrived,
            candidate.provider.name if candidate else "",
            candidate.model if candidate else "",
            tuple(self.attempts),
            self.usage,
            self.first_content_s,
            self.queued_s,
            "",
            self.pinned,
            reason,
            self.notes,
        )

    def who_answered(self, attempts: int) -> list[tuple[bytes, bytes]]:
        """Return the header lines that say who answered, and after how many attempts."""
        lines = [(b"x-balancer-attempts", b"%d" % attempts)] if attempts else []
        if self.candidate is not None:
            lines.append((b"x-balancer-provider", self.candidate.provider.name.encode("ascii", "replace")))
        return lines


_OUTCOMES = {
    Refused: "refused",
    Broken: "broken",
    Unfit: "unfit",
    Abandoned: "abandoned",
}


def told(candidate: Candidate, outcome: Outcome, verdict: Verdict, duration_s: float) -> events.Attempt:
    """Return an attempt as events tell of it."""
    if isinstance(outcome, Completed):
        return events.Attempt(candidate.provider.name, candidate.model, "completed", "stream", duration_s)
    stage = getattr(outcome, "stage", Stage.CONNECT)
    status = outcome.fault.status if isinstance(outcome, Refused) else None
    return events.Attempt(
        candidate.provider.name,
        candidate.model,
        _OUTCOMES[type(outcome)],
        stage.value,
        duration_s,
        status,
        verdict.reason,
    )
