"""`balancer init [PRESET ...]`: a first providers.yaml. A file that is there is never touched."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from balancer import config as configuration
from balancer.commands import add
from balancer.commands.complaint import complain
from balancer.commands.invocation import hint
from balancer.config import ConfigError
from balancer.config.presets import PRESETS


def run(args: argparse.Namespace) -> int:
    """Write the file. Returns 0, 1 (refused, or --check failed) or 2 (the command line lacks a service)."""
    named = args.config or os.environ.get("BALANCER_CONFIG") or configuration.FILE
    path = Path.cwd() / Path(named).expanduser()
    if path.exists():
        complain(f"{path} is there already; another provider: {hint('add', 'PRESET')}")
        return add.FAILED
    words = args.preset or _asked()
    if not words:
        print("\n".join(add.listing()), file=sys.stderr)
        complain(f"name one or more of these: {hint('init', 'anthropic')}")
        return add.WRONG_CONFIG
    if len(words) > 1 and (args.name or args.key_env or args.base_url or args.model):
        complain("--name, --key-env, --model and --base-url are for one preset")
        return add.WRONG_CONFIG
    try:
        done = add.written(path, [add.order_of(word, args) for word in words])
    except add.Refused as error:
        complain(str(error))
        return add.FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)
        return add.WRONG_CONFIG
    return add.finish(path, done, check_live=args.check)


def _asked() -> list[str]:
    """Ask whoever sits at the terminal which services to begin with; nobody there: none."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return []
    for number, (name, preset) in enumerate(PRESETS.items(), 1):
        print(f"{number:>3}  {name:<20} {preset.title}")
    try:
        answer = input("Which services, the first choice first? Numbers or names, e.g. 2 1: ")
    except EOFError:
        return []
    names = list(PRESETS)
    chosen = answer.replace(",", " ").split()
    return [names[int(w) - 1] if w.isdecimal() and 0 < int(w[:4]) <= len(names) else w for w in chosen]
