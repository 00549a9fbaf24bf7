"""providers.yaml -> Config, or every problem with its line."""

from balancer.config.model import Settings
from balancer.config.problem import ConfigError, Problem, Unreadable
from balancer.config.quoting import shown_host
from balancer.config.reading import Config, parse
from balancer.config.sources import (
    EMBEDDED,
    FILE,
    Source,
    changes,
    embedded,
    find,
    load,
    lost,
    needs_restart,
    override,
    parsed,
    taken,
)

__all__ = [
    "EMBEDDED",
    "FILE",
    "Config",
    "ConfigError",
    "Problem",
    "Settings",
    "Source",
    "Unreadable",
    "changes",
    "embedded",
    "find",
    "load",
    "lost",
    "needs_restart",
    "override",
    "parse",
    "parsed",
    "shown_host",
    "taken",
]
