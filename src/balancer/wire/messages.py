"""Requests of the Messages API: the few fields that we act on.

The head is decoded once, `messages` is skipped over, and the body goes out as it came or with the
model's name spliced in.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MODEL_MAX = 1024
"""Longest name of a model, in characters: names are remembered and logged."""

BAD_MODEL = f"model: must be a name of 1 to {MODEL_MAX} characters"


# Requests


class BadRequest(Exception):
    """A body that no provider could take; `str(error)` says what is wrong with it."""


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class Head(msgspec.Struct):
    """What we read of a request's body."""

    model: str
    messages: msgspec.Raw
    """A list, undecoded: it may have millions of elements, and hardly anybody looks at them."""
    stream: bool | None = None
    max_tokens: msgspec.Raw = msgspec.Raw(b"")
    metadata: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")

    @property
    def user_id(self) -> str | None:
        """`metadata.user_id`, if there is one to be read."""
        if not len(bytes(self.metadata)):
            return None
        try:
            return _METADATA.decode(self.metadata).user_id
        except msgspec.MsgspecError:
            return None

    @property
    def token_limit(self) -> int | None:
        """`max_tokens` where it is a number."""
        try:
            return int(self.max_tokens)
        except ValueError:
            return None


_HEAD = msgspec.json.Decoder(Head)
_METADATA = msgspec.json.Decoder(_Metadata)
_MISSING = re.compile(r"missing required field `(\w+)`")
_EXPECTED = re.compile(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`(?: - at `\$\.?([^`]*)`)?")
_JSON_NAMES = {
    "str": "a string",
    "array": "an array",
    "bool": "true or false",
    "object": "an object",
    "int": "a number",
}


def head(body: bytes) -> Head:
    """Decode a request's head. Raises `BadRequest` with a sentence that names the field."""
    try:
        decoded = _HEAD.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return head(mended(body, error))
    if bytes(memoryview(decoded.messages)[:1]) != b"[":
        raise BadRequest("messages: must be an array")
    if not 0 < len(decoded.model) <= MODEL_MAX:
        raise BadRequest(BAD_MODEL)
    return decoded


def mended(body: bytes, error: Exception) -> bytes:
    """Return a body that could not be decoded, without what kept it from that. Raises `BadRequest` if that is no help.

    `error` is what the decoder raised.
    """
    if isinstance(error, msgspec.ValidationError):
        raise BadRequest(_plainly(str(error))) from None
    if isinstance(error, UnicodeDecodeError):
        raise BadRequest("the request body is not valid JSON: it is not UTF-8") from None
    if isinstance(error, RecursionError):
        raise BadRequest("the request body is nested too deeply") from None
    if (whole := without_lone_surrogates(body)) != body:
        return whole
    raise BadRequest(f"the request body is not valid JSON: {error}") from None


_SURROGATES = re.compile(
    rb"(?<!\\)((?:\\\\)*)\\(?:(u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2})|u[dD][89a-fA-F][\da-fA-F]{2})"
)
"""An escape of half a pair (group 2: of a whole one), behind a backslash that is none itself (group 1)."""


def without_lone_surrogates(body: bytes) -> bytes:
    """Return JSON with U+FFFD for what no UTF-8 can carry: JavaScript cuts strings anywhere, and says so in escapes."""
    return _SURROGATES.sub(lambda half: half[0] if half[2] else half[1] + rb"\ufffd", body)


IN_PIECES_BYTES = 1024 * 1024
"""A longer body is decoded message by message: in a thread, so that others get the interpreter in between."""


def _decoded_in_pieces(body: bytes) -> Any:
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        messages = msgspec.json.decode(fields.pop("messages"), type=list[msgspec.Raw])
    except (msgspec.ValidationError, KeyError):
        return msgspec.json.decode(body)
    whole = {key: msgspec.json.decode(value) for key, value in fields.items()}
    return {**whole, "messages": [msgspec.json.decode(message) for message in messages]}


def decoded(body: bytes) -> Any:
    """Decode a body whole. Raises `msgspec.DecodeError`."""
    decode = _decoded_in_pieces if len(body) > IN_PIECES_BYTES else msgspec.json.decode
    try:
        try:
            return decode(body)
        except msgspec.DecodeError:
            return decode(without_lone_surrogates(body))
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members(body: bytes) -> dict[str, msgspec.Raw]:
    """Return a body's members in their order, each as it was written. Raises `msgspec.DecodeError`.

    Encoded again they are the body, but for blanks between them and members that were there twice.
    """
    try:
        try:
            return _MEMBERS.decode(body)
        except msgspec.DecodeError:
            return _MEMBERS.decode(without_lone_surrogates(body))
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None


def _plainly(error: str) -> str:
    if missing := _MISSING.search(error):
        return f"{missing[1]}: Field required"
    if expected := _EXPECTED.search(error):
        wanted = _JSON_NAMES.get(expected[1], expected[1])
        where = expected[3] or "the request body"
        return f"{where}: must be {wanted}"
    return error


_KEY = b'"model"'
_MODEL = re.compile(rb'"model"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')
_MEMBER = re.compile(rb'[\s,]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*+:\s*+')
"""What stands before a member's value: the comma of the one before, the key, the colon."""
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def spliced(body: bytes, model: str) -> tuple[bytes | memoryview, ...]:
    """Return `body` in pieces with `model` in the place of the model's name; nothing is copied.

    The key is nearly always the only `"model"` that has a string, or the first key: only where
    that is not so are the members on the top level looked at. Where one of them stands there twice, the last counts, as
    for every reader of JSON, and the body is written anew.
    """
    place = _only_model(body)
    if place is None or body.find(b"\\u", 0, 64) >= 0:
        members = _MEMBERS.decode(body)
        place = _top_level_model(body, members)
        if place is None:
            members["model"] = msgspec.Raw(msgspec.json.encode(model))
            return (msgspec.json.encode(members),)
    view = memoryview(body)
    return view[: place[0]], msgspec.json.encode(model), view[place[1] :]


def _only_model(body: bytes) -> tuple[int, int] | None:
    """Return where the only `"model"` with a string has it, on whatever level; None: there is none, or a second one."""
    found: tuple[int, int] | None = None
    at = body.find(_KEY)
    while at >= 0:
        # Inside a string the quotes are escaped, so this is a key, or the end of a string.
        if body[at - 1 : at] != b"\\" and (match := _MODEL.match(body, at)):
            if found is not None:
                return None
            found = match.span(1)
        at = body.find(_KEY, at + len(_KEY))
    return found


def _top_level_model(body: bytes, members: dict[str, msgspec.Raw]) -> tuple[int, int] | None:
    """Return where the model's name is among the members of the body; None: some key stands there twice."""
    place: tuple[int, int] | None = None
    at = body.index(b"{") + 1
    for key, raw in members.items():
        before = _MEMBER.match(body, at)
        if before is None:
            return None
        value, start = bytes(raw), before.end()
        at = start + len(value)
        if body[start:at] != value:
            return None
        if key == "model":
            place = start, at
    return place if body[at:].strip() == b"}" else None
