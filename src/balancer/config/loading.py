"""YAML text as a tree of nodes with their places: by libyaml, in slices between which other threads run."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

SLICE_CHARS = 2048
"""So much text is parsed in one go, in about a millisecond. In between Python may let another thread run: the event
loop serves streams while a large file is read, and must not stand still for as long as the whole takes."""


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Keep Python's collector of cycles from looking at what is made meanwhile.

    A large file becomes some 100,000 objects, all of them in use: the collector would look at each again and again, and
    nothing else can run meanwhile, streams included.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Slices(io.TextIOBase):
    """A text that is read in small pieces. Each read is a call of Python code, where threads may switch."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self, size: int | None = -1, /) -> str:
        begin = self._at
        self._at = begin + (SLICE_CHARS if size is None or size < 0 else min(size, SLICE_CHARS))
        return self._text[begin : self._at]


def composed(text: str) -> yaml.Node | None:
    """Return the root of the one document in `text`; None: there is none. Raises as `yaml.SafeLoader` does.

    libyaml takes a tenth of the time. Where it can't read a text, or is not there, PyYAML's own parser has the last
    word, so that whatever is wrong is told in the same words, with the same marks. It has the only word where libyaml
    is more lenient: about tabs.
    """
    if yaml.__with_libyaml__ and "\t" not in text:
        try:
            return _node(yaml.CSafeLoader(_Slices(text)))
        except yaml.YAMLError:
            pass
    return _node(yaml.SafeLoader(text))


def _node(loader: yaml.CSafeLoader | yaml.SafeLoader) -> yaml.Node | None:
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def dismantled(root: yaml.Node) -> None:
    """Let go of the nodes of a document, a few at a time: all at once would hold up other threads, as reading would.

    The tree is of no use afterwards.
    """
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.CollectionNode):
            children, node.value = node.value, []
            for child in children:
                waiting += child if isinstance(child, tuple) else (child,)
