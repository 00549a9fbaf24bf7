"""`balancer drill`: inject faults into a provider, to see failover at work."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from balancer.commands.calling import CallFailed, call, url_of
from balancer.commands.complaint import complain
from balancer.commands.invocation import hint
from balancer.config import ConfigError
from balancer.dialects.simulated import faults as drills


def run(args: argparse.Namespace) -> int:
    """Return 0, 1 where it could not be ordered, 2 where the configuration is wrong."""
    if args.list:
        width = max(map(len, drills.FAULTS))
        print("\n".join(f"{name:<{width}}  the provider {fault.words}" for name, fault in drills.FAULTS.items()))
        return 0
    try:
        told = call(url_of(args.url, args.config), "/admin/drill", args.key, order(args))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except CallFailed as error:
        complain(str(error))
        return 1
    if args.off:
        print(f"{told['provider']} no longer fails on purpose")
    else:
        url = ["--url", args.url] if args.url else ["--config", args.config] if args.config else []
        stop = hint("drill", args.name, "--off", *url)
        print(f"{args.name} {drills.FAULTS[args.fault].words}: {told['until']}. Stop it: {stop}")
    return 0


def order(args: argparse.Namespace) -> dict[str, Any]:
    """Return the body of `POST /admin/drill`."""
    if args.off:
        return {"provider": args.name, "fault": None}
    limits = {"for_s": args.for_s, "requests": args.requests}
    return {"provider": args.name, "fault": args.fault} | {k: v for k, v in limits.items() if v is not None}
