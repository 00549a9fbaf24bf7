"""`balancer serve`: check everything, say what is served, and serve it."""

from __future__ import annotations

import argparse
import os
import socket
import sys

from balancer import __version__
from balancer.app import create_app
from balancer.commands import reading
from balancer.config import Config, ConfigError
from balancer.config.addresses import is_loopback
from balancer.server import run as server

WRONG_CONFIG = 2
CANT_LISTEN = 1
STARTUP_FAILED = 3

WORKER = "balancer.app:create_app"


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes. Returns 0, 1 (can't listen), 2 (configuration) or 3 (start)."""
    overrides = flags(args)
    try:
        config = reading.read(args.config, overrides)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIG
    host, port = config.settings.host, config.settings.port
    try:
        sock = server.listening(host, port)
    except OSError as error:
        print(_cant_listen(host, port, error), file=sys.stderr)
        return CANT_LISTEN
    with sock:
        told = banner(config, server.url(host, sock.getsockname()[1]))
        if args.workers > 1:
            return _serve_by_many(args, overrides, sock, told, config.settings.drain_timeout)
        return _serve(args.config, overrides, sock, told, config.settings.drain_timeout)


def flags(args: argparse.Namespace) -> dict[str, object]:
    """Return what was given on the command line: it goes over the environment and the file."""
    given = {"host": args.host, "port": args.port, "log_level": args.log_level}
    overrides: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if args.no_log_color:
        overrides["log_color"] = False
    return overrides


def _serve(config: str | None, overrides: dict[str, object], sock: socket.socket, told: str, drain_s: float) -> int:
    app = create_app(config, overrides)
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
        os.environ[name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    supervisor = server.supervisor(server.configured(WORKER, args.workers, drain_s), sock)
    print(told, flush=True)
    supervisor.run()
    return 0


def _cant_listen(host: str, port: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"balancer: can't listen on {host}:{port}: {reason}; another port: balancer serve --port 0"


def banner(config: Config, url: str) -> str:
    """Say in a few lines what is served, where, by whom, and what to do now. No secrets."""
    providers = list(config.providers.values())
    origin = f"from {config.path}" if config.path else "all of them simulated"
    lines = [
        f"Claude Code provider balancer {__version__} on {url}: {reading.counted(len(providers), 'provider')}, {origin}"
    ]
    width = max((len(provider.name) for provider in providers), default=0)
    for provider in providers:
        routes = sum(target.provider == provider.name for route in config.routes for target in route.targets)
        state = reading.counted(routes, "route") if provider.enabled else "disabled"
        lines.append(f"  {provider.name:<{width}}  {provider.type:<9}  {state:<9}  {reading.address(provider)}")
    lines += _warnings(config)
    lines.append(f"Use it:  export ANTHROPIC_BASE_URL={url}")
    return "\n".join(lines)


def _warnings(config: Config) -> list[str]:
    lines = [str(warning) for warning in config.warnings]
    if config.path is None:
        lines.append("There is no providers.yaml. Next: cp providers.example.yaml providers.yaml, and enter your own.")
    if not is_loopback(config.settings.host) and not config.settings.auth.keys:
        lines.append("settings.auth.keys is empty, so only clients on this machine are served.")
    return lines
