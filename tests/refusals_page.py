"""Writes the table of refusals into docs/resilience.md. `make docs` runs it; a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from balancer.model import Proof, Scope
from balancer.policy.refusal_rows import ROWS, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "resilience.md"
BEGIN, END = "<!-- refusals: written by `make docs` -->\n", "<!-- end of refusals -->\n"

_WHO = {None: "nobody", Scope.PROVIDER: "the provider", Scope.MODEL: "the model there", Scope.COUNTING: "counting"}
_PROOF = {
    Proof.CERTAIN: "",
    Proof.LIKELY: ", unless the same request has failed alike elsewhere",
    Proof.UNSURE: ", once a second, different request is refused alike",
}


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| | refusal | status | known by | class | cools down |"
    yield "|---|---|---|---|---|---|"
    for number, row in enumerate(ROWS, 1):
        who = f"{_WHO[row.scope]}{', long' if row.trouble else ''}{_PROOF[row.proof] if row.scope else ''}"
        yield f"| {number} | {row.name} | {_statuses(row)} | {_known_by(row)} | {row.refusal.value} | {who} |"


def _statuses(row: Row) -> str:
    """Return the statuses, with spans where there are many."""
    spans: list[list[int]] = []
    for status in sorted(row.statuses):
        if spans and status == spans[-1][1] + 1:
            spans[-1][1] = status
        else:
            spans.append([status, status])
    shown = [
        f"{low}" if low == high else f"{low}, {high}" if high == low + 1 else f"{low} to {high}" for low, high in spans
    ]
    return ", ".join(shown).replace("500 to 999", "500 and above") or "any"


def _known_by(row: Row) -> str:
    said = ["type or code"] * bool(row.signs) + ["words"] * (row.words is not None)
    given = [one.value for one in sorted(row.given, key=lambda one: one.value)]
    unless = [f"not where {one.value}" for one in sorted(row.unless, key=lambda one: one.value)]
    return "; ".join([" or ".join(said), *given, *unless] if said else [*given, *unless]) or "its status"


def page(text: str) -> str:
    """Return the page with the table of today."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{chr(10).join(table())}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    sys.exit(0)
