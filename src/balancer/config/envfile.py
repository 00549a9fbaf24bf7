"""`.env` beside the configuration: values for `${NAME}`, where the real environment has none. Never exported."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from dotenv.variables import parse_variables

from balancer.config import paths
from balancer.config.problem import Problem
from balancer.config.quoting import Quoting, Theirs

NAME = ".env"
MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a `.env` says."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """Lines that say nothing, and whether others can read the file: warnings."""


def beside(path: Path) -> Path:
    """Return where the `.env` of a configuration file is looked for."""
    return path.with_name(NAME)


@dataclass(frozen=True, slots=True)
class EnvBytes:
    """A `.env` as it was on disk."""

    data: bytes | None = field(default=None, repr=False)
    """None: there is no such file, or it could not be read."""
    mode: int = 0
    error: str = ""
    """Why it could not be read."""


def taken(path: Path) -> EnvBytes:
    """Return what the file holds now. Raises nothing."""
    try:
        return EnvBytes(path.read_bytes(), path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return EnvBytes()
    except OSError as error:
        return EnvBytes(error=error.strerror or type(error).__name__)


def read(path: Path, env: Mapping[str, str]) -> EnvFile:
    """Return what the file says; nothing if there is none. Values may refer to others, and to `env`, by `${NAME}`."""
    return parsed(taken(path), env, path)


def parsed(file: EnvBytes, env: Mapping[str, str], path: Path | None = None) -> EnvFile:
    """Return what a file says that was read before, from `path`."""
    if file.error:
        return EnvFile(problems=(_problem(0, f"the file can't be read: {file.error}"),))
    data = file.data
    if data is None:
        return EnvFile()
    if len(data) > MAX_BYTES:
        return EnvFile(problems=(_problem(0, f"the file is larger than {MAX_BYTES} bytes, so it is left out"),))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return EnvFile(problems=(_problem(line, "the file is not UTF-8 text; save it as UTF-8"),))
    return _parsed(text, env, paths.open_to_others(file.mode, path) if path is not None else "")


def _parsed(text: str, env: Mapping[str, str], others_can: str) -> EnvFile:
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    quoting = Quoting()
    for binding, line in _bindings(text):
        if binding.error or (binding.key and binding.value is None):
            problems.append(
                _problem(line, "this line can't be read; a variable is written NAME=value, or NAME='value'")
            )
        elif binding.key and binding.value is not None:
            key = binding.key
            if key in values:
                said = quoting.say(Theirs(key), f" stands on line {lines[key]} already; this line counts, remove one")
                problems.append(_problem(line, said))
            known = {**values, **env}
            values[key] = "".join(atom.resolve(known) for atom in parse_variables(binding.value))
            lines[key] = line
    if values and others_can:
        problems.append(_problem(0, f"others on this machine can {others_can} the keys in it; run: chmod 600 {NAME}"))
    return EnvFile(values, lines, tuple(problems))


def _bindings(text: str) -> Iterator[tuple[Binding, int]]:
    """Return each statement with its line; the parser counts the blank lines before it to it."""
    for binding in parse_stream(io.StringIO(text)):
        whole = binding.original.string
        before = whole[: len(whole) - len(whole.lstrip())]
        yield binding, binding.original.line + before.count("\n")


def _problem(line: int, message: str) -> Problem:
    return Problem(NAME, line, message, warning=True)
