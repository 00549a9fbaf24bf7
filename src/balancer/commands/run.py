"""`balancer run [-- ARGS]`: Claude Code through the balancer, which is started if none answers."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from balancer import claude_code
from balancer.commands import addresses, calling, client_environment, client_settings, foreground, reading
from balancer.commands.arguments import flags_given
from balancer.commands.background import Background, NotStarted
from balancer.commands.calling import CallFailed, Listener
from balancer.commands.complaint import complain, notice
from balancer.commands.invocation import hint
from balancer.config import Config, ConfigError

NO_BALANCER = 1
WRONG_CONFIG = 2
NO_CLIENT = 127
"""What a shell returns for a command that it does not find."""


def run(args: argparse.Namespace) -> int:
    """Return the client's exit code, 127 if there is no client, 1 or 2 if there is no balancer."""
    client = found(args.client)
    if client is None:
        complain(_how_to_install(args.client))
        return NO_CLIENT
    try:
        if url := calling.elsewhere(args.url):
            return _run_at(url, client, args.client_arguments)
        config = reading.read(args.config, flags_given(args, ("host", "port")))
        port = config.settings.port or _free_port(config.settings.host)
        url = calling.OwnAddress(addresses.for_clients(config, port), config)
        with Background(url, config) as balancer:
            _say_what_is_served(balancer, config)
            return _attended(client, args.client_arguments, url, config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIG
    except (CallFailed, NotStarted) as error:
        complain(str(error))
        return NO_BALANCER
    except OSError as error:
        complain(f"{error.filename or client}: {error.strerror}")
        return NO_BALANCER


def found(name: str) -> str | None:
    """Return the path of the client."""
    known = claude_code.OFF_THE_PATH if name == claude_code.PROGRAM else ()
    return shutil.which(name) or next(filter(None, (shutil.which(os.path.expanduser(path)) for path in known)), None)


def _how_to_install(name: str) -> str:
    if name != claude_code.PROGRAM:
        return f"there is no program '{name}' on the PATH"
    return (
        "Claude Code is not installed, or `claude` is not on the PATH. Install it with "
        f"`{claude_code.INSTALL[0]}` (needs Node.js) or `{claude_code.INSTALL[1]}`, then: {hint('run')}"
    )


def _free_port(host: str) -> int:
    with socket.create_server((host if host != "localhost" else "127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _run_at(url: str, client: str, arguments: Sequence[str]) -> int:
    """Run the client with a balancer that somebody else runs."""
    if calling.who_answers(url) is not Listener.BALANCER:
        complain(f"no balancer answers at {url}, which --url or BALANCER_URL names; without them one is started here")
        return NO_BALANCER
    return _attended(client, arguments, url, None)


def _attended(client: str, arguments: Sequence[str], url: str, config: Config | None) -> int:
    """Run the client in the foreground."""
    env = {name: value for name, value in os.environ.items() if name not in claude_code.CLOUDS}
    saved, source = client_settings.of_client(env, Path.cwd())
    if lacking := client_environment.lacking(config, env | saved):
        notice(lacking)
    given = client_environment.variables(url, config, env | saved)
    return foreground.attend([client, *_over(source, saved, url, arguments), *arguments], env | given)


def _over(source: Path | None, saved: dict[str, str], url: str, arguments: Sequence[str]) -> list[str]:
    """Return the flag by which the base URL goes over one that a settings file of the client's has."""
    if source is None or saved[claude_code.BASE_URL].rstrip("/") == url:
        return []
    told = f"{source} sets {claude_code.BASE_URL} to another address"
    if any(word == claude_code.SETTINGS_FLAG or word.startswith(f"{claude_code.SETTINGS_FLAG}=") for word in arguments):
        notice(f"{told}, and that is used unless your {claude_code.SETTINGS_FLAG} says otherwise")
        return []
    notice(f"{told}; this run uses {url}")
    return [claude_code.SETTINGS_FLAG, json.dumps({"env": {claude_code.BASE_URL: url}})]


def _say_what_is_served(balancer: Background, config: Config) -> None:
    """Say what would surprise: answers of no model, or providers of another configuration."""
    started = balancer.process is not None
    if started and config.path is None:
        notice("there is no providers.yaml, so the answers are simulated")
    if reading.takes_clients_login(config) and client_environment.sets_token(None, os.environ):
        notice("a provider takes the client's own login (auth_value: passthrough), so no token is set")
    if started:
        return
    try:
        view = calling.call(balancer.url, "/providers", reading.client_key(config))
        serves = [str(provider["name"]) for provider in view["providers"]]
    except (CallFailed, KeyError, TypeError):
        return
    if set(serves) != set(config.providers):
        notice(
            f"the balancer that runs at {balancer.url} has other providers ({', '.join(serves)}) "
            f"than {config.path or 'a new one would'} ({', '.join(config.providers)})"
        )
