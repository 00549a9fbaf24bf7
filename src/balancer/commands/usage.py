"""`balancer usage`: what requests used and cost, by day, model, provider, client, session or project."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table
from rich.text import Text

from balancer.commands.calling import CallFailed, call, url_of
from balancer.commands.complaint import complain
from balancer.config import ConfigError
from balancer.telemetry.console import printable

_NUMBERS = (
    "requests",
    "failed",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
)


def run(args: argparse.Namespace) -> int:
    """Return 0; 1 where no balancer answers or it refuses; 2 where the configuration is wrong."""
    try:
        url = url_of(args.url, args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        told = call(url, "/usage?" + urlencode({"by": args.by, "since": args.since}), args.key)
        if not isinstance(told, dict) or not isinstance(told.get("groups"), list):
            raise CallFailed(f"what answers at {url} is no balancer; another address: --url")
    except CallFailed as error:
        complain(str(error))
        return 1
    if args.json:
        print(json.dumps(told, indent=2))
    elif args.csv:
        _csv(told, args.by)
    else:
        Console().print(_table(told, args.by))
    return 0


def _csv(told: Mapping[str, Any], by: str) -> None:
    names = (by, *_NUMBERS, "cost_usd", "unpriced")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([[_cell(group.get(name)) for name in names] for group in told["groups"]])


def _cell(value: Any) -> Any:
    """Return a value for a table that a spreadsheet opens: text of clients must not be taken for a formula."""
    if isinstance(value, str):
        return f"'{printable(value)}" if value[:1] in ("=", "+", "-", "@") else printable(value)
    return value


def _table(told: Mapping[str, Any], by: str) -> Table | Text:
    groups = told["groups"]
    if not groups:
        return Text(f"no requests since {printable(str(told.get('since')))}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(by, overflow="fold")
    for head in ("asked", "failed", "input", "output", "cache rd", "cache wr", "cached", "USD"):
        table.add_column(head, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(*_row(str(group.get(by) or "-"), group))
    if len(groups) > 1:
        table.add_row(*_row("total", told["total"]), style="bold")
    if told["total"].get("unpriced"):
        table.caption = "+ with requests of models whose price is not known (settings.prices)"
        table.caption_justify = "left"
    return table


def _row(name: str, group: Mapping[str, Any]) -> list[str]:
    written = int(group["cache_write_5m_tokens"]) + int(group["cache_write_1h_tokens"])
    share = group.get("cache_share")
    return [
        printable(name),
        f"{group['requests']:,}",
        f"{group['failed']:,}",
        f"{group['input_tokens']:,}",
        f"{group['output_tokens']:,}",
        f"{group['cache_read_tokens']:,}",
        f"{written:,}",
        "-" if share is None else f"{share:.0%}",
        f"{group['cost_usd']:,.{2 if group['cost_usd'] >= 1 else 4}f}{'+' if group['unpriced'] else ''}",
    ]
