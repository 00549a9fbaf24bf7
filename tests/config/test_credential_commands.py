"""Programs that print credentials: when they are run, what is taken, and that nothing of them is ever quoted."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from balancer.config.credential_commands import FAILED_S, FRESH_S, REFUSED_S, Command, CredentialCommands
from balancer.config.secret_files import MAX_BYTES, Unusable

pytestmark = pytest.mark.live

CANARY = "sk-canary-V9q3XrT7bLw2Zk8N"


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def python(text: str, folder: Path) -> Command:
    return Command((sys.executable, "-c", text), folder)


def counting(folder: Path, then: str = "print(f'key-{n}')") -> Command:
    """Return a program that prints another key at each run, and does something first."""
    text = "from pathlib import Path; p = Path('runs'); n = len(p.read_bytes()) if p.exists() else 0; p.write_bytes(b'x' * (n + 1)); "
    return python(text + then, folder)


def test_a_credential_is_printed_once_and_remembered_until_it_is_no_longer_fresh(tmp_path: Path) -> None:
    clock = Hand()
    commands, asked = CredentialCommands(clock), counting(tmp_path)

    assert commands.due_in_s([asked]) is None
    assert [commands.secret(asked) for _ in range(3)] == [("key-0", "")] * 3
    clock.now += FRESH_S - 1
    assert commands.secret(asked) == ("key-0", "")
    assert commands.due_in_s([asked]) == 1
    clock.now += 1
    assert commands.secret(asked) == ("key-1", "")


def test_a_refused_credential_is_printed_again_but_not_in_a_hurry(tmp_path: Path) -> None:
    clock = Hand()
    commands, asked = CredentialCommands(clock), counting(tmp_path)
    commands.secret(asked)

    commands.refused(asked)
    assert commands.secret(asked) == ("key-1", "")
    commands.refused(asked)
    assert commands.due_in_s([asked]) == REFUSED_S
    assert commands.secret(asked) == ("key-1", "")
    clock.now += REFUSED_S
    assert commands.secret(asked) == ("key-2", "")
    commands.refused(python("print(1)", tmp_path))  # which nobody has run


def test_a_person_need_not_wait_for_another_run(tmp_path: Path) -> None:
    commands, asked = CredentialCommands(Hand()), counting(tmp_path)
    printed = []
    for _ in range(3):
        printed.append(commands.secret(asked)[0])
        commands.expire(asked)

    assert printed == ["key-0", "key-1", "key-2"]


def test_a_program_that_fails_leaves_the_last_credential_in_force(tmp_path: Path) -> None:
    clock = Hand()
    commands, asked = (
        CredentialCommands(clock),
        counting(tmp_path, f"print('{CANARY}'); raise SystemExit(3 * (n == 1))"),
    )
    commands.secret(asked)
    clock.now += FRESH_S

    assert commands.secret(asked) == (CANARY, "failed: it ended with status 3")
    assert commands.failure(asked) == "failed: it ended with status 3"
    assert commands.due_in_s([asked]) == FAILED_S
    clock.now += FAILED_S
    assert commands.secret(asked) == (CANARY, "")
    assert commands.failure(asked) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"import sys; print('{CANARY}'); print('{CANARY}', file=sys.stderr); sys.exit(1)", "failed: it ended with status 1"),
        (f"print('{CANARY}', flush=True); import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        (f"print('{CANARY}\\n{CANARY}')", "more than one line"),
        ("", "is empty"),
        (f"print('{CANARY}' * {MAX_BYTES})", f"it printed more than {MAX_BYTES} bytes"),
        (f"\nwhile True: print('{CANARY}')", f"it printed more than {MAX_BYTES} bytes"),
        (f"print('{CANARY}', flush=True); import time; time.sleep(60)", "took longer than 1 s"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_told_without_a_word_of_the_output(text: str, why: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Unusable, match=why) as caught:
        CredentialCommands(time.monotonic, timeout_s=1).secret(python(text, tmp_path))

    assert "canary" not in str(caught.value)
    assert time.monotonic() - began < 8


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="can't be run: No such file or directory"):
        CredentialCommands(time.monotonic).secret(Command(("no-such-program-here", CANARY), tmp_path))


def test_no_shell_looks_at_the_arguments_and_no_input_is_waited_for(tmp_path: Path) -> None:
    shown = "import sys, os; print(sys.argv[1], repr(sys.stdin.read()), os.getcwd() == sys.argv[2])"
    asked = Command((sys.executable, "-c", shown, "$(id);`id`|x", str(tmp_path)), tmp_path)

    assert CredentialCommands(time.monotonic).secret(asked) == ("$(id);`id`|x '' True", "")


def test_what_a_program_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    leaves = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)']); print('key', flush=True)"
    began = time.monotonic()

    assert CredentialCommands(time.monotonic).secret(python(leaves, tmp_path)) == ("key", "")
    assert time.monotonic() - began < 4


def test_neither_the_arguments_nor_the_credential_stand_in_a_repr(tmp_path: Path) -> None:
    asked = python(f"print('{CANARY}')", tmp_path)
    commands = CredentialCommands(time.monotonic)
    commands.secret(asked)

    assert "canary" not in repr(asked)
    assert "canary" not in repr(commands._known)
