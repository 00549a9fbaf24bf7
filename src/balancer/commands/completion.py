"""`balancer completion SHELL`, and what a shell is told when somebody presses Tab."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping

from balancer.commands import invocation

SHELLS = ("bash", "zsh", "fish", "powershell")


def run(args: argparse.Namespace) -> int:
    """Print what the shell has to evaluate. Returns 0."""
    print(importlib.import_module("argcomplete").shellcode([invocation.NAME], shell=args.shell))
    return 0


def is_asked(env: Mapping[str, str]) -> bool:
    """Say whether this process was started by a shell that wants a word completed."""
    return "_ARGCOMPLETE" in env


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell what may stand there, and end the process."""
    importlib.import_module("argcomplete").autocomplete(parser)


def providers(parsed_args: argparse.Namespace | None = None, **_: object) -> Iterable[str]:
    """Return the names of the configured providers; none where the configuration is wrong."""
    return _names(parsed_args)[0]


def models(parsed_args: argparse.Namespace | None = None, **_: object) -> Iterable[str]:
    """Return the models that the routes name."""
    return _names(parsed_args)[1]


def presets(**_: object) -> Iterable[str]:
    """Return the services that `balancer add` knows."""
    return list(importlib.import_module("balancer.config.presets").PRESETS)


def _names(parsed: argparse.Namespace | None) -> tuple[list[str], list[str]]:
    # Imported here: reading a configuration takes ten times as long as the rest of a completion.
    reading = importlib.import_module("balancer.commands.reading")
    configuration = importlib.import_module("balancer.config")
    try:
        config = reading.read(getattr(parsed, "config", None))
    except configuration.ConfigError:
        return [], []
    named = [route.pattern for route in config.routes if not {"*", "?"} & set(route.pattern)]
    asked = [target.model for route in config.routes for target in route.targets if target.model != "passthrough"]
    return list(config.providers), list(dict.fromkeys(named + asked))
