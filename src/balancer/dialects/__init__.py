"""The provider types: one file or folder each, found by its name."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from balancer.dialect import Dialect


@cache
def names() -> tuple[str, ...]:
    """Return the types that there are."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def get(name: str) -> Dialect:
    """Return the type of that name. Raises `KeyError` if there is none."""
    if name not in names():
        raise KeyError(name)
    dialect: Dialect = import_module(f"balancer.dialects.{name}").DIALECT
    return dialect
