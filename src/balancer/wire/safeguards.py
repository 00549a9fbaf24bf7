"""`safeguards`: the check of actions that Claude Code's auto mode asks of the model's service, within its own requests.

A request asks with a field and two betas, and the verdicts come back in the answer as `safeguard_results`. A provider
that can't do the check gets neither field nor betas, and its answer is given the result that there is no verdict.
Then the client refuses that turn's actions or asks its user, and the session stays in auto mode. A refusal of the
field would end auto mode for the session, at every provider; an answer without a result would be complained about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from balancer.headers import Headers
from balancer.model import Fault, Piece, Request
from balancer.wire import messages, sse

FIELD = "safeguards"
RESULTS = "safeguard_results"

BETA_MARK = b"dangerous-tool-use-"
"""Begins the name of the beta by which a request can be told that asks for the check."""

_BETA = re.compile(r"(?:dangerous-tool-use|afk-mode)-\d{4}-\d{2}-\d{2}\Z")
"""The names of the two betas that belong to the field (`-2026-09-03` and `-2026-01-31`), whatever their date."""

_BETA_HEADER = b"anthropic-beta"
_BETA_FIELDS = ("betas", "anthropic_beta")
"""Where betas stand in a body: as the SDKs and the clouds' own APIs have them."""

KEPT_S = 86400.0
"""How long is believed what a provider did with the field: servers are upgraded."""

MODELS_MAX = 1000
"""Of so many models it is kept what a provider did: clients choose the names."""

_KINDS_MAX = 8
_KIND_MAX_CHARS = 64
_WORDS_MAX_CHARS = 2048

_KEY = b'"safeguards"'
_KEYS = (_KEY, *(b'"%b"' % name.encode() for name in _BETA_FIELDS))
_RESULTS_KEY = b'"safeguard_results"'


# Requests


def kinds(request: Request) -> tuple[str, ...]:
    """Return the kinds of checks that a request asks for; none: it asks for no check."""
    body = request.body
    if body.rfind(_KEY) < 0 or not request.operation.answers:
        return ()
    try:
        asked = msgspec.json.decode(messages.members(body).get(FIELD, b"null"))
    except (msgspec.MsgspecError, RecursionError):
        return ()
    named = [each.get("type") for each in asked if isinstance(each, dict)] if isinstance(asked, list) else []
    given = dict.fromkeys(kind[:_KIND_MAX_CHARS] for kind in named if isinstance(kind, str))
    return tuple(given)[:_KINDS_MAX]


def without(request: Request) -> tuple[Request, tuple[str, ...]]:
    """Return a request without the field and its betas, and in words what was left out; nothing else is changed.

    The same request is returned where there is nothing to leave out.
    """
    headers, gone = _without_betas(request.headers)
    body = request.body
    if any(body.rfind(key) >= 0 for key in _KEYS):
        body, more = _without_field(body)
        gone |= more
    if not gone:
        return request, ()
    return replace(request, headers=headers, body=body, names=()), tuple(f"dropped {what}" for what in sorted(gone))


def dropped(request: Request) -> tuple[str, ...]:
    """Return in words what of a request a provider does not get that can't do the check."""
    return without(request)[1]


def _without_betas(headers: Headers) -> tuple[Headers, set[str]]:
    gone: set[str] = set()
    lines: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        kept = value
        if name == _BETA_HEADER:
            betas = [beta.strip() for beta in value.split(b",")]
            own = [beta for beta in betas if _BETA.match(beta.decode("latin-1"))]
            if own:
                kept = b",".join(beta for beta in betas if beta not in own)
                gone.update(f"beta {beta.decode('latin-1')}" for beta in own)
        if kept or kept is value:
            lines.append((name, kept))
    return tuple(lines), gone


def _without_field(body: bytes) -> tuple[bytes, set[str]]:
    """Return a body without the field and its betas; every other value is as it was, to the byte."""
    gone: set[str] = set()
    try:
        members = messages.members(body)
        for name in _BETA_FIELDS:
            betas = msgspec.json.decode(members.get(name, b"null"))
            own = [beta for beta in betas if isinstance(beta, str) and _BETA.match(beta)] if _is_list(betas) else []
            if own:
                members[name] = msgspec.Raw(msgspec.json.encode([beta for beta in betas if beta not in own]))
                gone.update(f"beta {beta}" for beta in own)
    except (msgspec.MsgspecError, RecursionError):
        return body, set()
    if members.pop(FIELD, None) is not None:
        gone.add(FIELD)
    return (msgspec.json.encode(members), gone) if gone else (body, gone)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


# Refusals

_REFUSES = re.compile(
    r"extra (?:inputs?|fields?|parameters?)|additional propert|unknown|unexpected|unrecogni[sz]ed|unsupported|invalid"
    r"|not (?:supported|permitted|allowed|available|enabled|recogni[sz]ed|valid|known)|(?:does|is|do)n[o']t? support"
    r"|does not support|not a (?:valid|known)"
)
_NAMES = re.compile(
    r"(?:(?<![\w.])|(?<=body\.)|(?<=\$\.))safeguards\b|\b(?:dangerous-tool-use|afk-mode)-\d{4}-\d{2}-\d{2}"
)
"""The field on the top level of a body, or one of its betas."""


def is_refused(fault: Fault) -> bool:
    """Return whether a provider refused the field or one of its betas, as far as its words tell.

    Where it does not speak as the Messages API does, its whole answer counts as its words.
    """
    words = fault.message[:_WORDS_MAX_CHARS].lower()
    if not words and fault.reply is not None:
        words = fault.reply.body[:_WORDS_MAX_CHARS].decode("utf-8", "replace").lower()
    return fault.status in (400, 422) and bool(_NAMES.search(words)) and bool(_REFUSES.search(words))


class Known(msgspec.Struct, eq=False):
    """What one provider did with the field, model by model. It is kept with what its type has learnt about it."""

    returned: dict[str, tuple[bool | None, float]] = {}
    """Whether verdicts came back (None: there was nothing to check), and when, in seconds since the epoch."""
    refused_at: dict[str, float] = {}
    """When the field was refused."""

    def refuses(self, model: str, wall: float) -> bool:
        """Return whether a model's provider is known to refuse the field."""
        at = self.refused_at.get(model)
        return at is not None and 0 <= wall - at < KEPT_S

    def returns(self, model: str, wall: float) -> bool | None:
        """Return whether verdicts come back for a model; None: not known."""
        if self.refuses(model, wall):
            return False
        seen, at = self.returned.get(model, (None, 0.0))
        return seen if 0 <= wall - at < KEPT_S else None

    def doubt(self, model: str) -> int:
        """Return how doubtful it is that verdicts come back for a model, by the latest that is known, however old.

        0: they do, or it was never asked for any. 1: it gave none, but there was nothing to check. 2: it gives none.
        """
        if model in self.refused_at:
            return 2
        seen = self.returned.get(model, (True, 0.0))[0]
        return 1 if seen is None else 0 if seen else 2

    def refused(self, model: str, wall: float) -> None:
        """Keep that the field was refused."""
        _put(self.refused_at, model, wall)

    def answered(self, model: str, wall: float, *, verdicts: bool | None) -> None:
        """Keep whether verdicts came back; None: there was nothing to check."""
        self.refused_at.pop(model, None)
        _put(self.returned, model, (verdicts, wall))

    def described(self) -> dict[str, str]:
        """Return it in words, for people: `refused`, `returned` or `ignored` by model."""
        seen = {model: seen for model, (seen, _) in self.returned.items() if seen is not None}
        words = {model: "returned" if verdicts else "ignored" for model, verdicts in seen.items()}
        return words | dict.fromkeys(self.refused_at, "refused")


V = TypeVar("V")


def _put(table: dict[str, V], model: str, value: V) -> None:
    table.pop(model, None)
    table[model] = value
    if len(table) > MODELS_MAX:
        del table[next(iter(table))]


# Answers


class Decoder(Protocol):
    """What is used of `dialect.Decoder`."""

    complete: bool
    headers: Headers

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def ending(self) -> bool | None: ...

    def feed(self, data: bytes) -> list[Piece]: ...

    def end(self) -> list[Piece]: ...


class _Around:
    """A decoder around another."""

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner
        self.complete = False
        self.headers = inner.headers

    @property
    def notes(self) -> tuple[str, ...]:
        return self._inner.notes

    @property
    def ending(self) -> bool | None:
        return self._inner.ending

    def feed(self, data: bytes) -> list[Piece]:
        return self._seen(self._inner.feed(data))

    def end(self) -> list[Piece]:
        return self._seen(self._inner.end())

    def _seen(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            if piece.data:
                self._look(piece)
        self.complete = self._inner.complete
        return pieces

    def _look(self, piece: Piece) -> None:
        raise NotImplementedError


_NO_VERDICT = {"type": "unavailable", "reason": "error"}


def results(statuses: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the value of `safeguard_results` with the status of each kind of check."""
    return msgspec.json.encode([{"type": kind, "status": status} for kind, status in statuses.items()])


class WithoutVerdict(_Around):
    """Adds to an answer that there is no verdict on what was `asked`, where it says nothing of one itself."""

    def __init__(self, inner: Decoder, asked: tuple[str, ...], notes: tuple[str, ...], *, stream: bool) -> None:
        super().__init__(inner)
        self.asked = asked
        self.results = results(dict.fromkeys(asked, _NO_VERDICT))
        """What is added, as JSON."""
        self._notes = notes
        self._add = (_in_frames if stream else _in_message) if asked else _as_it_is

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._inner.notes, *self._notes)

    def _look(self, piece: Piece) -> None:
        piece.data = self._add(piece.data, msgspec.Raw(self.results))


def answered(request: Request, inner: Decoder) -> Decoder:
    """Return the decoder of an answer of a type that can't do the check: `inner`, unless the check was asked for."""
    if request.body.rfind(_KEY) < 0 or not (asked := kinds(request)):
        return inner
    return WithoutVerdict(inner, asked, dropped(request), stream=request.stream)


def _as_it_is(data: bytes, results: msgspec.Raw) -> bytes:
    return data


_DELTA = "message_delta"
_DELTA_MARK = _DELTA.encode()
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _in_frames(block: bytes, results: msgspec.Raw) -> bytes:
    """Return frames of a stream with `results` in the one that ends the message."""
    if block.find(_DELTA_MARK) < 0:
        return block
    return b"".join(_in_frame(frame, results) if _DELTA_MARK in frame else frame for frame in sse.frames(block))


def _in_frame(frame: bytes, results: msgspec.Raw) -> bytes:
    event, data = sse.fields(frame)
    try:
        members = _MEMBERS.decode(data)
        kind = msgspec.json.decode(members["type"]) if "type" in members else event.decode("latin-1")
        if kind != _DELTA:
            return frame
        delta = _MEMBERS.decode(members["delta"])
    except (msgspec.MsgspecError, RecursionError, KeyError):
        return frame
    if RESULTS in delta:
        return frame
    members["delta"] = msgspec.Raw(msgspec.json.encode({**delta, RESULTS: results}))
    return sse.frame(_DELTA, msgspec.json.encode({"type": _DELTA, **members}))


def _in_message(body: bytes, results: msgspec.Raw) -> bytes:
    """Return a whole message with `results` in it."""
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return body
    return body if RESULTS in members else msgspec.json.encode({**members, RESULTS: results})


class Watched(_Around):
    """Finds out whether an answer has verdicts, and keeps it."""

    def __init__(self, inner: Decoder, known: Known, model: str, wall: float) -> None:
        super().__init__(inner)
        self._known, self._model, self._wall = known, model, wall
        self._used_tools = False

    def _look(self, piece: Piece) -> None:
        data = piece.data
        self._used_tools = self._used_tools or data.find(b'"tool_use"') >= 0
        at = data.rfind(_RESULTS_KEY)
        if at >= 0 and data.find(b'"available"', at) >= 0:
            self._known.answered(self._model, self._wall, verdicts=True)
        elif at < 0 and self._inner.complete and self._is_open():
            self._known.answered(self._model, self._wall, verdicts=False if self._used_tools else None)

    def _is_open(self) -> bool:
        return self._known.returns(self._model, self._wall) is None
