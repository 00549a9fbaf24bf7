"""`balancer wake|pause|resume NAME`: what a person orders about one provider of a balancer that runs."""

from __future__ import annotations

import argparse
import sys

from balancer.commands.calling import CallFailed, call, url_of
from balancer.commands.complaint import complain, notice
from balancer.commands.invocation import hint
from balancer.config import ConfigError


def run(args: argparse.Namespace) -> int:
    """Return 0, 1 where it could not be ordered, 2 where the configuration is wrong."""
    try:
        told = call(url_of(args.url, args.config), f"/admin/{args.command}", args.key, {"provider": args.name})
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except CallFailed as error:
        complain(str(error))
        return 1
    print(f"{args.name}: {_done(args)}; state: {told.get('state')}")
    if (reached := told.get("applies_to")) == "this worker":
        notice("this reached one worker only: workers share no state; the others go on as before")
    elif reached not in (None, "all"):
        notice(f"this reached {reached}: it did not answer; give the order again, or see balancer status")
    return 0


def _done(args: argparse.Namespace) -> str:
    if args.command == "wake":
        return "its cooldown is ended"
    if args.command == "resume":
        return "it is no longer paused"
    address = ["--url", args.url] if args.url else ["--config", args.config] if args.config else []
    return f"it gets no requests until a restart, or {hint('resume', args.name, *address)}"
