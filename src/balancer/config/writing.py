"""A provider put into providers.yaml: the new lines are inserted, and every other byte stays as it is.

What is written is rendered by ruamel.yaml, and its positions say where. Its own way of writing a whole file back keeps
the comments, but not the layout of lists and the place of comments between entries.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from balancer.config.presets import Preset, model_for
from balancer.config.words import TIERS

HEAD = """\
# Every key is described in docs/configuration.md. balancer check names every mistake with its line.
# ${NAME} is read from the environment, or from the file .env beside this one.

"""


class CantExtend(Exception):
    """The file is in a form that nothing can be put into; the message says why."""


@dataclass(slots=True)
class Extension:
    """A file with a provider more in it."""

    text: str
    done: list[str] = field(default_factory=list)
    """What was put in, for people."""
    left: list[str] = field(default_factory=list)
    """Routes that could not be extended."""


@dataclass(slots=True)
class _Edit:
    """Text that goes in at a place, instead of what stands from there to `end`."""

    begin: int
    end: int
    text: str


def new_file(entry: Mapping[str, object], preset: Preset, model: str | None = None) -> Extension:
    """Return a configuration with this one provider, and a route for every model."""
    name = str(entry["name"])
    tiers = [tier for tier in preset.models if tier != "default" and model is None]
    routes = [(tier, _target(name, model_for(preset, tier, model), 1)) for tier in (*tiers, "default")]
    lines = [f"{HEAD}providers:\n{_entry(entry, 2)}\nmodel_routes:\n"]
    lines += [f"  {tier}:\n    - {target}\n" for tier, target in routes]
    return Extension("".join(lines), [f"provider '{name}'", *(f"route '{tier}'" for tier, _ in routes)])


def extended(text: str, entry: Mapping[str, object], preset: Preset, model: str | None = None) -> Extension:
    """Return `text` with the provider `entry` at the end of providers, and as the last of every route by pattern.

    Raises `CantExtend`.
    """
    root = YAML(typ="rt").compose(io.StringIO(text))
    if root is None:
        fresh = new_file(entry, preset, model)
        return Extension(f"{text.rstrip()}\n\n{fresh.text}".lstrip("\n"), fresh.done)
    if not isinstance(root, MappingNode):
        raise CantExtend("the file is not a mapping with providers and model_routes")
    writer = _Writer(text, root, entry, preset, model)
    return writer.extended()


class _Writer:
    def __init__(self, text: str, root: MappingNode, entry: Mapping[str, object], preset: Preset, model: str | None):
        self._text = text
        self._root = root
        self._entry = entry
        self._preset = preset
        self._model = model
        self._is_json = bool(root.flow_style)
        self._edits: list[_Edit] = []
        self._sections: list[str] = []
        """What goes to the end of the file."""
        self._result = Extension(text)

    def extended(self) -> Extension:
        self._add_provider()
        self._add_routes()
        if self._sections:
            end = len(self._text.rstrip())
            self._put(end, "".join(f"\n\n{section.rstrip()}" for section in self._sections) + "\n", len(self._text))
        text, line_end = self._text, "\r\n" if "\r\n" in self._text else "\n"
        for edit in sorted(self._edits, key=lambda edit: edit.begin, reverse=True):
            text = text[: edit.begin] + edit.text.replace("\n", line_end) + text[edit.end :]
        self._result.text = text
        return self._result

    # Where things stand

    def _section(self, name: str) -> Node | None:
        return next((value for key, value in self._root.value if key.value == name), None)

    def _behind(self, node: Node, indented: int) -> int:
        """Return the index behind the last line of `node`, and behind the comments that belong to it."""
        end = _end(node)
        while end > 0 and self._text[end - 1].isspace():
            end -= 1
        end = self._line_end(end)
        while (found := re.compile(r"\r?\n( *)#[^\r\n]*").match(self._text, end)) and len(found[1]) > indented:
            end = found.end()
        return end

    def _line_end(self, index: int) -> int:
        found = re.compile(r"\r?\n|\Z").search(self._text, index)
        return found.start() if found else len(self._text)

    # What goes in

    def _put(self, index: int, text: str, end: int | None = None) -> None:
        self._edits.append(_Edit(index, index if end is None else end, text))

    def _fill(self, section: Node, text: str) -> None:
        """Put `text` below the key of a section that is empty: `providers:`, `providers: []`."""
        begin, end = section.start_mark.index, section.end_mark.index
        key = next(key for key, value in self._root.value if value is section)
        colon = self._text.index(":", key.end_mark.index) + 1
        if end > begin and self._text[begin:end].strip():  # [] or {}
            self._put(colon, "", end)
        else:
            end = colon
        self._put(self._line_end(end), f"\n{text.rstrip()}")

    def _flow(self, value: Mapping[str, object]) -> str:
        return json.dumps(value) if self._is_json else _flowing(value)

    def _add_provider(self) -> None:
        section = self._section("providers")
        if isinstance(section, SequenceNode) and section.value and not section.flow_style:
            column = section.start_mark.column
            apart = "\n" if self._are_apart(section) else ""
            self._put(self._behind(section, column), f"\n{apart}{_entry(self._entry, column).rstrip()}")
        elif isinstance(section, SequenceNode) and section.value:
            self._put(_end(section.value[-1]), f", {self._flow(self._entry)}")
        elif self._is_json:
            self._add_to_json("providers", section, f"[{self._flow(self._entry)}]")
        elif section is None:
            self._sections.append(f"providers:\n{_entry(self._entry, 2)}")
        elif isinstance(section, SequenceNode | ScalarNode) and not section.value:
            self._fill(section, _entry(self._entry, 2))
        else:
            raise CantExtend("providers is not a list")
        self._result.done.append(f"provider '{self._entry['name']}'")

    def _are_apart(self, section: SequenceNode) -> bool:
        """Say whether blank lines stand between the entries."""
        if len(section.value) < 2:
            return False
        between = self._text[_end(section.value[-2]) : section.value[-1].start_mark.index]
        return re.search(r"\n[ \t\r]*\n", between) is not None

    def _add_routes(self) -> None:
        section = self._section("model_routes")
        name = str(self._entry["name"])
        if isinstance(section, MappingNode) and section.value:
            keys = [str(key.value) for key, _ in section.value]
            for key, value in section.value:
                if key.value in TIERS or set("*?") & set(str(key.value)):
                    self._add_target(str(key.value), value)
            if not {"default", "*"} & set(keys):
                self._add_default(section, self._target_of("default", 1))
            return
        target = self._target_of("default", 1)
        if self._is_json:
            self._add_to_json("model_routes", section, f'{{"default": [{self._flow(target)}]}}')
        elif section is None:
            self._sections.append(f"model_routes:\n  default:\n    - {_flowing(target)}")
        elif not section.value:
            self._fill(section, f"  default:\n    - {_flowing(target)}")
        else:
            raise CantExtend("model_routes is not a mapping")
        self._result.done.append(f"route 'default' to '{name}'")

    def _add_to_json(self, key: str, section: Node | None, value: str) -> None:
        if section is not None:
            self._put(section.start_mark.index, value, section.end_mark.index)
        elif self._root.value:
            self._put(_end(self._root.value[-1][1]), f', "{key}": {value}')
        else:
            raise CantExtend("the file is empty")

    def _target_of(self, pattern: str, priority: int) -> dict[str, object]:
        model = model_for(self._preset, pattern, self._model)
        return {"provider": self._entry["name"], "model": model, "priority": priority}

    def _add_target(self, pattern: str, node: Node) -> None:
        targets = node.value if isinstance(node, SequenceNode) else [node]
        priority = 1 + max((_priority(target) for target in targets), default=0)
        target = self._target_of(pattern, priority)
        if isinstance(node, SequenceNode) and node.value and not node.flow_style:
            column = node.start_mark.column
            self._put(self._behind(node, column), f"\n{' ' * column}- {_flowing(target)}")
        elif isinstance(node, SequenceNode) and node.value:
            self._put(_end(node.value[-1]), f", {self._flow(target)}")
        elif isinstance(node, MappingNode) and node.flow_style:
            begin, end = node.start_mark.index, node.end_mark.index
            self._put(begin, f"[{self._text[begin:end]}, {self._flow(target)}]", end)
        else:
            self._result.left.append(f"route '{pattern}': add {_flowing(target)} by hand")
            return
        self._result.done.append(f"route '{pattern}': priority {priority}, model {target['model']}")

    def _add_default(self, section: MappingNode, target: Mapping[str, object]) -> None:
        last = section.value[-1][1]
        if section.flow_style:
            key = '"default"' if self._is_json else "default"
            self._put(_end(last), f", {key}: [{self._flow(target)}]")
        else:
            column = section.value[0][0].start_mark.column
            pad = " " * column
            self._put(self._behind(section, column), f"\n{pad}default:\n{pad}  - {_flowing(target)}")
        self._result.done.append(f"route 'default' to '{target['provider']}'")


def _end(node: Node) -> int:
    """Return the index behind the last character of a node that stands in the text."""
    if isinstance(node, MappingNode) and not node.flow_style and node.value:
        return max(max(_end(key), _end(value)) for key, value in node.value)
    if isinstance(node, SequenceNode) and not node.flow_style and node.value:
        return max(_end(item) for item in node.value)
    return int(node.end_mark.index)


def _priority(target: Node) -> int:
    found: list[Any] = (
        [v.value for k, v in target.value if k.value == "priority"] if isinstance(target, MappingNode) else []
    )
    return int(found[0]) if found and re.fullmatch(r"-?[0-9]{1,9}", str(found[0])) else 1


def _target(name: str, model: str, priority: int) -> str:
    return _flowing({"provider": name, "model": model, "priority": priority})


def _flowing(value: Mapping[str, object]) -> str:
    """Return a mapping on one line."""
    return "{" + ", ".join(f"{key}: {_inline(inner)}" for key, inner in value.items()) + "}"


def _inline(value: object) -> str:
    return _flowing(value) if isinstance(value, Mapping) else json.dumps(value)


def _entry(entry: Mapping[str, object], column: int) -> str:
    """Return a provider as an entry of a list whose dashes stand at `column`."""
    block = CommentedMap()
    for key, value in entry.items():
        block[key] = _rendered(value)
    yaml = YAML(typ="rt")
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.width = 10_000
    out = io.StringIO()
    yaml.dump([block], out)
    return "".join(f"{' ' * column}{line}\n" for line in out.getvalue().splitlines())


def _rendered(value: object) -> object:
    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        inner = CommentedMap((key, _rendered(one)) for key, one in value.items())
        inner.fa.set_flow_style()
        return inner
    return value


def save(path: Path, text: str) -> None:
    """Write the whole file or nothing of it. A new one is readable by its owner alone. Raises `OSError`."""
    path = path.resolve()
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def keep_key(path: Path, name: str, key: str) -> None:
    """Write a key into a `.env`, at its end. A new file is readable by its owner alone. Raises `OSError`."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    written = (
        key
        if re.fullmatch(r"[A-Za-z0-9_./+=:@~-]+", key)
        else "'" + key.replace("\\", "\\\\").replace("'", "\\'") + "'"
    )
    save(path, f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}{name}={written}\n")
