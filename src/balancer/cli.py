"""The command line. What a command does is in `commands/`; it is imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from balancer import __version__, claude_code
from balancer.commands import arguments, completion
from balancer.commands.arguments import completing
from balancer.commands.invocation import program
from balancer.commands.spans import moment, span

VERSION = f"balancer {__version__}"

SHELLS_OF_EXPORTS = ("sh", "fish", "powershell")
TYPES_BY_ADDRESS = ("anthropic", "openai", "zed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack letters that a name or an error has
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build()
    if completion.is_asked(os.environ):
        completion.answer(parser)
    args = arguments.parse(parser, sys.argv[1:] if argv is None else argv)
    try:
        return _run(parser, args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has gone: `balancer explain x | head -1`
        _forget_output()
        return 0


def build() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = arguments.Parser(
        prog="balancer",
        description="One address in front of many providers: it balances, and when one fails another answers.",
        epilog=_first_steps(program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=arguments.Parser)
    _run_client(commands)
    _env(commands)
    _serve(commands)
    _check(commands)
    _init(commands)
    _preset(commands)
    _explain(commands)
    _status(commands)
    _logs(commands)
    _orders(commands)
    _restart(commands)
    _drill(commands)
    _usage(commands)
    _add(
        commands, "demo", "see failover happen: simulated providers, one of them failing (15 s, no key needed)", "demo"
    )
    commands.choices["demo"].add_argument("-v", "--verbose", action="store_true", help="show every line of the log too")
    _key(commands)
    _completion(commands)
    _help(commands)
    return parser


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    if args.command is None:
        parser.print_help()
        return 0
    known = arguments.commands_of(parser)
    if args.command == "help":
        (known[args.topic] if args.topic else parser).print_help()
        return 0
    if args.command == "version":
        print(VERSION)
        return 0
    _together(known[args.command], args)
    if getattr(args, "ca", None):
        os.environ["BALANCER_CA"] = os.path.abspath(args.ca)
    module = getattr(args, "module", args.command)
    if args.command == "explain" and args.error is not None:
        module = "explain_error"
    code: int = importlib.import_module(f"balancer.commands.{module}").run(args)
    if sys.stdout:
        sys.stdout.flush()
    return code


def _together(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse arguments that are right one by one and make no sense together."""
    if args.command == "drill" and not args.list and (args.name is None or not (args.fault or args.off)):
        parser.error("name a provider, and --fault FAULT or --off; `drill --list` lists the faults")
    if args.command == "explain":
        if (args.model is None) is (args.error is None):
            parser.error("name a model, or a provider's answer: --error FILE")
        if args.error is None and (args.status or args.provider):
            parser.error("--status and --provider say more about --error FILE, and there is none")
    if args.command == "serve":
        if args.to is None and (flag := next((f for f in ("key_env", "type", "model") if getattr(args, f)), None)):
            parser.error(f"--{flag.replace('_', '-')} says more about --to URL, and there is none")
        if args.to is not None and args.config is not None:
            parser.error("--to serves one provider without a file; leave out --config")
    if args.command == "logs" and args.id and (args.follow or args.failed):
        parser.error("an ID shows one request; leave out -f and --failed")


def _forget_output() -> None:
    """Have what is still buffered go nowhere, so that the interpreter's end says nothing of it."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # no file behind it: nothing will be written either


def _first_steps(program: str) -> str:
    return f"""\
First steps:
  {program} demo                  see what it does, without a key
  {program} run                   start it if need be, and Claude Code through it
or by hand:
  {program} serve
  export ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_AUTH_TOKEN=balancer
  claude
"""


def _add(commands: Any, name: str, summary: str, *examples: str, more: str = "") -> argparse.ArgumentParser:
    """Add a command with its help: what it is for, and how it is typed."""
    shown = "\n".join(f"  {program()} {example}" for example in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{more and chr(10) + more}",
        epilog=f"Examples:\n{shown}" if len(examples) > 1 else f"Example:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="default: $BALANCER_CONFIG, else providers.yaml here, else beside the project"
    )


def _address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="default: $BALANCER_HOST, else $HOST, else settings.host, else 127.0.0.1")
    parser.add_argument(
        "--port",
        type=arguments.port,
        help="default: $BALANCER_PORT, else $PORT, else settings.port, else 8080; 0: any that is free",
    )


def _authorities(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help="with an https address: certificate authorities to trust besides the system's; default: $BALANCER_CA",
    )


def _run_client(commands: Any) -> None:
    parser = _add(
        commands,
        "run",
        "run Claude Code through the balancer",
        "run",
        'run -- -p "say hi"',
        more="Starts a balancer in the background if none answers at the address, sets the client's\n"
        "environment, hands on what stands behind `--`, ends with the client's exit code, and ends the\n"
        "balancer if it was started here and nobody else uses it.",
    )
    _config(parser)
    _address(parser)
    parser.add_argument("--url", help="a balancer that runs elsewhere: none is started; default: $BALANCER_URL")
    _authorities(parser)
    parser.add_argument(
        "--client", default=claude_code.PROGRAM, metavar="PROGRAM", help=f"default: {claude_code.PROGRAM}"
    )
    parser.add_argument("client_arguments", nargs="*", metavar="-- ARGS", help="the client's own arguments")


def _env(commands: Any) -> None:
    parser = _add(
        commands,
        "env",
        "print the variables by which Claude Code finds the balancer, to be evaluated by a shell",
        "env",
        "env --shell fish",
        more=f'In a shell: eval "$({program()} env)"\nIn fish: {program()} env --shell fish | source',
    )
    parser.add_argument("--shell", choices=SHELLS_OF_EXPORTS, default="sh", help="whose language; default: sh")
    _config(parser)
    _address(parser)
    parser.add_argument("--url", help="of a balancer elsewhere; default: $BALANCER_URL")
    _authorities(parser)


def _serve(commands: Any) -> None:
    parser = _add(
        commands,
        "serve",
        "serve; without providers.yaml with simulated providers",
        "serve --port 9000",
        "serve --to https://api.deepseek.com/anthropic --key-env DEEPSEEK_API_KEY",
    )
    _config(parser)
    _address(parser)
    parser.add_argument("--to", metavar="URL", help="serve this one provider, without a file")
    parser.add_argument("--key-env", metavar="VAR", help="with --to: the environment variable that holds its key")
    parser.add_argument("--type", choices=TYPES_BY_ADDRESS, help="with --to: the provider's type; default: by its URL")
    parser.add_argument("--model", help="with --to: the model to ask for, whatever the client names")
    parser.add_argument(
        "--workers",
        type=arguments.workers,
        default=1,
        metavar="N",
        help="processes; each has its own view of the providers' health",
    )
    level = parser.add_argument(
        "--log-level",
        type=arguments.level,
        metavar="LEVEL",
        help=f"{', '.join(arguments.LEVELS)}; default: $LOG_LEVEL, else settings.log_level, else INFO",
    )
    completing(level, lambda **_: arguments.LEVELS)
    parser.add_argument("--no-log-color", action="store_true", help="no colours; so do LOG_COLOR=false and NO_COLOR=1")


def _check(commands: Any) -> None:
    parser = _add(
        commands, "check", "say what is wrong with the configuration, every problem with its line", "check --live"
    )
    _config(parser)
    parser.add_argument(
        "--live",
        nargs="?",
        const="free",
        choices=("free", "message"),
        help="also ask each provider something that costs nothing; --live=message: and send it one tiny message",
    )


def _init(commands: Any) -> None:
    parser = _add(
        commands,
        "init",
        "write a first providers.yaml for the services that you name",
        "init claude-subscription anthropic",
        "init ollama --check",
        more="A file that is there is never touched. Without PRESET it asks, at a terminal.",
    )
    _preset_arguments(parser, "*")


def _preset(commands: Any) -> None:
    parser = _add(
        commands,
        "add",
        "put a known service into providers.yaml, and a target for it into the routes",
        "add",
        "add deepseek",
        "add openai --name gpt --key-env MY_KEY",
        more="Without PRESET: list the services. Everything that stands in the file stays as it is.",
    )
    _preset_arguments(parser, "?")


def _preset_arguments(parser: argparse.ArgumentParser, count: str) -> None:
    preset = parser.add_argument("preset", nargs=count, metavar="PRESET", help="a service: anthropic, deepseek, ollama")
    completing(preset, completion.presets)
    parser.add_argument("--name", help="what the provider is called; default: as the preset")
    parser.add_argument("--key-env", metavar="VARIABLE", help="the variable that holds the key; default: the usual one")
    parser.add_argument("--model", help="the model that it is asked for, whatever the client asks for")
    parser.add_argument("--base-url", metavar="URL", help="where it is reached, if not where most people do")
    parser.add_argument("--check", action="store_true", help="ask the new provider something that costs nothing")
    _config(parser)


def _explain(commands: Any) -> None:
    parser = _add(
        commands,
        "explain",
        "say which providers serve a model, and why; or how a provider's error is taken",
        "explain claude-sonnet-4-5",
        "explain --error answer.txt --provider main",
        "explain --error body.json --status 400",
    )
    model = parser.add_argument("model", metavar="MODEL", nargs="?", help="the name that a client asks for")
    completing(model, completion.models)
    parser.add_argument(
        "--error", metavar="FILE", help="a provider's answer as `curl -i` prints it, or its body; -: stdin"
    )
    parser.add_argument("--status", type=arguments.status, metavar="N", help="with --error: the answer's status")
    provider = parser.add_argument("--provider", metavar="NAME", help="with --error: whose answer it is")
    completing(provider, completion.providers)
    _config(parser)


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="of the balancer; default: $BALANCER_URL, else as configured")
    _authorities(parser)
    parser.add_argument("--key", help="a key of the balancer, where it has some; better: $BALANCER_KEY")
    _config(parser)


def _status(commands: Any) -> None:
    parser = _add(commands, "status", "show the providers of a balancer that runs", "status", "status --watch")
    parser.add_argument("--watch", action="store_true", help="once a second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the body of GET /providers, for programs")
    _running(parser)


def _logs(commands: Any) -> None:
    parser = _add(
        commands,
        "logs",
        "show the log: the last requests, or one request with every attempt",
        "logs -f",
        "logs --failed --since 2h",
        "logs 3f2a9c1b",
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="a request's id, or its beginning: show all of it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines as they come, until Ctrl-C")
    parser.add_argument("--failed", action="store_true", help="only requests with a failed attempt or a failed end")
    parser.add_argument(
        "-n", "--lines", type=arguments.lines, metavar="N", help="the last N lines; default: 50, with --since all"
    )
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="30s, 10m, 2h, 1d ago; or 14:30, or 2026-11-28T14:30"
    )
    parser.add_argument("--file", metavar="FILE", help="the log file; default: settings.log_file")
    _config(parser)


def _orders(commands: Any) -> None:
    for order, summary in (
        ("wake", "end a provider's cooldown: what had failed is mended"),
        ("pause", "send a provider no more requests, until resume or a restart"),
        ("resume", "send a paused provider requests again"),
    ):
        parser = _add(commands, order, summary, f"{order} main")
        completing(
            parser.add_argument("name", metavar="PROVIDER", help="its name in providers.yaml"), completion.providers
        )
        _running(parser)
        parser.set_defaults(module="orders")


def _restart(commands: Any) -> None:
    parser = _add(
        commands,
        "restart",
        "replace the processes of a balancer that runs by new ones, without a gap",
        "restart",
        more="Each new process serves before an old one stops taking requests, and answers under way end where\n"
        "they began. Waits until the new ones serve. If one can't start, the old ones go on.",
    )
    _running(parser)


def _usage(commands: Any) -> None:
    parser = _add(
        commands,
        "usage",
        "show what requests used and cost",
        "usage --by model --since 24h",
        "usage --by project --since 2026-11-01 --csv",
    )
    groups = ("day", "model", "provider", "client", "session", "project")
    parser.add_argument("--by", choices=groups, default="day", help="what to sum by (day)")
    parser.add_argument("--since", default="7d", metavar="TIME", help="a span like 24h or 7d, today, or a date (7d)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="as JSON")
    shape.add_argument("--csv", action="store_true", help="as CSV")
    _running(parser)


def _drill(commands: Any) -> None:
    parser = _add(
        commands,
        "drill",
        "make a provider fail on purpose (fault injection; needs settings.drills: true)",
        "drill main --fault 529 --for 30s",
        "drill main --off",
    )
    name = parser.add_argument("name", nargs="?", metavar="PROVIDER", help="its name in providers.yaml")
    completing(name, completion.providers)
    what = parser.add_mutually_exclusive_group()
    fault = what.add_argument("--fault", type=_fault, metavar="FAULT", help="see --list")
    completing(fault, _faults)
    what.add_argument("--off", action="store_true", help="end the fault")
    what.add_argument("--list", action="store_true", help="list the faults there are")
    parser.add_argument(
        "--for", dest="for_s", type=span, metavar="TIME", help="how long: 30s, 2m; default: until --off"
    )
    parser.add_argument("--requests", type=arguments.count, metavar="N", help="for so many requests")
    _running(parser)


def _fault(text: str) -> str:
    return arguments.one_of("fault", _faults())(text)


def _faults(**_: object) -> tuple[str, ...]:
    # Imported here: no other command needs it to read its arguments.
    return tuple(importlib.import_module("balancer.dialects.simulated.faults").FAULTS)


def _key(commands: Any) -> None:
    parser = _add(commands, "key", "print a new key for settings.auth", "key new")
    parser.add_argument("what", choices=("new",), help="make one; nothing is stored")
    parser.add_argument("--hash", action="store_true", help="print its SHA-256 too, for key_sha256")


def _completion(commands: Any) -> None:
    parser = _add(
        commands,
        "completion",
        "print what makes a shell complete commands, flags and names",
        "completion bash",
        more=f'bash, in ~/.bashrc: eval "$({program()} completion bash)"\n'
        f'zsh, in ~/.zshrc after compinit: eval "$({program()} completion zsh)"\n'
        f"fish, once: {program()} completion fish > ~/.config/fish/completions/balancer.fish",
    )
    parser.add_argument("shell", choices=completion.SHELLS, help="whose language")


def _help(commands: Any) -> None:
    parser = _add(commands, "help", "show this help, or that of a command", "help serve")
    topic = parser.add_argument("topic", nargs="?", metavar="COMMAND", help="a command")
    topic.type = lambda text: arguments.one_of("command", tuple(commands.choices))(text)
    completing(topic, lambda **_: tuple(commands.choices))
    _add(commands, "version", "print the version", "version")


if __name__ == "__main__":
    sys.exit(main())
