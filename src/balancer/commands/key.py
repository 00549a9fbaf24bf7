"""`balancer key new`: print a key for `settings.auth`."""

from __future__ import annotations

import argparse
import secrets

from balancer.commands.complaint import notice

RANDOM_BYTES = 32


def run(args: argparse.Namespace) -> int:
    """Print a new key, and on stderr where it belongs. Returns 0."""
    print(secrets.token_urlsafe(RANDOM_BYTES))
    notice('put it into .env (BALANCER_KEY=...) and name it in providers.yaml: auth: {keys: ["${BALANCER_KEY}"]}')
    return 0
