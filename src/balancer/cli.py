"""The command line. What a command does is in `commands/`; it is imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from balancer import __version__
from balancer.commands.spans import span
from balancer.dialects.simulated import faults as drills

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    if args.command == "drill" and not args.list and (args.name is None or not (args.fault or args.off)):
        parser.error("drill: name a provider, and --fault FAULT or --off; the faults: balancer drill --list")
    try:
        code: int = importlib.import_module(f"balancer.commands.{args.command}").run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone: `balancer explain x | head -1`
        sys.stderr.close()
        return 0
    return code


def build() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="balancer",
        description="One address in front of many providers: it balances, and when one fails another answers.",
        epilog="First steps: balancer demo, then balancer serve, then export ANTHROPIC_BASE_URL=http://127.0.0.1:8080",
    )
    parser.add_argument("--version", action="version", version=f"balancer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _serve(commands.add_parser("serve", help="serve; without providers.yaml with simulated providers"))
    _check(commands.add_parser("check", help="say what is wrong with the configuration, every problem with its line"))
    _explain(commands.add_parser("explain", help="say who serves a model, in which order, and why"))
    _status(commands.add_parser("status", help="show the providers of a balancer that runs, as a table"))
    commands.add_parser("demo", help="see failover happen: simulated providers, one of them ill (15 s, no key needed)")
    _drill(commands.add_parser("drill", help="make a provider fail on purpose (needs settings.drills: true)"))
    return parser


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="default: $BALANCER_CONFIG, else providers.yaml here, else beside the project"
    )


def _serve(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--host", help="default: $HOST, else settings.host, else 127.0.0.1")
    parser.add_argument("--port", type=_port, help="default: $PORT, else settings.port, else 8080; 0: any that is free")
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="processes; each has its own view of the providers' health",
    )
    parser.add_argument(
        "--log-level", type=str.upper, choices=LEVELS, help="default: $LOG_LEVEL, else settings.log_level, else INFO"
    )
    parser.add_argument("--no-log-color", action="store_true", help="no colours; so do LOG_COLOR=false and NO_COLOR=1")


def _check(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--live", action="store_true", help="also ask each provider something that costs nothing")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the name that a client asks for, say claude-sonnet-4-5")
    _config(parser)


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="of the balancer; default: $BALANCER_URL, else as configured")
    parser.add_argument("--key", help="a key of the balancer, where it has some; better: $BALANCER_KEY")


def _status(parser: argparse.ArgumentParser) -> None:
    _running(parser)
    parser.add_argument("--watch", action="store_true", help="once a second, until Ctrl-C")


def _drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="PROVIDER", help="its name in providers.yaml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--fault", choices=tuple(drills.FAULTS), metavar="FAULT", help="see --list")
    what.add_argument("--off", action="store_true", help="let it behave again")
    what.add_argument("--list", action="store_true", help="list the faults there are")
    parser.add_argument(
        "--for", dest="for_s", type=span, metavar="TIME", help="how long: 30s, 2m; default: until --off"
    )
    parser.add_argument("--requests", type=_count, metavar="N", help="for so many requests")
    _running(parser)


def _port(text: str) -> int:
    return _number(text, 0, 65535, "a port is 0 to 65535")


def _workers(text: str) -> int:
    return _number(text, 1, 256, "1 to 256 workers")


def _count(text: str) -> int:
    return _number(text, 1, 1_000_000, "a number, at least 1")


def _number(text: str, least: int, most: int, wanted: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{wanted}, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
