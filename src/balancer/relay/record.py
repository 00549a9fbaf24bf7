"""The record of one request: what is known of it so far. The events of a request are made here and nowhere else."""

from __future__ import annotations

import msgspec

from balancer.events import Attempt, ReasoningLeft, RequestBegan, RequestEnded
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
)
from balancer.policy.verdicts import Verdict

NO_USAGE = Usage()
"""What an answer that reports nothing used; compared by identity, which is cheaper than by value."""

_WORDS = {
    Completed: "completed",
    Refused: "refused",
    Broken: "broken",
    Unfit: "unfit",
    Abandoned: "abandoned",
}
"""Each outcome's word in the log."""


class RequestRecord(msgspec.Struct):
    """One request, from its arrival to its end. Times are on the driver's monotonic clock, in seconds.

    Whose answer the client gets is decided once, with its first content: until then `candidate` is None and the stage
    is `WAIT`; from then on it never changes and the stage is `STREAM`. How the request ends is `outcome` and `reason`:
    they are `ok` and empty until the first `close`.
    """

    request: Request
    arrived: float
    body_bytes: int
    """Noted on arrival: the body is dropped before the end."""
    dedup: str = ""
    """`leader`, `follower` or empty, as in `RequestEnded`."""
    status: int = 0
    """The HTTP status that the client was given; 0: none."""
    outcome: str = "ok"
    reason: str = ""

    # Whose answer it is

    candidate: Candidate | None = None
    """Whose answer the client gets."""
    provider: str = ""
    provider_model: str = ""
    first_content_s: float | None = None
    """From the arrival to the first content."""
    usage: Usage = NO_USAGE
    """What the latest attempt used."""
    notes: tuple[str, ...] = ()
    left: str = ""
    """The conversation's provider so far, where its reasoning does not count at the one that answers."""

    # The way there

    skipped: tuple[str, ...] = ()
    """Targets of the route that can't be asked this at all, in words."""
    route: Route | None = None
    first: Candidate | None = None
    """Who is asked first."""
    pinned: bool = False
    """`first` is the conversation's own provider."""
    attempts: list[Attempt] = []
    fault_injected: bool = False
    """The latest attempt met a fault that was ordered."""
    attempt_began: float = 0.0
    """When the latest attempt began, on the driver's clock."""
    outrun: bool = False
    """Another worker was faster once: what it probes is asked nevertheless, if it comes to that."""
    last_hope: bool = False
    """Nobody else is left for the latest attempt: until content begins, silence is not held against it."""
    queued_s: float = 0.0

    @property
    def stage(self) -> Stage:
        """How far the latest attempt got, given that something was sent."""
        return Stage.WAIT if self.candidate is None else Stage.STREAM

    @property
    def detour(self) -> bool:
        """Of a pinned conversation: its own provider was full, so it was not asked. That is no reason to move."""
        own = self.first
        if own is None or own is self.candidate:
            return False
        return all(attempt.provider != own.provider.name for attempt in self.attempts)

    def close(self, outcome: str, reason: str) -> None:
        """Note how and why the request ends, in plain words without secrets. The first note stands."""
        if self.outcome == "ok":
            self.outcome, self.reason = outcome, reason

    def who_answered(self, attempts: int) -> list[tuple[bytes, bytes]]:
        """Return the header lines that say who answered, and after how many attempts."""
        lines = [(b"x-balancer-attempts", b"%d" % attempts)] if attempts else []
        if self.candidate is not None:
            lines.append((b"x-balancer-provider", self.candidate.provider.name.encode("ascii", "replace")))
        return lines

    # Events. Their arguments go by position: by name they cost 0.5 us more a request.

    def began(self, wall: float) -> RequestBegan:
        """Return the event of its arrival. For its key it is in flight now."""
        request = self.request
        if request.grant is not None:
            request.grant.began()
        return RequestBegan(
            request.id,
            wall,
            request.operation.word,
            request.model,
            request.stream,
            self.body_bytes,
            request.client,
            request.user_agent,
        )

    def attempted(self, candidate: Candidate, outcome: Outcome, verdict: Verdict, duration_s: float) -> None:
        """Add an attempt that ended."""
        name, model = candidate.provider.name, candidate.model
        word = _WORDS[type(outcome)]
        stage = "stream" if isinstance(outcome, Completed) else getattr(outcome, "stage", Stage.CONNECT).value
        status = outcome.fault.status if isinstance(outcome, Refused) else None
        reason, drill = verdict.reason, self.fault_injected
        self.attempts.append(Attempt(name, model, word, stage, duration_s, status, reason, drill))

    def reasoning_left(self, wall: float) -> ReasoningLeft:
        """Return the event of reasoning that does not count where the conversation goes on."""
        return ReasoningLeft(self.request.id, wall, self.left, self.provider, self.request.model)

    def ended(self, wall: float, now: float) -> RequestEnded:
        """Return the event of its end. What it used is counted for its key."""
        request = self.request
        grant, key = request.grant, ""
        if grant is not None:
            key = grant.name
            grant.ended(self.usage, now)
        return RequestEnded(
            request.id,
            wall,
            request.operation.word,
            request.model,
            request.stream,
            self.status,
            self.outcome,
            now - self.arrived,
            self.provider,
            self.provider_model,
            tuple(self.attempts),
            self.usage,
            self.first_content_s,
            self.queued_s,
            self.dedup,
            self.pinned,
            self.reason,
            self.notes,
            key,
            request.client,
            request.session,
            request.project,
            self.route.pattern if self.route is not None else "",
        )
