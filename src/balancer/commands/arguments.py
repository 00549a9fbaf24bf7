"""What stands on the command line: how it is read, what its values may be, and what to say about the rest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from balancer.commands.complaint import PREFIX, did_you_mean
from balancer.commands.invocation import hint

WRONG_USAGE = 2

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Parser(argparse.ArgumentParser):
    """Says what is wrong in two lines: the error, and where the help is."""

    def error(self, message: str) -> NoReturn:
        _, _, command = self.prog.partition(" ")
        asked = hint("help", command) if command else hint("help")
        self.exit(WRONG_USAGE, f"{PREFIX}{message}\nHelp: {asked}\n")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments. Ends the process with 2 where they are wrong, as argparse does."""
    known = commands_of(parser)
    words = in_order(parser, known, list(argv))
    command = words[0] if words and words[0] in known else None
    own, handed_on = _split(words) if command == "run" else (words, [])
    args, unknown = parser.parse_known_args(own)
    if unknown:
        _unknown(known[command] if command else parser, unknown)
    if command == "run":
        args.client_arguments = handed_on
    return args


def commands_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return every command's own parser."""
    actions = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001 - no public way
    return dict(next(actions).choices)


def in_order(
    parser: argparse.ArgumentParser, known: Mapping[str, argparse.ArgumentParser], argv: list[str]
) -> list[str]:
    """Return `argv` with its command first: `--config F check` means `check --config F`."""
    takes = _takes_value(known.values())
    place = 0
    while place < len(argv) and argv[place].startswith("-") and argv[place] != "--":
        flag, equals, _ = argv[place].partition("=")
        if flag in parser._option_string_actions:  # noqa: SLF001 - no public way
            return argv
        if flag not in takes:
            parser.error(f"there is no flag {flag}{did_you_mean(flag, takes)}")
        place += 2 if takes[flag] and not equals else 1
    if place >= len(argv):
        if argv:
            parser.error(f"{argv[0]} is a flag of a command, and no command was given")
        return argv
    if argv[place] not in known:
        parser.error(f"there is no command '{argv[place][:100]}'{did_you_mean(argv[place], known)}")
    return [argv[place], *argv[:place], *argv[place + 1 :]]


def _takes_value(parsers: Iterable[argparse.ArgumentParser]) -> dict[str, bool]:
    """Return the flags of all commands, and whether a value follows."""
    actions = (action for parser in parsers for action in parser._actions)  # noqa: SLF001 - no public way
    return {flag: action.nargs not in (0, "?") for action in actions for flag in action.option_strings}


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the first `--` and what stands behind it."""
    if "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _unknown(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
    if parser.prog.endswith(" run"):
        parser.error(
            f"{words[0]!r} is no flag of `run`; the client's own stand behind `--`: {hint('run', '--', words[0])}"
        )
    flag = next((word for word in words if word.startswith("-")), None)
    if flag is None:
        parser.error(f"{words[0]!r} is one word too many")
    flag = flag.partition("=")[0]
    flags = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001 - no public way
    parser.error(f"there is no flag {flag}{did_you_mean(flag, flags)}")


# Values. Each raises `ArgumentTypeError` with what would be right.


def status(text: str) -> int:
    return _number(text, 100, 999, "an HTTP status is 100 to 999")


def port(text: str) -> int:
    return _number(text, 0, 65535, "a port is 0 to 65535")


def workers(text: str) -> int:
    return _number(text, 1, 256, "1 to 256 workers")


def count(text: str) -> int:
    return _number(text, 1, 1_000_000, "a number, at least 1")


def lines(text: str) -> int:
    return _number(text, 0, 10_000_000, "a number of lines")


def level(text: str) -> str:
    """Return the name of a log level, in capitals."""
    return one_of("level", LEVELS, str.upper)(text)


def one_of(what: str, known: Sequence[str], spelled: Callable[[str], str] = str) -> Callable[[str], str]:
    """Return a type of argument that takes one of the words that are known."""

    def chosen(text: str) -> str:
        if (word := spelled(text)) in known:
            return word
        guess = did_you_mean(spelled(text), known)
        raise argparse.ArgumentTypeError(f"unknown {what} {text[:100]!r}{guess or '; one of ' + ', '.join(known)}")

    return chosen


def _number(text: str, least: int, most: int, wanted: str) -> int:
    try:
        number = int(text[:20])
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{wanted}, not {text[:100]!r}")
    return number


def completing(action: argparse.Action, completer: Callable[..., Iterable[str]]) -> None:
    """Have a shell complete the values of an argument; argcomplete looks for this attribute."""
    setattr(action, "completer", completer)  # noqa: B010 - argparse knows of no such attribute


def exit_usage(words: str) -> NoReturn:
    """End because arguments that are right one by one make no sense together."""
    print(f"{PREFIX}{words}", file=sys.stderr)
    raise SystemExit(WRONG_USAGE)


def flags_given(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Return those of the flags that were given a value."""
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}
