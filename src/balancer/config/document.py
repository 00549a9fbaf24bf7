"""A YAML file as plain values, with the line of each: no tags, no bombs, no key twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml

from balancer.config.problem import ConfigError, Problem

Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000
"""Aliases can make a small file stand for a very large one."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class Document:
    """The values of a file, and where they stand."""

    def __init__(self, file: str, env: Mapping[str, str]) -> None:
        self.file = file
        self.value: Any = None
        self.lines: dict[Path, int] = {(): 1}
        self.problems: list[tuple[Path, str]] = []
        """What is wrong with the text itself, by path."""
        self._env = env
        self._nodes = 0
        self._loader: yaml.SafeLoader

    def line(self, path: Path) -> int:
        """Return the line of the value at `path`, or of the nearest thing around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.file, self.line(path), message)

    def read(self, text: str | bytes) -> None:
        """Fill the document. Raises `ConfigError` where there is nothing to go on with."""
        if len(text) > MAX_BYTES:
            raise ConfigError([Problem(self.file, 1, f"the file is larger than {MAX_BYTES} bytes")])
        if isinstance(text, bytes):
            data = text
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                line = data[: error.start].count(b"\n") + 1
                raise ConfigError([Problem(self.file, line, "the file is not UTF-8 text")]) from None
        try:
            self._loader = yaml.SafeLoader(text)
            try:
                root = self._loader.get_single_node()
                if root is None:
                    raise ConfigError([Problem(self.file, 1, "the file is empty")])
                self.value = self._take(root, ())
            finally:
                self._loader.dispose()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise ConfigError([Problem(self.file, line, f"not valid YAML: {error.problem or error.context}")]) from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            words = "nested too deeply" if isinstance(error, RecursionError) else str(error).split("\n", 1)[0]
            raise ConfigError([Problem(self.file, 1, f"not valid YAML: {words}")]) from None

    def _take(self, node: yaml.Node, path: Path) -> Any:
        self._count(node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN:
            self.problems.append((path, f"the tag {node.tag!r} is not allowed: a file holds plain values"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._take(item, (*path, index)) for index, item in enumerate(node.value)]
        value = self._loader.construct_object(node)
        return self._expanded(value, path) if isinstance(value, str) else value

    def _count(self, node: yaml.Node) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError([Problem(self.file, node.start_mark.line + 1, f"more than {MAX_NODES} values")])

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        merged = [value for key, value in node.value if key.tag == _MERGE]
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self.problems.append((path, "a key must be a plain word"))
                continue
            if key in taken:
                first = self.lines[(*path, key)]
                self.lines[(*path, key, "again")] = line
                self.problems.append(
                    ((*path, key, "again"), f"'{key}' stands here a second time; the first is on line {first}")
                )
                continue
            self.lines[(*path, key)] = line
            taken[key] = self._take(value_node, (*path, key))
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
            lines = dict(self.lines)
            for key, value in self._mapping(node, path).items():
                taken.setdefault(key, value)
            self.lines |= lines
        else:
            self.problems.append((path, "'<<' takes over the keys of a mapping: <<: *name"))

    def _expanded(self, text: str, path: Path) -> str:
        """Put the environment's values in the place of `${NAME}`."""

        def value(match: re.Match[str]) -> str:
            if match[0] == "$${":
                return "${"
            parts = _NAME.fullmatch(match[1] or "")
            if parts is None:
                self.problems.append((path, "a reference to the environment is written ${NAME} or ${NAME:-default}"))
                return ""
            found = self._env.get(parts[1])
            if parts[2] is not None:
                return found or parts[2]
            if found is None:
                self.problems.append(
                    (path, f"the environment variable {parts[1]} is not set; set it, or write ${{{parts[1]}:-default}}")
                )
                return ""
            return found

        return _REFERENCE.sub(value, text)
