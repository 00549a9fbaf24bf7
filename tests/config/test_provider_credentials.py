"""A provider's key from a file or a program: what is taken, and what is said with its line when it can't be."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from balancer.config import Config, ConfigError, load
from balancer.config.credential_commands import CredentialCommands
from balancer.config.reading import parse

KEY = "sk-canary-V9q3XrT7bLw2Zk8N"
TEXT = """\
providers:
  - name: a
    type: anthropic
    base_url: https://api.example.com
    {given}
model_routes:
  "*": [{{provider: a}}]
"""


def loaded(folder: Path, given: str, **env: str) -> Config:
    path = folder / "providers.yaml"
    path.write_text(TEXT.format(given=given))
    path.chmod(0o600)
    return load(path, env, CredentialCommands(time.monotonic))


def written(folder: Path, text: str = KEY + "\n", mode: int = 0o600) -> Path:
    file = folder / "key"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    "name", ["key", "{folder}/key", "${{KEYS}}/key", "${{CREDENTIALS_DIRECTORY}}/key", "credential:key"]
)
def test_a_key_in_a_file_is_the_providers_key(name: str, tmp_path: Path) -> None:
    file = written(tmp_path)
    env = {"KEYS": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = loaded(tmp_path, f'auth_value_file: "{name.format(folder=tmp_path)}"', **env)

    assert config.providers["a"].secret == KEY
    assert config.warnings == ()
    assert config.watched == (file,)
    assert "canary" not in repr(config)


def test_another_key_in_the_file_is_another_configuration(tmp_path: Path) -> None:
    file = written(tmp_path)
    before = loaded(tmp_path, "auth_value_file: key")
    file.write_text(KEY + "-new")
    after = loaded(tmp_path, "auth_value_file: key")

    assert after.providers["a"].secret == KEY + "-new"
    assert before.digest != after.digest


@pytest.mark.live
@pytest.mark.parametrize("given", ["[{python}, -c, \"print('{key}')\"]", "'{python} -c \"print(''{key}'')\"'"])
def test_a_program_prints_the_providers_key(given: str, tmp_path: Path) -> None:
    config = loaded(tmp_path, "auth_value_command: " + given.format(python=sys.executable, key=KEY))

    assert config.providers["a"].secret == KEY
    assert config.commands["a"].folder == tmp_path
    assert "canary" not in repr(config)


def test_without_being_told_to_no_program_is_run(tmp_path: Path) -> None:
    text = TEXT.format(given=f"auth_value_command: [{sys.executable}, -c, \"open('ran', 'w')\"]")
    config = parse(text, "providers.yaml", {}, tmp_path / "providers.yaml")

    assert config.providers["a"].secret == ""
    assert list(config.commands) == ["a"]
    assert not (tmp_path / "ran").exists()


def test_a_provider_that_is_not_enabled_needs_none_of_it(tmp_path: Path) -> None:
    ran = f"auth_value_command: [{sys.executable}, -c, \"open('ran', 'w')\"]"
    more = "enabled: false\n    "

    for given in (f"{more}auth_value_file: none-there", f"{more}{ran}"):
        with pytest.raises(ConfigError, match="no provider is enabled") as caught:
            loaded(tmp_path, given)
        assert len(caught.value.problems) == 1
    assert not (tmp_path / "ran").exists()


WRONG = {
    "auth_value_file: none-there": "auth_value_file can't be read: No such file or directory",
    "auth_value_file: empty": "auth_value_file is empty; it must have the key and nothing else",
    "auth_value_file: two": "auth_value_file has more than one line",
    "auth_value_file: passthrough": "auth_value_file must have a key; 'passthrough' is written as auth_value",
    "auth_value_file: credential:x": "CREDENTIALS_DIRECTORY is not set",
    f"auth_value_file: {KEY}": "auth_value_file can't be read",
    f"auth_value_command: [no-such-program, {KEY}]": "auth_value_command can't be run: No such file or directory",
    f"auth_value_command: 'echo {KEY} | cat'": "there is no shell",
    f"auth_value_command: \"echo '{KEY}\"": "a quotation mark is not closed",
    "auth_value_command: []": "name a program",
    "auth_value_command: ''": "name a program",
    "auth_value_command: [\"\"]": "name a program",
    "auth_value_command: 5": "auth_value_command",
    f"auth_value_command: {{run: {KEY}}}": "auth_value_command must be a list",
    "auth_value_command: ['false']": "auth_value_command failed: it ended with status 1",
    f"auth_value_command: [printf, '{KEY}\\n{KEY}']": "auth_value_command printed what is no key: it has more than one line",
    f"{{auth_value: {KEY}, auth_value_file: key}}": "give one of auth_value and auth_value_file",
    "{auth_value_command: ['true'], auth_value_file: key}": "give one of auth_value_file and auth_value_command",
    "api_key_file: key": "did you mean 'auth_value_file'?",
    "apiKeyHelper: key": "did you mean 'auth_value_command'?",
}  # fmt: skip


@pytest.mark.parametrize("given", WRONG)
def test_what_is_wrong_is_told_with_its_line_and_without_the_key(given: str, tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text(f"{KEY}\n{KEY}")
    (tmp_path / "passthrough").write_text("passthrough")
    lines = given.strip("{}").replace(", auth_value_file", "\n    auth_value_file") if given[0] == "{" else given
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, lines)

    assert WRONG[given] in str(caught.value)
    assert "canary" not in str(caught.value)
    assert all(problem.line >= 5 for problem in caught.value.problems)


def test_a_file_that_others_can_read_or_change_is_warned_of(tmp_path: Path) -> None:
    written(tmp_path, mode=0o644)
    (warning,) = loaded(tmp_path, "auth_value_file: key").warnings

    assert str(warning) == (
        "providers.yaml:5: warning: others on this machine can read auth_value_file; run chmod 600 on it"
    )


def test_a_key_of_an_odd_form_is_warned_of_where_it_comes_from(tmp_path: Path) -> None:
    written(tmp_path, f"Bearer {KEY}")
    (warning,) = loaded(tmp_path, "auth_value_file: key").warnings

    assert warning.message.startswith("what auth_value_file has is odd: a word stands before the key")


def test_a_file_that_is_missing_is_watched_nevertheless(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "auth_value_file: later")

    assert caught.value.watched == (tmp_path / "later",)


def test_a_key_that_can_not_be_renewed_stays_and_is_warned_of(tmp_path: Path) -> None:
    now = [0.0]
    commands = CredentialCommands(lambda: now[0])
    path = tmp_path / "providers.yaml"
    path.write_text(TEXT.format(given=f"auth_value_command: {json.dumps(['cat', 'key'])}"))
    path.chmod(0o600)
    file = written(tmp_path)
    before = load(path, {}, commands)
    file.unlink()
    now[0] += 1000
    after = load(path, {}, commands)

    assert (before.providers["a"].secret, after.providers["a"].secret) == (KEY, KEY)
    assert before.digest == after.digest
    assert [str(warning) for warning in after.warnings] == [
        "providers.yaml:5: warning: auth_value_command failed: it ended with status 1; "
        "the key that it printed before is still used"
    ]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("$(pass show anthropic)", "auth_value_command"),
        ("file:/run/secrets/a", "auth_value_file"),
        ("credential:a", "auth_value_file"),
    ],
)
def test_what_is_meant_for_another_key_is_said(value: str, named: str, tmp_path: Path) -> None:
    (warning,) = loaded(tmp_path, f'auth_value: "{value}"').warnings

    assert f"named by {named}" in warning.message
