"""`balancer check`: is the configuration right, and with --live: do the providers answer?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence

from balancer import claude_code, dialects
from balancer.clock import SYSTEM
from balancer.commands import live, reading
from balancer.config import Config, ConfigError
from balancer.config.credential_commands import CredentialCommands
from balancer.config.inventory import without_secrets
from balancer.dialect import Explains
from balancer.model import Route

WRONG_CONFIG = 2
"""As `serve` ends for the same file."""

MESSAGE = "message"
"""With `--live`: what costs nothing, and one tiny message."""

_STATES = {True: "ok  ", False: "FAIL", None: "?   "}


def run(args: argparse.Namespace) -> int:
    """Return 0 if all is well, 2 if the configuration can't be used, 1 if a provider does not answer (--live)."""
    try:
        config = reading.read(args.config, credential_commands=CredentialCommands(SYSTEM.now))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIG
    providers, routes = len(config.providers), len(config.routes)
    where = str(config.path) if config.path else "no providers.yaml: the embedded default"
    print(f"ok: {reading.counted(providers, 'provider')}, {reading.counted(routes, 'route')} ({where})")
    for line in settled(config):
        print(line)
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    if note := _auto_mode(config):
        print(note)
    return _ask(config, message=args.live == MESSAGE) if args.live else 0


def _auto_mode(config: Config) -> str:
    """Return what the configuration means for Claude Code's auto mode, where that is worth a word."""
    if all(provider.type == "simulated" for provider in config.providers.values()):
        return ""
    unchecked = [route.pattern for route in config.routes if not _checks(config, route)]
    if not unchecked:
        return ""
    told = ", ".join(f"'{pattern}'" for pattern in unchecked)
    if (judge := config.settings.safety_judge) is not None:
        return (
            f"auto mode: where a provider that can't check actions answers ({told}), "
            f"{judge.model} of '{judge.provider}' gives the verdicts (settings.safety_judge)"
        )
    where = "no route" if len(unchecked) == len(config.routes) else f"not every route ({told})"
    return (
        f"auto mode: {where} has a provider of type anthropic, the only one that can check actions for Claude Code. "
        "Without a check it asks about each action, or refuses it; "
        f"with {claude_code.AUTO_MODE_SERVER}=0 it makes the check itself; "
        "or name a Claude model that does it: settings.safety_judge"
    )


def _checks(config: Config, route: Route) -> bool:
    """Return whether some target of a route may check actions."""
    targets = (config.providers.get(target.provider) for target in route.targets if target.enabled)
    return any(to is not None and to.enabled and dialects.get(to.type).checks_actions for to in targets)


def settled(config: Config) -> Iterator[str]:
    """Return what the types settle that the file leaves open, a line each."""
    for provider in config.providers.values():
        dialect = dialects.get(provider.type)
        if provider.enabled and isinstance(dialect, Explains):
            yield from (f"note: provider '{provider.name}': {said}" for said in dialect.about(provider))


def _ask(config: Config, message: bool) -> int:
    answers = asyncio.run(live.ask_all(config, message=message))
    for line in told(answers):
        print(without_secrets(line, config))
    return 1 if any(answer.well is False for answer in answers) else 0


def told(answers: Sequence[live.Answer]) -> Iterator[str]:
    """Return what became of asking, a line a provider, each with what its list of models says below it."""
    width = max((len(answer.provider) for answer in answers), default=0)
    for answer in answers:
        yield f"{_STATES[answer.well]}  {answer.provider:<{width}}  {answer.words}"
        yield from (f"{'':6}{'':<{width}}  warning: {warning}" for warning in answer.warnings)
