"""`balancer drill`: make a provider fail on purpose, to see the others take over."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from balancer.commands.calling import CallFailed, call, url_of
from balancer.dialects.simulated import faults as drills


def run(args: argparse.Namespace) -> int:
    """Return 0, or 1 where it could not be ordered."""
    if args.list:
        width = max(map(len, drills.FAULTS))
        print("\n".join(f"{name:<{width}}  the provider {fault.words}" for name, fault in drills.FAULTS.items()))
        return 0
    try:
        told = call(url_of(args.url), "/admin/drill", args.key, order(args))
    except CallFailed as error:
        print(f"balancer: {error}", file=sys.stderr)
        return 1
    if args.off:
        print(f"{told['provider']} behaves again")
    else:
        print(
            f"{args.name} {drills.FAULTS[args.fault].words}: {told['until']}. Stop it: balancer drill {args.name} --off"
        )
    return 0


def order(args: argparse.Namespace) -> dict[str, Any]:
    """Return the body of `POST /admin/drill`."""
    if args.off:
        return {"provider": args.name, "fault": None}
    limits = {"for_s": args.for_s, "requests": args.requests}
    return {"provider": args.name, "fault": args.fault} | {k: v for k, v in limits.items() if v is not None}
