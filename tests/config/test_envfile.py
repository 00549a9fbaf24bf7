"""`.env` beside the configuration: what it says, what is wrong with it, and who wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from balancer.config import Config, ConfigError, envfile, load

FILE = """\
providers:
  - {name: a, type: anthropic, auth_value: "${A_KEY}"}
model_routes: {"*": [{provider: a}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "providers.yaml"
    path.write_text(FILE)
    return path


def read(file: Path, text: str | bytes, mode: int = 0o600, **env: str) -> Config:
    beside = envfile.beside(file)
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    beside.chmod(mode)
    return load(file, env)


WRITTEN = {
    "A_KEY=from-the-file": "from-the-file",
    "export A_KEY=from-the-file": "from-the-file",
    "A_KEY = from-the-file # a comment": "from-the-file",
    "A_KEY='from the file #1'": "from the file #1",
    'A_KEY="from-the-file"\n': "from-the-file",
    "\ufeffA_KEY=from-the-file\r\nB=2\r\n": "from-the-file",
    "B=the-file\nA_KEY=from-${B}": "from-the-file",
    "A_KEY=${C_KEY}": "from-the-environment",
    "A_KEY=${NOT_SET:-from-the-default}": "from-the-default",
    "A_KEY=from$the$file": "from$the$file",
}


@pytest.mark.parametrize(("text", "secret"), WRITTEN.items())
def test_a_variable_is_taken_from_the_file(file: Path, text: str, secret: str) -> None:
    assert read(file, text, C_KEY="from-the-environment").providers["a"].secret == secret


def test_the_real_environment_wins(file: Path) -> None:
    assert (
        read(file, "A_KEY=from-the-file", A_KEY="from-the-environment").providers["a"].secret == "from-the-environment"
    )


def test_nothing_of_it_reaches_the_environment_of_the_process(file: Path) -> None:
    read(file, "A_KEY=from-the-file")

    assert "A_KEY" not in os.environ


def test_only_references_are_filled_from_it(file: Path) -> None:
    assert read(file, "A_KEY=from-the-file\nPORT=1\nLOG_LEVEL=DEBUG\n").settings.port == 8080


WRONG: dict[str, tuple[str | bytes, str]] = {
    "a line without a value": ("A_KEY=long-enough-key\nB\n", ".env:2: warning: this line can't be read"),
    "a quote that is not closed": ("A_KEY=long-enough-key\n\nB='x\n", ".env:3: warning: this line can't be read"),
    "a variable twice": (
        "A_KEY=long-enough-key\nA_KEY=long-enough-key\n",
        ".env:2: warning: 'A_KEY' stands on line 1 already",
    ),
    "quotes inside": ("A_KEY=\"'long-enough-key'\"\n", ".env:1: warning: the key stands in quotation marks"),
    "a scheme": ("# mine\n\nA_KEY=Bearer long-enough-key\n", ".env:3: warning: a word stands before the key"),
    "not UTF-8": (b"B=1\nA_KEY=\xff\n", ".env:2: warning: the file is not UTF-8 text"),
    "too large": ("#" * (envfile.MAX_BYTES + 1), ".env: warning: the file is larger than"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_line(file: Path, case: str) -> None:
    text, expected = WRONG[case]
    try:
        said = [str(warning) for warning in read(file, text).warnings]
    except ConfigError as error:
        said = str(error).splitlines()

    assert [line for line in said if line.startswith(expected)], said


def test_a_variable_that_is_missing_is_told_with_what_can_t_be_read_in_the_file(file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(file, "B=1\nA_KEY\n")

    assert [str(problem)[:50] for problem in error.value.problems] == [
        "providers.yaml:2: the environment variable A_KEY i",
        ".env:2: warning: this line can't be read; a variab",
    ]


def test_a_nearly_right_name_is_suggested(file: Path) -> None:
    with pytest.raises(ConfigError, match="A_KEY is not set; did you mean A_KYE"):
        read(file, "A_KYE=long-enough-key")


def test_a_file_that_others_can_read_is_warned_of(file: Path) -> None:
    (warning,) = read(file, "A_KEY=long-enough-key", mode=0o644).warnings

    assert str(warning) == ".env: warning: others on this machine can read the keys in it; run: chmod 600 .env"


def test_a_file_for_something_else_is_not_our_business(file: Path) -> None:
    assert read(file, "B=1\nsomething else\n", mode=0o644, A_KEY="long-enough-key").warnings == ()


def test_a_folder_of_that_name_is_no_file_of_variables(file: Path) -> None:
    envfile.beside(file).mkdir()

    assert load(file, {"A_KEY": "long-enough-key"}).warnings == ()


def test_a_changed_value_is_a_changed_configuration(file: Path) -> None:
    file.write_text(FILE.replace("anthropic,", 'anthropic, base_url: "${URL:-https://a.example}",'))
    first = read(file, "A_KEY=long-enough-key")

    assert read(file, "A_KEY=long-enough-key\n# no change\n").digest == first.digest
    assert read(file, "A_KEY=another-long-key").digest != first.digest
    assert read(file, "A_KEY=long-enough-key\nURL=https://b.example").digest != first.digest
