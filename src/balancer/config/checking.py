"""What every part of the reader stands on: the door for its messages, and the models' validation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from balancer.config import slips, words
from balancer.config.document import Document, Path
from balancer.config.model import NAMED, PLAIN, ProviderEntry, TargetEntry
from balancer.config.problem import ConfigError, Problem
from balancer.config.quoting import Message, Part, nearest
from balancer.config.wording import plainly

M = TypeVar("M", bound=BaseModel)

MAX_PROBLEMS = 100
"""Nobody reads more of them at once."""

MISPLACED = (
    "this looks like a key, and it would be shown from here; a key belongs into auth_value (or settings.auth.keys), "
    "better as ${NAME}"
)

LONG_S = 10_000
"""Nobody waits that long for a provider: it is meant as milliseconds, as in other programs."""

_GOES_ON = ("goes on",)
_NOT_IN_THE_FILE = frozenset({"constrained-str", "function-before", PLAIN, NAMED})


_TIMES = (
    "connect_timeout",
    "request_timeout",
    "stream_idle_timeout",
    "stream_stall_timeout",
    "non_streaming_timeout",
)


class Checker:
    """Collects what is wrong with one document, and says so in the order of its lines."""

    def __init__(
        self, document: Document, origins: Mapping[str, tuple[str, int]], folder: FilePath = FilePath()
    ) -> None:
        self.document = document
        self.folder = folder
        """Where the names of certificates begin: the folder of the document."""
        self.files: list[FilePath] = []
        """Files of certificates that the document names: a change of one is a change of the configuration."""
        self.origins = origins
        """File and line of variables that come from another file (`.env`)."""
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        notes = document.notes
        self._spoilt = {note.path for note in notes} | {n.path[:-1] for n in notes if n.path[-1:] == _GOES_ON}
        """Where something is wrong with the text itself: what else is wrong there follows from it."""

    def tell(self, path: Path, *parts: Part) -> None:
        """Say what is wrong at `path`, unless it only follows from what is wrong with the text there."""
        if not any(path[:length] in self._spoilt for length in range(1, len(path) + 1)):
            self.add(path, parts)

    def add(self, path: Path, message: Message, variable: str = "") -> None:
        """Say what is wrong at `path`, whatever else is. `variable`: the one that the environment lacks."""
        problem = replace(self.document.problem(path, *message), variable=variable)
        if problem in self.problems:
            return
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise ConfigError([*self.problems, Problem(self.document.file, 0, "there may be more; mend these first")])

    def warn(self, path: Path, *parts: Part) -> None:
        self.warnings.append(self.document.problem(path, *parts, warning=True))

    def look_at_times(self, entry: BaseModel, at: Path) -> None:
        """Warn of timeouts that can only be meant as milliseconds."""
        for key in _TIMES:
            seconds = getattr(entry, key)
            if seconds is not None and seconds >= LONG_S:
                said = f"{key} is a number of seconds: {seconds:g} are {seconds / 3600:.1f} hours; "
                self.warn((*at, key), f"{said}did you mean {seconds / 1000:g}?")

    def odd_lines(self) -> list[Problem]:
        """Return the lines that are indented by what is no space: then everything else follows from them."""
        found = slips.odd_indentation(self.document.text)
        return [Problem(self.document.file, slip.line, self.document.quoting.say(*slip.message)) for slip in found]

    def guess(self, word: str, known: Iterable[object]) -> Message:
        """Say which of `known` is meant, or which there are: those that may be shown."""
        listed = self.document.quoting.names(known)
        close = nearest(word, listed)
        if close:
            return (f"; did you mean '{close}'?",)
        return (f"; there are: {', '.join(listed)}",) if 0 < len(listed) <= 8 else ()

    def checked(self, model: type[M], value: Any, at: Path, also: Iterable[str] = ()) -> M | None:
        """Return `value` as `model` sees it, or tell all that is wrong with it."""
        if not isinstance(value, dict):
            fault = {"type": "model_type", "input": value}
            self.tell(at, *plainly(fault, model, at))
            return None
        try:
            return model.model_validate(value)
        except ValidationError as error:
            faults = list(self._faults(error, at))
            for where, found in faults:
                if not self._follows(where, found, faults, at):
                    self._tell_fault(where, found, model, at, list(also))
            return None

    def _faults(self, error: ValidationError, at: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        for fault in error.errors(include_url=False):
            where = tuple(part for part in fault["loc"] if part not in _NOT_IN_THE_FILE)
            if fault["type"] != "missing":  # `failure_cooldown: x` stands for a mapping that is not in the file
                while len(where) > 1 and (*at, *where) not in self.document.lines:
                    where = where[:-1]
            yield where, fault

    def _follows(self, where: Path, fault: Mapping[str, Any], faults: Collection[tuple[Path, Any]], at: Path) -> bool:
        """Say whether a key is missing only because it is misspelt, or swallowed by the value above it."""
        if fault["type"] != "missing":
            return False
        around = (*at, *where[:-1])
        if any(path[: len(around)] == around and path != around for path in self._spoilt):
            return True
        wanted = str(where[-1])
        if any(
            isinstance(f.get("input"), dict) and wanted in f["input"] for _, f in faults if f["type"] == "string_type"
        ):
            return True  # it stands below a key that has a value, one step too far to the right
        for other, fault_ in faults:
            if fault_["type"] == "extra_forbidden" and other[:-1] == where[:-1]:
                key = str(other[-1])
                near = nearest(key, (wanted,)) or slips.missing_blank(key) or slips.odd_character(key)
                if near or words.aside(key, ProviderEntry)[0] == wanted or words.aside(key, TargetEntry)[0] == wanted:
                    return True
        return False

    def _tell_fault(
        self, where: Path, fault: Mapping[str, Any], model: type[BaseModel], at: Path, also: Collection[str]
    ) -> None:
        place = (*at, *where)
        given = fault.get("input")
        if fault["type"] == "string_type" and isinstance(given, dict) and given:
            place = (*place, next(iter(given)))  # the line where the indentation is wrong
        message = plainly(fault, model, where, also)
        if fault["type"] == "extra_forbidden":  # wrong whatever its value is
            self.add(place, message)
            return
        if given is None and fault["type"] == "string_type" and self.document.behind(place).strip().startswith("#"):
            message = (*message, ": what follows '#' is a comment; put the value in quotes")
        self.tell(place, *message)
