"""The usual slips of the pen in YAML: what the parser stumbled over, its cause, and the line of the cause.

A parser's mark stands where reading became impossible, often behind the slip and sometimes lines behind it. So the
text around the mark is looked at for the usual causes, whatever the parser said; its own words are the last resort.
Nothing of the file is quoted here but words of the configuration.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import yaml

from balancer.config.quoting import Message, Theirs
from balancer.config.words import SECTIONS

_BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line for the parser."""

_INDENTATION = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\u00ad\u180e]*")
_KEY = re.compile(r"(?P<dashes>(?:- +)*)(?P<key>[^\s:#'\"{}\[\],&*!|>%@`-][^\s:]*|\"[^\"]*\"|'[^']*')[ ]*:(?= |$)")
_NO_BLANK = re.compile(r"(?:- +)*(?P<key>[A-Za-z][A-Za-z0-9_]*):(?P<value>[^\s:/].*)")
_NO_BLANK_AFTER_DASH = re.compile(r"-[A-Za-z\"'{\[*]")
_ASSIGNMENT = re.compile(r"(?:- +)*(?:export )?[A-Za-z][A-Za-z0-9_.-]* *=")
_GOT = re.compile(r"(?:but (?:got|found)) (?:'(?P<a>.*)'|\"(?P<b>.*)\")")
_SPECIAL = "*&!%@`|>?"

_MEANING = {
    "*": "refers to an alias",
    "&": "begins an anchor",
    "!": "begins a tag",
    "%": "begins a directive",
    "|": "begins a text of several lines",
    ">": "begins a text of several lines",
    "[": "begins a list",
    "{": "begins a mapping",
    "]": "ends a list",
    "}": "ends a mapping",
    ",": "separates the entries of a list",
}


@dataclass(frozen=True, slots=True)
class Slip:
    """A cause, and the line that it is on, from 1."""

    line: int
    message: Message


@dataclass(slots=True)
class _Scene:
    """What the parser said, and the text that it read. Lines and columns are from 0 here."""

    lines: list[str]
    problem: str
    context: str
    line: int
    column: int
    begun: tuple[int, int] | None
    """Where that which could not be read begins, if the parser says so."""
    opened: list[tuple[str, int, int]] = field(default_factory=list)

    def text(self, line: int) -> str:
        return self.lines[line] if 0 <= line < len(self.lines) else ""

    def at(self, place: tuple[int, int]) -> str:
        return self.text(place[0])[place[1] : place[1] + 1]

    @property
    def got(self) -> str:
        found = _GOT.search(self.problem)
        return (found["a"] or found["b"] or "") if found else ""

    def above(self, line: int) -> int | None:
        """Return the nearest line above `line` that says something."""
        return next((n for n in range(line - 1, -1, -1) if _code(self.text(n)).strip()), None)


def explain(text: str, error: yaml.MarkedYAMLError) -> Slip:
    """Return the most likely cause of `error`."""
    mark = error.problem_mark or error.context_mark
    begun = error.context_mark
    scene = _Scene(
        _BREAKS.split(text),
        error.problem or "",
        error.context or "",
        mark.line if mark else 0,
        mark.column if mark else 0,
        (begun.line, begun.column) if begun else None,
    )
    for cause in _CAUSES:
        slip = cause(scene)
        if slip is not None:
            return slip
    return Slip(scene.line + 1, _unknown(scene))


def odd_indentation(text: str) -> list[Slip]:
    """Return the lines that are indented by something that only looks like spaces."""
    return [slip for number, line in enumerate(_BREAKS.split(text)) if (slip := _odd_indentation(number, line))]


def odd_character(text: str) -> str | None:
    """Return the name of a character in `text` that looks like nothing or like a quotation mark, if there is one."""
    for character in text:
        if character in "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb":
            return "a typographic quotation mark, which is part of the text in YAML; use \" or '"
        if _is_odd_blank(character):
            return f"{_called(character)}, which looks like a space or like nothing; type it anew"
    return None


def missing_blank(text: str) -> Message | None:
    """Say that a space is missing in a line or a key as it was read: `type:anthropic`, `-name`."""
    code = text.strip()
    if (found := _NO_BLANK.match(code)) and not found["value"].startswith("//"):
        return "a space is missing after the colon of ", Theirs(found["key"])
    if _NO_BLANK_AFTER_DASH.match(code):
        return ("a space is missing after the '-'",)
    if _ASSIGNMENT.match(code):
        return ("this is written with a colon: 'key: value', not 'key = value'",)
    return None


def _code(line: str) -> str:
    """Return a line without its comment, roughly: a '#' in quotes is rare."""
    found = re.search(r"(?:^|\s)#", line)
    return line[: found.start()] if found else line


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_odd_blank(character: str) -> bool:
    return character not in " \t\n\r" and (character.isspace() or unicodedata.category(character) == "Cf")


def _called(character: str) -> str:
    name = unicodedata.name(character, "a control character").lower()
    return f"the character U+{ord(character):04X} ({name})"


def _spaces(count: int) -> str:
    return "1 space" if count == 1 else f"{count} spaces"


def _odd_indentation(number: int, line: str) -> Slip | None:
    found = _INDENTATION.match(line)
    head = found[0] if found else ""
    rest = line[len(head) :]
    if not rest or rest.startswith("#"):
        return None
    if "\t" in head:
        return Slip(number + 1, ("a tab in the indentation: YAML takes only spaces; put spaces in its place",))
    odd = next((c for c in head if _is_odd_blank(c) and not (number == 0 and c == "\ufeff")), None)
    if odd is None:
        return None
    return Slip(
        number + 1,
        (f"{_called(odd)} in the indentation, which YAML does not take as a space; put spaces in its place",),
    )


# The causes, in the order in which they are looked for


def _indented_oddly(scene: _Scene) -> Slip | None:
    return next((slip for n in range(scene.line + 1) if (slip := _odd_indentation(n, scene.text(n)))), None)


def _tab(scene: _Scene) -> Slip | None:
    if scene.at((scene.line, scene.column)) != "\t":
        return None
    behind = not scene.text(scene.line)[scene.column :].strip()
    where = "at the end of the line: remove it" if behind else "here: YAML takes only spaces; put a space in its place"
    return Slip(scene.line + 1, (f"a tab {where}",))


def _quotes(scene: _Scene) -> Slip | None:
    """Look for a quotation mark that is not closed on its line, or too early."""
    for number in range(min(scene.line, len(scene.lines) - 1) + 1):
        slip = _walk(scene, number)
        if slip is not None:
            return slip
    return None


def _walk(scene: _Scene, number: int) -> Slip | None:
    line, place = scene.text(number), 0
    may_begin = True
    while place < len(line):
        character = line[place]
        if character in "\"'" and may_begin:
            end = _end_of_quote(line, place)
            if end is None:
                return Slip(number + 1, (f"a quotation mark ({character}) is opened on this line and not closed",))
            if slip := _after_quote(line, end, number, character):
                return slip
            place, may_begin = end, False
        elif character == "#" and (place == 0 or line[place - 1] in " \t"):
            break
        elif character in "{[" and (may_begin or scene.opened):
            scene.opened.append((character, number, place))
        elif character in "}]" and scene.opened:
            scene.opened.pop()
            may_begin = False
        elif character in ",:-?" and (scene.opened or line[place + 1 : place + 2] in ("", " ")):
            may_begin = True
        elif character not in " \t":
            may_begin = False
        may_begin = may_begin or character in "{[,"
        place += 1
    return None


def _end_of_quote(line: str, begin: int) -> int | None:
    """Return the index of the mark that closes the one at `begin`."""
    mark, place = line[begin], begin + 1
    while place < len(line):
        if line[place] == "\\" and mark == '"':
            place += 1
        elif line[place] == mark:
            if mark == "'" and line[place + 1 : place + 2] == "'":
                place += 1
            else:
                return place
        place += 1
    return None


def _after_quote(line: str, end: int, number: int, mark: str) -> Slip | None:
    rest = line[end + 1 :]
    behind = rest.lstrip(" ")
    if not behind or behind[0] in ",:]}\t" or (behind[0] == "#" and rest != behind):
        return None
    inside = "write it twice inside: ''" if mark == "'" else 'write \\" inside'
    return Slip(number + 1, (f"text follows the closing quotation mark ({mark}); a mark within quotes: {inside}",))


def _brackets(scene: _Scene) -> Slip | None:
    if not scene.problem.startswith("expected ',' or") or scene.begun is None:
        return None
    number = scene.begun[0]
    bracket = scene.at(scene.begun)
    closing = {"{": "}", "[": "]"}.get(bracket, "")
    line = scene.text(scene.line)
    if scene.got in ("{", "["):
        if line[: scene.column].endswith("$"):
            return Slip(scene.line + 1, ('inside { } and [ ] a reference stands in quotes: "${NAME}"',))
        return Slip(
            scene.line + 1, (f"a '{scene.got}' inside a value {_MEANING[scene.got]} in YAML; put the value in quotes",)
        )
    begins_there = scene.line > number and _KEY.match(line.lstrip(" ")) is not None
    continues = _code(scene.text(number)).rstrip().endswith(("{", "[", ","))
    if scene.got.startswith("<stream") or scene.got.startswith("<document") or (begins_there and not continues):
        return Slip(number + 1, (f"a '{bracket}' is opened on this line and not closed by '{closing}'",))
    return Slip(
        scene.line + 1, (f"a comma is missing between the entries inside {bracket} {closing}, or a '{closing}'",)
    )


def _special(scene: _Scene) -> Slip | None:
    """A character with a meaning of its own, at the beginning of a value or key that is not in quotes."""
    told = ("alias", "anchor", "tag", "directive", "block scalar")
    place = (scene.line, scene.column)
    if scene.begun is not None and any(word in scene.context for word in told):
        place = scene.begun
    elif not ("alias" in scene.problem or "cannot start any token" in scene.problem or "node content" in scene.problem):
        return None
    character = scene.at(place)
    if not character or character not in _SPECIAL + "[]{},":
        return None
    line = scene.text(place[0])
    meaning = _MEANING.get(character, "has a meaning of its own")
    if character == "*" and not line[: place[1]].strip(" -?") and ":" in line[place[1] :]:
        return Slip(
            place[0] + 1, ('put the pattern in quotes, as in "*": or "*sonnet*": (a bare \'*\' refers to an alias)',)
        )
    return Slip(
        place[0] + 1, (f"a '{character}' at the beginning of a value {meaning} in YAML; put the value in quotes",)
    )


def _escape(scene: _Scene) -> Slip | None:
    if "escape" not in scene.problem and "escape" not in scene.context:
        return None
    return Slip(
        scene.line + 1, ("a backslash within \"...\" begins an escape; write '...' instead, or two backslashes",)
    )


def _second_document(scene: _Scene) -> Slip | None:
    if "another document" not in scene.problem and "document separator" not in scene.problem:
        return None
    return Slip(scene.line + 1, ("a second document begins here (---); the file holds one",))


def _no_colon(scene: _Scene) -> Slip | None:
    if "could not find expected ':'" not in scene.problem or scene.begun is None:
        return None
    return _why_no_key(scene, scene.begun[0])


def _why_no_key(scene: _Scene, number: int) -> Slip:
    code = _code(scene.text(number))
    if odd := next((c for c in code if _is_odd_blank(c)), None):
        return Slip(number + 1, (f"{_called(odd)} stands here where YAML wants a space; put a space in its place",))
    if message := missing_blank(code):
        return Slip(number + 1, message)
    return Slip(number + 1, ("a colon is missing on this line: 'key: value'",))


def _second_colon(scene: _Scene) -> Slip | None:
    """A colon that can't be: inside a plain value, or because of the line above."""
    if "mapping values are not allowed" not in scene.problem:
        return None
    line = scene.text(scene.line)
    if ": " in _after_dashes(line[: scene.column]):
        return Slip(
            scene.line + 1, ("the value holds a colon that is followed by a space or the end; put the value in quotes",)
        )
    above = scene.above(scene.line)
    if above is None:
        return None
    code = _code(scene.text(above))
    found = _KEY.match(code.lstrip(" "))
    if found is None:
        return _why_no_key(scene, above)
    wanted = _indentation(code) + len(found["dashes"])
    if _indentation(line) > wanted:
        return Slip(
            scene.line + 1,
            (
                f"this line is indented further than line {above + 1}, whose key has a value already; "
                f"keys of one entry begin at the same column: {_spaces(wanted)} here",
            ),
        )
    return None


def _after_dashes(text: str) -> str:
    return re.sub(r"\A(?:- +)+", "", text.lstrip(" "))


def _indentation_fits(scene: _Scene) -> Slip | None:
    if "<block end>" not in scene.problem:
        return None
    line = scene.text(scene.line)
    indented = _indentation(line)
    code = line.lstrip(" ")
    found = _KEY.match(code)
    if found and found["key"] in SECTIONS and indented and not found["dashes"]:
        return Slip(scene.line + 1, (Theirs(found["key"]), " must begin at the left margin, without spaces before it"))
    if scene.got == "-":
        return Slip(
            scene.line + 1,
            (
                "a '-' begins an entry of a list, but this line stands among the keys of an entry; "
                "leave the '-' out, or move it to where the list's other '-' stand",
            ),
        )
    is_entry = code.startswith("- ")
    like = _line_like(scene, is_entry)
    if like is None or like[1] == indented:
        return None
    above, wanted = like
    return Slip(
        scene.line + 1,
        (
            f"this line is indented by {_spaces(indented)}, which fits no line above; "
            f"{'the list' if is_entry else 'the entry'} on line {above + 1} wants {_spaces(wanted)}",
        ),
    )


def _line_like(scene: _Scene, is_entry: bool) -> tuple[int, int] | None:
    """Return the nearest line above of the same kind, and at which column its key or dash begins."""
    for number in range(scene.line - 1, -1, -1):
        code = _code(scene.text(number))
        bare = code.lstrip(" ")
        if is_entry and bare.startswith("- "):
            return number, _indentation(code)
        if not is_entry and (found := _KEY.match(bare)):
            return number, _indentation(code) + len(found["dashes"])
    return None


def _not_yaml(scene: _Scene) -> Slip | None:
    if "<document start>" not in scene.problem:
        return None
    return Slip(
        scene.line + 1,
        ("this line does not go on with what stands above; the file holds 'providers:', 'model_routes:', 'settings:'",),
    )


_CAUSES: tuple[Callable[[_Scene], Slip | None], ...] = (
    _indented_oddly,
    _tab,
    _quotes,
    _brackets,
    _special,
    _escape,
    _second_document,
    _no_colon,
    _second_colon,
    _indentation_fits,
    _not_yaml,
)


def _unknown(scene: _Scene) -> Message:
    said = "".join(_harmless(scene.problem))
    return (
        "this can't be read as YAML; look at the indentation, the quotes and the brackets of this line "
        f"and of the one above (the parser says: {said})",
    )


def _harmless(said: str) -> Iterator[str]:
    """Return the parser's words without what it quotes from the file: all but its own names of tokens."""
    for index, piece in enumerate(re.split(r"['\"]", said)):
        if index % 2 == 0:
            yield piece
        elif re.fullmatch(r"<[a-z ]+>|[^A-Za-z0-9]", piece):
            yield f"'{piece}'"
        else:
            yield "'...'"
