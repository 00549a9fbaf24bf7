"""Refusals that are about how a request is written, and the writing that such servers take.

Each row: which words say so, what of the request must be so for the row to be about it, and the lesson.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import msgspec

from balancer.dialects.openai.lessons import holds_reasoning, limit_of
from balancer.dialects.openai.profiles import Api, Capabilities

Body: TypeAlias = dict[str, Any]
Lesson: TypeAlias = Callable[[re.Match[str], str, Body, Capabilities], str | None]
"""From the words found, all that is said, the body that was refused and what it was made from, to the lesson; None: it
is not about that."""


class Way(NamedTuple):
    """A way of writing that some servers refuse."""

    said: re.Pattern[str]
    lesson: Lesson
    template: bool = False
    """A chat template may refuse it, as a failure of the server."""


def find(text: str, body: Body, can: Capabilities, api: Api, *, template_only: bool) -> str | None:
    """Return the lesson of a refusal in normalised `text`; None: it is not about a way of writing."""
    if not template_only and (other := _other_api(text, api, body)):
        return other
    for way in _WAYS:
        if (way.template or not template_only) and (found := way.said.search(text)):
            lesson = way.lesson(found, text, body, can)
            if lesson is not None:
                return lesson
    return None


_RESPONSES_ONLY = re.compile(
    r"(?:only (?:be )?(?:supported|available|accessible|used)|use|try|switch to|call) ?(?:in|via|through|with"
    r"|by|on)? ?(?:the )?"
    r"'?(?:/?v1/responses|responses (?:api|endpoint))"
)
_NO_RESPONSES = re.compile(
    r"responses (?:api|endpoint)'? (?:is |are )?(?:currently |yet )?(?:not|un)"
    r"|(?:not|n't|unsupported|unknown).{0,40}(?:the )?(?:/v1/responses|responses api)"
)
_WITH_A_WORD_TO_SET = re.compile(r"\bset\b.{0,40}\bto\b")


_TOOLS = re.compile(r"\b(?:tool|function)s?\b")


def _other_api(text: str, api: Api, body: Body) -> str | None:
    if api == "chat" and _RESPONSES_ONLY.search(text) and not _WITH_A_WORD_TO_SET.search(text):
        return "config:api=responses" + ("?tools" if body.get("tools") and _TOOLS.search(text) else "")
    return "config:api=chat" if api == "responses" and _NO_RESPONSES.search(text) else None


# What the request is like


def _messages(body: Body) -> list[Body]:
    messages: list[Body] = body.get("messages", [])
    return messages


def _calls(body: Body) -> Iterator[str]:
    """Yield the ids of the tool calls."""
    for message in _messages(body):
        for call in message.get("tool_calls", ()):
            yield call["id"]
    for item in body.get("input", ()):
        if item.get("type") == "function_call":
            yield item["call_id"]


def _tool_names(body: Body) -> Iterator[str]:
    for tool in body.get("tools", ()):
        if name := tool.get("function", tool).get("name"):
            yield name


# The lessons


def _streamed(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    if body.get("stream"):
        return None
    above = _ABOVE.search(text)
    if above and (limit_of(body) or 0) > int(above[1]):
        return f"set:stream=true?max_tokens>{int(above[1])}"
    return "config:streaming=always"


_ABOVE = re.compile(
    r"max[ _]?(?:completion[ _]|output[ _])?tokens'? ?(?:is |are )?"
    r"(?:>|greater than|above|over|exceeds?|exceeding|larger than|more than) '?(\d{1,9})"
)


def _whole(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    return "config:streaming=never" if body.get("stream") else None


_NEVER = (
    r"\bstream(?:ing|ed)?'? (?:parameter |mode |requests? |calls? )?(?:is |are )?(?:not|un)(?: ?supported| allowed"
    r"| available| enabled)"
    r"|(?:not|n't) support.{0,20}stream|stream'? ?(?:must|should|has to|needs to) be (?:set to )?'?false"
    r"|only supports? (?:non-?stream|stream ?= ?false)|disable stream|stream ?= ?'?false"
)


def _tool_id(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    ids = list(_calls(body))
    if not ids or can.tool_id == "alnum9":
        return None
    longest = _AT_MOST.search(text)
    if longest and int(longest[1]) >= _SHORTEST_ID and int(longest[1]) < max(map(len, ids)):
        return f"config:tool_id_max={int(longest[1])}"
    return "config:tool_id=alnum9" if _NINE.search(text) else None


_SHORTEST_ID = 10
_AT_MOST = re.compile(
    r"(?:maximum length(?: of| is)?|max(?:imum)? (?:of )?|at most|longer than|up to|no more than|max_length=?"
    r"|<=) ?'?(\d{1,4})"
)
_NINE = re.compile(
    r"(?:length|exactly|be|of|is|=) ?9\b|\b9 (?:char|alphanum|letters|digits)|\{9\}|\bnine\b|alphanumeric|a-z0-9\]"
    r"|only (?:contain |have )?letters"
)


def _after_tool(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    roles = [message["role"] for message in _messages(body)]
    follows = any(first == "tool" and second == "user" for first, second in pairwise(roles))
    if not follows or can.after_tool == "bridge":
        return None
    return "config:after_tool=merge" if can.after_tool == "user" else "config:after_tool=bridge"


def _no_prefill(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    messages = _messages(body)
    return "config:prefill=false" if can.prefill and messages and messages[-1]["role"] == "assistant" else None


def _reasoning_back(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    if not any(message["role"] == "assistant" for message in _messages(body)) or can.reasoning_back == "always":
        return None
    only_calls = re.search(r"tool.?call|function.?call|tool message", text) and can.reasoning_back != "with_calls"
    return f"config:reasoning_back={'with_calls' if only_calls else 'always'}"


def _no_reasoning_back(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    given = any("reasoning_content" in message for message in _messages(body))
    return "config:reasoning_back=never" if given else None


def _foreign_reasoning(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    return "once:no_reasoning" if holds_reasoning(body) else None


def _signatures(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    if can.thought_signatures or not any(_calls(body)):
        return None
    return "config:thought_signatures=true"


def _no_signatures(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    return "config:thought_signatures=false" if can.thought_signatures and any(_calls(body)) else None


def _no_phases(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    return "config:phases=false" if can.phases and "input" in body else None


def _no_effort(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    asked = any(field in body for field in ("reasoning_effort", "reasoning", "thinking", "enable_thinking"))
    return "once:no_effort" if asked else None


def _system_role(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    if all(message["role"] not in ("system", "developer") for message in _messages(body)):
        return None
    if "developer" in found[0] and "instruction" not in found[0]:
        return "config:system_role=system" if can.system_role == "developer" else None
    return "config:system_role=user" if can.system_role != "user" and "messages" in body else None


def _system_first(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    later = any(message["role"] in ("system", "developer") for message in _messages(body)[1:])
    return "config:mid_system=false" if later else None


def _call_text(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    empty = any(message["content"] is None for message in _messages(body))
    return "config:call_text=true" if empty else None


def _no_marks(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    marked = any(
        "cache_control" in part
        for message in _messages(body)
        if isinstance(message["content"], list)
        for part in message["content"]
    )
    return "config:cache_marks=none" if marked else None


def _names_of_letters(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    names = list(_tool_names(body))
    longest = _AT_MOST.search(text)
    if longest and _SHORTEST_NAME <= int(longest[1]) < max(map(len, names), default=0):
        return f"config:name_max={int(longest[1])}"
    if any(not (name[:1].isalpha() or name[:1] == "_") for name in names) and can.tool_name == "plain":
        return "config:tool_name=letter"
    return "config:tool_name=word" if any("-" in name for name in names) and can.tool_name != "word" else None


_SHORTEST_NAME = 16


def _fewer_stops(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    stops, most = body.get("stop"), int(found[1])
    return f"config:stop={most}" if isinstance(stops, list) and len(stops) > most else None


_KEYWORDS = (
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "format", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames",
    "patternProperties", "additionalProperties", "unevaluatedProperties", "minProperties", "maxProperties", "default",
    "examples", "title", "readOnly", "writeOnly", "deprecated", "contentEncoding", "contentMediaType",
    "dependentRequired", "dependentSchemas", "$schema", "$id", "$comment", "$anchor", "nullable",
)  # fmt: skip
"""Words of JSON Schema that a schema can do without: the prompt and the client still know what is meant."""
_STRUCTURE = ("oneOf", "anyOf", "allOf", "not", "if", "then", "else", "prefixItems", "const", "enum")
_REFERENCES = ("$ref", "$defs", "definitions")


def _schema(found: re.Match[str], text: str, body: Body, can: Capabilities) -> str | None:
    """Leave out the words that are named; where the schema's structure is refused, write it in the fewest words."""
    if not body.get("tools"):
        return None
    written = msgspec.json.encode(body["tools"]).decode()

    def named_of(words: Iterable[str]) -> list[str]:
        return [word for word in words if f'"{word}"' in written and _quoted(text, word)]

    if not can.inline_refs and named_of(_REFERENCES):
        return "config:inline_refs=true"
    googles = "function_declarations" in text or ("cannot find field" in text and "tools[" in text)
    named = sorted(set(named_of(_KEYWORDS)) - set(can.schema_without))
    if can.tool_schema == "plain" and (googles or named_of(_STRUCTURE)):
        return "config:tool_schema=narrow"
    return f"config:schema_without={','.join(named)}" if named else None


def _quoted(text: str, word: str) -> bool:
    """Say whether a word of JSON Schema is named as one: in quotes, or as no word of every day is written."""
    plain = word.lower()
    if word != plain or plain[:1] == "$":
        return re.search(rf"(?<![a-z0-9$]){re.escape(plain)}(?![a-z0-9])", text) is not None
    return f"'{plain}'" in text or f"keyword {plain}" in text or f"keyword: {plain}" in text


def _way(pattern: str, lesson: Lesson, *, template: bool = False) -> Way:
    return Way(re.compile(pattern), lesson, template)


_WAYS = (
    _way(r"(?:missing|without|requires?|must have|lacks?).{0,20}thought_signature", _signatures),
    _way(r"extra_content", _no_signatures),
    _way(r"\bphase\b.{0,60}(?:not|un)|(?:unknown|unsupported|invalid|unexpected).{0,40}\bphase\b", _no_phases),
    _way(r"expected '?thinking'? or '?redacted_thinking|must start with a thinking block", _no_effort),
    _way(_NEVER, _whole),
    _way(
        r"(?:must|should|needs? to|has to|have to|requires?|please|only).{0,30}\bstream(?:ing|ed)?\b"
        r"|stream'? ?(?:must|should|has to|needs to) be|non-?stream(?:ing|ed)?|without stream|not stream(?:ed|ing)"
        r"|set '?stream'?|'?stream'? ?[=:] ?'?true|streaming (?:is|mode is) (?:strongly )?(?:required|mandatory"
        r"|needed|recommended)"
        r"|enable stream|use stream|stream(?:ing)? (?:is )?(?:required|only)|'?stream'? ?[=:] ?'?false",
        _streamed,
    ),
    _way(
        r"(?:encrypted|reasoning).{0,60}(?:could not be|cannot be|can't be|failed to be) (?:verified|decrypted"
        r"|parsed|decoded)"
        r"|invalid_encrypted_content|(?:invalid|could not|failed to|cannot).{0,40}encrypted.content"
        r"|of type 'reasoning' was provided without|item with id '?rs_.{0,80}not found"
        r"|(?:invalid|unexpected|missing|corrupt(?:ed)?).{0,40}signature.{0,40}|signature.{0,40}(?:invalid"
        r"|verif|mismatch)",
        _foreign_reasoning,
    ),
    _way(
        r"(?:tool|function).?call.?ids?\b|tool_calls?\[?.{0,12}\]?\.id|(?:tool|call) id\b|\bcall_id"
        r"|tool_use.?id", _tool_id
    ),
    _way(
        r"(?:unexpected|invalid|wrong).{0,20}role.{0,12}user.{0,20}(?:after|follow).{0,20}tool"
        r"|user.{0,40}(?:after|follow|behind).{0,30}tool|tool.{0,40}(?:must|should|has to|needs to"
        r"|can only) be (?:directly |immediately )?"
        r"followed by (?:an? )?'?assistant"
        r"|(?:expected|expects?).{0,30}assistant.{0,40}(?:after|got|but).{0,30}(?:tool|user)"
        r"|roles? must alternate|must alternate between|alternate user|message order|role order",
        _after_tool,
        template=True,
    ),
    _way(
        r"(?:last|final) (?:message|role|turn).{0,60}(?:user|assistant)|expected last role|must end with.{0,20}user"
        r"|assistant (?:message |response )?prefill|prefill(?:ing|ed)?.{0,40}not|(?:end|ends"
        r"|ending) with (?:an? )?'?assistant",
        _no_prefill,
        template=True,
    ),
    _way(
        r"reasoning_content.{0,80}(?:missing|required|must be|not found|absent|empty|needs? to)"
        r"|(?:missing|requires?|required|must (?:include|contain|have|provide|pass|carry)|lacks?|without"
        r"|expected|no).{0,60}reasoning_content",
        _reasoning_back,
        template=True,
    ),
    _way(
        r"reasoning_content.{0,60}(?:not (?:supported|permitted|allowed|accepted)|unknown|unrecognized"
        r"|unsupported|extra)"
        r"|(?:unknown|unsupported|unrecognized|unexpected|extra|invalid|remove).{0,60}reasoning_content",
        _no_reasoning_back,
    ),
    _way(
        r"developer.{0,80}(?:not (?:supported|allowed|enabled|one of|a valid|valid)|unsupported|invalid|unknown)"
        r"|(?:invalid|unknown|unsupported|unexpected|unrecognized|not one of).{0,60}developer"
        r"|system (?:role|message|prompt|instruction)s?.{0,20}(?:not|un)(?: ?supported| enabled| allowed)"
        r"|(?:not|n't) support.{0,20}(?:the )?'?system'? (?:role|message|prompt|instruction)"
        r"|(?:unsupported|invalid|unknown) role:? '?system|roles are (?:supported|allowed).{0,20}'?system",
        _system_role,
        template=True,
    ),
    _way(
        r"system (?:role |message|prompt)s?.{0,60}(?:first|beginning|start)|role '?system'? (?:after|must|in the)"
        r"|(?:only|more than) (?:one|a single|1).{0,20}system|multiple system|system'? after",
        _system_first,
        template=True,
    ),
    _way(
        r"content.{0,80}(?:null|none|required|must be a string|valid string|a string|empty)"
        r"|(?:null|none|missing).{0,60}content|expected (?:a )?string,? (?:but )?got null",
        _call_text,
        template=True,
    ),
    _way(
        r"cache_control|content.{0,60}(?:must be|should be|expected|valid) (?:a )?(?:valid )?string"
        r"|invalid type: sequence|cannot be (?:a )?list",
        _no_marks,
    ),
    _way(
        r"(?:function|tool)s?(?:\[\d+\])?.{0,40}\bnames?\b.{0,160}(?:letter|alphabet|underscore|pattern|match"
        r"|a-z|length|long|character)"
        r"|invalid (?:function|tool) name",
        _names_of_letters,
    ),
    _way(r"\bstop(?:_| )?(?:sequences?|words?)?\b.{0,80}?(?:at most|maximum(?: length| number)?(?: of)?|up to"
        r"|more than|max(?:imum)?(?: of)?) ?(\d{1,2})\b", _fewer_stops),
    _way(r"schema|parameter|tool|function|keyword|cannot find field|declaration", _schema),
)  # fmt: skip
