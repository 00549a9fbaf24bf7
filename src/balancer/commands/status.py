"""`balancer status`: the providers of a balancer that runs, as a table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from balancer.commands.calling import CallFailed, call, url_of

EVERY_S = 1.0

_STYLES = {"healthy": "green", "probing": "yellow", "resting": "red", "disabled": "dim"}


def run(args: argparse.Namespace) -> int:
    """Return 0, or 1 where no balancer answers."""
    url = url_of(args.url)
    console = Console()
    try:
        if args.watch:
            _watch(console, url, args.key)
        else:
            console.print(table(call(url, "/providers", args.key)))
    except CallFailed as error:
        print(f"balancer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _watch(console: Console, url: str, key: str | None) -> None:
    with Live(table(call(url, "/providers", key)), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(EVERY_S)
            live.update(table(call(url, "/providers", key)), refresh=True)


def table(view: Mapping[str, Any]) -> Table:
    """Return the body of `GET /providers` as a table."""
    title = f"{view['healthy_providers']} of {view['total_providers']} providers healthy, {view['selection_strategy']}"
    made = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))  # 80 columns are few
    for heading in ("provider", "type", "state"):
        made.add_column(heading, no_wrap=True)
    for heading in ("busy", "asked", "ok", "failed", "TTFT", "in/out"):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("last error", overflow="fold", min_width=10)
    for provider in view["providers"]:
        made.add_row(*_row(provider))
    return made


def _row(provider: Mapping[str, Any]) -> list[Text | str]:
    state = str(provider["state"])
    words = f"{state} {provider['resting_for_s']:.0f} s" if state == "resting" else state
    first_s = (provider.get("latency") or {}).get("first_substance_s")
    tokens = provider.get("tokens") or {}
    return [
        Text(provider["name"]),
        Text(provider["type"]),
        Text(words, style=_STYLES.get(state, "")),
        str(provider["in_flight"]),
        str(provider["requests"]),
        str(provider["successes"]),
        str(provider["failures"]),
        "" if first_s is None else f"{first_s:.2f} s",
        f"{tokens.get('input', 0):,}/{tokens.get('output', 0):,}",
        Text(_error(provider.get("last_error"))),
    ]


def _error(error: Mapping[str, Any] | None) -> str:
    if not error:
        return ""
    told = str(error.get("message") or "")
    if str(error.get("kind")) not in told:
        told = " ".join(str(error[key]) for key in ("status", "kind", "message") if error.get(key))
    return "".join(c if c.isprintable() else " " for c in told)[:200]
