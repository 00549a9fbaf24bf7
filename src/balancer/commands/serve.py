"""`balancer serve`: check everything, say what is served, and serve it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from balancer import config as configuration
from balancer.clock import SYSTEM
from balancer.commands import banner, lease, one_provider, reading
from balancer.commands.arguments import flags_given
from balancer.commands.complaint import PREFIX, complain
from balancer.commands.invocation import hint
from balancer.config import ConfigError, shown_host
from balancer.config.credential_commands import CredentialCommands
from balancer.supervisor import many, systemd
from balancer.supervisor.in_force import InForce
from balancer.supervisor.listeners import Listeners
from balancer.supervisor.systemd import Notifier
from balancer.telemetry.logs import keep_crashes_quiet

WRONG_CONFIG = 2
CANT_LISTEN = 1


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
    notifier, printed = Notifier(os.environ), CredentialCommands(SYSTEM.now)
    try:
        handed = systemd.inherited(os.environ)
    except OSError as error:
        complain(f"the socket that the service manager hands over (LISTEN_FDS) can't be used: {error}")
        return CANT_LISTEN
    listeners = Listeners(handed, each=False, handed=True) if handed else None
    if listeners is not None:
        overrides |= {"host": listeners.host, "port": listeners.port}
    try:
        source = configuration.taken(reading.found(args.config))
        config = configuration.parsed(source, os.environ, printed)
        config = configuration.override(config, os.environ, **overrides)
    except ConfigError as error:
        print(error if args.to is None else _about_flags(error), file=sys.stderr)
        return WRONG_CONFIG
    settings = config.settings
    try:
        if listeners is None:
            listeners = Listeners.opened(settings.host, settings.port, args.workers, reuse_port=settings.reuse_port)
    except OSError as error:
        complain(_cant_listen(settings.host, settings.port, error))
        return CANT_LISTEN
    with listeners:
        told = banner.banner(config, listeners.port, banner.Flags.of(args))
        in_force = InForce(source, config, overrides, printed)
        return _serve(args.workers, listeners, in_force, notifier, lambda: _say(told))


def _serve(
    workers: int, listeners: Listeners, in_force: InForce, notifier: Notifier, on_serving: Callable[[], None]
) -> int:
    if workers > 1:
        return many.serve(workers, listeners, in_force, notifier, on_serving)
    # A supervisor serves nothing: what serves is a third of its memory, and not imported there.
    code: int = importlib.import_module("balancer.supervisor.one").serve(listeners, in_force, notifier, on_serving)
    return code


def _say(told: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it: that is no reason not to serve
        print(told, flush=True)


def flags(args: argparse.Namespace) -> dict[str, str | int | bool]:
    """Return what was given on the command line: it goes over the environment and the file."""
    overrides: dict[str, str | int | bool] = flags_given(args, ("host", "port", "log_level"))
    if args.no_log_color:
        overrides["log_color"] = False
    return overrides


def _about_flags(error: ConfigError) -> str:
    """Say what is wrong with a configuration that was written from flags: its lines are nobody's."""
    return "\n".join(f"{PREFIX}--to: {problem.message}" for problem in error.problems)


def _cant_listen(host: str, port: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    other = hint("serve", "--port", "0")
    return f"can't listen on {shown_host(host)}:{port}: {reason}; another port: {other}"
