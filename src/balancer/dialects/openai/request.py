"""A Messages request as a Chat Completions request: built from a list of what is known.

Pure and deterministic: the same request gives the same bytes, so that prefix caches hold.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from balancer import claude_code
from balancer.dialect import Incapable
from balancer.dialects.openai import carried, effort, tools
from balancer.dialects.openai.blocks import cache_mark, content, system_text
from balancer.dialects.openai.names import Names
from balancer.dialects.openai.profiles import Capabilities, is_claude
from balancer.dialects.openai.prompt import instructed, schema_hint
from balancer.dialects.openai.schema import cleaned, is_strict
from balancer.dialects.openai.turns import Turns
from balancer.wire import messages
from balancer.wire.loose import object_of

_CONVERTED = frozenset(
    {
        "model",
        "max_tokens",
        "system",
        "messages",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "cache_control",
        "service_tier",
        "safeguards",
        "betas",
        "anthropic_version",
        "anthropic_beta",
    }
)


@dataclass(frozen=True, slots=True)
class Converted:
    """A request in a server's words, and what the way back needs."""

    body: dict[str, Any]
    names: dict[str, str]
    """Tool names that had to be changed: the server's to the client's."""
    notes: tuple[str, ...]
    """What was left out by rule."""


def decoded(body: bytes) -> dict[str, Any]:
    """Return a request's JSON; lone surrogates, which no UTF-8 can carry, become U+FFFD."""
    try:
        request = messages.decoded(body)
    except msgspec.DecodeError as error:
        raise Incapable(f"the request body is not valid JSON: {error}") from None
    if not isinstance(request, dict):
        raise Incapable("the request body must be a JSON object")
    return request


def chat(
    body: bytes,
    model: str,
    can: Capabilities,
    provider: str,
    *,
    items: bool = False,
    recall: carried.Recall | None = None,
) -> Converted:
    """Convert a request for a server that is called `provider`. Raises `Incapable`.

    With `items` the messages also carry what only `responses.from_chat` knows what to do with. `recall` returns
    what is remembered of the provider's answers.
    """
    try:
        return _converted(decoded(body), model, can, provider, items, recall)
    except RecursionError:
        raise Incapable("the request is nested too deeply") from None


def _converted(
    request: dict[str, Any],
    model: str,
    can: Capabilities,
    provider: str,
    items: bool,
    recall: carried.Recall | None,
) -> Converted:
    turns = request.get("messages")
    if not isinstance(turns, list):
        raise Incapable("messages: must be a list")
    if can.cache_marks == "claude":
        can = replace(can, cache_marks="all" if is_claude(model) else "none")
    names, dropped = Names(can.name_max, can.tool_name), Counter[str]()
    out: dict[str, Any] = {"model": claude_code.base_model(model)}
    offered = tools.converted(request, can, names, dropped, provider)
    shape, hint = _format(request, can)
    if shape and tools.is_forced(offered):  # a call that must come, and a text that must have a shape: only one can be
        shape, hint = {}, ""
        dropped["output_config.format"] += 1
    system = _system(request.get("system"), hint, can, dropped)
    conversation = Turns(can, provider, names, dropped, items=items, recall=recall).convert(turns)
    if can.thought_signatures:
        carried.sign_calls(conversation, model)
    out["messages"] = instructed(conversation, system, can.system_role) if system else conversation
    out |= offered
    out |= shape
    out |= _limits(request, can, dropped)
    out |= _user(request, can)
    if can.service_tier and request.get("service_tier") == "standard_only":
        out["service_tier"] = "default"
    if can.streaming == "always" or (request.get("stream") is True and can.streaming != "never"):
        out["stream"] = True
        if can.stream_options:
            out["stream_options"] = {"include_usage": True}
    for key in request:
        if key not in _CONVERTED:
            dropped[key] += 1
    return Converted(out, names.back, _notes(dropped))


def system_texts(system: Any, dropped: Counter[str]) -> list[str]:
    """Return the texts of the system prompt, without what changes with every request."""
    texts = [system_text(block, dropped) for block in content(system)]
    return [text for text in texts if text.strip()]


def _system(system: Any, hint: str, can: Capabilities, dropped: Counter[str]) -> str | list[dict[str, Any]]:
    """Return the system prompt: text, or parts where marks for the prompt's cache stand in it."""
    blocks = content(system)
    if can.cache_marks != "all" or not any(map(cache_mark, blocks)):
        return "\n\n".join(filter(None, [*system_texts(system, dropped), hint]))
    parts: list[dict[str, Any]] = []
    for block in blocks:
        if (text := system_text(block, dropped)).strip():
            mark = cache_mark(block)
            parts.append({"type": "text", "text": text, **({"cache_control": mark} if mark else {})})
    return [*parts, {"type": "text", "text": hint}] if hint else parts


def _limits(request: dict[str, Any], can: Capabilities, dropped: Counter[str]) -> dict[str, Any]:
    """Return the limit of tokens, sampling, stop sequences and effort."""
    fields = effort.fields(request, can)
    if not fields and effort.is_asked(request):
        dropped["effort"] += 1
    reasons = effort.is_on(request, fields)
    limit = request.get("max_tokens")
    if isinstance(limit, int):
        fields[can.token_limit_field] = min(limit, can.max_output_tokens or limit)
    for key, takes in (("temperature", can.sampling), ("top_p", can.sampling), ("top_k", can.top_k)):
        value = request.get(key)
        if value is None:
            continue
        if takes and not reasons:
            fields[key] = value
        else:
            dropped[key] += 1
    given = request.get("stop_sequences")
    stops = [stop for stop in given if isinstance(stop, str) and stop.strip()] if isinstance(given, list) else []
    if stops[: can.stop]:
        fields["stop"] = stops[: can.stop]
    if left := len(stops) - len(stops[: can.stop]):
        dropped["stop_sequence"] += left
    return fields


def _user(request: dict[str, Any], can: Capabilities) -> dict[str, Any]:
    user = object_of(request.get("metadata")).get("user_id")
    if not can.user_hash or not isinstance(user, str) or not user:
        return {}
    fields = {"safety_identifier": _digest(user)}
    if session := claude_code.session_of(user):
        fields["prompt_cache_key"] = _digest(session)[:32]
    return fields


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _format(request: dict[str, Any], can: Capabilities) -> tuple[dict[str, Any], str]:
    """Return `response_format`, and what the system prompt must say where the server knows no schema."""
    wanted = object_of(request.get("output_config")).get("format") or request.get("output_format")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        return {}, ""
    schema = cleaned(
        wanted["schema"], narrow=can.tool_schema == "narrow", inline=can.inline_refs, without=can.schema_without
    )
    if not can.json_schema:
        return {"response_format": {"type": "json_object"}}, schema_hint(schema)
    named: dict[str, Any] = {"name": "response", "schema": schema}
    if can.strict and is_strict(schema):
        named["strict"] = True
    return {"response_format": {"type": "json_schema", "json_schema": named}}, ""


def _notes(dropped: Counter[str]) -> tuple[str, ...]:
    return tuple(f"dropped {name}" + (f" x{count}" if count > 1 else "") for name, count in sorted(dropped.items()))


def encoded(body: dict[str, Any]) -> bytes:
    """Return the bytes to send."""
    return msgspec.json.encode(body)


def estimate_tokens(body: bytes) -> int:
    """Return about how many tokens a request is: what `message_start` says before anybody knows."""
    return max(1, len(body) // 4)
