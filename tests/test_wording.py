"""The documentation and the help texts use the field's words. The list is in docs/glossary.md; here is what it replaces."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from pages import DOCS, PAGES, ROOT, name, prose, without_blocks

from balancer import cli

INSTEAD = {
    r"gate keys?": "client API key",
    r"rests|resting|rested|(?:first|long|longest|ordinary|whole) rest\b": "cooldown",
    r"(?:is|are|be) left alone": "is in cooldown",
    r"behaves? again|answers? well\b": "recovered",
    r"substance": "first content, first token",
    r"twins?": "identical request in flight",
    r"drills?": "fault injection",
    r"(?:made|told) to (?:fail|misbehave)": "fault injection",
    r"in force|(?:take|takes|taken) over (?:at once|by)|takes over a change": "applied, reloaded",
    r"masked|unmasked": "hidden",
    r"lawful": "valid",
    r"(?:is|are) (?:ill|well(?=\s*(?:[.,;:)]|and|again|while|$)))": "failing, healthy",
    r"\bover `?settings\.": "overrides settings",
    r"belongs? into": "must be listed in",
    r"floors?": "layer",
    r"the house|the driver": "architecture, request loop",
    r"(?:knows|takes) (?:a|the|this|that|no) (?:field|parameter)": "supports, accepts",
}
"""What is not to be written, and what the field says."""

ELSEWHERE = {
    "docs/architecture.md",
    "docs/modules.md",
    "docs/testing.md",
    "CONTRIBUTING.md",
    "AGENTS.md",
    "CHANGELOG.md",
    "bench/README.md",
}
"""Pages for people who work on the program itself."""

FOR_USERS = [page for page in PAGES if name(page) not in ELSEWHERE]


def found(text: str) -> list[str]:
    """Return what stands in `text` and should not, each with the word to use."""
    return [
        f"{match[0]!r}: say {word!r}"
        for pattern, word in INSTEAD.items()
        for match in re.finditer(rf"\b(?:{pattern})(?!\w)", text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", FOR_USERS, ids=name)
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    assert found(prose(without_blocks(page))) == []


def _help() -> dict[str, str]:
    parser = cli.build()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {"": parser.format_help(), **{name: one.format_help() for name, one in commands.choices.items()}}


@pytest.mark.parametrize("command", _help())
def test_help_texts_use_the_words_of_the_field(command: str) -> None:
    # The command is called drill; its own page may say so.
    text = re.sub(r"(?:balancer |settings\.|\{|,|^ +)drills?\b", "", _help()[command], flags=re.MULTILINE)

    assert found(text) == []


def test_every_word_of_the_json_and_the_metrics_is_in_the_glossary() -> None:
    glossary = (DOCS / "glossary.md").read_text()
    words = ("resting", "probing", "first_substance_s", "long", "follower", "leader", "retry_budget", "drill", "pinned")

    assert [word for word in words if not re.search(rf"`[^`]*\b{word}\b[^`]*`", glossary)] == []


def test_the_list_finds_what_it_is_for() -> None:
    assert found("A provider rests for 5 s, then it behaves again; gate keys; time to first substance.") != []
    assert found("All the rest is well known; it takes over a second. Everything is in the glossary.") == []
    assert (ROOT / "docs" / "glossary.md").exists()
