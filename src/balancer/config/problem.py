"""What is wrong with a file, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    file: str
    line: int
    """From 1; 0 where no line is meant: a file that is not there, a variable of the environment."""
    message: str
    warning: bool = False
    """It can be lived with."""
    variable: str = ""
    """The variable of the environment that is missing, if that is all that is wrong."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {'warning: ' if self.warning else ''}{self.message}"


class ConfigError(Exception):
    """The configuration can't be used. `problems` holds all that is wrong, by file, in the order of lines.

    `watched` are other files that it names: a change of one may mend it.
    """

    def __init__(self, problems: list[Problem], watched: Iterable[Path] = ()) -> None:
        self.watched = tuple(watched)
        files = list(dict.fromkeys(problem.file for problem in problems))
        self.problems = sorted(problems, key=lambda problem: (files.index(problem.file), problem.line))
        super().__init__("\n".join(map(str, self.problems)))


class Unreadable(ConfigError):
    """The file can't be read at present. What it says is not known."""
