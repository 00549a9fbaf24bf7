"""Patterns with `*` and `?`, indexed: a name is compared with the few that may match it, however many there are."""

from __future__ import annotations

import enum
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias


class _Place(enum.Enum):
    """Where a run of literal characters stands in every name that its pattern matches."""

    BEGIN = enum.auto()
    END = enum.auto()
    ANYWHERE = enum.auto()


_Run: TypeAlias = tuple[_Place, str]
_Ranks: TypeAlias = list[int]
"""Places of patterns in the sequence."""


class PatternIndex:
    """Finds the first pattern of a sequence that matches a name.

    Each pattern is filed under one run of its literal characters, the one that it shares with the fewest others. A
    name shows which runs it has: a look for each length of run that begins or ends a pattern, and one for each place in
    the name and each length of the runs that may stand anywhere.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        runs = [list(_runs(pattern)) for pattern in patterns]
        shared = Counter(run for of_one in runs for run in of_one)
        filed: dict[_Place, dict[str, _Ranks]] = {place: defaultdict(list) for place in _Place}
        for rank, of_one in enumerate(runs):
            place, text = min(of_one, key=lambda run: (shared[run], -len(run[1])), default=(_Place.BEGIN, ""))
            filed[place][text].append(rank)
        self._patterns = patterns
        self._compiled: dict[int, re.Pattern[str]] = {}
        self._begins = _by_length(filed[_Place.BEGIN])
        self._ends = _by_length(filed[_Place.END])
        self._anywhere = _by_length(filed[_Place.ANYWHERE])

    def first(self, name: str) -> int | None:
        """Return the place in the sequence of the first pattern that matches the whole of `name`; None: none does."""
        length = len(name)
        found: _Ranks = []
        for size, filed in self._begins:
            if (ranks := filed.get(name[:size])) is not None:
                found += ranks
        for size, filed in self._ends:
            if size <= length and (ranks := filed.get(name[length - size :])) is not None:
                found += ranks
        for size, filed in self._anywhere:
            shown = {name[at : at + size] for at in range(length - size + 1)}
            for run in filed.keys() & shown:
                found += filed[run]
        for rank in sorted(found):
            pattern = self._compiled.get(rank)
            if pattern is None:  # most are never needed
                pattern = self._compiled[rank] = compiled(self._patterns[rank])
            if pattern.fullmatch(name):
                return rank
        return None


def is_pattern(text: str) -> bool:
    """Say whether `text` stands for more than one name."""
    return "*" in text or "?" in text


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression whose work grows with the length of the name and no faster.

    What stands between two stars is looked for once, at the first place where it fits: another place further on
    would leave less of the name for the rest.
    """
    first, *others = (re.escape(part).replace(r"\?", ".") for part in re.sub(r"\*+", "*", pattern).split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def _runs(pattern: str) -> Iterator[_Run]:
    """Return the runs of literal characters of a pattern, each with its place."""
    for found in re.finditer(r"[^*?]+", pattern):
        if found.start() == 0:
            yield _Place.BEGIN, found[0]
        elif found.end() == len(pattern):
            yield _Place.END, found[0]
        else:
            yield _Place.ANYWHERE, found[0]


def _by_length(filed: dict[str, _Ranks]) -> list[tuple[int, dict[str, _Ranks]]]:
    sizes: defaultdict[int, dict[str, _Ranks]] = defaultdict(dict)
    for run, ranks in filed.items():
        sizes[len(run)][run] = ranks
    return sorted(sizes.items())
