"""`balancer status`: the providers of a balancer that runs, as a table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from balancer.commands.calling import CallFailed, Unreachable, call, url_of
from balancer.commands.complaint import complain
from balancer.commands.invocation import hint
from balancer.commands.spans import shown
from balancer.config import ConfigError
from balancer.telemetry.console import printable

EVERY_S = 1.0

LONGEST_ERROR = 4000
"""In characters: the balancer has cut it already, so this is only against another program."""

_STYLES = {"healthy": "green", "probing": "yellow", "resting": "red", "paused": "yellow", "disabled": "dim"}
_GAP = 2
_INDENT = "    "

Ask = Callable[[], Mapping[str, Any]]


def run(args: argparse.Namespace) -> int:
    """Return 0; 1 where no balancer answers or it refuses; 2 where the configuration is wrong."""
    try:
        url = url_of(args.url, args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2

    def ask() -> Mapping[str, Any]:
        view = call(url, "/providers", args.key)
        if not isinstance(view, dict) or not isinstance(view.get("providers"), list):
            raise CallFailed(f"what answers at {url} is no balancer; another address: --url")
        return view

    where = ["--url", args.url] if args.url else ["--config", args.config] if args.config else []
    try:
        if args.watch:
            _watch(url, ask, args.json, where)
        elif args.json:
            print(json.dumps(ask(), indent=2))
        else:
            console = Console()
            _print(console, lines(ask(), _width(console), time.time(), where))
    except CallFailed as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def _width(console: Console) -> int | None:
    """Return how many columns there are; None: it is no terminal, and nothing has to fit."""
    return console.width if console.is_terminal else None


def _print(console: Console, text: Sequence[Text]) -> None:
    for line in text:
        console.print(line, soft_wrap=not console.is_terminal, highlight=False)


# Watching


def _watch(url: str, ask: Ask, as_json: bool, where: Sequence[str]) -> None:
    """Show it once a second until Ctrl-C, also over the end and the next start of the balancer."""
    console = Console()
    if as_json:
        for view, _ in _views(ask):
            print(json.dumps(view), flush=True)
    elif not console.is_terminal:
        for view, gone_since in _views(ask):
            _print(console, _seen(url, view, gone_since, None, where))
            sys.stdout.flush()
    else:
        with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
            for view, gone_since in _views(ask):
                live.update(Text("\n").join(_seen(url, view, gone_since, console.width, where)), refresh=True)


def _views(ask: Ask) -> Iterator[tuple[Mapping[str, Any] | None, float | None]]:
    """Return what is answered, or what was answered last and since when nothing is. Raises `CallFailed`."""
    last: Mapping[str, Any] | None = None
    gone_since: float | None = None
    while True:
        try:
            last, gone_since = ask(), None
        except Unreachable:
            gone_since = gone_since or time.time()
        yield last, gone_since
        time.sleep(EVERY_S)


def _seen(
    url: str, view: Mapping[str, Any] | None, gone_since: float | None, width: int | None, where: Sequence[str]
) -> list[Text]:
    now = time.time()
    if gone_since is None and view is not None:
        return [*lines(view, width, now, where), Text(f"{_clock(now)}  {url}", style="dim")]
    gone = Text(f"no balancer at {url}: gone since {_clock(gone_since or now)}, trying again", style="red")
    if view is None:
        return [gone]
    return [*(Text(line.plain, style="dim") for line in lines(view, width, gone_since or now, where)), gone]


# The table


def lines(view: Mapping[str, Any], width: int | None, now: float, where: Sequence[str] = ()) -> list[Text]:
    """Return the body of `GET /providers` as lines; of the columns, those that fit into `width`.

    `now` is in seconds since the epoch, `where` the flags by which other commands find this balancer.
    What matters most comes in lines of its own, whole.
    """
    providers = [provider for provider in view["providers"] if isinstance(provider, dict)]
    columns = _fitting([_column(*column, providers) for column in _COLUMNS], width)
    title = f"{view.get('healthy_providers')} of {view.get('total_providers')} providers healthy"
    told = [Text(f"{title}, strategy {printable(str(view.get('selection_strategy')))}")]
    told.append(_row([heading for heading, _ in columns], columns, "dim"))
    for place, provider in enumerate(providers):
        state = str(provider.get("state"))
        row = _row([cells[place] for _, cells in columns], columns)
        told.append(_with_state(row, columns, _STYLES.get(state, "")))
        told += [Text(f"{_INDENT}{words}", style=style) for words, style in _remarks(provider, now, where)]
    return told


Cells = tuple[str, list[str]]


def _column(heading: str, cell: Callable[[Mapping[str, Any]], object], providers: Sequence[Mapping[str, Any]]) -> Cells:
    return heading, [printable(str(cell(provider)), 100) for provider in providers]


def _fitting(columns: list[Cells], width: int | None) -> list[Cells]:
    """Leave out columns, the least important first, until the rest fits."""
    for heading in _DROPPED_FIRST:
        if width is None or sum(_wide(column) + _GAP for column in columns) - _GAP <= width:
            break
        columns = [column for column in columns if column[0] != heading]
    return columns


def _wide(column: Cells) -> int:
    heading, cells = column
    return max(map(len, (heading, *cells)))


def _row(cells: Sequence[str], columns: Sequence[Cells], style: str = "") -> Text:
    parts = (
        f"{cell:<{_wide(column)}}" if column[0] in _LEFT else f"{cell:>{_wide(column)}}"
        for cell, column in zip(cells, columns, strict=True)
    )
    return Text((" " * _GAP).join(parts).rstrip(), style=style)


def _with_state(row: Text, columns: Sequence[Cells], style: str) -> Text:
    start = sum(_wide(column) + _GAP for column in columns[:1])
    row.stylize(style, start, start + _wide(columns[1]))
    return row


def _first_token(provider: Mapping[str, Any]) -> str:
    first_s = _part(provider, "latency").get("first_substance_s")
    return f"{first_s:.2f} s" if isinstance(first_s, int | float) else ""


def _tokens(provider: Mapping[str, Any]) -> str:
    tokens = _part(provider, "tokens")
    return f"{_number(tokens.get('input')):,}→{_number(tokens.get('output')):,}"


def _part(provider: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = provider.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], object]], ...] = (
    ("provider", lambda p: p.get("name")),
    ("state", lambda p: p.get("state")),
    ("type", lambda p: p.get("type")),
    ("in flight", lambda p: p.get("in_flight")),
    ("requests", lambda p: p.get("requests")),
    ("ok", lambda p: p.get("successes")),
    ("failed", lambda p: p.get("failures")),
    ("first token", _first_token),
    ("tokens in→out", _tokens),
)
_LEFT = ("provider", "state", "type")
_DROPPED_FIRST = ("type", "tokens in→out", "first token", "in flight", "ok", "failed", "requests")


def _remarks(provider: Mapping[str, Any], now: float, where: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return what has to be read whole: what a person must do, until when it gets no requests, its last error."""
    name = printable(str(provider.get("name")), 100)
    if needed := provider.get("needs_operator"):
        yield f"NEEDS YOU: {_whole(needed)}", "bold red"
    if provider.get("state") == "paused":
        yield f"paused by hand; to undo that: {hint('resume', name, *where)}", "yellow"
    if left_s := _number(provider.get("resting_for_s")):
        yield f"cooldown {_until(left_s, now)}", "red"
    if left_s := _number(provider.get("counting_resting_for_s")):
        yield f"cooldown for counting tokens {_until(left_s, now)}", "red"
    for model, left in _part(provider, "resting_models").items():
        yield f"cooldown of {printable(str(model), 100)} {_until(_number(left), now)}", "red"
    if drill := _part(provider, "drill"):
        yield f"fault injection: {printable(str(drill.get('fault')))}", "yellow"
    error = _part(provider, "last_error")
    if error:
        yield _last_error(error, now), ""


def _until(left_s: float, now: float) -> str:
    return f"until {_clock(now + left_s)}, {shown(left_s)} left"


def _last_error(error: Mapping[str, Any], now: float) -> str:
    told = str(error.get("message") or "")
    if str(error.get("kind")) not in told:
        told = " ".join(str(error[key]) for key in ("status", "kind", "message") if error.get(key))
    at = error.get("at")
    when = f" {_clock(at)} ({shown(now - at)} ago)" if isinstance(at, int | float) else ""
    return f"last error{when}: {_whole(told)}"


def _whole(words: object) -> str:
    return printable(str(words), LONGEST_ERROR)


def _clock(wall: float) -> str:
    """Return a local time, with its day where that is not today."""
    try:
        then, today = time.localtime(wall), time.localtime()
    except (OverflowError, ValueError, OSError):
        return "?"
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)
