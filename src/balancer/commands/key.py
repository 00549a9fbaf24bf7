"""`balancer key new`: print a key for `settings.auth`."""

from __future__ import annotations

import argparse
import hashlib
import secrets

from balancer.commands.complaint import notice

RANDOM_BYTES = 32


def run(args: argparse.Namespace) -> int:
    """Print a new key, with `--hash` its SHA-256 below it, and on stderr where they belong. Returns 0."""
    key = secrets.token_urlsafe(RANDOM_BYTES)
    print(key)
    if args.hash:
        print(hashlib.sha256(key.encode()).hexdigest())
        notice(
            "the first line is for the client; name the second in providers.yaml: "
            "auth: {keys: [{name: NAME, key_sha256: HASH}]}"
        )
        return 0
    notice('put it into .env (BALANCER_KEY=...) and name it in providers.yaml: auth: {keys: ["${BALANCER_KEY}"]}')
    return 0
