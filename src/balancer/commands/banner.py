"""What `balancer serve` says when it starts: what is served, where, how to use it, where to look. No secrets."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from balancer import __version__
from balancer.claude_code import BASE_URL, TOKEN
from balancer.commands import addresses, client_environment, reading
from balancer.commands.calling import DEFAULT_URL
from balancer.commands.invocation import hint
from balancer.config import Config
from balancer.config.addresses import is_loopback
from balancer.model import Provider


@dataclass(frozen=True, slots=True)
class Flags:
    """Those flags of `serve` that other commands need as well, to find the same balancer."""

    config: str | None = None
    host: str | None = None
    port: int | None = None
    to: bool = False
    """It was started by --to, so there is no file."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Flags:
        return cls(None if args.to else args.config, args.host, args.port, args.to is not None)

    @property
    def as_before(self) -> list[str]:
        return ["--config", self.config] if self.config else []


def banner(config: Config, port: int, flags: Flags) -> str:
    """Return the text. `port` is the one that is taken."""
    url = addresses.for_clients(config, port)
    providers = list(config.providers.values())
    origin = "all of them simulated" if config.path is None else f"from {'--to' if flags.to else config.path}"
    lines = [
        f"Claude Code provider balancer {__version__} on {url}: {reading.counted(len(providers), 'provider')}, {origin}"
    ]
    width = max((len(provider.name) for provider in providers), default=0)
    lines += [f"  {provider.name:<{width}}  {_served(provider, config)}" for provider in providers]
    lines += _warnings(config, flags)
    lines += _use(config, url, port, flags)
    lines += _look(config, url, flags)
    return "\n".join(lines)


def _served(provider: Provider, config: Config) -> str:
    routes = sum(target.provider == provider.name for route in config.routes for target in route.targets)
    state = reading.counted(routes, "route") if provider.enabled else "disabled"
    return f"{provider.type:<9}  {state:<9}  {reading.address(provider)}"


def _warnings(config: Config, flags: Flags) -> list[str]:
    # Of a file that was written from flags no line is anybody's.
    lines = [f"warning: {w.message}" if flags.to else str(w) for w in config.warnings]
    if config.path is None:
        lines.append(f"There is no providers.yaml. To write one: {hint('init')}")
    if flags.to and (asked := _asks_for_names(config)):
        lines.append(asked)
    said = any(warning.message.startswith("others can reach this address") for warning in config.warnings)
    if not said and not is_loopback(config.settings.host) and not config.settings.auth.keys:
        lines.append("settings.auth.keys is empty, so only clients on this machine are served.")
    return lines


def _asks_for_names(config: Config) -> str:
    """Warn of a provider that is asked for the client's own names of models, which it will hardly know."""
    target = config.routes[0].targets[0]
    kind = config.providers[target.provider].type
    if kind == "anthropic" or target.model != "passthrough":
        return ""
    name = target.provider
    return f"warning: {name} is asked for the client's own names of models (claude-...); --model NAME says another"


def _use(config: Config, url: str, port: int, flags: Flags) -> list[str]:
    if problem := addresses.unusable(config.settings):
        return [f"warning: {problem}"]
    same = [*flags.as_before, *(["--host", flags.host] if flags.host else [])]
    if port != config.settings.port or flags.port is not None:
        same += ["--port", str(port)]
    run = f"  or: {hint('run', *same)}"
    if flags.to:  # no file: by its address alone can it be found
        run = f"  or: {hint('run', '--url', url)}"
    if config.settings.auth.keys:
        return ["Use it in another terminal:", f'  eval "$({hint("env", *same)})"', "  claude", run]
    exports = [f"  export {BASE_URL}={url}"]
    if client_environment.sets_token(config, {}):
        exports.append(f"  export {TOKEN}={client_environment.ANY_TOKEN}")
    return ["Use it in another terminal:", *exports, "  claude", run]


def _look(config: Config, url: str, flags: Flags) -> list[str]:
    here = url == DEFAULT_URL and flags == Flags()
    status = hint("status") if here else hint("status", "--url", url)
    log = config.settings.log_file
    logs = hint("logs", "-f", "--file", log) if flags.to and log else hint("logs", "-f", *flags.as_before)
    told = f"{log}; to read it: {logs}" if log else "none (settings.log_file is null)"
    return [f"Status: {status}", f"Log: {told}", "Ctrl-C ends it."]
