"""What a refusal teaches: which lesson its words stand for, about the very request that was refused.

Read are the field that the server names, the message, and the body as it came: the surest first. What the message
names (a number, a list of values, a word to send) is what is sent next. A lesson holds no word of the refusal but
names of fields, numbers, and values from closed lists.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from balancer.dialects.openai import ways
from balancer.dialects.openai.lessons import EFFORT_FIELDS, LIMITS, NUMERIC, forces, is_effort, value_of, written
from balancer.dialects.openai.profiles import EFFORTS, Api, Capabilities
from balancer.wire.complaints import Complaint, overflow_message

LOOKED_AT_CHARS = 4096
"""How much of a refusal is read."""

ABOUT_OTHERS = frozenset({401, 402, 407, 408, 429})
"""Key, money, time and load: their words are not about a field."""
_TEMPLATE_FAILED = 500
"""What servers say where the model's chat template refuses the conversation."""

_OTHER = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_DROPPABLE = (
    "stream_options", "parallel_tool_calls", "reasoning.summary", "reasoning_effort", "reasoning",
    "thinking_budget", "enable_thinking", "thinking", "temperature", "top_p", "top_k", "stop", "safety_identifier",
    "prompt_cache_key", "service_tier", "include", "store", "max_output_tokens",
)  # fmt: skip
"""Without these an answer is still an answer to what was asked."""
_ALSO_CALLED = {
    "reasoning": ("reasoning_effort", "reasoning.effort", "thinking", "effort"),
    "reasoning.effort": ("reasoning_effort", "effort"),
    "reasoning_effort": ("reasoning.effort", "reasoning", "thinking", "effort"),
    "thinking": ("reasoning",),
    "stop": ("stop_sequences", "stop_words", "stop_tokens"),
    "max_tokens": ("max_new_tokens", "max_output_tokens"),
    "stream_options": ("include_usage",),
}
"""Fields that servers name otherwise, because they speak another API behind the scenes."""

_WORDS = frozenset({"stop", "include", "store", "thinking", "reasoning", "strict", "effort"})
"""Words of every day, which have to be marked as names."""

_REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|unavailable|invalid|illegal|incompatible|deprecated|disallowed"
    r"|not (?:currently |yet |be )?(?:supported|permitted|allowed|accepted|available|enabled|implemented|recogni[sz]ed"
    r"|valid|applicable|compatible|used|specified|set)"
    r"|(?:not|n't|no longer) (?:support|accept|allow|take|recogni[sz]e)|cannot (?:both )?be|can't be|can not be"
    r"|extra (?:inputs|fields|keys)|additional propert|only the default|must not|should not be|may not be"
    r"|only \d|cannot specify|remove (?:it|the|this)|only (?:support|accept|allow)"
)


class Refused(NamedTuple):
    """A request that was refused."""

    body: dict[str, Any]
    can: Capabilities
    api: Api = "chat"


def find(status: int, said: Complaint, raw: str, refused: Refused) -> str | None:
    """Return what a refusal teaches about the request that was refused, if anything."""
    if status in ABOUT_OTHERS or not (400 <= status < 500 or status == _TEMPLATE_FAILED):
        return None
    if overflow_message(said) is not None:
        return None
    message = normalised(f"{said.message} | {said.type} {said.code}")
    param = said.param.lower()[:LOOKED_AT_CHARS]
    whole = normalised(raw).partition("'input':")[0]  # behind it validators quote what they were sent
    template_only = status == _TEMPLATE_FAILED
    return _taught(message, param, refused, template_only) or _taught(whole, param, refused, template_only)


def _taught(text: str, param: str, refused: Refused, template_only: bool) -> str | None:
    body = refused.body
    about = f"{text} | {param}" if param else text
    way = ways.find(about, body, refused.can, refused.api, template_only=template_only)
    if way or template_only:
        return way
    lesson = _limit(about, text, body) or _pair(text, body) or _value(about, body)
    if lesson or not (_REFUSES.search(text)):
        return lesson or ("auto" if forces(body) and _names(about, "tool_choice") else None)
    return (_refused(param, text, body) if param else None) or _refused(text, text, body)


_QUOTES = str.maketrans({"`": "'", '"': "'", "\u201c": "'", "\u201d": "'", "\u2018": "'", "\u2019": "'", "\\": None})
_THOUSANDS = re.compile(r"(?<![\[(\d]\d)(?<=\d),(?=\d{3}(?!\d))")


def normalised(text: str) -> str:
    """Return the part that is read, in lower case, with one kind of quotes and without separators of thousands."""
    return _THOUSANDS.sub("", text[:LOOKED_AT_CHARS].lower().translate(_QUOTES))


# The limit of the output


_ABOUT_LIMITS = re.compile(
    r"max[ _-]?(?:completion|output|new)?[ _-]?tokens|maximum (?:output |completion |number of )?tokens|output tokens"
    r"|completion tokens|output (?:token )?limit|max output|output length"
)
_TOO_LARGE = re.compile(
    r"too (?:large|big|high|many)|exceed|maximum|at most|out of range|greater|larger|less than|lower than|smaller than"
    r"|limit|between|range|up to|<=|\u2264|no more|must be|> ?\d"
)
_NUMBER = re.compile(r"(?<![\w.-])(\d{1,9})(?![\w-]|\.\d)")
_NO_LIMIT = re.compile(r"(?:code|status|error|line|column|http)['\s:=]{1,4}$")
_LEAST = re.compile(
    r"(?:>=|\u2265|at least|greater than or equal to|minimum(?: value)?(?: is| of)?:?|no less than"
    r"|below minimum value\D{0,40})"
    r" ?'?(\d{1,9})"
)
_THOUSAND = re.compile(r"(?<![\w.-])(\d{1,4})k\b")
_STRICTLY = re.compile(r"(?:less|lower|smaller) than '?(\d{1,9})")


def _limit(text: str, message: str, body: dict[str, Any]) -> str | None:
    """Return the limit that a refusal names: the largest number in it that is smaller than what was asked for."""
    field = next((field for field in LIMITS if isinstance(body.get(field), int)), None)
    if field is None or not _ABOUT_LIMITS.search(text):
        return None
    asked = body[field]
    least = _LEAST.search(message)
    if least and asked < int(least[1]):
        return f"least:{field}={int(least[1])}"
    if not _TOO_LARGE.search(text):
        return None
    smaller = [
        int(found[1])
        for found in _NUMBER.finditer(message)
        if 1 < int(found[1]) < asked and not _NO_LIMIT.search(message[max(0, found.start() - 12) : found.start()])
    ]
    smaller += [int(found[1]) * 1000 for found in _THOUSAND.finditer(message) if int(found[1]) * 1000 < asked]
    if smaller:
        return f"limit:{max(smaller)}"
    strictly = _STRICTLY.search(message)
    return f"limit:{asked - 1}" if strictly and int(strictly[1]) == asked > 1 else None


# Values that are taken


_SETTABLE: dict[str, frozenset[str]] = {
    "reasoning_effort": frozenset(EFFORTS),
    "reasoning.effort": frozenset(EFFORTS),
    "enable_thinking": frozenset({"true", "false"}),
    "parallel_tool_calls": frozenset({"true", "false"}),
    "store": frozenset({"true", "false"}),
    "thinking.type": frozenset({"enabled", "disabled", "adaptive", "auto"}),
}
"""Fields that a message may say to set, and to what."""
_MAY_BE_NEW = frozenset({"reasoning_effort", "enable_thinking"})
"""Of these also those that did not stand in the request."""
_LISTED = re.compile(
    r"(?<!un)(?:supported|allowed|valid|permitted|available|accepted|possible|acceptable) (?:values?|options?"
    r"|efforts?|levels?)"
    r"|(?:must|should|can|has to|needs to)(?: only)? be(?: one of| either| set to)?|expected one of|one of|either"
    r"|(?<!un)(?:supported|allowed|valid|accepted|permitted)(?: are)?:|choose from|only supports?"
    r"|supports? only|only accepts?|input should be|expected|only"
)
_WORD = re.compile(r"[a-z]+")


def _value(text: str, body: dict[str, Any]) -> str | None:
    """Return the lesson of a message that names the values which are taken."""
    return _beside_tools(text, body) or _told(text, body) or _efforts(text, body) or _numbers(text, body)


_TOOLS = re.compile(r"\b(?:tool|function)s?\b")


def _beside_tools(text: str, body: dict[str, Any]) -> str | None:
    """Read that tools are taken with effort `none` only, in whatever words."""
    if not body.get("tools") or not _TOOLS.search(text):
        return None
    field = "reasoning.effort" if "input" in body or "reasoning" in body else "reasoning_effort"
    if not any(_names(text, name) for name in (field, *_ALSO_CALLED[field])):
        return None
    given = value_of(body, field)
    words = {word for word in _WORD.findall(text) if word in EFFORTS} - {given}
    return f"set:{field}=none?tools" if words == {"none"} and given != "none" else None


@lru_cache(maxsize=64)
def _setting(field: str) -> re.Pattern[str]:
    name = _spelt(field)
    return re.compile(
        rf"(?:set|use|using|pass|send|specify)(?: the)? '?{name}'?(?: parameter| field)?(?: explicitly)?"
        rf"(?: to(?: be)?| ?=| ?:| as)? ?'?(?P<a>[a-z]+)"
        rf"|{name}'? (?:parameter |field )?(?:must|has to|needs to|should"
        rf"|can only) be(?: explicitly)?(?: set)?(?: to)? "
        rf"'?(?P<b>[a-z]+)'?(?! of)"
    )


def _told(text: str, body: dict[str, Any]) -> str | None:
    """Read "set reasoning_effort to 'none'"."""
    items = "input" in body
    for field, values in _SETTABLE.items():
        if field not in text and field.split(".")[-1] not in text:
            continue
        if items == (field == "reasoning_effort") and is_effort(field):
            continue
        given = value_of(body, field)
        if given is None and field not in _MAY_BE_NEW and not (items and is_effort(field)):
            continue
        for name in (field, *_ALSO_CALLED.get(field, ())):
            words = (next(filter(None, found.groups())) for found in _setting(name).finditer(text))
            if word := next((word for word in words if word in values and written(given) != word), None):
                return f"set:{field}={word}{'?tools' if body.get('tools') and _TOOLS.search(text) else ''}"
    return None


def _efforts(text: str, body: dict[str, Any]) -> str | None:
    """Read which efforts are taken, or which one is not."""
    for field in EFFORT_FIELDS:
        given = value_of(body, field)
        if given is None:
            continue
        if f"'{given}'" not in text and not any(_names(text, name) for name in (field, *_ALSO_CALLED[field])):
            continue
        for listed in _LISTED.finditer(text):
            behind = text[listed.end() : listed.end() + 200]
            words = {word for word in _WORD.findall(behind) if word in EFFORTS}
            if words and given not in words:
                return f"only:{field}={','.join(word for word in EFFORTS if word in words)}"
        if _REFUSES.search(text) and re.search(rf"'{re.escape(str(given))}'", text):
            return f"drop:{field}={given}"
    return None


_AMOUNT = r"'?(-?\d{1,9}(?:\.\d{1,9})?)"
_RANGE = re.compile(rf"(?:between |[\[(] ?|from ){_AMOUNT}'?(?: and |, ?| to | ?- ?){_AMOUNT}")
_MOST = re.compile(
    r"(?:<=?|\u2264|at most|less than(?: or equal to)?|lower than|no (?:more|greater|larger) than|not exceed"
    rf"|not be (?:greater|larger|more) than|maximum(?: value)?(?: is| of)?:?|up to) ?{_AMOUNT}"
)
_AT_LEAST = re.compile(
    r"(?:>=?|\u2265|at least|greater than(?: or equal to)?|larger than|no (?:less|lower|smaller) than"
    rf"|not be (?:less|lower|smaller) than|minimum(?: value)?(?: is| of)?:?) ?{_AMOUNT}"
)
_ONLY = re.compile(
    r"only (?:accepts? |supports? |allows? |takes? |be (?:set to )?|[a-z_]{1,20} ?= ?)?"
    rf"(?:the )?(?:default )?\(?(?:value )?(?:of )?{_AMOUNT}'?\)?(?! of)"
    rf"|must be (?:exactly )?{_AMOUNT}'?(?! ?(?:or|and|to|-))"
)


def _numbers(text: str, body: dict[str, Any]) -> str | None:
    """Read which numbers are taken."""
    for field in body:
        given = body[field]
        if field not in NUMERIC or field in LIMITS or not isinstance(given, int | float) or not _names(text, field):
            continue
        only = _ONLY.search(text)
        if only and (value := float(next(filter(None, only.groups())))) != given:
            return f"only:{field}={written(value)}"
        low, high = _bounds(text)
        step = 1 if field == "top_k" else 0.01
        if high is not None and given >= high:
            return f"most:{field}={written(high if given > high else high - step)}"
        if low is not None and given <= low:
            return f"least:{field}={written(low if given < low else low + step)}"
    return None


def _bounds(text: str) -> tuple[float | None, float | None]:
    if both := _RANGE.search(text):
        return float(both[1]), float(both[2])
    low, high = _AT_LEAST.search(text), _MOST.search(text)
    return (float(low[1]) if low else None), (float(high[1]) if high else None)


# Fields that are refused


_EXCLUDES = re.compile(r"\bboth\b|only one of|mutually exclusive|together|at the same time|simultaneous|conflict")


_PREFERRED = (
    "thinking", "enable_thinking", "reasoning", "reasoning_effort", "thinking_budget", "temperature", "top_p", "top_k",
    "stop", "parallel_tool_calls", "stream_options",
)  # fmt: skip
"""Of two fields that exclude each other the first stays."""


def _pair(text: str, body: dict[str, Any]) -> str | None:
    """Return which of two fields goes that exclude each other."""
    if not _EXCLUDES.search(text):
        return None
    named = [
        field
        for field in _PREFERRED
        if field in body and re.search(rf"(?<![a-z0-9_]){_spelt(field)}(?![a-z0-9_])", text)
    ]
    return f"one_of:{named[0]},{named[1]}" if len(named) > 1 else None


def _refused(words: str, text: str, body: dict[str, Any]) -> str | None:
    """Return what to do without the field of the body that is named in `words`. `text` is all that is said."""
    standing = [field for field in _DROPPABLE if _stands(body, field)]
    named = [field for field in standing if _names(words, field)]
    for field in _OTHER:
        if field in body and _names(words, field) and _first(words, field):
            return None if _TOO_LARGE.search(text) else f"rename:{field}:{_OTHER[field]}"
    if _names(words, "tool_choice") and body.get("tool_choice") not in (None, "none"):
        return _choice(text, body)
    named = named or [field for field in standing if any(_names(words, name) for name in _ALSO_CALLED.get(field, ()))]
    return f"drop:{named[0]}" if named else _shape(words, text, body)


def _stands(body: dict[str, Any], field: str) -> bool:
    return value_of(body, field) is not None or (field in body and "." not in field)


def _choice(text: str, body: dict[str, Any]) -> str:
    """Return what to do about a refused choice of a tool."""
    if not forces(body):
        return f"drop:tool_choice={body['tool_choice']}"
    if isinstance(body["tool_choice"], dict) and re.search(r"\bstring\b|named|specific (?:tool|function)|object", text):
        return "config:tool_choice_named=false"
    return "auto"


def _shape(words: str, text: str, body: dict[str, Any]) -> str | None:
    """Return what to do about a refused shape of the answer, or of strict tools."""
    shape = body.get("response_format", {}).get("type")
    if shape and (_names(words, "response_format") or _names(words, "json_schema")) and "invalid schema" not in text:
        return "json_object" if shape == "json_schema" else "drop:response_format"
    if _names(words, "strict") and any("strict" in tool.get("function", tool) for tool in body.get("tools", ())):
        return "drop:strict"
    return None


def _spelt(field: str) -> str:
    """Return a pattern for a field's name in every spelling: `top_p`, `topP`, `top-p`, `top p`."""
    return re.escape(field).replace("_", "[ _-]?")


@lru_cache(maxsize=256)
def _pattern(field: str) -> re.Pattern[str]:
    name = rf"{_spelt(field)}(?![a-z0-9_])"
    if field not in _WORDS:
        return re.compile(rf"(?<![a-z0-9_]){name}")
    end = r"(?=\s*(?:\Z|[.,;|'}\]]))"
    return re.compile(
        rf"['.\[(]{name}"
        rf"|\b(?:argument|param|parameter|field|property|key|input|option|setting)s?(?: supplied| named)?:? ?'?{name}"
        rf"|(?<![a-z0-9_]){name}'? (?:parameter|argument|field|option|value)"
        rf"|[:=] ?{name}{end}"
        rf"|(?:\A|[.;:'{{] ?|\bthe ){name}:? (?:is|are|only|does|cannot|can't|must|should|not|may)"
        rf"|(?:not|n't) support (?:the |using |custom )?{name}(?: sequences| mode| parameter)?(?=\s*(?:\Z|[.,;"
        rf"|'}}\]]|on |with |for |in ))"
        rf"|(?:unsupported|invalid|unknown|unrecognized|illegal|incompatible) {name}(?! of)"
    )


def _names(text: str, field: str) -> bool:
    """Say whether a field is named. What is a word of every day as well has to be marked as a name."""
    return text == field or _pattern(field).search(text) is not None


def _first(text: str, field: str) -> bool:
    """Of both names of the limit the one that is refused is named first."""
    other = text.find(_OTHER[field])
    at = _pattern(field).search(text)
    return at is not None and (other < 0 or at.start() < other or field in _OTHER[field])
