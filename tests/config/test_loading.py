"""YAML by libyaml and by PyYAML's own parser: the same nodes in the same places, and threads that run meanwhile."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import Any

import pytest
import yaml

from balancer.config.loading import collecting_nothing, composed

LARGE = "".join(f"- {{name: p{n}, models: [a, b, 'c'], when: 12}}\n" for n in range(20_000))


def seen(node: yaml.Node | None) -> Any:
    """Return what the rest of the program sees of a node."""
    if node is None:
        return None
    start = (node.start_mark.line, node.start_mark.column, node.start_mark.index)
    if isinstance(node, yaml.MappingNode):
        return node.tag, start, [(seen(key), seen(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return node.tag, start, [seen(inner) for inner in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return node.tag, start, node.value, node.style or None, node.end_mark.line, node.end_mark.index


def by_pyyaml(text: str) -> Any:
    return seen(yaml.SafeLoader(text).get_single_node())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1",
        "a:\n  - 'x\n    y'\n  - |\n    text\n  - >-\n    more",
        "ä: ö€𝒳 # ü\nb: &c [1]\nd: *c\n<<: {e: 2}",
        LARGE[:9000],
    ],
    ids=["nothing", "one", "texts", "beyond ASCII, and anchors", "several slices"],
)
def test_both_parsers_give_the_same_nodes(text: str) -> None:
    assert seen(composed(text)) == by_pyyaml(text)


@pytest.mark.parametrize("text", ["a: [1", "a: 1\n b: 2", "- a\nb: c", "a: *b", "\x00", "a: 'b"])
def test_what_is_wrong_is_told_in_the_words_of_pyyaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as expected:
        by_pyyaml(text)
    with pytest.raises(expected.type) as raised:
        composed(text)
    assert str(raised.value) == str(expected.value)


def test_tabs_are_left_to_pyyaml() -> None:
    with pytest.raises(yaml.YAMLError):
        composed("a:\n  b:\tc")


def test_other_threads_run_while_a_large_file_is_parsed() -> None:
    """The longest time in which another thread gets no turn is a small part of the whole."""
    before, gaps, going = sys.getswitchinterval(), [0.0], True

    def tick() -> None:
        last = time.perf_counter()
        while going:
            time.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    sys.setswitchinterval(0.0005)
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        begin = time.perf_counter()
        with collecting_nothing():
            composed(LARGE)
        whole = time.perf_counter() - begin
    finally:
        going = False
        thread.join()
        sys.setswitchinterval(before)
    assert len(gaps) > 10
    assert max(gaps) < whole / 4


def test_the_collector_is_as_it_was_afterwards() -> None:
    with collecting_nothing():
        assert not gc.isenabled()
        with collecting_nothing():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
