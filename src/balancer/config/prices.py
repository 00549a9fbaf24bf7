"""Files of prices: the one that ships with the balancer, and the user's own, which goes before it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import yaml
from yaml.constructor import SafeConstructor

from balancer.config.loading import composed
from balancer.policy.prices import Price

SHIPPED = Path(__file__).with_name("prices.yaml")

MAX_BYTES = 1024 * 1024
"""A larger file of prices is none."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, Price] = {}


def read(path: Path) -> tuple[bytes, dict[str, Price]]:
    """Return a file's bytes and the prices in it. Raises `OSError`, and `ValueError` that says what is wrong."""
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    try:
        root = composed(text.decode())
        told: Any = None if root is None else SafeConstructor().construct_document(root)
        return text, msgspec.convert(told or {}, _File).models
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(f"{where}{getattr(error, 'problem', None) or error}") from None


@lru_cache(maxsize=1)
def shipped() -> dict[str, Price]:
    """Return the prices that ship with the balancer."""
    return read(SHIPPED)[1]
