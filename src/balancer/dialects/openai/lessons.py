"""What a server has refused, so that the next request does not ask for it again.

A lesson is a word. It holds for one model of one provider, and for a day: servers are upgraded.

| lesson | what becomes of a request |
|---|---|
| `drop:FIELD` | the field is left out |
| `drop:FIELD=VALUE` | the field is left out where it has this value; an effort becomes the next lower one |
| `only:FIELD=A,B` | an effort becomes the nearest of these; another field with another value is left out |
| `set:FIELD=VALUE` | the field has this value; `?tools` behind it: only beside tools; `?max_tokens>N`: above so many |
| `most:FIELD=N`, `least:FIELD=N` | a number is no larger, no smaller |
| `limit:N` | no more output tokens than this are asked for |
| `one_of:A,B` | where both stand, the second is left out |
| `rename:FIELD:OTHER` | the field is called otherwise |
| `auto` | no tool is forced: the prompt asks for it |
| `json_object` | no schema for the answer: it stands in the prompt |
| `config:KEY=VALUE` | as if `openai_config` said so |
| `once:no_reasoning` | what the provider gave of its reasoning does not go back this once; never kept |
| `once:no_effort` | no thinking is asked for this once; never kept |
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from balancer.dialects.openai import carried
from balancer.dialects.openai.options import Options
from balancer.dialects.openai.profiles import EFFORTS, Capabilities, SystemRole
from balancer.dialects.openai.prompt import demand, schema_hint, with_words
from balancer.wire.loose import object_of

KEPT_S = 86400.0
"""How long a lesson holds."""
MODELS_MAX = 200
"""Of so many models of a provider lessons are kept; of more, the oldest are forgotten."""
LESSONS_MAX = 40
"""So many are kept of one model."""
LESSON_MAX_CHARS = 200
EVERY_MODEL = "*"
"""In the place of a model: what holds for the provider as a whole (its address)."""
ONCE = "once:"

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ON_A_FIELD = frozenset({"drop", "only", "set"})
_ORDER = ("config", "set", "only", "drop=", "most", "least", "limit", "one_of", "auto", "json_object", "rename", "drop")
"""In which order lessons are applied: what is refused altogether is left out at the end."""


@dataclasses.dataclass(slots=True)
class Lessons:
    """What is known of one provider's servers. Read from any thread, changed by one at a time."""

    by_model: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """When each lesson was learnt, in seconds since the epoch, by the model that it holds for."""
    base_url: str = ""
    """The address at which they were learnt; empty: it is not known yet."""

    def at(self, base_url: str) -> Lessons:
        """Return what is known of the server at this address: after a change of it, nothing."""
        if self.base_url != base_url:
            if self.base_url:
                self.by_model.clear()
            self.base_url = base_url
        return self

    def learnt(self, model: str, wall: float) -> list[str]:
        """Return the lessons that hold for a model now."""
        known = self.by_model.get(model)
        return sorted(lesson for lesson, at in list(known.items()) if _holds(at, wall)) if known else []

    def keep(self, model: str, lesson: str, wall: float) -> None:
        """Keep a lesson from now on, in the place of those that say otherwise of the same."""
        if lesson.startswith(ONCE) or len(lesson) > LESSON_MAX_CHARS:
            return
        self.forget_old(wall)
        known = self.by_model.setdefault(model, {})
        for other in [other for other in known if replaces(lesson, other)]:
            del known[other]
        known[lesson] = wall
        if len(known) > LESSONS_MAX:
            del known[min(known, key=known.__getitem__)]
        if len(self.by_model) > MODELS_MAX:
            del self.by_model[min(self.by_model, key=lambda name: max(self.by_model[name].values(), default=0.0))]

    def forget_old(self, wall: float) -> None:
        """Forget what is too old to hold."""
        for model, known in list(self.by_model.items()):
            for lesson in [lesson for lesson, at in list(known.items()) if not _holds(at, wall)]:
                del known[lesson]
            if not known:
                del self.by_model[model]

    def restore(self, saved: Any, wall: float) -> None:
        """Take over what was kept before, as far as it is in order and still holds."""
        for model, known in saved.items() if isinstance(saved, dict) else ():
            for lesson, at in known.items() if isinstance(model, str) and isinstance(known, dict) else ():
                if isinstance(at, int | float) and _holds(at, wall) and is_lesson(lesson):
                    self.by_model.setdefault(model, {})[lesson] = float(at)
        self.forget_old(wall)

    def described(self, wall: float) -> dict[str, Any] | None:
        """Return what was learnt, model by model, for people, and how long ago in seconds; None: nothing."""
        lessons = {model: self.learnt(model, wall) for model in sorted(self.by_model)}
        lessons = {model: words for model, words in lessons.items() if words}
        if not lessons:
            return None
        ages = {
            model: {word: round(wall - self.by_model[model][word]) for word in words}
            for model, words in lessons.items()
        }
        return {"lessons": lessons, "lessons_age_s": ages}


def _holds(at: float, wall: float) -> bool:
    return 0 <= wall - at < KEPT_S


_FORM = re.compile(r"auto|json_object|[a-z_]+:[A-Za-z0-9_.,:=?>$-]+")
_AMOUNT = re.compile(r"\d{1,9}(?:\.\d{1,9})?")


def is_lesson(word: object) -> bool:
    """Return whether this is a lesson that can be applied. A file may hold anything."""
    if not isinstance(word, str) or len(word) > LESSON_MAX_CHARS or not _FORM.fullmatch(word):
        return False
    kind, field, value = _parts(word)
    if kind not in _ORDER:
        return False
    if kind == "config":
        try:
            return _option(field, value.removesuffix("?tools") if field == "api" else value) is not None
        except (ValidationError, AttributeError):
            return False
    if kind in ("most", "least", "limit"):
        return _AMOUNT.fullmatch(value) is not None and (kind != "limit" or value.isdigit())
    if kind == "set":
        said, _, condition = value.partition("?")
        known = condition in ("", "tools") or re.fullmatch(r"max_tokens>\d{1,9}", condition) is not None
        return known and (field not in NUMERIC or _AMOUNT.fullmatch(said) is not None)
    return True


def opposite(lesson: str) -> str:
    """Return the lesson that undoes this one; an empty word where there is none."""
    what, *fields = lesson.split(":")
    return ":".join([what, *reversed(fields)]) if what == "rename" else ""


def replaces(new: str, old: str) -> bool:
    """Return whether a new lesson says otherwise of what an old one is about."""
    if new == old or old == opposite(new):
        return True
    (kind, field, value), (kind_before, field_before, value_before) = _parts(new), _parts(old)
    if kind == "drop" and kind_before == "drop" and (value or value_before):
        return field == field_before and not value  # other values of a field may be refused as well
    if kind in _ON_A_FIELD and kind_before in _ON_A_FIELD:
        return field == field_before
    return kind == kind_before and kind in ("config", "most", "least", "limit") and field == field_before


def joined(known: Iterable[str], new: str) -> list[str]:
    """Return the lessons with a new one in the place of those that it replaces."""
    return [*(lesson for lesson in known if not replaces(new, lesson)), new]


@lru_cache(maxsize=1024)
def _parts(lesson: str) -> tuple[str, str, str]:
    """Return the kind of a lesson, its field, and its value."""
    kind, _, rest = lesson.partition(":")
    if kind == "limit":
        return kind, "", rest
    field, _, value = rest.partition("=")
    return kind, field, value


# What a lesson changes before a request is converted


@lru_cache(maxsize=1024)
def shaped(can: Capabilities, lessons: tuple[str, ...]) -> Capabilities:
    """Return the capabilities as the lessons (`config:KEY=VALUE`) say them."""
    for lesson in lessons:
        kind, key, value = _parts(lesson)
        if kind != "config" or key not in Capabilities.__slots__:
            continue
        said = _option(key, value)
        if key == "schema_without":
            said = tuple(sorted({*can.schema_without, *said}))
        can = dataclasses.replace(can, **{key: said})
    return can


def _option(key: str, value: str) -> Any:
    """Return the value of an option as a lesson writes it. Raises `ValidationError`."""
    said = value.split(",") if key == "schema_without" else value
    return getattr(Options.model_validate({key: said}), key)


def configured(lessons: Iterable[str], key: str, *, tools: bool = True) -> str | None:
    """Return what the lessons say of a key of `openai_config`; None: nothing. `tools`: the request has some."""
    said = next((value for kind, of, value in map(_parts, lessons) if kind == "config" and of == key), None)
    value, _, condition = (said or "").partition("?")
    return value if said and (tools or not condition) else None


# What a lesson changes in a converted request


def apply(body: dict[str, Any], lessons: Iterable[str], role: SystemRole = "system") -> dict[str, Any]:
    """Return the body as the lessons want it. `role` is that of the system prompt."""
    for lesson in sorted(lessons, key=_rank):
        kind, field, value = _parts(lesson)
        match kind:
            case "rename":
                old, _, new = lesson.partition(":")[2].partition(":")
                if old in body:
                    body = {new if key == old else key: value for key, value in body.items()}
            case "auto" if forces(body):
                body = {**with_words(body, demand(body["tool_choice"]), role), "tool_choice": "auto"}
            case "json_object":
                body = _without_schema(body, role)
            case "once" if field == "no_effort":
                body = {key: value for key, value in body.items() if key not in _THINKING}
            case "once":
                body = without_reasoning(body)
            case _ if change := _CHANGES.get(kind):
                body = change(body, field, value)
    return body


def _rank(lesson: str) -> tuple[int, str]:
    kind, _, value = _parts(lesson)
    kind = f"{kind}=" if kind == "drop" and value else kind
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), lesson)


def _drop(body: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    if field == "strict":
        return {**body, "tools": [_loose(tool) for tool in body["tools"]]} if "tools" in body else body
    given = value_of(body, field)
    if given is None or (value and written(given) != value):
        return body
    if value in EFFORTS and is_effort(field):
        return with_value(body, field, _lower(value))
    return with_value(body, field, None)


def _only(body: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    given, taken = value_of(body, field), value.split(",")
    if given is None or written(given) in taken:
        return body
    return with_value(body, field, _nearest(given, taken) if is_effort(field) else None)


def _set(body: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    value, _, condition = value.partition("?")
    if condition == "tools" and not body.get("tools"):
        return body
    if condition.startswith("max_tokens>") and (limit_of(body) or 0) <= int(condition.partition(">")[2]):
        return body
    said: Any = {"true": True, "false": False}.get(value, value)
    if field in NUMERIC:
        said = number(value)
    body = with_value(body, field, said)
    return {**body, "stream_options": {"include_usage": True}} if field == "stream" and "messages" in body else body


def _most(body: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    given = value_of(body, field)
    return with_value(body, field, min(given, number(value))) if isinstance(given, int | float) else body


def _least(body: dict[str, Any], field: str, value: str) -> dict[str, Any]:
    given = value_of(body, field)
    return with_value(body, field, max(given, number(value))) if isinstance(given, int | float) else body


def _limit(body: dict[str, Any], _: str, value: str) -> dict[str, Any]:
    capped = {field: min(body[field], int(value)) for field in LIMITS if field in body}
    return {**body, **capped} if capped else body


def _one_of(body: dict[str, Any], field: str, _: str) -> dict[str, Any]:
    first, _, second = field.partition(",")
    return {key: value for key, value in body.items() if key != second} if first in body else body


_CHANGES: dict[str, Callable[[dict[str, Any], str, str], dict[str, Any]]] = {
    "drop": _drop,
    "only": _only,
    "set": _set,
    "most": _most,
    "least": _least,
    "limit": _limit,
    "one_of": _one_of,
}


_THINKING = frozenset({"reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget"})


def forces(body: dict[str, Any]) -> bool:
    """Return whether the body makes the model call a tool."""
    return body.get("tool_choice") not in (None, "auto", "none")


def _without_schema(body: dict[str, Any], role: SystemRole) -> dict[str, Any]:
    shape = body.get("response_format", {})
    if shape.get("type") != "json_schema":
        return body
    hint = schema_hint(shape["json_schema"]["schema"])
    return {**with_words(body, hint, role), "response_format": {"type": "json_object"}}


_GIVEN = ("reasoning_details", "reasoning")
"""Besides what `carried` knows by its names."""


def holds_reasoning(body: dict[str, Any]) -> bool:
    """Return whether the body holds what the provider gave of its reasoning, other than as text."""
    if any(item.get("type") == "reasoning" for item in body.get("input", ())):
        return True
    return any(
        any(_is_given(key) for key in message) or any(_signed(call) for call in message.get("tool_calls", ()))
        for message in body.get("messages", ())
    )


def without_reasoning(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without what the provider gave of its reasoning, which it does not recognise any more."""
    if "input" in body:
        return {**body, "input": [item for item in body["input"] if item.get("type") != "reasoning"]}
    return {**body, "messages": [_unsigned(message) for message in body["messages"]]}


def _unsigned(message: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if not _is_given(key)}
    if "tool_calls" in kept:
        kept["tool_calls"] = [_dummy(call) if _signed(call) else call for call in kept["tool_calls"]]
    return kept


def _is_given(key: str) -> bool:
    return key in _GIVEN or carried.is_state(key)


def _signed(call: dict[str, Any]) -> bool:
    google = object_of(object_of(call.get("extra_content")).get("google"))
    return google.get("thought_signature") not in (None, carried.DUMMY_SIGNATURE)


def _dummy(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "extra_content": {"google": {"thought_signature": carried.DUMMY_SIGNATURE}}}


def _loose(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return {key: value for key, value in tool.items() if key != "strict"}
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}


# Fields and their values


NUMERIC = frozenset({"temperature", "top_p", "top_k", "thinking_budget", *LIMITS})
EFFORT_FIELDS = ("reasoning_effort", "reasoning.effort")


def is_effort(field: str) -> bool:
    """Return whether a field holds one of `EFFORTS`."""
    return field in EFFORT_FIELDS


def value_of(body: dict[str, Any], field: str) -> Any:
    """Return the value of a field, or of a field of a field (`reasoning.effort`); None where there is none."""
    outer, _, inner = field.partition(".")
    value = body.get(outer)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, dict) else None


def with_value(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Return the body with another value of a field; None: without it."""
    outer, _, inner = field.partition(".")
    if inner:
        value = {**body.get(outer, {}), inner: value}
        value = {key: one for key, one in value.items() if one is not None} or None
    if value is None:
        return {key: one for key, one in body.items() if key != outer}
    return {**body, outer: value}


def limit_of(body: dict[str, Any]) -> Any:
    """Return the most output tokens that are asked for; None: no limit is."""
    return next((body[field] for field in LIMITS if field in body), None)


def written(value: Any) -> str:
    """Return a value as lessons write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def number(text: str) -> int | float:
    """Return the number that a lesson writes."""
    return float(text) if "." in text or "e" in text else int(text)


def _lower(effort: str) -> str | None:
    """Return the next lower effort; None below the least that asks for any."""
    at = EFFORTS.index(effort)
    return EFFORTS[at - 1] if at > 1 else None


def _nearest(effort: Any, taken: list[str]) -> str | None:
    """Clamp down to what is taken; up to the least of it where nothing is that low."""
    ranks = sorted(EFFORTS.index(word) for word in taken if word in EFFORTS)
    if effort not in EFFORTS or not ranks:
        return None
    return EFFORTS[max((rank for rank in ranks if rank <= EFFORTS.index(effort)), default=ranks[0])]
