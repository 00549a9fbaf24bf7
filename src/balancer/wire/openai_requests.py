"""Requests of OpenAI's API: the few fields that are acted on. The body itself is passed on as it came."""

from __future__ import annotations

import msgspec

from balancer.model import Operation
from balancer.wire.messages import BAD_MODEL, MODEL_MAX, BadRequest, mended

NAME_MAX_CHARS = 1024
"""A longer `prompt_cache_key` or id names nothing."""

_ABSENT = msgspec.Raw(b"")


class OpenAIHead(msgspec.Struct):
    """What is read of a request's body."""

    model: str
    stream: bool | None = None
    max_tokens: msgspec.Raw = _ABSENT
    max_completion_tokens: msgspec.Raw = _ABSENT
    max_output_tokens: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT
    previous_response_id: msgspec.Raw = _ABSENT

    @property
    def token_limit(self) -> int | None:
        """The most tokens that are asked for, in whichever field a number stands."""
        for raw in (self.max_output_tokens, self.max_completion_tokens, self.max_tokens):
            try:
                return int(raw)
            except ValueError:
                continue
        return None

    @property
    def cache_key(self) -> str | None:
        """`prompt_cache_key`, by which clients name a conversation; None: there is none."""
        return _name(self.prompt_cache_key)

    @property
    def previous(self) -> str | None:
        """`previous_response_id`: the stored response that this request goes on from; None: there is none."""
        return _name(self.previous_response_id)


def _name(raw: msgspec.Raw) -> str | None:
    """Return a name that a client gives; None: there is none, or it is longer than any."""
    try:
        name = msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return name if 0 < len(name) <= NAME_MAX_CHARS else None


class _ChatHead(OpenAIHead, kw_only=True):
    messages: list[msgspec.Raw]


_CHAT = msgspec.json.Decoder(_ChatHead)
_RESPONSES = msgspec.json.Decoder(OpenAIHead)


def head(body: bytes, operation: Operation) -> OpenAIHead:
    """Decode the head of a request for one of OpenAI's operations.

    Raises `BadRequest` with a sentence that names the field.
    """
    decoder = _CHAT if operation is Operation.CHAT_COMPLETIONS else _RESPONSES
    try:
        decoded = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return head(mended(body, error), operation)
    if not 0 < len(decoded.model) <= MODEL_MAX:
        raise BadRequest(BAD_MODEL)
    return decoded
