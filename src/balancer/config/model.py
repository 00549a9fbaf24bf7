"""What may stand in providers.yaml: the models, their defaults and their descriptions.

The JSON schema for editors and the reference in the documentation are generated from here.
"""

from __future__ import annotations

import ipaddress
import shlex
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from balancer.policy import egress

NAME = r"^[A-Za-z0-9][A-Za-z0-9 _.@-]*$"
"""The form of a provider's name."""

MAX_SECONDS = 86_400
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]


class Part(BaseModel):
    """Frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Cooldown(Part):
    """How long a failing provider gets no requests."""

    seconds: float = Field(60.0, ge=0, le=86_400)
    """The longest ordinary cooldown, in seconds; 0: none."""
    backoff: Literal["exponential", "constant"] = "exponential"
    """`exponential`: cooldowns double up to `seconds`. `constant`: they are always that long."""


class Sticky(Part):
    """Conversations stay with the provider where their prompt cache is warm."""

    enabled: bool = True
    """Whether conversations are pinned at all."""
    ttl: float = Field(300.0, ge=0, le=86_400)
    """Seconds without an answer after which a conversation is no longer pinned; Anthropic's prompt cache lives 300.
    A conversation that asks for a cache that lives longer is pinned for as long as that."""
    by: Literal["session", "prefix"] = "session"
    """`session`: by Claude Code's session and agent. `prefix`: also requests that carry
    `cache_control`, by their system prompt and first message."""


class Deduplication(Part):
    """Identical requests that are in flight at the same time are sent once (request coalescing)."""

    enabled: bool = True
    """Whether identical requests that are in flight at the same time are coalesced."""
    replay_s: float = Field(0.0, ge=0, le=3600)
    """Seconds for which a whole, successful answer is given to identical requests that come later; 0: never."""
    max_bytes: int = Field(64 * 1024 * 1024, ge=0)
    """The most memory that shared answers may take; beyond it each request is sent on its own."""


class KeyEntry(Part):
    """A key of the balancer that has a name, rights and limits of its own."""

    name: str = Field(min_length=1, max_length=100, pattern=NAME)
    """Unique; shown in logs, metrics and errors. For a rotation give the new key a name of its own beside the old."""
    key: str | None = Field(None, repr=False)
    """The key, better as `${NAME}`. Exactly one of `key`, `key_sha256` and `key_file` is given."""
    key_sha256: str | None = Field(None, repr=False)
    """The SHA-256 of the key in hexadecimal digits: `balancer key new --hash` prints both."""
    key_file: str | None = None
    """The file that holds the key and nothing else, relative to this file, or `credential:NAME` for a credential of
    systemd (`LoadCredential=`). A change is noticed by itself."""
    rights: tuple[Literal["messages", "read", "admin"], ...] = ("messages", "read")
    """`messages`: all below /v1/. `read`: status and metrics. `admin`: reload, wake, pause, fault injection."""
    models: tuple[str, ...] = ()
    """Patterns of the models that it may ask for, as in `model_routes`; none: all."""
    providers: tuple[str, ...] = ()
    """The providers that are asked for it; none: all."""
    rpm: int | None = Field(None, ge=1)
    """The most requests within 60 seconds; counting tokens is not counted. Each process counts for itself."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """No further request when its answers of the last 60 seconds have used so many tokens: of the input without what
    was read from the prompt cache, and of the output."""
    max_in_flight: int | None = Field(None, ge=1)
    """The most requests in flight at once."""
    expires: str | None = None
    """A date (to its end) or a time, of UTC where no zone is named, after which the key is refused."""


PLAIN, NAMED = "a plain key", "a named key"
"""What an entry of `auth.keys` can be; these words stand in the validator's paths, and not in the file."""


def _form(entry: Any) -> str:
    return NAMED if isinstance(entry, dict | KeyEntry) else PLAIN


ClientKey = Annotated[Annotated[str, Tag(PLAIN)] | Annotated[KeyEntry, Tag(NAMED)], Discriminator(_form)]


class Auth(Part):
    """Who may use this balancer."""

    keys: tuple[ClientKey, ...] = Field((), repr=False)
    """Client API keys, sent as `x-api-key` or `Authorization: Bearer`. Without any, only clients on this
    machine are served. An entry is a key, or a mapping (`auth.keys[]`) for one with a name, rights and limits."""
    admin_keys: tuple[str, ...] = Field((), repr=False)
    """Keys for what changes something (reload, wake, pause, fault injection); they give access to everything else too.
    Without any, only programs on the balancer's own machine may do that, and no client's key."""

    @field_validator("keys", "admin_keys")
    @classmethod
    def _not_empty(cls, keys: tuple[str | KeyEntry, ...]) -> tuple[str | KeyEntry, ...]:
        if any(isinstance(key, str) and len(key) < 8 for key in keys):
            raise ValueError("every key needs at least 8 characters")
        return keys

    @property
    def plain_keys(self) -> tuple[str, ...]:
        """Return the client API keys without names."""
        return tuple(key for key in self.keys if isinstance(key, str))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return every key that stands here itself."""
        named = (key.key for key in self.keys if isinstance(key, KeyEntry) and key.key)
        return (*self.plain_keys, *named, *self.admin_keys)


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ErrorRuleEntry(Part):
    """How a provider's refusals are to be classed. All conditions that are given must hold; there must be one."""

    status: int | None = Field(None, ge=300, le=999)
    """The HTTP status of the refusal."""
    type: str = Field("", max_length=200)
    """The error's `type`, whole, in any case of letters."""
    code: Annotated[str, BeforeValidator(_as_text)] = Field("", max_length=200)
    """The error's `code` (or `status`, or `reason`), whole, in any case of letters."""
    contains: str = Field("", max_length=500)
    """Words of the error's message, in any case of letters. Those in quotation marks do not count, because they may be
    the request's, unless these words hold quotation marks themselves."""
    refusal: Literal["request", "capability", "account", "limit", "model", "provider"] = Field(alias="class")
    """`request`: the client gets the refusal as it came. `capability`: another provider is asked, nobody cools down.
    `account`: long cooldown, reported loudly. `limit`, `model`: cooldown for the model there. `provider`: cooldown."""

    @model_validator(mode="after")
    def _has_a_condition(self) -> ErrorRuleEntry:
        if self.status is None and not (self.type or self.code or self.contains.strip()):
            raise ValueError("a row needs a condition: status, type, code or contains")
        return self


class ServerTlsEntry(Part):
    """TLS for clients: the balancer is reached by https. The files are read again when they change."""

    cert: str = Field(min_length=1)
    """PEM file of the certificate, followed by those of its issuers; relative to the configuration file."""
    key: str | None = Field(None, min_length=1)
    """PEM file of its key, which nobody else may read; null: it stands in `cert`."""
    client_ca: str | None = Field(None, min_length=1)
    """PEM file of certificate authorities: clients must show a certificate of one of them. Null: none is asked for."""


class ProviderTlsEntry(Part):
    """TLS towards one provider. The files are read again when they change; connections are then opened anew."""

    cert: str | None = Field(None, min_length=1)
    """PEM file of the certificate that the balancer shows; relative to the configuration file."""
    key: str | None = Field(None, min_length=1)
    """PEM file of its key, which nobody else may read; null: it stands in `cert`."""
    ca: str | None = Field(None, min_length=1)
    """PEM file of the certificate authorities to trust instead of the system's, as `ca_file`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.key is not None and self.cert is None:
            raise ValueError("a key needs its certificate: cert")
        if self.cert is None and self.ca is None:
            raise ValueError("tls needs cert, ca, or both")
        return self


class Limits(Part):
    """Bounds that keep the balancer itself healthy."""

    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    """The largest request body that is accepted."""
    max_in_flight: int = Field(1000, ge=1)
    """The most requests in flight at once; more of them wait."""
    queue_s: float = Field(10.0, ge=0, le=600)
    """Seconds that a request waits for a free place before it is rejected."""
    max_connections: int = Field(10_000, ge=1)
    """The most connections of clients, and never more than half of the descriptors that the process may have. Beyond
    it the oldest idle connection is closed."""
    max_connections_per_address: int | None = Field(None, ge=1)
    """The most connections of one address; null: no bound of its own."""
    max_buffered_bytes: int = Field(256 * 1024 * 1024, ge=1024)
    """The most memory for request bodies that are being received, or held for a failover. Beyond it the largest that
    is not whole yet is refused with 503."""

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError("max_buffered_bytes must be at least max_body_bytes")
        return self


class SafetyJudge(Part):
    """A Claude model that checks actions for Claude Code's auto mode where the answering provider can't."""

    provider: str
    """The name of a provider of type `anthropic` with a key of its own."""
    model: str = Field(min_length=1)
    """The Claude model to ask it for."""


def _cooldown(value: Any) -> Any:
    return value if isinstance(value, dict | Cooldown) else {"seconds": value}


class Settings(Part):
    """The `settings` of the file."""

    selection_strategy: Literal["priority", "round_robin", "random", "weighted", "least_busy", "fastest"] = "priority"
    """Which provider comes first among usable ones of the same priority."""
    failure_cooldown: Annotated[Cooldown, BeforeValidator(_cooldown)] = Cooldown()
    """Seconds: the longest ordinary cooldown of a failing provider; 0: only the times that providers name
    themselves are kept. Or `{seconds: 60, backoff: constant}` for cooldowns that do not double."""
    request_timeout: Seconds = 60.0
    """Seconds that a provider may take to begin its answer (until the first content of a stream) before another
    one is asked. The last one left has as long as all attempts may take: 300, or this where it is longer."""
    connect_timeout: Seconds = 5.0
    """Seconds for name, TCP, proxy and TLS together."""
    stream_idle_timeout: Seconds = 120.0
    """Seconds without a single byte from the provider."""
    stream_stall_timeout: Seconds | None = None
    """Seconds, after content, for which bytes without any (pings, comments) keep a stream alive; null: ten times
    `stream_idle_timeout`, at most 300, and never less than it."""
    non_streaming_timeout: Seconds = 600.0
    """Seconds for a whole non-streaming answer."""
    on_broken_stream: Literal["auto", "abort", "error_event"] = "auto"
    """What a client gets when an answer breaks off after it has begun: `abort` breaks the connection, `error_event`
    says so in the stream, `auto` does the first for Claude Code, which then streams again, else the second."""
    sticky: Sticky = Sticky()
    """Conversations stay with the provider where their prompt cache is warm."""
    deduplication: Deduplication = Deduplication()
    """Identical requests that are in flight at the same time are sent once (request coalescing)."""
    auth: Auth = Auth()
    """Who may use this balancer."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, besides this machine's, under which the balancer may be addressed."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages, `https://host[:port]`, that are served besides the balancer's own address: those under
    which a reverse proxy shows it. No CORS headers are sent: pages of other sites can't read its answers."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of reverse proxies whose `x-forwarded-for` is believed. What comes through any other
    proxy is served with a key only."""
    passthrough_to: tuple[str, ...] = ()
    """Providers, by name, that get the client's own credential besides the first one of a route that takes it."""
    drop_headers: tuple[str, ...] = ()
    """Headers of clients that go to no provider: those that are meant for the balancer or its surroundings."""
    allow_http: bool = False
    """Whether providers on other machines may be reached by plain http, readable by everybody in between."""
    allowed_upstreams: tuple[str, ...] = ()
    """Hosts that providers may have: `api.example.com`, `*.example.com` (all below it), either with or without a
    `:port`; an address or a network (`10.0.0.0/8`), where `base_url` has an address. None: all. Proxies need not be
    listed."""
    tls: ServerTlsEntry | None = None
    """TLS for clients; null: plain http."""
    limits: Limits = Limits()
    """Bounds that keep the balancer itself healthy."""
    error_rules: tuple[ErrorRuleEntry, ...] = ()
    """Rows for refusals of any provider, asked after a provider's own and before the balancer's."""
    drills: bool = False
    """Whether faults may be injected into providers (`balancer drill`)."""
    proxy_endpoints: bool = False
    """Whether batches, files and skills (`/v1/messages/batches`, `/v1/files`, `/v1/skills`) are passed to a provider
    of type `anthropic`. If not, they are answered with 501."""
    safety_judge: SafetyJudge | None = None
    """`{provider: NAME, model: claude-...}`: checks the actions for Claude Code's auto mode where the answer comes from
    a provider that can't; null: then there is no verdict. It sees rules, what the user said, and the actions."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """The least important lines that are written."""
    log_color: bool = True
    """Whether lines on a terminal are coloured."""
    log_file: str | None = "logs/logs.jsonl"
    """Where the JSON log is written; null: nowhere."""
    usage: str | None = None
    """Where finished requests are kept for `balancer usage`: null: an SQLite file beside `log_file`;
    `postgresql+psycopg://user:password@host/name`: that database (extra `postgres`); `off`: nowhere."""
    usage_keep_days: int = Field(400, ge=1, le=3650)
    """Days that finished requests are kept."""
    prices: str | None = None
    """A file of prices that go before those that ship with the balancer, in the form of its `prices.yaml`."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(8080, ge=0, le=65_535)
    """The port to listen on; 0: any free one."""
    drain_timeout: float = Field(120.0, ge=0, le=3600)
    """Seconds that running answers get to end when the balancer is stopped."""
    drain_delay_s: float = Field(0.0, ge=0, le=600)
    """Seconds for which requests are still served when the balancer is to be stopped, while `/ready` says 503 already:
    for load balancers that need a while to notice, as in Kubernetes."""
    reuse_port: bool = False
    """Whether other programs of the same user may listen on the same address and port (`SO_REUSEPORT`), as a second
    balancer that is to take over. Without it a port that is taken is an error."""

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
                raise ValueError("an origin is written https://host or https://host:port, without a path")
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError("a trusted proxy is an address or a network: 10.0.0.7 or 10.0.0.0/8") from None
        return networks

    @field_validator("allowed_upstreams")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(egress.is_pattern, patterns)):
            raise ValueError(
                "an entry is a host, *.host, an address or a network: api.example.com, *.example.com, 10.0.0.0/8"
            )
        return patterns

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @property
    def cooldown_s(self) -> float:
        return self.failure_cooldown.seconds

    @property
    def cooldown_constant(self) -> bool:
        return self.failure_cooldown.backoff == "constant"


_OF_SHELLS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "<<<", "2>", "2>&1", "2>/dev/null"})


def _argv(value: Any) -> Any:
    """Return the program and its arguments; a string is split at its blanks, as a shell does it."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            raise ValueError("a quotation mark is not closed") from None
        if not _OF_SHELLS.isdisjoint(value):
            raise ValueError("there is no shell, so pipes and redirections have no effect; write [sh, -c, '...']")
    if isinstance(value, list) and (not value or not value[0]):
        raise ValueError("name a program: [pass, show, anthropic]")
    if isinstance(value, list) and any("\0" in part for part in value if isinstance(part, str)):
        raise ValueError("an argument holds a character that none can hold")
    return value


Argv = Annotated[tuple[str, ...], BeforeValidator(_argv, json_schema_input_type=str | tuple[str, ...])]


class ProviderEntry(Part):
    """One of the file's `providers`."""

    name: str = Field(min_length=1, max_length=100, pattern=NAME)
    """Unique; the name in routes, logs and headers."""
    type: str
    """The protocol: `anthropic`, `openai`, `zed` or `simulated`."""
    base_url: str | None = None
    """The base URL of its API, with or without a trailing `/v1`."""
    auth_type: Literal["api_key", "auth_token"] = "api_key"
    """`api_key` sends `x-api-key`, `auth_token` sends `Authorization: Bearer` (`openai`: always the latter)."""
    auth_value: str | None = Field(None, repr=False)
    """The key: `${NAME}`, `${NAME:-default}` or literal; `passthrough`: the client's own credential; `none`: no
    credential. Providers on this machine (127.0.0.1, localhost) need none."""
    auth_value_file: str | None = None
    """In place of `auth_value`: the file that holds the key and nothing else, relative to this file, or
    `credential:NAME` for a credential of systemd (`LoadCredential=`). A change is noticed by itself."""
    auth_value_command: Argv | None = None
    """In place of `auth_value`: the program that prints the key, `[pass, show, anthropic]`, run without a shell in this
    file's folder; at most 10 seconds. Run again every 5 minutes, when the provider has refused the key, and at a
    reload; while it fails the last key is still used."""
    enabled: bool = True
    """A provider that is not enabled is listed, and gets no requests."""
    proxy: str | None = Field(None, repr=False)
    """URL of a proxy: http, https, socks5 or socks5h; `user:password@` is allowed."""
    allow_http: bool | None = None
    """Whether it may be reached by plain http although it is on another machine; null: as `settings.allow_http`."""
    ca_file: str | None = None
    """PEM file of the certificate authorities to trust instead of the system's."""
    tls: ProviderTlsEntry | None = None
    """A certificate to show to it (mutual TLS), and a certificate authority of its own."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Added to every request to this provider; they replace the client's of the same name."""
    drop_headers: tuple[str, ...] = ()
    """Headers of clients that do not go to this provider, besides those in `settings.drop_headers`."""
    forward_headers: tuple[str, ...] = ()
    """Headers of clients that go to this provider although their names tell of a credential (`api-key`,
    `x-auth-token`): without this such headers go only to providers with `passthrough`."""
    request_timeout: Seconds | None = None
    """Overrides `settings.request_timeout`."""
    connect_timeout: Seconds | None = None
    """Overrides `settings.connect_timeout`."""
    stream_idle_timeout: Seconds | None = None
    """Overrides `settings.stream_idle_timeout`."""
    stream_stall_timeout: Seconds | None = None
    """Overrides `settings.stream_stall_timeout`."""
    non_streaming_timeout: Seconds | None = None
    """Overrides `settings.non_streaming_timeout`."""
    max_in_flight: int | None = Field(None, ge=1)
    """The most requests in flight at once; when they are reached, the next provider gets the request."""
    price_factor: float = Field(1.0, ge=0, le=1000)
    """What this provider charges, as a multiple of the prices by model: 1.1 for ten per cent more, 0 for nothing."""
    error_rules: tuple[ErrorRuleEntry, ...] = ()
    """Rows for this provider's refusals; the first row that fits decides."""


class TargetEntry(Part):
    """One target of a route."""

    provider: str
    """The name of a provider."""
    model: str = Field("passthrough", min_length=1)
    """The model to ask the provider for; `passthrough`: the one that the client asked for."""
    priority: int = 1
    """Lower is tried first."""
    weight: float = Field(1.0, gt=0)
    """The share of first tries within a priority, with `selection_strategy: weighted`."""
    enabled: bool = True
    """A target that is not enabled is skipped."""
    mode: Literal["normal", "burn", "auto"] | None = None
    """Zed only: which mode this route uses."""
    context_window: int | None = Field(None, gt=0)
    """In tokens: a prompt that is too long for one target of a route goes to a target that is known to take more."""
