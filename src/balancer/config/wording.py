"""What the validator found, in plain words that show the right form."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from balancer.config import slips, words
from balancer.config.document import Path
from balancer.config.model import MAX_SECONDS
from balancer.config.quoting import Message, Theirs, nearest

_TIMES = re.compile(r"timeout|seconds|ttl|latency|delay|cooldown|_s\Z")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(ms|msec|s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?)")
_SECONDS_IN = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_SIZE = re.compile(r"([0-9]{1,9}) ?(k|m|g)i?b?", re.IGNORECASE)
_BYTES_IN = {"k": 1024, "m": 1024**2, "g": 1024**3}

_FORMS = {
    "headers": "headers: {x-team: blue}",
    "error_rules": 'error_rules: [{status: 400, contains: "words of the message", class: account}]',
    "auth": 'auth: {keys: ["${BALANCER_KEY}"]}',
    "sticky": "sticky: {enabled: true}",
    "deduplication": "deduplication: {enabled: true}",
    "limits": "limits: {max_in_flight: 1000}",
    "settings": "settings: with its keys below it, without '-'",
    "openai_config": "openai_config: {profile: compat}",
    "zed_config": "zed_config: {default_mode: normal}",
    "simulated_config": "simulated_config: {latency: 0.2}",
    "keys": 'keys: ["${BALANCER_KEY}"]',
    "rights": "rights: [messages, read]",
    "models": 'models: ["*sonnet*"]',
    "admin_keys": 'admin_keys: ["${BALANCER_ADMIN_KEY}"]',
    "allowed_hosts": "allowed_hosts: [balancer.example.com]",
    "allowed_origins": "allowed_origins: [https://balancer.example.com]",
    "trusted_proxies": "trusted_proxies: [10.0.0.7]",
    "safety_judge": "safety_judge: {provider: NAME, model: claude-sonnet-5-5}",
    "passthrough_to": "passthrough_to: [NAME]",
    "drop_headers": "drop_headers: [x-org-route]",
    "forward_headers": "forward_headers: [x-auth-token]",
}


def plainly(fault: Mapping[str, Any], model: type[BaseModel], where: Path, also: Collection[str] = ()) -> Message:
    """Say what is wrong without the validator's jargon. `fault` is one of its errors, with the input."""
    given = fault.get("input")
    name = key_at(where)
    bare = name if isinstance(name, str) else str(name.value)
    match fault["type"]:
        case "extra_forbidden":
            return unknown_key(str(where[-1]), _part_at(model, where[:-1]), also)
        case "missing":
            return "missing required key ", Theirs(bare), *_example(bare)
        case "string_type":
            return _no_string(name, given)
        case "bool_type" | "bool_parsing":
            return name, " must be true or false", *_not(given)
        case "int_type" | "int_parsing" | "int_from_float" | "float_type" | "float_parsing" | "finite_number":
            return _no_number(name, bare, given, whole=fault["type"].startswith("int"))
        case "list_type" | "tuple_type":
            return name, " must be a list", *_form(bare, ": [...]")
        case "dict_type" | "model_type" | "model_attributes_type":
            return name, " must be a mapping of keys and values", *_form(bare)
        case "literal_error" | "enum":
            return no_choice(name, bare, given, words.choices_of(_part_at(model, _around(where)) or model, bare))
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return name, f" must be {_bound(fault)}", *_not(given), *_in_seconds(bare, given)
        case "string_pattern_mismatch":
            return _no_name(name, given)
        case "string_too_short":
            return name, " must not be empty"
        case "string_too_long":
            return name, " is too long"
        case "value_error":
            return name, f": {fault.get('ctx', {}).get('error', 'is not valid')}", *_not(given)
        case _:
            return name, " is not valid"


def key_at(where: Path) -> Theirs | str:
    """Return the last key on the way to a value, as the subject of a sentence."""
    named = [part for part in where if isinstance(part, str)]
    if not named:
        return "an entry"
    return named[-1] if named[-1] in words.known() else Theirs(named[-1])


def unknown_key(key: str, model: type[BaseModel] | None, also: Collection[str] = ()) -> Message:
    """Say that there is no such key, and which one is meant. `model`: the part of the file; None: its top."""
    said: Message = ("unknown key ", Theirs(key))
    if odd := slips.odd_character(key):
        return *said, f"; it holds {odd}"
    if message := slips.missing_blank(key):
        return message
    known = [*(words.keys_of(model) if model else words.SECTIONS), *also]
    ours, note = words.aside(key, model)
    if ours is not None and (ours in known or model is None):
        return *said, f"; did you mean '{ours}'?"
    home = words.elsewhere(key, model)
    if home is not None and note is None:
        return *said, f"; it {home}"
    close = nearest(key, known)
    if close is not None and (note is None or words.folded(close) == words.folded(key)):
        return *said, f"; did you mean '{close}'?"
    if note is not None:
        return *said, f": {note}"
    return *said, f"; there are: {', '.join(known)}" if 0 < len(known) <= 8 else ""


def no_choice(name: Theirs | str, key: str, given: object, known: Collection[str]) -> Message:
    """Say which words may stand here, and which one is meant."""
    listed = list(known)
    said: Message = (name, f" must be {_either(listed)}" if listed else " is not one that there is", *_not(given))
    if isinstance(given, str):
        folded = words.folded(given)
        ours = words.CHOICES.get(key, {}).get(folded) or nearest(given, listed)
        if ours:
            return *said, f"; did you mean '{ours}'?"
    return said


def _either(known: list[str]) -> str:
    quoted = [f"'{word}'" for word in known]
    return f"one of {', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def _not(given: object) -> Message:
    return (", not ", Theirs(given)) if isinstance(given, str | int | float) and given != "" else ()


def _no_string(name: Theirs | str, given: object) -> Message:
    if given is None:
        return name, " has no value"
    if isinstance(given, dict):
        return (
            name,
            " must be a string, but the lines below it are indented further, as if they were its own; "
            "the keys of one entry begin at the same column",
        )
    if isinstance(given, list):
        return name, " must be a string, without [ ] and without '-'"
    return name, " must be a string; put it in quotes"


def _no_number(name: Theirs | str, key: str, given: object, whole: bool) -> Message:
    kind = "a whole number" if whole else "a number"
    if isinstance(given, str):
        if _TIMES.search(key):
            kind = "a number of seconds"
            if found := _SPAN.fullmatch(given.strip().lower()):
                unit = "ms" if found[2].startswith("ms") else found[2][0]
                return name, f" must be {kind}: {float(found[1]) * _SECONDS_IN[unit]:g}, not '{given}'"
        if "bytes" in key:
            kind = "a number of bytes"
            if found := _SIZE.fullmatch(given.strip()):
                return name, f" must be {kind}: {int(found[1]) * _BYTES_IN[found[2].lower()]}, not '{given}'"
    example = {"priority": " (lower is tried first): priority: 1", "weight": ": weight: 1"}
    return name, f" must be {kind}{example.get(key, '')}", *_not(given)


def _no_name(name: Theirs | str, given: object) -> Message:
    said: Message = (name, " must begin with a letter or digit, and hold only those, spaces and _ . @ -")
    odd = slips.odd_character(given) if isinstance(given, str) else None
    return (*said, f"; it holds {odd}") if odd else said


def _in_seconds(key: str, given: object) -> Message:
    """Say what a number of milliseconds is in seconds."""
    if _TIMES.search(key) and isinstance(given, int | float) and given > MAX_SECONDS:
        return (f"; it is a number of seconds: {given / 1000:g}?",)
    return ()


def _bound(fault: Mapping[str, Any]) -> str:
    context = fault.get("ctx", {})
    for key, said in (("gt", "greater than"), ("ge", "at least"), ("lt", "less than"), ("le", "at most")):
        if key in context:
            return f"{said} {context[key]:g}"
    return "within its bounds"


def _form(key: str, otherwise: str = "") -> Message:
    shown = _FORMS.get(key)
    return (f": {shown}",) if shown else ((otherwise,) if otherwise else ())


def _example(key: str) -> Message:
    shown = {
        "name": ": name: main",
        "type": ": type: anthropic (or openai, zed, simulated)",
        "provider": ": {provider: NAME}",
        "class": ": class: account (or request, capability, limit, model, provider)",
    }
    return (shown[key],) if key in shown else ()


def _part_at(model: type[BaseModel], where: Path) -> type[BaseModel] | None:
    """Return the part of `model` at `where`; None: nothing is known of it."""
    for key in where:
        info = model.model_fields.get(str(key))
        if info is None:
            continue
        inner = next(_parts_in(info.annotation), None)
        if inner is None:
            return None
        model = inner
    return model


def _around(where: Path) -> Path:
    """Return the way to the part that the last key of `where` belongs to."""
    names = [index for index, part in enumerate(where) if isinstance(part, str)]
    return where[: names[-1]] if names else ()


def _parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the parts of the file inside an annotation, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)
