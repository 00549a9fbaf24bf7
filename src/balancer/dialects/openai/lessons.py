"""What a server has refused, so that the next request does not ask for it again.

A lesson is a word: `rename:<field>:<other>`, `drop:<field>`, `limit:<tokens>`, `auto` (no forced
tool: the prompt asks for it), `json_object` (no schema: it goes into the prompt). It holds for one
model of one provider, and for a day: servers are upgraded.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import msgspec

from balancer.wire.complaints import Complaint, overflow_message
from balancer.wire.errors import MESSAGE_MAX_CHARS

KEPT_S = 86400.0
"""How long a lesson holds."""

_OTHER = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_DROPPABLE = (
    "stream_options",
    "parallel_tool_calls",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "include",
    "store",
)
"""Without these an answer is still an answer to what was asked."""

_WORDS = frozenset({"stop", "include", "store", "thinking", "reasoning", "strict"})
_MARK = r"(?:[.'\"`]|\b(?:argument|param|parameter|field|property|key|input)s?(?: supplied)?:? ?)"

_REFUSES = re.compile(
    r"unsupported|unrecognized|unknown|unexpected|not supported|not permitted|not allowed"
    r"|does not support|doesn't support|no longer support|extra (?:inputs|fields)|additional propert"
    r"|invalid (?:parameter|param|argument|field|value)|only the default|unavailable"
)
_CAP = re.compile(
    r"supports at most (\d+) (?:completion|output)|max(?:_completion|_output)?_tokens\D{0,60}"
    r"(?:less than or equal to|<=|at most|\[\d+, ?|maximum(?: value)?(?: of| is)?|up to) ?(\d+)"
)


@dataclasses.dataclass(slots=True)
class Lessons:
    """What is known of one provider's servers."""

    by_model: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """When each lesson was learnt, in seconds since the epoch, by the model that it holds for."""

    def learnt(self, model: str, wall: float) -> list[str]:
        """Return the lessons that hold for a model now; all that are too old are forgotten."""
        for known in self.by_model.values():
            for lesson in [lesson for lesson, at in known.items() if not 0 <= wall - at < KEPT_S]:
                del known[lesson]
        return sorted(self.by_model.get(model, ()))

    def keep(self, model: str, lesson: str, wall: float) -> None:
        """Keep a lesson from now on, in the place of its opposite."""
        known = self.by_model.setdefault(model, {})
        known.pop(opposite(lesson), None)
        known[lesson] = wall

    def described(self) -> dict[str, Any] | None:
        """Return what was learnt, model by model, for people; None: nothing."""
        lessons = {model: sorted(known) for model, known in self.by_model.items() if known}
        return {"lessons": lessons} if lessons else None


def opposite(lesson: str) -> str:
    """Return the lesson that undoes this one; an empty word where there is none."""
    what, *fields = lesson.split(":")
    return ":".join([what, *reversed(fields)]) if what == "rename" else ""


def find(status: int, said: Complaint, raw: str, body: dict[str, Any]) -> str | None:
    """Return what a refusal teaches about the body that was refused, if anything."""
    if status not in (400, 422) or overflow_message(said) is not None:
        return None
    raw = raw[:MESSAGE_MAX_CHARS].lower()
    text = f"{said.words} {raw}"
    for field in _LIMITS:
        if field in body and (cap := _CAP.search(text)) and (limit := _least(cap)) < body[field]:
            return f"limit:{limit}"
    if not _REFUSES.search(text):
        return "auto" if _forces(body) and _names(text, "tool_choice") else None
    words = (said.param.lower(), said.words, raw)  # the surest first: a body may quote all of the request
    return next((lesson for text in words if text and (lesson := _refused(text, body))), None)


def _refused(text: str, body: dict[str, Any]) -> str | None:
    """Return what to do without the field that is named in `text` and stands in the body."""
    for field in _OTHER:
        if field in body and _names(text, field) and _first(text, field):
            return f"rename:{field}:{_OTHER[field]}"
    if _forces(body) and _names(text, "tool_choice"):
        return "auto"
    for field in _DROPPABLE:
        if field in body and _names(text, field):
            return f"drop:{field}"
    shape = body.get("response_format", {}).get("type")
    if shape and (_names(text, "response_format") or _names(text, "json_schema")) and "invalid schema" not in text:
        return "json_object" if shape == "json_schema" else "drop:response_format"
    if _names(text, "strict") and any("strict" in tool.get("function", tool) for tool in body.get("tools", ())):
        return "drop:strict"
    return None


def _forces(body: dict[str, Any]) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def _least(cap: re.Match[str]) -> int:
    return min(int(group) for group in cap.groups() if group)


def _names(text: str, field: str) -> bool:
    """Say whether a field is named. What is a word of every day as well has to be marked as a name."""
    before = _MARK if field in _WORDS and text != field else ""
    return re.search(rf"{before}(?<![a-z_]){field}(?![a-z_])", text) is not None


def _first(text: str, field: str) -> bool:
    """Of both names of the limit the one that is refused is named first."""
    other = text.find(_OTHER[field])
    at = re.search(rf"(?<![a-z_]){field}(?![a-z_])", text)
    return at is not None and (other < 0 or at.start() < other or field in _OTHER[field])


def apply(body: dict[str, Any], lessons: list[str]) -> dict[str, Any]:
    """Return the body as the lessons want it."""
    for lesson in lessons:
        what, _, rest = lesson.partition(":")
        match what:
            case "rename":
                old, _, new = rest.partition(":")
                if old in body:
                    body = {new if key == old else key: value for key, value in body.items()}
            case "limit":
                for field in _LIMITS:
                    if field in body:
                        body = {**body, field: min(body[field], int(rest))}
            case "drop" if rest == "strict":
                body = {**body, "tools": [_loose(tool) for tool in body.get("tools", ())]}
            case "drop":
                body = {key: value for key, value in body.items() if key != rest}
            case "auto" if _forces(body):
                body = {**_instructed(body, _demand(body["tool_choice"])), "tool_choice": "auto"}
            case "json_object" if body.get("response_format", {}).get("type") == "json_schema":
                schema = body["response_format"]["json_schema"]["schema"]
                body = {**_instructed(body, schema_hint(schema)), "response_format": {"type": "json_object"}}
    return body


def schema_hint(schema: dict[str, Any]) -> str:
    """Return what tells a model of a schema that its server does not know."""
    return f"Answer with one JSON object that satisfies this schema:\n{msgspec.json.encode(schema).decode()}"


def _demand(choice: Any) -> str:
    if not isinstance(choice, dict):
        return "You must call one of the tools now."
    return f"You must call the tool {choice.get('function', choice)['name']} now."


def _instructed(body: dict[str, Any], words: str) -> dict[str, Any]:
    """Return the body with `words` at the end of its system prompt."""
    if "input" in body:
        return {**body, "instructions": "\n\n".join(filter(None, [body.get("instructions"), words]))}
    first, *rest = body["messages"]
    if first["role"] not in ("system", "developer"):
        return {**body, "messages": [{"role": "system", "content": words}, first, *rest]}
    return {**body, "messages": [{**first, "content": f"{first['content']}\n\n{words}"}, *rest]}


def _loose(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict):
        return {key: value for key, value in tool.items() if key != "strict"}
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
