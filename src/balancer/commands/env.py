"""`balancer env`: the variables by which a client finds the balancer, for a shell to evaluate."""

from __future__ import annotations

import argparse
import os
import sys

from balancer.commands import addresses, calling, client_environment, reading
from balancer.commands.arguments import flags_given
from balancer.commands.complaint import complain, notice
from balancer.commands.invocation import hint
from balancer.config import ConfigError


def run(args: argparse.Namespace) -> int:
    """Print exports and nothing else on stdout. Returns 0, or 2 where the configuration is wrong."""
    url = calling.elsewhere(args.url)
    try:
        config = None if url else reading.read(args.config, flags_given(args, ("host", "port")))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if config is not None:
        if config.settings.port == 0:
            complain("settings.port is 0, any free port: say which one the balancer has taken with --port")
            return 2
        url = addresses.for_clients(config)
    if lacking := client_environment.lacking(config, os.environ):
        notice(lacking)
    export = client_environment.EXPORTS[args.shell]
    given = client_environment.variables(url or "", config, os.environ)
    print("\n".join(export(name, value) for name, value in given.items()))
    if sys.stdout.isatty():
        _explain(args.shell)
    return 0


def _explain(shell: str) -> None:
    """Tell somebody who reads the exports instead of evaluating them what they are for."""
    ways = {"sh": 'eval "$({})"', "fish": "{} | source", "powershell": "{} | Out-String | Invoke-Expression"}
    command = hint("env") if shell == "sh" else hint("env", "--shell", shell)
    print(f"# To set them in this shell: {ways[shell].format(command)}", file=sys.stderr)
