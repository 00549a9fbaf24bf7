"""The account at Zed: its token, its organization, its models; and every request that asks on its behalf.

The flows here are parts of a dialect's flow: they yield requests and are told what came back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from balancer import __version__
from balancer.dialect import Ask, FlowFailed
from balancer.dialects.zed import faults, tokens
from balancer.dialects.zed.decoder import entries
from balancer.dialects.zed.options import Options
from balancer.headers import Headers
from balancer.model import Fault, Reply, WireRequest
from balancer.redact import scrub
from balancer.wire import credentials
from balancer.wire.loose import decoded_object

T = TypeVar("T")
Part: TypeAlias = Generator[WireRequest, Reply, T]

CATALOGUE_S = 3600.0
"""How long the list of models is kept."""
WHO_S = 24 * 3600.0
"""How long it is remembered to which organization an account belongs."""
AGAIN_S = 60.0
"""How soon what could not be had is asked for again."""

_JSON = (b"content-type", b"application/json")
_AGENT = (b"user-agent", f"claude-code-provider-balancer/{__version__}".encode())
_MORE: dict[bytes, Headers] = {
    b"/completions": (
        (b"x-zed-client-supports-status-messages", b"true"),
        (b"x-zed-client-supports-stream-ended-request-completion-status", b"true"),
    ),
    b"/models": ((b"x-zed-client-supports-x-ai", b"true"),),
}


@dataclass(slots=True)
class Account:
    """What is known of an account. Its token is in no repr."""

    owner: str = ""
    """Digest of everything that a token hangs on: credential, address, organization."""
    token: str = field(default="", repr=False)
    token_ends: float = 0.0
    token_before: str = field(default="", repr=False)
    """The one that was in use until this one: an answer that is still under way may quote it."""
    organization: str | None = None
    organization_until: float = 0.0
    plan: str = ""
    models: dict[str, Any] = field(default_factory=dict)
    models_until: float = 0.0


def options_of(ask: Ask) -> Options:
    """Return the provider's `zed_config`."""
    return ask.options(Options)


def account_of(ask: Ask) -> Account:
    """Return what is remembered of the account: nothing where another one stands in the file now."""
    provider = ask.provider
    said = (provider.secret, provider.base_url, options_of(ask).organization_id)
    owner = hashlib.sha256(msgspec.json.encode(said)).hexdigest()
    account = ask.provider_state.of(Account)
    if account.owner != owner:
        account = Account(owner)
        ask.provider_state.put(account)
    return account


def sent(ask: Ask, method: bytes, path: bytes, body: Any, **more: Any) -> Part[Reply]:
    """Send a request, and once more with a fresh token where the first was refused; return what came back."""
    who = yield from _bearer(ask)
    reply = yield _wire(ask, who, method, path, body, **more)
    if not _mints(ask) or not tokens.is_stale(reply.status, reply.headers):
        return reply
    stale = who[0][1].removeprefix(b"Bearer ").decode()
    if 200 <= reply.status < 300:  # an answer, and word that the token has had its day
        _forget(account_of(ask), stale)
        return reply
    who = yield from _bearer(ask, stale)
    reply = yield _wire(ask, who, method, path, body, **more)
    return reply


def models(ask: Ask) -> Part[list[dict[str, Any]]]:
    """Return the known models; that they can't be had is no reason to fail."""
    account = account_of(ask)
    if account.models_until <= ask.wall:
        reply = yield from sent(
            ask, b"GET", b"/models", None, side_request=True, single_flight=f"models {account.owner}"
        )
        fresh = decoded_object(reply.body) if reply.status == 200 else {}
        account.models = fresh or account.models
        account.models_until = ask.wall + (CATALOGUE_S if fresh else AGAIN_S)
    return entries(account.models)


def _mints(ask: Ask) -> bool:
    return not ask.provider.passthrough and tokens.is_pair(ask.provider.secret)


def silent(ask: Ask, message: str) -> str:
    """Return words of the service without the tokens that they may quote: the balancer itself knows only the pair."""
    account = account_of(ask)
    access = ask.provider.secret.partition(" ")[2]
    return scrub(message, tuple(secret for secret in (account.token, account.token_before, access) if secret))


def _forget(account: Account, stale: str) -> None:
    if account.token == stale:
        account.token, account.token_before = "", stale


def _bearer(ask: Ask, stale: str = "") -> Part[Headers]:
    """Return the header that says who asks; mint a token where none is usable or `stale` was refused."""
    if not _mints(ask):
        return credentials.bearer_for(ask.provider, ask.request)
    account = account_of(ask)
    if stale:
        _forget(account, stale)
    if account.token and account.token_ends - tokens.EARLY_S > ask.wall:
        return _as_bearer(account.token)
    _forget(account, account.token)
    pair = ((b"authorization", ask.provider.secret.encode()),)
    organization = yield from _organization(ask, account, pair)
    body = {} if organization is None else {"organization_id": organization}
    reply = yield _wire(
        ask, pair, b"POST", b"/client/llm_tokens", body, side_request=True, single_flight=f"llm_token {account.owner}"
    )
    token = decoded_object(reply.body).get("token")
    if not 200 <= reply.status < 300 or not isinstance(token, str) or not tokens.sendable(token):
        raise FlowFailed(_unminted(reply, ask.wall))
    account.token, account.token_ends = token, tokens.expiry(token, ask.wall)
    return _as_bearer(token)


def _as_bearer(token: str) -> Headers:
    return ((b"authorization", b"Bearer " + token.encode()),)


def _organization(ask: Ask, account: Account, pair: Headers) -> Part[str | None]:
    """Return who pays: the configured organization, else the account's own. Not to know it is no reason to fail."""
    if (configured := options_of(ask).organization_id) is not None:
        return configured
    if account.organization_until <= ask.wall:
        reply = yield _wire(
            ask, pair, b"GET", b"/client/users/me", None, side_request=True, single_flight=f"who {account.owner}"
        )
        me = decoded_object(reply.body) if reply.status == 200 else {}
        account.organization = organization_in(me) or account.organization
        account.plan = plan_in(me) or account.plan
        account.organization_until = ask.wall + (WHO_S if me else AGAIN_S)
    return account.organization


def organization_in(me: dict[str, Any]) -> str | None:
    """Return the organization of an account: its default one if listed, else its personal one, else the first."""
    listed = me.get("organizations")
    found = [
        entry
        for entry in (listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    ]
    default = [entry for entry in found if entry["id"] == me.get("default_organization_id")]
    personal = [entry for entry in found if entry.get("is_personal") is True]
    return next((entry["id"] for entry in (*default, *personal, *found)), None)


def plan_in(me: dict[str, Any]) -> str:
    """Return the name of an account's plan, as far as it says."""
    plan = me.get("plan")
    name = plan.get("plan_v3") if isinstance(plan, dict) else plan
    return name if isinstance(name, str) else ""


def _unminted(reply: Reply, wall: float) -> Fault:
    """Return the fault of a token that was not to be had; the service's words may hold one, so they stay here."""
    if not reply.status or 200 <= reply.status < 300:
        return Fault(502, "api_error", "no LLM token could be had from Zed")
    fault = faults.of_reply(replace(reply, body=b""), wall)
    return replace(fault, message=f"Zed gave no LLM token: status {reply.status}")


def _wire(ask: Ask, who: Headers, method: bytes, path: bytes, body: Any, **more: Any) -> WireRequest:
    lines = [*who, _JSON, _AGENT, *_MORE.get(path, ())]
    if version := options_of(ask).client_version:
        lines.append((b"x-zed-version", version.encode()))
    over = {name for name, _ in ask.provider.headers}
    lines = [pair for pair in lines if pair[0] not in over] + list(ask.provider.headers)
    written = () if body is None else (msgspec.json.encode(body),)
    target = ask.provider.base_path.encode() + path
    return WireRequest(ask.provider.origin, method, target, tuple(lines), written, **more)
