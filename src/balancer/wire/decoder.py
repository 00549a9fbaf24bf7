"""What decoders of answers have in common."""

from __future__ import annotations

from balancer.headers import Headers


class BaseDecoder:
    """The members of `dialect.Decoder` that most decoders have nothing to say in."""

    complete = False
    headers: Headers = ()
    notes: tuple[str, ...] = ()
    ending: bool | None = None
