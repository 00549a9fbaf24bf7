"""`balancer serve`: check everything, say what is served, and serve it."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from balancer.app import App, create_app
from balancer.clock import SYSTEM
from balancer.commands import banner, lease, one_provider, reading
from balancer.commands.arguments import flags_given
from balancer.commands.complaint import PREFIX, complain
from balancer.commands.invocation import hint
from balancer.config import ConfigError, shown_host
from balancer.config.credential_commands import CredentialCommands
from balancer.server import run as server
from balancer.telemetry.logs import keep_crashes_quiet

WRONG_CONFIG = 2
CANT_LISTEN = 1
STARTUP_FAILED = 3

WORKER = "balancer.app:create_app"

_VARIABLES = {"host": "BALANCER_HOST", "port": "BALANCER_PORT", "log_level": "LOG_LEVEL", "log_color": "LOG_COLOR"}
"""By which flags reach workers."""


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes. Returns 0, 1 (can't listen), 2 (configuration) or 3 (start)."""
    keep_crashes_quiet()
    if used := os.environ.pop(lease.VARIABLE, None):
        lease.end_when_unused(used, lambda: os.kill(os.getpid(), signal.SIGTERM))
    if args.to is None:
        return _run(args)
    with tempfile.TemporaryDirectory(prefix="balancer-") as folder:
        try:
            args.config = _written(Path(folder), args)
        except one_provider.Unfit as error:
            complain(str(error))
            return WRONG_CONFIG
        return _run(args)


def _written(folder: Path, args: argparse.Namespace) -> str:
    """Write the file that --to stands for, and return its path. Workers read it too; it holds no key."""
    path = folder / "providers.yaml"
    path.write_text(one_provider.written(args.to, args.key_env, args.type, args.model, os.environ))
    return str(path)


def _run(args: argparse.Namespace) -> int:
    overrides = flags(args)
    printed = CredentialCommands(SYSTEM.now)
    try:
        config = reading.read(args.config, overrides, printed)
    except ConfigError as error:
        print(error if args.to is None else _about_flags(error), file=sys.stderr)
        return WRONG_CONFIG
    host, port = config.settings.host, config.settings.port
    try:
        sock = server.listening(host, port)
    except OSError as error:
        complain(_cant_listen(host, port, error))
        return CANT_LISTEN
    with sock:
        told = banner.banner(config, sock.getsockname()[1], banner.Flags.of(args))
        if args.workers > 1:
            return _serve_by_many(args, overrides, sock, told, config.settings.drain_timeout)
        app = create_app(args.config, overrides, credential_commands=printed)
        return _serve(app, sock, told, config.settings.drain_timeout)


def flags(args: argparse.Namespace) -> dict[str, object]:
    """Return what was given on the command line: it goes over the environment and the file."""
    overrides: dict[str, object] = flags_given(args, ("host", "port", "log_level"))
    if args.no_log_color:
        overrides["log_color"] = False
    return overrides


def _serve(app: App, sock: socket.socket, told: str, drain_s: float) -> int:
    running = server.Server(server.configured(app, drain_s=drain_s), lambda: print(told, flush=True))
    running.run([sock])
    return 0 if running.started or running.should_exit else STARTUP_FAILED


def _serve_by_many(
    args: argparse.Namespace, overrides: dict[str, object], sock: socket.socket, told: str, drain_s: float
) -> int:
    """Serve with several processes. They read the configuration themselves: flags go by environment."""
    if args.config:
        os.environ["BALANCER_CONFIG"] = os.path.abspath(args.config)
    for name, value in overrides.items():
        os.environ[_VARIABLES[name]] = str(value).lower() if isinstance(value, bool) else str(value)
    supervisor = server.supervisor(server.configured(WORKER, args.workers, drain_s), sock)
    print(told, flush=True)
    supervisor.run()
    return 0


def _about_flags(error: ConfigError) -> str:
    """Say what is wrong with a configuration that was written from flags: its lines are nobody's."""
    return "\n".join(f"{PREFIX}--to: {problem.message}" for problem in error.problems)


def _cant_listen(host: str, port: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    other = hint("serve", "--port", "0")
    return f"can't listen on {shown_host(host)}:{port}: {reason}; another port: {other}"
