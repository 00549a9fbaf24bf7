"""What a message may quote of a file: known words and words in the form of a name, never what may be a key.

A key can stand anywhere in a file that somebody wrote by hand: as a name, a type, a key of a mapping, a tag. So a
message is made of parts: our own words, and `Theirs`, which are quoted if they are harmless and described by their
length if they are not. What is withheld for sure (the values of `auth_value`, of headers, of the environment) is
looked for in the finished message once more.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from balancer.config import words


@dataclass(frozen=True, slots=True)
class Theirs:
    """Something that stands in the file: quoted if it is harmless, else described."""

    value: object
    bare: bool = False
    """Without quotation marks, as names of variables are written."""


Part: TypeAlias = str | Theirs
Message: TypeAlias = tuple[Part, ...]

LONGEST = 48
"""A longer text is no name."""
SLICE_CHARS = 8192
"""So much text is searched in one go: less than a millisecond."""
SHORTEST_SECRET = 6
"""A shorter one stands in too many plain words to be looked for in a message."""

_SEGMENTS = re.compile(r"[ _.@/:-]+")
_SEGMENT = re.compile(
    r"[A-Za-z]{1,14}[0-9]{0,3}"  # anthropic, gpt4, eu1
    r"|[0-9]{1,4}[A-Za-z]{0,2}"  # 3, 70b, 4o
    r"|20[0-9]{6}"  # the date in a model's name
    r"|[A-Za-z][0-9]{1,2}[A-Za-z][0-9]{0,2}"  # k2p5
)
_SAYS_IT_IS_ONE = re.compile(r"secret|password|passwd|canary|credential|[a-z]{4}(?:[- ][a-z]{4}){3}\Z", re.IGNORECASE)
"""Whoever makes a key up says so, and there are services whose keys are four times four letters."""
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5,}")
_KEYLIKE = re.compile(
    r"sk[-_][A-Za-z0-9_-]{4,}"
    r"|(?:pk|rk|gsk|hf|r8|xai|nvapi|pplx|tgp|fw|csk|glpat|dop|sess|dapi)[-_][A-Za-z0-9_-]{12,}"
    r"|eyJ[A-Za-z0-9_-]{8,}"
    r"|(?:gh[pousr]_|github_pat_|xox[abeprs]-|AKIA|ASIA|AIza|ya29\.)[A-Za-z0-9_-]{8,}"
)
_BREAK = re.compile(r"(?<![A-Za-z0-9])")
_DENSE = re.compile(r"[A-Za-z0-9]{16,}")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_TURNS = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")
_RUN = re.compile(r"[A-Za-z0-9_+=~-]{8,}")
_ASSIGNED = re.compile(
    r"(?:auth|key|token|secret|cookie|password|passwd|credential)[A-Za-z0-9_-]{0,40}"
    r"[\"']?[ \t]{0,20}[:=][ \t]{0,20}[\"']?(?P<value>[^\s\"',}\]]{4,})",
    re.IGNORECASE,
)
_TELLING = re.compile(r"auth|key|token|secret|cookie|password|credential|proxy|headers", re.IGNORECASE)
_SPLIT = re.compile(r"[\s:@/]+")


def is_keylike(text: str) -> bool:
    """Say whether a key in a form that services hand out stands in `text`: `sk-...`, a JWT, `ghp_...`."""
    return any(_KEYLIKE.match(text, begin.start()) for begin in _BREAK.finditer(text[:4096]))


def looks_random(text: str) -> bool:
    """Say whether `text` looks drawn by chance: 16 characters or more, letters and digits in turns."""
    return any(len(_TURNS.findall(run)) >= (1 if _HEX.fullmatch(run) else 3) for run in _DENSE.findall(text[:4096]))


def is_wordlike(text: str) -> bool:
    """Say whether `text` has the form of a name, as people give names to things, and not of a key."""
    bare = text.strip("*?")
    if not 0 < len(bare) <= LONGEST or not bare.isascii() or is_keylike(bare):
        return False
    segments = _SEGMENTS.split(bare)
    if len(segments) > 8 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return False
    letters = re.sub(r"[^A-Za-z]", "", bare)
    if len(letters) * 2 < len(bare) - len(segments) + 1 and len(bare) > 4:
        return False
    return all(_is_spoken(segment) for segment in segments)


def _is_spoken(segment: str) -> bool:
    letters = segment.rstrip("0123456789")
    if len(letters) < 5:
        return True
    humps = len(re.findall(r"[a-z](?=[A-Z])", letters))
    return humps <= 2 and bool(re.search("[aeiouyAEIOUY]", letters)) and not _CONSONANTS.search(letters.lower())


_KEY_SOURCES = frozenset({"key", "key_sha256", "key_file"})
_BESIDE_A_KEY = frozenset(
    {"name", "rights", "models", "providers", "rpm", "tokens_per_minute", "max_in_flight", "expires"}
)
"""What of a named key of the balancer (`settings.auth.keys[]`) is no secret."""


def nearest(text: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the word of `known` that `text` is most like; None: it is like none of them."""
    if len(text) > LONGEST:
        return None
    known = list(known)
    folded = {word.lower(): word for word in reversed(known)}
    exact = folded.get(text.lower())
    if exact is not None:
        return exact
    close = difflib.get_close_matches(text, known, n=1, cutoff=cutoff) or [
        folded[word] for word in difflib.get_close_matches(text.lower(), folded, n=1, cutoff=cutoff)
    ]
    return close[0] if close else None


class Quoting:
    """Knows what of one file is to be withheld, and makes its messages: the one door that they all pass.

    What it is given is looked at when the first message is made: most files never need one.
    """

    def __init__(self) -> None:
        self._text = ""
        self._values: list[Any] = []
        self._candidates: list[object] = []
        self._secrets: set[str] = set()
        self._runs: set[str] = set()
        self._names: tuple[str, ...] = ()

    def take_text(self, text: str) -> None:
        """Learn from the raw text of a file, whether it can be parsed or not."""
        self._text = text

    def take_values(self, value: Any) -> None:
        """Learn the values that stand where a credential stands, however deep and wrong."""
        self._values.append(value)

    def know_names(self, candidates: Iterable[object]) -> None:
        """Take the names of this file's providers, so that a slip of one may be quoted."""
        self._candidates += candidates

    def withhold(self, secret: str) -> None:
        """Show this nowhere, nor its parts."""
        self._values.append({"secret": secret})

    def _learn(self) -> None:
        text, self._text = self._text, ""
        runs: set[str] = set()
        for slice_ in _slices(text):
            runs.update(_RUN.findall(slice_))
            for found in _ASSIGNED.finditer(slice_):
                self._withhold(found["value"])
        self._runs |= {run for run in runs if run not in words.known() and not is_wordlike(run)}
        values, self._values = self._values, []
        for value in values:
            self._withhold_in(value)
        candidates, self._candidates = self._candidates, []
        self._names += tuple(self.names(candidates))

    def _withhold_in(self, value: Any, telling: str = "") -> None:
        """Look through a value; `telling`: the key above it that says that there are credentials below."""
        if isinstance(value, dict):
            named = "name" in value and not _KEY_SOURCES.isdisjoint(value)
            for key, inner in value.items():
                if named and telling == "auth" and key in _BESIDE_A_KEY:
                    continue
                if telling and telling != "headers":
                    self._withhold(str(key))
                self._withhold_in(inner, telling or (str(key) if _TELLING.search(str(key)) else ""))
        elif isinstance(value, list):
            for inner in value:
                self._withhold_in(inner, telling)
        elif telling and isinstance(value, str | int | float) and not isinstance(value, bool):
            self._withhold(str(value))

    def _withhold(self, secret: str) -> None:
        for text in (secret.strip(), *_SPLIT.split(secret)):
            if len(text) >= 4 and text not in words.known():
                self._secrets.add(text)

    def is_withheld(self, text: str) -> bool:
        return text in self._secrets or any(s in text for s in self._secrets if len(s) >= SHORTEST_SECRET)

    def may_show(self, text: str) -> bool:
        """Say whether a message may quote `text`."""
        if self._text or self._values or self._candidates:
            self._learn()
        if text in words.known() or (text and not text.strip("*?")):
            return True
        if self.is_withheld(text) or _SAYS_IT_IS_ONE.search(text):
            return False
        return is_wordlike(text) or (not is_keylike(text) and self._is_slip(text))

    def _is_slip(self, text: str) -> bool:
        known = (*words.known(), *self._names)
        word = nearest(text, known, 0.75)
        return word is not None and abs(len(word) - len(text)) <= 3

    def say(self, *parts: Part) -> str:
        """Return the message that these parts make."""
        if self._text or self._values or self._candidates:
            self._learn()
        text = "".join(self._quoted(part.value, part.bare) if isinstance(part, Theirs) else part for part in parts)
        return self._without_secrets(text)

    def names(self, candidates: Iterable[object]) -> list[str]:
        """Return those that may be listed: strings in the form of a name."""
        found = (name for name in candidates if isinstance(name, str) and self.may_show(name))
        return list(dict.fromkeys(found))

    def _quoted(self, value: object, bare: bool) -> str:
        match value:
            case bool():
                return str(value).lower()
            case int() | float():
                text = f"{value:g}" if isinstance(value, float) else str(value)
                return text if len(text) <= 7 and not self.is_withheld(text) else "(a number, not shown)"
            case str():
                if not self.may_show(value):
                    return described(value)
                return value if bare else f"'{value}'"
            case dict():
                return "a mapping"
            case list() | tuple():
                return "a list"
            case None:
                return "nothing"
            case _:
                return "something else"

    def _without_secrets(self, text: str) -> str:
        long = [secret for secret in self._secrets if len(secret) >= SHORTEST_SECRET and secret in text]
        for secret in sorted(long, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        return _RUN.sub(lambda run: "[redacted]" if run[0] in self._runs else run[0], text)


def _slices(text: str) -> Iterator[str]:
    """Return a text in pieces of whole lines: between them Python may let another thread run."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + SLICE_CHARS) + 1 or len(text)
        yield text[begin:end]
        begin = end


def shown_host(host: str) -> str:
    """Return a host as messages may show it: an address or a name, and not what may be a key in its place."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host if Quoting().may_show(host) else described(host)


def described(text: str) -> str:
    """Say of a text only how long it is."""
    return f"({len(text)} character{'s' * (len(text) != 1)}, not shown)" if text else "(empty)"
