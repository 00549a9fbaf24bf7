"""Which row of the table a refusal belongs to.

The words of a refusal quote the request: what stands in quotation marks or backquotes is no evidence against a
provider. All of them are cut before they are looked at, and every pattern takes time in proportion to their length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from balancer.model import ErrorRule, Fault, RefusalClass, Scope, Trouble
from balancer.policy.refusal_rows import ROWS, Feature, Look, Row
from balancer.wire.errors import kind_of
from balancer.wire.overflow import is_overflow

LOOKED_AT_CHARS = 2048
"""How much of a refusal's words decides what it means."""

_QUOTES = "`'\"“”‘’«»"
_QUOTED = re.compile(
    r"`[^`]{0,1000}`|\"[^\"]{0,1000}\"|(?<!\w)'[^']{0,1000}'(?!\w)|“[^”]{0,1000}”|‘[^’]{0,1000}’|«[^»]{0,1000}»"
)
_OPENING = re.compile(r"[`\"“”«»‘]|(?<!\w)'|’(?=\w)")
_NAMED = "'…'"
"""What stands for a quoted part."""

_KNOWN = (
    "model|messages|system|tools|tool_choice|max_tokens|temperature|top_p|top_k|stop_sequences|stream|thinking|metadata"
    "|container|mcp_servers|context_management|service_tier|output_config|output_format|cache_control|safeguards"
    "|fallbacks|speed|inference_geo|betas|input|prompt|max_completion_tokens|max_output_tokens|response_format"
    "|reasoning|reasoning_effort|stop|tool_ids|functions|diagnostics|fallback_credit_token"
)
_PATH = re.compile(
    rf"(?:body[.: ])?(?:(?:{_KNOWN})(?:[.\[][^:\s]{{0,200}})?"
    r"|[a-z_]\w{0,60}(?:\.[a-z_]\w{0,60}){0,8}(?:\.|\[)\d{1,6}\b[^:\s]{0,200}): "
)
_FIELD = re.compile(
    r"extra inputs are not permitted|field required|input should be|string should|input tag|not a valid (?:json|list)"
    r"|(?<![\w-])(?:max_tokens|max_completion_tokens|max_output_tokens|tool_use|tool_result|tool_choice|tool_calls"
    r"|cache_control|stop_sequences|top_[pk]|budget_tokens|input_schema|tool_use_id|media_type|response_format"
    r"|parallel_tool_calls|temperature|tool_call_id|system_instruction|function_call|max_new_tokens)(?![\w-])"
    rf"|[`'\"](?:{_KNOWN}|role|content|text|image|document|name|id|type)[`'\"]",
    re.IGNORECASE,
)
_NOTHING_SAID = re.compile(r"(?:error:? ?)?(?:404:? ?)?(?:page |resource )?(?:not[ _]?found|gone)?[.!]?", re.IGNORECASE)

OURS: dict[RefusalClass, tuple[Scope | None, Trouble | None]] = {
    RefusalClass.REQUEST: (None, None),
    RefusalClass.CAPABILITY: (None, None),
    RefusalClass.ACCOUNT: (Scope.PROVIDER, Trouble.ACCESS),
    RefusalClass.LIMIT: (Scope.MODEL, None),
    RefusalClass.MODEL: (Scope.MODEL, None),
    RefusalClass.PROVIDER: (Scope.PROVIDER, None),
}
"""What follows from each class that a user may give: what cools down, and what a person has to see to."""

_STANDS_FOR = {RefusalClass.LIMIT: 429, RefusalClass.MODEL: 404}


class Seen:
    """What is looked at of a refusal, each part made when a row asks for it first."""

    def __init__(self, fault: Fault) -> None:
        usual = kind_of(fault.status)  # the type that goes with the status says no more than that
        said = dict.fromkeys((fault.kind, fault.type, fault.code, *fault.marks))
        self.fault = fault
        self.signs = tuple(letters for word in said if word != usual and (letters := _letters(word)))
        self._words = {Look.ALL: fault.message[:LOOKED_AT_CHARS]}
        self._features: dict[Feature, bool] = {}

    def words(self, look: Look) -> str:
        """Return the words that count."""
        words = self._words.get(look)
        if words is None:
            every = self._words[Look.ALL]
            words = self._words[look] = unquoted(every) if look is Look.OUTSIDE else strictly_unquoted(every)
        return words

    def has(self, feature: Feature) -> bool:
        """Say whether the refusal as a whole is seen to be so."""
        known = self._features.get(feature)
        if known is None:
            known = self._features[feature] = self._look(feature)
        return known

    def _look(self, feature: Feature) -> bool:
        fault, words = self.fault, self._words[Look.ALL]
        match feature:
            case Feature.RULE:
                return False  # `find` knows
            case Feature.CALLERS_OWN:
                return fault.callers_own
            case Feature.ELSEWHERE:
                return fault.elsewhere
            case Feature.OVERFLOW:
                return is_overflow(fault.message)
            case Feature.PATH:
                return _PATH.match(words) is not None and not words.startswith("model: ")
            case Feature.FIELD:
                return bool(fault.param) or _PATH.match(words) is not None or _FIELD.search(words) is not None
            case Feature.FOREIGN:
                return fault.foreign
            case Feature.WORDED:
                return _NOTHING_SAID.fullmatch(words.strip()) is None
            case Feature.FINAL:
                return fault.should_retry is False
            case Feature.WINDOW:
                return fault.account_window
            case Feature.TIMED:
                return fault.retry_after_s is not None
            case Feature.TOO_LARGE:
                return fault.type == "request_too_large"
            case Feature.OVERLOADED:
                return fault.kind == "overloaded_error"


def unquoted(words: str) -> str:
    """Return words with `'…'` for each part that stands in quotation marks or backquotes."""
    return _QUOTED.sub(_NAMED, words)


def strictly_unquoted(words: str) -> str:
    """Return words with `'…'` for all from the first quotation mark to the last.

    What is quoted may hold quotation marks itself, to look as if it ended there. An apostrophe is none.
    """
    first = _OPENING.search(words)
    if first is None:
        return words
    last = max(words.rfind(mark) for mark in _QUOTES)
    return f"{words[: first.start()]}{_NAMED}{words[max(last, first.start()) + 1 :]}"


class Found(msgspec.Struct, frozen=True):
    """The row that a refusal belongs to."""

    row: Row
    evidence: str = ""
    """The words by which it was known, where words decided."""


def find(fault: Fault, rules: Sequence[ErrorRule] = ()) -> Found:
    """Return the row that `fault` belongs to. `rules` are the user's: they come before ours. Total."""
    seen = Seen(fault)
    for rule in rules:
        if not (fault.callers_own or fault.elsewhere) and _rule_fits(rule, seen):
            return Found(row_of(rule))
    return next(found for row in ROWS if (found := _fitting(row, seen)))


def row_of(rule: ErrorRule) -> Row:
    """Return a user's rule as a row."""
    scope, trouble = OURS[rule.refusal]
    stands_for = _STANDS_FOR.get(rule.refusal)
    given = frozenset({Feature.RULE})
    return Row(rule.name, rule.refusal, given=given, scope=scope, trouble=trouble, stands_for=stands_for)


def _rule_fits(rule: ErrorRule, seen: Seen) -> bool:
    fault = seen.fault
    if rule.status is not None and rule.status != fault.status:
        return False
    if rule.type and rule.type.lower() not in (fault.type.lower(), fault.kind.lower()):
        return False
    if rule.code and rule.code.lower() not in (fault.code.lower(), *(mark.lower() for mark in fault.marks)):
        return False
    quotes = any(mark in rule.contains for mark in "`'\"")
    words = seen.words(Look.ALL if quotes else Look.OUTSIDE)
    return rule.contains.lower() in words.lower()


def _fitting(row: Row, seen: Seen) -> Found | None:
    if row.statuses and seen.fault.status not in row.statuses:
        return None
    if any(not seen.has(one) for one in row.given) or any(seen.has(one) for one in row.unless):
        return None
    if not row.is_said or any(sign in letters for sign in row.signs for letters in seen.signs):
        return Found(row)
    match = row.words.search(seen.words(row.looks_at)) if row.words is not None else None
    return Found(row, match[0]) if match else None


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower()))
