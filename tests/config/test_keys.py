"""Named keys in providers.yaml: what is taken, and what is said of the rest, with its line."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from balancer import config
from balancer.config import Config, ConfigError

KEY = "V9q3XrT7bLw2Zk8NfYp4HsJd6"
HEAD = """providers:
  - {name: main-one, type: simulated}
model_routes: {"*": [{provider: main-one}]}
settings:
  auth:
    keys:
"""
FIRST = HEAD.count("\n") + 1


def parsed(*entries: str, **env: str) -> Config:
    return config.parse(HEAD + "".join(f"      - {entry}\n" for entry in entries), "providers.yaml", env)


def said(*entries: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(*entries)
    return [str(problem) for problem in caught.value.problems]


def test_a_string_and_keys_with_names_stand_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}-in-a-file\n")
    file.chmod(0o600)
    found = parsed(
        f"{KEY}-plain",
        "{name: alice, key: '${ALICE}'}",
        f"{{name: bob, key_sha256: {hashlib.sha256(KEY.encode()).hexdigest().upper()}, rights: [admin]}}",
        f"{{name: carol, key_file: {file}, models: [sonnet, 'x-*'], providers: [main-one], rpm: 5, expires: 2030-01-02}}",
        ALICE=f"{KEY}-alice",
    )
    alice, bob, carol = found.named_keys

    assert found.settings.auth.plain_keys == (f"{KEY}-plain",)
    assert found.warnings == ()
    assert (alice.name, alice.digest) == ("alice", hashlib.sha256(f"{KEY}-alice".encode()).digest())
    assert alice.rights == {"messages", "read"}
    assert (bob.digest, bob.rights, bob.secret) == (hashlib.sha256(KEY.encode()).digest(), frozenset({"admin"}), "")
    assert carol.secret == f"{KEY}-in-a-file"
    assert (carol.models, carol.providers, carol.rpm) == (("*sonnet*", "x-*"), frozenset({"main-one"}), 5)
    assert carol.expires == pytest.approx(1893628799.999999)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("1970-01-01", 86399.999999),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01 00:01:00Z", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
    ],
)
def test_a_date_holds_to_its_end_and_a_time_is_of_utc_where_it_names_no_zone(text: str, expires: float) -> None:
    (key,) = parsed(f'{{name: a, key: {KEY}, expires: "{text}"}}').named_keys

    assert key.expires == pytest.approx(expires)


WRONG = {
    f"{{key: {KEY}}}": "missing required key 'name'",
    "{name: a}": "exactly one of key, key_sha256 and key_file; it has none of them",
    f"{{name: a, key: {KEY}, key_file: x}}": "it has key and key_file",
    f"{{name: a, key: {KEY}, rights: [write]}}": "must be one of 'messages', 'read' or 'admin'",
    f"{{name: a, key: {KEY}, rights: []}}": "rights must not be empty",
    f"{{name: a, key: {KEY}, right: [read]}}": "did you mean 'rights'?",
    "{name: a, key: short}": "at least 8 characters",
    "{name: a, key_sha256: abc}": "64 hexadecimal digits",
    "{name: a, key_file: /nowhere/at/all}": "key_file can't be read: No such file or directory",
    f"{{name: a, key: {KEY}, expires: tomorrow}}": "expires must be a date or a time",
    f"{{name: a, key: {KEY}, expires: 2027-13-01}}": "expires must be a date or a time",
    f"{{name: a, key: {KEY}, providers: [main-two]}}": "there is no provider 'main-two'; did you mean 'main-one'?",
    f"{{name: a, key: {KEY}, rpm: 0}}": "rpm must be at least 1",
    f"{{name: a, key: {KEY}, max_in_flight: many}}": "max_in_flight must be a whole number",
    f"{{name: sk-ant-api03-{KEY}, key: {KEY}x}}": "this looks like a key, and it would be shown",
    "12345678": "must be a string",
}


@pytest.mark.parametrize(("entry", "words"), WRONG.items(), ids=[words[:40] for words in WRONG.values()])
def test_what_is_wrong_is_said_with_its_line_and_no_key(entry: str, words: str) -> None:
    problems = said(f"{KEY}-plain", entry)

    assert len(problems) == 1
    assert problems[0].startswith(f"providers.yaml:{FIRST + 1}:")
    assert words in problems[0]
    assert KEY not in problems[0]


def test_names_and_keys_are_unique() -> None:
    twice = said(f"{{name: team, key: {KEY}1}}", f"{{name: team, key: {KEY}2}}", f"{{name: b, key: {KEY}1}}")

    assert f"providers.yaml:{FIRST + 1}: a key named 'team' stands on line {FIRST} already" in twice[0]
    assert f"providers.yaml:{FIRST + 2}: the same key stands in another entry on line {FIRST}" in twice[1]
    assert "the same key" in said(KEY, f"{{name: a, key: {KEY}}}")[0]


def test_a_key_that_can_be_guessed_is_told_as_elsewhere() -> None:
    entry = "{name: a, key: password-1}"
    (warning,) = parsed(entry).warnings
    with pytest.raises(ConfigError) as caught:
        config.parse(f"{HEAD}      - {entry}\n  host: 0.0.0.0\n", "providers.yaml", {})

    assert "this key looks like one from an example" in str(warning)
    assert "this key can be guessed" in str(caught.value)


def test_a_file_that_others_can_read_is_warned_of_and_a_changed_one_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    entry = f"{{name: team, key_file: {file}}}"
    before = parsed(entry)
    file.write_text(f"{KEY}-new")
    after = parsed(entry)

    assert "others on this machine can read key_file; run chmod 600 on it" in str(before.warnings[0])
    assert before.digest != after.digest
    assert list(config.changes(before, after)) == ["key 'team' changed"]


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"x" * 20_000])
def test_a_file_that_holds_no_key_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)

    (problem,) = said(f"{{name: team, key_file: {file}}}")
    assert re.search("key_file (must hold|.*it must have) the key", problem)
