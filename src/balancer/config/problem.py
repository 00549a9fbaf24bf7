"""What is wrong with a file, each with its place and its remedy."""

from __future__ import annotations

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
    """The configuration can't be used. `problems` holds all that is wrong, by file, in the order of lines."""

    def __init__(self, problems: list[Problem], files: tuple[Path, ...] = ()) -> None:
        told = list(dict.fromkeys(problem.file for problem in problems))
        self.problems = sorted(problems, key=lambda problem: (told.index(problem.file), problem.line))
        self.files = files
        """Other files that the configuration names: what is wrong may be mended there."""
        super().__init__("\n".join(map(str, self.problems)))
