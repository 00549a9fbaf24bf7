"""What follows from an outcome: the provider's mark, what it covers, and how sure that is."""

from __future__ import annotations

import enum

import msgspec

from balancer.headers import Headers
from balancer.model import RefusalClass


class Mark(enum.Enum):
    """What an outcome says about the provider's health."""

    good: bool
    """It is `GOOD`."""

    def __init__(self, word: str) -> None:
        self.good = word == "good"

    GOOD = "good"
    BAD = "bad"
    NONE = "none"
    """Says nothing: a client that hangs up must neither blame nor clear a provider."""


class Scope(enum.Enum):
    """What a cooldown covers."""

    __hash__ = object.__hash__  # in C; Enum's own is Python

    PROVIDER = "provider"
    MODEL = "model"
    """The provider for that model name only."""
    COUNTING = "counting"
    """The provider's counting of tokens only: many answer well and can't count."""


class Trouble(enum.Enum):
    """Why a provider is out until a person does something."""

    KEY = "key"
    """The balancer's key was refused."""
    ACCESS = "access"
    """The key is known, but it may not: an account that is disabled, a permission that is missing."""
    CREDIT = "credit"
    SPEND_CAP = "spend_cap"
    """A limit of spending was reached, and the provider says that retrying is of no use."""
    ADDRESS = "address"
    """Its base_url is answered with a redirect. None is followed: the key would go along."""
    CLIENT_KEY = "client_key"
    """The client's own credential was refused, at a provider to which it is passed through."""
    PAUSED = "paused"
    """A person has taken it out (`POST /admin/pause`)."""
    DISABLED = "disabled"
    """The configuration says `enabled: false`."""


class Proof(enum.Enum):
    """How much one failure proves against whom it is held."""

    CERTAIN = "certain"
    """The refusal itself says whose matter it is, or the request can have no part in it."""
    LIKELY = "likely"
    """It counts at once; but a request that met the same at another provider may be the cause itself."""
    UNSURE = "unsure"
    """It counts when a second, different request meets the same. The mark is `NONE` until then."""


class Statement(msgspec.Struct, frozen=True, gc=False):
    """What a provider said when it refused, as far as it is of use to a client that gets no answer."""

    words: str = ""
    """Its own words, redacted and cut; empty: they say no more than the status."""
    resets_at: float = 0.0
    """When it may answer again, as it said itself, on the driver's clock; 0: it did not say."""
    limits: Headers = ()
    """Its `anthropic-ratelimit-*` headers."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What follows from an outcome."""

    mark: Mark
    retry_elsewhere: bool = False
    """Another provider may be tried."""
    cooldown_s: float | None = None
    """The cooldown that the provider named itself; a minimum."""
    needs_operator: Trouble | None = None
    """Set: only a person can mend it. The cooldown lasts minutes, not seconds, and is reported loudly."""
    scope: Scope = Scope.PROVIDER
    reason: str = ""
    """In plain words and without secrets: `529 overloaded_error`, `connection refused`."""
    status: int | None = None
    """The status of the refusal; None: it was none."""
    refusal: RefusalClass | None = None
    """Whose matter the refusal is; None: it was none."""
    client_only: bool = False
    """It is about the credential that the client itself sent: it counts for this client alone."""
    proof: Proof = Proof.CERTAIN
    evidence: str = ""
    """The provider's words that speak against it; none where its status or its error's type do."""
