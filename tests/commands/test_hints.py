"""Every command that the program suggests is one that it takes, and does what was promised."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing

from balancer.cli import build
from balancer.commands.arguments import commands_of, parse

from .conftest import SIMULATED, Start, environment

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

BIN = Path(sys.executable).parent
COMMANDS = sorted(commands_of(build()))

HINT = re.compile(rf"(?<![\w/-])balancer (?:{'|'.join(COMMANDS)})\b(?:'[^'\n]*'|[^;,`)\n'|>]|(?<=\S)'(?=\S))*")


def hints(text: str) -> list[str]:
    """Return every command line of this program in a text: it ends at a mark, or at the line's end."""
    return [re.split(r" {2,}", match[0])[0].strip() for match in HINT.finditer(text)]


def test_hints_are_found_where_they_stand() -> None:
    text = "x; another port: balancer serve --port 0\n  eval \"$(balancer env --config 'a b')\"\nthe balancer runs\n  balancer demo    see it"

    assert hints(text) == ["balancer serve --port 0", "balancer env --config 'a b'", "balancer demo"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    if not (BIN / "balancer").exists():
        missing("the command balancer", "run: make setup")
    return environment(PATH=f"{BIN}:/usr/bin:/bin", HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))


def said(env: dict[str, str], cwd: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["balancer", *arguments], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    return ended.stdout + ended.stderr


def parsed(hint: str) -> None:
    parse(build(), shlex.split(hint)[1:])


def test_the_help_of_every_command_has_an_example_that_is_one(env: dict[str, str], tmp_path: Path) -> None:
    for command in COMMANDS:
        told = said(env, tmp_path, "help", command).partition("\n\n")[2]  # behind the usage
        examples = hints(told)
        assert any(example.startswith(f"balancer {command}") for example in examples), told
        for example in examples:
            parsed(example)
    for hint in (first := hints(said(env, tmp_path, "help"))):
        parsed(hint)
    assert first


FAILS = {
    "nobody answers": ["status", "--url", "http://127.0.0.1:9"],
    "no such command": ["stauts"],
    "no such flag": ["check", "--lve"],
    "not behind the mark": ["run", "-p"],
    "a drill of nothing": ["drill", "main"],
    "no client": ["run", "--client", "claude"],
}


@pytest.mark.parametrize("argv", FAILS.values(), ids=FAILS)
def test_the_remedy_of_an_error_is_a_command(argv: list[str], env: dict[str, str], tmp_path: Path) -> None:
    told = said(env, tmp_path, *argv)

    assert told.startswith("balancer: error: ")
    assert hints(told), told
    for hint in hints(told):
        parsed(hint)
        if hint.startswith("balancer help"):
            subprocess.run(shlex.split(hint), cwd=tmp_path, env=env, check=True, capture_output=True)


def test_a_taken_port(env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (hint,) = hints(said(env, tmp_path, "serve", "--port", str(taken.getsockname()[1])))

    assert hint == "balancer serve --port 0"


STARTS = {
    "without a file": ([], ""),
    "with a file": (["--config", "a file.yaml"], SIMULATED),
    "with keys": (["--config", "a file.yaml"], SIMULATED + "  auth: {keys: [a-key-of-this-balancer]}\n"),
    "with the client's own login": (
        ["--config", "a file.yaml"],
        'providers: [{name: a, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: passthrough}]\n'
        'model_routes: {"*": [{provider: a}]}\n',
    ),
    "one provider": (["--to", "http://127.0.0.1:9/v1", "--model", "m"], ""),
}


@pytest.mark.parametrize(("flags", "file"), STARTS.values(), ids=STARTS)
def test_what_the_start_says_can_be_done(
    start: Start, env: dict[str, str], tmp_path: Path, flags: list[str], file: str
) -> None:
    if file:
        (tmp_path / "a file.yaml").write_text(file)
    running = start(argv=["balancer", "serve", "--port", "0", *flags], cwd=tmp_path, **env)
    running.until("Ctrl-C ends it.")
    told = "\n".join(running.out)
    url = running.out[0].split(" on ")[1].split(": ")[0]
    by_hand = told.split("Use it in another terminal:\n")[1].split("\n  claude\n")[0]

    def shell(script: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-euc", script],
            cwd=tmp_path,
            env=env | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert hints(told)
    for hint in hints(told):
        parsed(hint)
    # As a user types it: set the variables, and ask with what they say.
    asks = f"""{by_hand}
test "$ANTHROPIC_BASE_URL" = "{url}"
curl -sf -H "x-api-key: ${{ANTHROPIC_AUTH_TOKEN-none}}" "$ANTHROPIC_BASE_URL/v1/models" """
    assert shell(asks).returncode == 0, by_hand
    (status,) = (hint for hint in hints(told) if hint.startswith("balancer status"))
    ended = shell(status, BALANCER_KEY="a-key-of-this-balancer")
    assert (ended.returncode, "providers healthy" in ended.stdout) == (0, True), ended.stderr
    (run,) = (hint for hint in hints(told) if hint.startswith("balancer run"))
    client = shell(f"{run} --client sh -- -c 'echo $ANTHROPIC_BASE_URL'")
    assert (client.returncode, client.stdout) == (0, f"{url}\n"), client.stderr
    (logs,) = (hint for hint in hints(told) if hint.startswith("balancer logs"))
    assert shell(logs.replace(" -f", "")).returncode in (0, 1)  # 1: there is no log yet, and it says which


def test_the_next_step_of_the_demo_and_of_the_start_writes_a_file(env: dict[str, str], tmp_path: Path) -> None:
    run, init = hints(said(env, tmp_path, "demo"))
    assert run == "balancer run"
    assert init == "balancer init"

    names = hints(said(env, tmp_path, *shlex.split(init)[1:]))  # nobody at a terminal: it says what to name
    chosen = next(name for name in names if name.startswith("balancer init "))
    (check,) = hints(said(env, tmp_path, *shlex.split(chosen)[1:]))
    assert (tmp_path / "providers.yaml").exists()
    assert check == "balancer check --live"
    another = hints(said(env, tmp_path, *shlex.split(chosen)[1:]))
    for hint in (*names, check, *another):
        parsed(hint.partition(" [")[0])  # what stands in brackets is a form
    assert another == ["balancer add PRESET"]


def test_how_a_drill_is_ended(start: Start, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "providers.yaml").write_text(SIMULATED)
    url = start("--port", "0", cwd=tmp_path).url()
    (hint,) = hints(said(env, tmp_path, "drill", "quick", "--fault", "529", "--url", url))

    ended = subprocess.run(shlex.split(hint), cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert ended.stdout == "quick no longer fails on purpose\n"
