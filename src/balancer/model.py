"""The nouns of the balancer. Everything else imports them; they import nothing of ours.

Rules of this file: values only. No await, clock, socket, log, chance. Durations are seconds
(`_s`), sizes are bytes (`_bytes`); a `now` is always the driver's monotonic clock unless its
name says `wall`.

What is made for every request is a `msgspec.Struct`: made in C, it costs a fifth of a frozen
dataclass.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import msgspec

from balancer.headers import Headers
from balancer.script import Cause, Step


class Operation(enum.Enum):
    """What a provider is asked to do."""

    word: str
    """The value; reading it costs a third of what `value` costs."""
    answers: bool
    """It is `MESSAGES`. (To ask the class for a member costs ten times as much as to ask a member for this.)"""
    counts: bool
    """It is `COUNT_TOKENS`."""
    openai: bool
    """It is of OpenAI's API: what is asked, and answered, goes through byte for byte."""
    streams: bool
    """Its answer may be a stream."""
    resource: bool
    """It is about what a provider keeps (batches, files, skills), and only the provider that keeps it can answer."""

    __hash__ = object.__hash__  # in C; Enum's own is Python

    def __init__(self, word: str) -> None:
        self.word = word
        self.answers = word == "messages"
        self.counts = word == "count_tokens"
        self.openai = word in ("chat_completions", "responses")
        self.streams = self.answers or self.openai
        self.resource = word in ("batches", "files", "skills")

    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    BATCHES = "batches"
    FILES = "files"
    SKILLS = "skills"


class Stage(enum.Enum):
    """How far an attempt got. What may be retried hangs on this, not on the error's class."""

    CONNECT = "connect"
    """Nothing was sent: always safe to try elsewhere."""
    WAIT = "wait"
    """Sent, but nothing usable came back yet; the client has seen nothing of it."""
    STREAM = "stream"
    """The client already has part of the answer: too late for another provider."""


class Grant(Protocol):
    """What a named key of the balancer's may do, as far as a request's way depends on it (`policy.grants`)."""

    name: str
    providers: frozenset[str]
    """Only these are asked; empty: all."""

    def began(self) -> None:
        """Note that a request with this key is in flight."""

    def ended(self, usage: Usage, now: float) -> None:
        """Note that it no longer is, and what it used."""


class Request(msgspec.Struct):
    """One request of a client, decoded no further than the work needs.

    Mutable in one respect only: `drop_body` lets go of the body once nobody can need it again,
    so that an open stream does not hold 400 KB for minutes.
    """

    id: str
    """Ours, also the value of the header `headers.REQUEST_ID`."""
    operation: Operation
    query: bytes
    """The raw query string without `?`; goes along to providers that speak the Messages API."""
    headers: Headers
    """The client's headers, gate key removed."""
    body: bytes
    model: str
    """As the client asked for it."""
    stream: bool
    max_tokens: int | None = None
    conversation: str | None = None
    """Hash that names the conversation for affinity; None: not pinned."""
    client_timeout_s: float | None = None
    """How long the client says it waits (`x-stainless-timeout`)."""
    client: str = ""
    """Who asks (hash of gate key or credential); requests of different clients never mix."""
    claude_code: bool = False
    """The client is Claude Code: decides what `on_broken_stream: auto` does."""
    names: tuple[bytes, ...] = ()
    """Of `headers`, where they are known already; what depends on them alone is remembered by these."""
    user_agent: str = ""
    """How the client names itself, cut and without secrets: for the log."""
    on_drop: Callable[[int], None] | None = None
    """Is told the size of a body that is let go of; None: nobody counts it."""
    long_cache: bool = False
    """It asks for a prompt cache that lives longer, as far as its headers tell."""
    asks_check: bool = False
    """It asks for the check of actions that Claude Code's auto mode needs, as far as its headers tell."""
    grant: Grant | None = None
    """What its key may do, where that is a named key of the balancer's."""
    session: str = ""
    """The client's session, a hash: that of all its agents. Empty where the client names none."""
    project: str = ""
    """The project that the client names, cut and without secrets."""

    def drop_body(self) -> None:
        """Let go of the body. After this the request can't be sent again."""
        if self.on_drop is not None:
            self.on_drop(len(self.body))
            self.on_drop = None
        self.body = b""


class OpenAIRequest(Request):
    """A request of OpenAI's API."""

    previous: str | None = None
    """The stored response that it goes on from: only the provider that has stored it knows it."""


class ResourceRequest(Request):
    """A request about what a provider keeps: a batch, a file, a skill. It names no model."""

    method: bytes = b"GET"
    path: bytes = b""
    """Path and query, as they go out."""
    resource_id: str | None = None
    """Which one it is about; None: it makes one, or lists them."""
    content: bool = False
    """Its answer is what was stored, and may be anything of any size."""


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """Where connections go; the key of the connection pool."""

    tls: bool
    host: str
    port: int
    proxy: str | None = None
    """URL of a proxy (http, https, socks5, socks5h), credentials included: never printed."""
    ca_file: str | None = None
    """PEM file of the authorities to trust instead of the system's."""

    def __repr__(self) -> str:
        return f"Origin(tls={self.tls}, host={self.host!r}, port={self.port}, ca_file={self.ca_file!r})"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one provider, by phase, in seconds."""

    connect_s: float = 5.0
    request_s: float = 60.0
    """Until the answer begins: the first substance of a stream."""
    idle_s: float = 120.0
    """No byte at all, pings count."""
    stall_s: float = 300.0
    """After content: bytes that carry none of it, whatever their form."""
    non_streaming_s: float = 600.0
    """A whole non-streaming answer."""


class RefusalClass(enum.Enum):
    """Whose matter a refusal is: what decides who is asked next, who cools down, and what the client is told."""

    REQUEST = "request"
    """The request's own fault: it goes back as it came, and blames nobody."""
    CAPABILITY = "capability"
    """This provider can't do it (a beta, a size, a file of another account): another may, and nobody cools down."""
    ACCOUNT = "account"
    """The account or the key: only a person can mend it."""
    LIMIT = "limit"
    """A limit of requests, tokens or money that resets by itself."""
    MODEL = "model"
    """The model is missing or in trouble there."""
    PROVIDER = "provider"
    """The provider itself is in trouble."""
    INTERMEDIARY = "intermediary"
    """Somebody between the balancer and the provider has answered: a firewall's page, another server's body."""


class ErrorRule(msgspec.Struct, frozen=True):
    """A row of `error_rules`: how a user wants a refusal to be classed. Every condition that it has must hold."""

    name: str
    """Where it stands: `settings.error_rules[0]`."""
    refusal: RefusalClass
    status: int | None = None
    type: str = ""
    """Of the error, in any case of letters."""
    code: str = ""
    contains: str = ""
    """What the message holds, in any case of letters."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One upstream as configured. What was learnt about it lives in `Fleet`, under its name."""

    name: str
    type: str
    base_url: str
    origin: Origin
    base_path: str
    """Path of `base_url` without a trailing `/` or `/v1`: append `/v1/messages`."""
    auth_type: str = "api_key"
    """`api_key` or `auth_token`."""
    secret: str = field(default="", repr=False)
    passthrough: bool = False
    """The client's own credential is sent instead of `secret`."""
    enabled: bool = True
    headers: Headers = field(default=(), repr=False)
    """Added to every request to this provider, over the client's own. Some carry credentials."""
    dropped: frozenset[bytes] = frozenset()
    """Headers of clients that do not go there, in lower case."""
    forwarded: frozenset[bytes] = frozenset()
    """Headers of clients that go there although their names tell of a credential."""
    timeouts: Timeouts = Timeouts()
    max_in_flight: int | None = None
    price_factor: float = 1.0
    """What it charges, as a multiple of the prices by model."""
    error_rules: tuple[ErrorRule, ...] = ()
    """Its own, then those of the settings: the first that fits decides."""
    options: object = None
    """`zed_config`, `openai_config`, `simulated_config`, in the class of the dialect. `Ask.options` reads it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a route: which provider, asked for which model."""

    provider: str
    model: str
    """`passthrough`: the name that the client asked for."""
    priority: int = 1
    weight: float = 1.0
    enabled: bool = True
    mode: str | None = None
    """Zed only: `normal`, `burn` or `auto`."""
    context_window: int | None = None
    """In tokens; None: not known."""


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern of model names and the targets that serve them, in the order of the file."""

    pattern: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that may be asked, with the model name that it will be asked for."""

    provider: Provider
    model: str
    priority: int = 1
    weight: float = 1.0
    pattern: str = ""
    mode: str | None = None
    operation: Operation = Operation.MESSAGES
    context_window: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the provider reported them; None: not reported (yet)."""

    input_tokens: int | None = None
    """Without what came from or went into the prompt cache."""
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_creation_tokens: int | None = None
    input_transformations: int | msgspec.UnsetType = msgspec.UNSET
    """How many blocks of thinking in the request did not count, or only just; unset: none was reported."""
    cache_creation_1h_tokens: int | msgspec.UnsetType = msgspec.UNSET
    """What of `cache_creation_tokens` went into the cache that lives for an hour; unset: none was reported."""

    def merged(self, later: Usage | None) -> Usage:
        """Return this usage with every number that `later` reports put over it."""
        if later is None:
            return self
        return Usage(
            self.input_tokens if later.input_tokens is None else later.input_tokens,
            self.output_tokens if later.output_tokens is None else later.output_tokens,
            self.cache_read_tokens if later.cache_read_tokens is None else later.cache_read_tokens,
            self.cache_creation_tokens if later.cache_creation_tokens is None else later.cache_creation_tokens,
            later.input_transformations or self.input_transformations,
            later.cache_creation_1h_tokens or self.cache_creation_1h_tokens,
        )


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came back to a request: head, and the body where it was read whole."""

    status: int
    headers: Headers
    body: bytes = b""
    names: tuple[bytes, ...] = ()
    """Of `headers`, where they are known already."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """A provider said no, in the Messages API's words whatever its own were."""

    status: int
    """The HTTP status; for an error inside a 200 the status that its type stands for."""
    kind: str
    """The Messages API's error type: `overloaded_error`, `rate_limit_error`, ..."""
    message: str = ""
    """The provider's own words; may hold anything, so it is redacted before it is shown."""
    retry_after_s: float | None = None
    """How long the provider asks to be left alone, already parsed from whichever header."""
    should_retry: bool | None = None
    """The provider's `x-should-retry`, if it sent one."""
    reply: Reply | None = None
    """The answer for the client where this fault is the client's own and goes to it as it is."""
    callers_own: bool = False
    """The request is at fault, whatever the status: no mark, and the client is told as it is."""
    elsewhere: bool = False
    """The request is at fault here, but another provider may take it."""
    type: str = ""
    """The error's type as the provider wrote it."""
    code: str = ""
    """Its code, as written."""
    marks: tuple[str, ...] = ()
    """Its further machine-readable words: `status`, `reason`."""
    param: str = ""
    """The field of the request that it names for machines."""
    foreign: bool = False
    """It has no form that an API's errors have: a page, another server's body."""
    account_window: bool = False
    """The limit that was met is a window of the whole account, not one model's."""


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The whole answer was received, and it was one."""

    usage: Usage = Usage()


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The provider answered with an error, as a status or inside a stream."""

    fault: Fault
    stage: Stage


class Broken(msgspec.Struct, frozen=True, gc=False):
    """The exchange ended without an answer: refused connection, timeout, reset, garbage."""

    stage: Stage
    cause: Cause
    detail: str = ""


class Unfit(msgspec.Struct, frozen=True, gc=False):
    """This provider can't take this request as it is (say, a PDF for a text-only server).

    Nothing was sent. Another provider may be able to; it is no fault of this one's.
    """

    message: str
    """Names the block or field, the provider and the remedy: the client may read it."""


class Abandoned(msgspec.Struct, frozen=True, gc=False):
    """The client left before the end."""

    stage: Stage


Outcome: TypeAlias = Completed | Refused | Broken | Unfit | Abandoned


class Piece(msgspec.Struct, gc=False):
    """Some of an answer, as the client is to get it."""

    data: bytes
    """Whole frames, or a whole JSON body. May be empty."""
    has_content: bool = False
    """Content has begun: once this is sent no other provider can take over."""
    error: Fault | None = None
    """The provider reported an error inside its answer; `data` is then not for the client."""
    usage: Usage | None = None


class WireRequest(msgspec.Struct, frozen=True):
    """A request as it goes out. The transport adds `host`, `content-length`, `connection`."""

    origin: Origin
    method: bytes
    target: bytes
    """Path and query, as on the request line."""
    headers: Headers
    body: tuple[bytes | memoryview, ...] = ()
    """The pieces of the body, sent one after the other without being joined."""
    side_request: bool = False
    """A side errand (minting a token, a catalogue): its answer is read whole and handed back."""
    single_flight: str = ""
    """For errands: those with the same key that are under way at once are sent once, and all of
    them are told the same reply. Empty: never shared."""
    within_s: float | None = None
    """For errands: so long it may take in all, on top of the time that the attempt has. None: it is
    part of that time."""
    script: Callable[[], Iterator[Step]] | None = None
    """Set: nothing is sent; the steps are played inside the process as if they came back."""

    def __repr__(self) -> str:  # headers carry keys, the body a conversation
        return f"WireRequest({self.origin!r}, {self.method!r}, {self.target!r}, errand={self.side_request})"
