"""The steps of a played upstream: what a simulated provider, or an injected fault, does instead of a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from balancer.headers import Headers


@dataclass(frozen=True, slots=True)
class Pause:
    """A script's step: nothing happens for `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Head:
    """A script's step: the response's head."""

    status: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Data:
    """A script's step: some of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Fail:
    """A script's step: the exchange breaks with this cause (a word of the transport's errors)."""

    cause: str


Step: TypeAlias = Pause | Head | Data | Fail
"""What a scripted upstream does; the end of the script is the clean end of the body."""
