"""`balancer check`: is the configuration right, and with --live: do the providers answer?"""

from __future__ import annotations

import argparse
import asyncio
import sys

from balancer.commands import live, reading
from balancer.config import Config, ConfigError

WRONG_CONFIG = 2
"""As `serve` ends for the same file."""


def run(args: argparse.Namespace) -> int:
    """Return 0 if all is well, 2 if the configuration can't be used, 1 if a provider does not answer (--live)."""
    try:
        config = reading.read(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIG
    providers, routes = len(config.providers), len(config.routes)
    where = str(config.path) if config.path else "no providers.yaml: the embedded default"
    print(f"ok: {reading.counted(providers, 'provider')}, {reading.counted(routes, 'route')} ({where})")
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    return _ask(config) if args.live else 0


def _ask(config: Config) -> int:
    answers = asyncio.run(live.ask_all(config))
    width = max((len(answer.provider) for answer in answers), default=0)
    for answer in answers:
        print(f"{'ok  ' if answer.well else 'FAIL'}  {answer.provider:<{width}}  {answer.words}")
    return 0 if all(answer.well for answer in answers) else 1
