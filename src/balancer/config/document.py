"""A YAML file as plain values, with the line of each: no tags, no bombs, no key twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import msgspec
import yaml
from yaml.constructor import SafeConstructor

from balancer.config import slips
from balancer.config.credential_commands import Command, CredentialCommands
from balancer.config.loading import composed, dismantled
from balancer.config.problem import ConfigError, Problem
from balancer.config.quoting import Message, Part, Quoting, Theirs, nearest

Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 16 * 1024 * 1024
"""Room for 1,000 providers and 10,000 routes, several times over."""
MAX_NODES = 50_000
"""Aliases can make a small file stand for a very large one: it may have so many values, or more if it is larger."""
CHARS_PER_NODE = 2
"""A value that is written out takes so much text at least, so that no file without aliases has too many."""

AT_ONCE = 1000
"""So many places are forgotten in one go."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_TEXT = "tag:yaml.org,2002:str"
_AS_TEXT = (_TEXT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_SCALARS = (*_AS_TEXT, *(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null")))
_TAGGED: Message = ("a '!' at the beginning of a value marks a tag in YAML; put the value in quotes",)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is wrong with the text itself."""

    path: Path
    message: Message
    variable: str = ""
    """The one that the environment lacks: without weight where a provider is not enabled."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Where a plain value stands in the text, from `begin` to `end`."""

    begin: int
    end: int
    is_plain: bool
    """Without quotation marks."""


class Document:
    """The values of a file, and where they stand."""

    def __init__(
        self,
        file: str,
        env: Mapping[str, str],
        folder: FilePath | None = None,
        credential_commands: CredentialCommands | None = None,
    ) -> None:
        self.file = file
        self.folder = folder if folder is not None else FilePath.cwd()
        """Where the names of other files begin, and where programs are run."""
        self.files: list[FilePath] = []
        """Other files that it names, of secrets and certificates: a change of one is a change of the configuration."""
        self.commands: dict[str, Command] = {}
        """The programs that print the keys of providers, by the providers' names."""
        self.credential_commands = credential_commands
        """None: they are not run."""
        self.value: Any = None
        self.text = ""
        self.lines: dict[Path, int] = {(): 1}
        self.spans: dict[Path, Span] = {}
        self.notes: list[Note] = []
        self.variables: dict[Path, list[str]] = {}
        """The variables of the environment that a value was made with."""
        self.expanded: list[str] = []
        """What was put in for them, and the secrets from elsewhere."""
        self.quoting = Quoting()
        self.env = env
        self._nodes = 0
        self._nodes_max = MAX_NODES
        self._scalars = SafeConstructor()

    def line(self, path: Path) -> int:
        """Return the line of the value at `path`, or of the nearest thing around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def problem(self, path: Path, *parts: Part, warning: bool = False) -> Problem:
        """Return what is wrong at `path`: the door that every message about the file passes."""
        return Problem(self.file, self.line(path), self.quoting.say(*parts), warning)

    def took(self, secret: str) -> None:
        """Show this nowhere; another one makes the configuration another one."""
        self.quoting.withhold(secret)
        self.expanded.append(secret)

    def behind(self, path: Path) -> str:
        """Return what follows a plain value on its last line: blanks, a comment."""
        span = self.spans.get(path)
        return re.split("[\r\n]", self.text[span.end : span.end + 400], maxsplit=1)[0] if span else ""

    def read(self, text: str | bytes) -> None:
        """Fill the document. Raises `ConfigError` where there is nothing to go on with."""
        if len(text) > MAX_BYTES:
            raise self._refusal(1, f"the file is larger than {MAX_BYTES} bytes")
        self.text = self._decoded(text) if isinstance(text, bytes) else text
        self.quoting.take_text(self.text)
        self._nodes_max = max(MAX_NODES, len(self.text) // CHARS_PER_NODE)
        try:
            root = composed(self.text)
            if root is None:
                raise self._refusal(1, "the file is empty; it needs providers and model_routes")
            self.value = self._take(root, ())
            dismantled(root)
        except yaml.MarkedYAMLError as error:
            slip = slips.explain(self.text, error)
            raise self._refusal(slip.line, *slip.message) from None
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            raise self._refusal(line, "a control character, which YAML does not allow; remove it") from None
        except RecursionError:
            raise self._refusal(1, "the values are nested too deeply") from None
        self.quoting.take_values(self.value)

    def close(self) -> None:
        """Forget where everything stands, a part at a time: to let go of all at once would take long."""
        for places in (self.lines, self.spans):
            while places:
                for _ in range(min(len(places), AT_ONCE)):
                    places.popitem()

    def _refusal(self, line: int, *parts: Part) -> ConfigError:
        return ConfigError([Problem(self.file, line, self.quoting.say(*parts))])

    def _decoded(self, data: bytes) -> str:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self._refusal(1, "the file is UTF-16 text; save it as UTF-8")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise self._refusal(line, "the file is not UTF-8 text; save it as UTF-8") from None

    def _take(self, node: yaml.Node, path: Path) -> Any:
        self._count(node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in _PLAIN:
            self.notes.append(Note(path, _TAGGED))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self._take(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        start, end = node.start_mark, node.end_mark
        is_plain = not node.style
        if is_plain and end.line > start.line:
            self._look_for_keys_in(node, path)
        self.spans.setdefault(path, Span(start.index, end.index, is_plain))
        if node.tag not in _SCALARS:
            self.notes.append(Note(path, _TAGGED))
            return None
        if node.tag in _AS_TEXT or ":" in node.value:  # 12:30 is no number of seconds
            return self._expanded(node.value, path)
        try:
            return self._scalars.construct_object(node)
        except ValueError:
            self.notes.append(Note(path, _TAGGED))
            return None

    def _look_for_keys_in(self, node: yaml.ScalarNode, path: Path) -> None:
        """A line without a colon or with none that counts goes on with the value above it: seldom what is meant."""
        begin, end = node.start_mark, node.end_mark
        for offset, line in enumerate(self.text[begin.index : end.index].splitlines()):
            message = slips.missing_blank(line)
            if message is not None and (offset == 0 or path[-1:] != ("answer",)):
                continued = (*path, "goes on")
                self.lines[continued] = begin.line + offset + 1
                self.notes.append(Note(continued, message))
                return

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > self._nodes_max:
            raise self._refusal(node.start_mark.line + 1, f"more than {self._nodes_max} values")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        merged = [value for key, value in node.value if key.tag == _MERGE]
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self.notes.append(Note(path, _not_a_key(self.text, node)))
                continue
            if key in taken:
                first = self.lines[(*path, key)]
                again = (*path, key, "again")
                self.lines[again] = line
                words = Theirs(key), f" stands here a second time; the first is on line {first}; remove one of them"
                self.notes.append(Note(again, words))
                continue
            place = (*path, key)
            self.lines.setdefault(place, line)
            taken[key] = self._take(value_node, place)
        for value_node in merged:  # `<<: *defaults`: what stands here itself wins
            self._merge(taken, value_node, path)
        return taken

    def _merge(self, taken: dict[str, Any], node: yaml.Node, path: Path) -> None:
        """Put the keys of the mapping `node` into `taken`, where they are not there already."""
        self._count(node)
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._merge(taken, item, path)
        elif isinstance(node, yaml.MappingNode):
            for key, value in self._mapping(node, path).items():
                taken.setdefault(key, value)
        else:
            self.notes.append(Note(path, ("'<<' takes over the keys of a mapping: <<: *name",)))

    def _expanded(self, text: str, path: Path) -> str:
        """Put the environment's values in the place of `${NAME}`."""

        def value(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            parts = _NAME.fullmatch(match[1] or "")
            if parts is None:
                self.notes.append(Note(path, _broken_reference(match[0])))
                return ""
            name, default = parts[1], parts[2]
            found = self.env.get(name)
            if found:
                self.quoting.withhold(found)
            if default is not None:
                found = found or default
            elif found is None:
                self.notes.append(Note(path, self._not_set(name, path), variable=name))
                return ""
            self.variables.setdefault(path, []).append(name)
            self.expanded.append(found)
            return found

        return _REFERENCE.sub(value, text) if "${" in text else text

    def _not_set(self, name: str, path: Path) -> Message:
        guess = nearest(name, self.env, 0.8)
        hint: tuple[Part, ...] = ("; did you mean ", Theirs(guess, bare=True), "?") if guess else ()
        remedy = "; set it, or write it into the file .env beside this one"
        if path[-1:] == ("auth_value",):
            remedy += ", or say enabled: false"
        elif path[:2] != ("settings", "auth"):
            remedy += ", or give a default: ${NAME:-default}"
        return "the environment variable ", Theirs(name, bare=True), " is not set", *hint, remedy


def _broken_reference(text: str) -> Message:
    if text == "${":
        return ("a reference to the environment is not closed; it is written ${NAME} or ${NAME:-default}",)
    return ("a reference to the environment is written ${NAME} or ${NAME:-default}; a name has letters, digits and _",)


def _not_a_key(text: str, node: yaml.MappingNode) -> Message:
    if text.startswith("{{", node.start_mark.index):
        return ('{{ }} is not replaced here; a reference to the environment is written "${NAME}"',)
    return ("a key must be a plain word; put the value in quotes, if it is meant to be one",)
