"""`balancer add PRESET`: a known service put into providers.yaml, with a route to it; what stands there stays."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from balancer import config as configuration
from balancer.commands import check, live
from balancer.commands.complaint import complain
from balancer.commands.invocation import hint
from balancer.config import ConfigError, envfile, parse, presets, writing
from balancer.config.presets import PRESETS, Preset
from balancer.config.providers import is_name
from balancer.config.quoting import is_keylike, nearest

WRONG_CONFIG = 2
FAILED = 1

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Refused(Exception):
    """What was asked for can't be done; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Order:
    """One provider that is to be written."""

    preset: Preset
    name: str
    key_env: str | None
    base_url: str | None = None
    model: str | None = None

    @property
    def entry(self) -> dict[str, object]:
        return presets.entry(self.preset, self.name, self.key_env, self.base_url)

    @property
    def variable(self) -> str | None:
        """The variable that has to hold the key."""
        return self.key_env or (None if self.preset.auth_value else self.preset.key_env)


def run(args: argparse.Namespace) -> int:
    """Write, and say what was done. Returns 0, 1 (refused, or --check failed) or 2 (the file is wrong)."""
    if args.preset is None:
        print("\n".join(listing()))
        return 0
    try:
        path = file_of(args.config)
        done = written(path, [order_of(args.preset, args)])
    except Refused as error:
        complain(str(error))
        return FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIG
    return finish(path, done, check_live=args.check)


def listing() -> Iterator[str]:
    """Return the presets there are, a line each."""
    yield f"Known services: {hint('add', 'PRESET')} [--name NAME] [--key-env VARIABLE] [--model MODEL]"
    width = max(map(len, PRESETS))
    titles = max(len(preset.title) for preset in PRESETS.values())
    for name, preset in PRESETS.items():
        needs = f"${{{preset.key_env}}}" if preset.key_env else "no key"
        yield f"  {name:<{width}}  {preset.title:<{titles}}  {preset.type:<9}  {needs}"
    yield "Any other service with the same APIs: docs/providers.md"


def order_of(word: str, args: argparse.Namespace) -> Order:
    """Return what one word and the flags ask for. Raises `Refused`."""
    name = presets.find(word)
    if name is None:
        close = nearest(word, presets.words())
        guess = f"; did you mean '{close}'?" if close else ""
        raise Refused(f"there is no such preset{guess} There are: {', '.join(PRESETS)}")
    preset = PRESETS[name]
    chosen = args.name or preset.name or name
    if not is_name(chosen) or is_keylike(chosen):
        raise Refused("--name takes a plain word: it is shown in logs and headers")
    if args.key_env is not None and (not _VARIABLE.fullmatch(args.key_env) or is_keylike(args.key_env)):
        raise Refused("--key-env takes the name of a variable (DEEPSEEK_API_KEY), not a key; put the key into .env")
    return Order(preset, chosen, args.key_env, args.base_url, args.model)


def file_of(explicit: str | None) -> Path:
    """Return the file to write: the one named, the one in force, else providers.yaml in the working directory."""
    named = explicit or os.environ.get("BALANCER_CONFIG")
    if named:
        return Path.cwd() / Path(named).expanduser()
    return configuration.find(None, os.environ, Path.cwd()) or Path.cwd() / configuration.FILE


def written(path: Path, orders: list[Order]) -> list[tuple[Order, writing.Extension]]:
    """Put the providers into the file, whole or not at all. Raises `Refused` and `ConfigError`."""
    data = _data(path)
    mark = "\ufeff" if data and data.startswith(b"\xef\xbb\xbf") else ""
    text = data.decode("utf-8-sig", "replace") if data is not None else None
    if text is not None and text.strip():
        _parsed(text, path)
    done: list[tuple[Order, writing.Extension]] = []
    for order in orders:
        extension = _with(text, path, order)
        text = extension.text
        done.append((order, extension))
    if text is None:
        return []
    _parsed(text, path)
    try:
        writing.save(path, mark + text)
    except OSError as error:
        raise Refused(f"{path} can't be written: {error.strerror}") from None
    return done


def _data(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from None


def _with(text: str | None, path: Path, order: Order) -> writing.Extension:
    if text is None:
        return writing.new_file(order.entry, order.preset, order.model)
    if order.name in _names(text, path):
        raise Refused(f"{path.name} has a provider '{order.name}' already; --name gives the new one another name")
    try:
        return writing.extended(text, order.entry, order.preset, order.model)
    except writing.CantExtend as error:
        raise Refused(f"{path.name}: {error}") from None


def _names(text: str, path: Path) -> Mapping[str, object]:
    return _parsed(text, path).providers if text.strip() else {}


def _parsed(text: str, path: Path) -> configuration.Config:
    """Return the configuration, with something in the place of every variable that is not set.

    Raises `ConfigError` where anything else is wrong with it.
    """
    env = {**envfile.read(envfile.beside(path), os.environ).values, **os.environ}
    for _ in range(100):
        try:
            return parse(text, path.name, env)
        except ConfigError as error:
            missing = {problem.variable for problem in error.problems} - {""}
            if not missing:
                raise
            env |= dict.fromkeys(missing, "a-key-that-is-not-there-yet")
    raise Refused(f"{path.name} refers to too many variables that are not set")


def finish(path: Path, done: list[tuple[Order, writing.Extension]], *, check_live: bool) -> int:
    """Say what was done and what comes next; ask the new providers if that was wanted."""
    for order, extension in done:
        print(f"{path}: added the provider '{order.name}' ({order.preset.title})")
        for what in extension.done[1:]:
            print(f"  {what}")
        for what in extension.left:
            print(f"  not done: {what}")
        if order.preset.hint:
            print(f"  note: {order.preset.hint}")
    missing = [order for order, _ in done if order.variable and not _is_set(order.variable, path)]
    missing = [order for order in missing if not _asked_for_key(order, path)]
    for order in missing:
        where = f" (a key: {order.preset.key_url})" if order.preset.key_url else ""
        print(f"The key is not there yet{where}. Put it into {envfile.beside(path)}:  {order.variable}=...")
    if not check_live:
        print(f"Next:  {hint('check', '--live', *config_flag(path))}")
        return 0
    if missing:
        print("Not checked: without its key there is nothing to check.")
        return FAILED
    return _ask(path, {order.name for order, _ in done})


def config_flag(path: Path) -> list[str]:
    """Return the flag by which other commands find the file, where they would not find it by themselves."""
    try:
        found = configuration.find(None, os.environ, Path.cwd())
    except ConfigError:
        found = None
    return [] if found is not None and found.absolute() == path.absolute() else ["--config", os.path.relpath(path)]


def _is_set(variable: str, path: Path) -> bool:
    return bool(os.environ.get(variable) or envfile.read(envfile.beside(path), os.environ).values.get(variable))


def _asked_for_key(order: Order, path: Path) -> bool:
    """Ask whoever sits at the terminal for the key, and keep it in `.env`. Returns whether it is there now."""
    variable = order.variable
    if variable is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    where = f" ({order.preset.key_url})" if order.preset.key_url else ""
    beside = envfile.beside(path)
    try:
        key = getpass.getpass(
            f"{order.preset.title}: paste the key{where}, it goes to {beside}; Enter: later: "
        ).strip()
    except EOFError:
        return False
    if not key:
        return False
    try:
        writing.keep_key(beside, variable, key)
    except (OSError, UnicodeError) as error:
        print(f"{beside} can't be written: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")
        return False
    print(f"{beside}: {variable} is set")
    return True


def _ask(path: Path, names: set[str]) -> int:
    config = _parsed(path.read_text(encoding="utf-8-sig"), path)  # other providers' keys may still be missing
    answers = asyncio.run(live.ask_all(config, only=names))
    for line in check.told(answers):
        print(line)
    return FAILED if any(answer.well is False for answer in answers) else 0
