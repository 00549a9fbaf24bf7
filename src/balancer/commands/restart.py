"""`balancer restart`: replaces the processes of a balancer that runs by new ones, without a gap."""

from __future__ import annotations

import argparse
import sys

from balancer.commands.calling import CallFailed, call, url_of
from balancer.commands.complaint import complain
from balancer.config import ConfigError

WITHIN_S = 600.0
"""How long it may take. Each worker needs a second or two to start, and they start one after the other."""


def run(args: argparse.Namespace) -> int:
    """Return 0, 1 where the old processes go on, 2 where the configuration is wrong."""
    try:
        call(url_of(args.url, args.config), "/admin/restart", args.key, {}, WITHIN_S)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except CallFailed as error:
        complain(str(error))
        return 1
    print("restarted: new processes serve; the old ones end when their answers have ended")
    return 0
