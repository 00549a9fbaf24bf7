"""The documentation as tests read it: pages, fenced blocks, links, headings, prose, and commands in shell."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "bench").glob("*.md")])

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s)#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Where its fence stands."""
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Block]:
    """Return all blocks of a language, on all pages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def blocks_of(page: Path) -> list[Block]:
    """Return a page's blocks in their order."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[2],
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
        )
        for found in _FENCE.finditer(text)
    ]


def without_blocks(page: Path) -> str:
    """Return a page's text with its blocks blanked, so that lines keep their numbers."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())


def prose(text: str) -> str:
    """Return what people read as sentences: without code, addresses and comments for machines."""
    without = re.sub(r"<!--.*?-->", "", _CODE.sub("", text))
    return re.sub(r"\]\([^)]*\)|https?://\S+", "", without)


def inline_code(page: Path) -> list[str]:
    return [code.strip("`") for code in _CODE.findall(without_blocks(page))]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return _LINK.findall(without_blocks(page))


def anchors(page: Path) -> set[str]:
    """Return the names under which a page's headings can be linked to, as forges make them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(without_blocks(page)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{words}-{seen[words]}" if seen[words] else words)
        seen[words] += 1
    return found


def commands(shell: str) -> Iterator[list[str]]:
    """Yield every simple command in a piece of shell, word by word, without assignments and redirections."""
    joined = shell.replace("\\\n", " ")
    for inner in re.findall(r"\$\(([^()]*)\)", joined):
        yield from commands(inner)
    for line in _COMMENT.sub("", joined).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        lexer.commenters = ""
        yield from _simple([*lexer, ";"])


def _simple(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    redirected = False
    for word in words:
        if set(word) <= set(";|&"):
            if command:
                yield command
            command = []
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        elif command or not re.match(r"\w+=", word):
            command.append(word)
