"""The arguments of a tool call, as servers say them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.dialects.openai.arguments import Arguments, Unusable, arguments

MEANT: dict[str, tuple[str, dict[str, Any]]] = {
    "an object": ('{"a": 1}', {"a": 1}),
    "nothing": ("", {}),
    "null": ("null", {}),
    "garbage": ("{a", {"__unparsedToolInput": {"raw": "{a", "len": 2}}),
    "a list": ("[1]", {"__unparsedToolInput": {"raw": "[1]", "len": 3}}),
    "a string": ('"x"', {"__unparsedToolInput": {"raw": '"x"', "len": 3}}),
    "encoded twice": (json.dumps('{"a": 1}'), {"a": 1}),
    "encoded three times": (json.dumps(json.dumps('{"a": 1}')), {"a": 1}),
    "a raw line break in a string that was encoded": (json.dumps('{"a": "x\ny"}'), {"a": "x\ny"}),
}


@pytest.mark.parametrize(("written", "expected"), MEANT.values(), ids=MEANT)
def test_arguments_are_always_an_object(written: str, expected: dict[str, Any]) -> None:
    assert arguments(written) == expected


def told(*fragments: str, held: bool = False) -> str:
    """Return what a client gets of these fragments."""
    args = Arguments(held=held)
    sent = []
    for fragment in fragments:
        args.add(fragment)
        sent.append(args.ready())
    return "".join([*sent, args.rest()])


LS, PWD = '{"command":"ls"}', '{"command":"pwd"}'
MARKED = '{"__unparsedToolInput":{"raw":"[1]","len":3}}'
SAID: dict[str, tuple[list[str], str]] = {
    "at once": ([LS], LS),
    "in fragments": (['{"comm', 'and":', '"ls"', "}"], LS),
    "nothing": (["", " "], ""),
    "an empty object": (["{}"], "{}"),
    "an empty object first": (["{}", '{"command":', '"ls"}'], LS),
    "an empty object first, with white space": (["{}", "", " ", LS], LS),
    "an empty object first, in one fragment": (["{}" + LS], LS),
    "an empty object first, twice": (["{}", "{}", LS], LS),
    "whole once more": ([LS, LS], LS),
    "whole once more in pieces": ([LS, LS[:5], LS[5:]], LS),
    "whole, then something else": ([LS, PWD], PWD),
    "in fragments, then whole": ([LS[:5], LS[5:], LS], LS),
    "in fragments, then whole, otherwise written": ([LS[:5], LS[5:], '{ "command": "ls" }'], LS),
    "white space behind": ([LS, "\n", " "], LS + ""),
    "a raw line break": (['{"command":"a\nb"}'], '{"command":"a\\nb"}'),
    "a raw tab, in fragments": (['{"command":"a', "\t", 'b\x01"}'], '{"command":"a\\tb\\u0001"}'),
    "line breaks between the members": (['{\n"command":\n', '"ls"\n}'], '{\n"command":\n"ls"\n}'),
    "brackets and quotes in strings": (['{"a":"}{', '\\"', '\\', '"}"', "}"], '{"a":"}{\\"\\"}"}'),
    "encoded twice": ([json.dumps(LS)[:4], json.dumps(LS)[4:]], LS),
    "a list": (["[1", "]"], MARKED),
    "no JSON, at once": (["{'a'}"], '{"__unparsedToolInput":{"raw":"{\'a\'}","len":5}}'),
}  # fmt: skip


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("fragments", "expected"), SAID.values(), ids=SAID)
def test_what_a_client_gets(fragments: list[str], expected: str, held: bool) -> None:
    got = told(*fragments, held=held)

    assert got == expected or json.loads(got) == json.loads(expected)


UNUSABLE: dict[str, list[str]] = {
    "cut short": ['{"command":"rm -rf /tm'],
    "something else, when some of it was sent": [LS[:5], LS[5:], PWD],
    "cut short the second time": [LS[:5], LS[5:], PWD[:5]],
    "no JSON, in fragments": ['{"a"', ": }"],
    "more behind its end": [LS[:5], LS[5:], "</tool_call>"],
}


@pytest.mark.parametrize("fragments", UNUSABLE.values(), ids=UNUSABLE)
def test_what_no_client_may_run_is_a_failure(fragments: list[str]) -> None:
    with pytest.raises(Unusable):
        told(*fragments)


LATE: dict[str, tuple[list[str], bool]] = {
    "nothing": (["", " "], True),
    "the same": ([LS[:4], LS[4:]], True),
    "other arguments": ([PWD], False),
    "a rest": (['"x"}'], False),
}


@pytest.mark.parametrize("first", [[LS], [LS[:5], LS[5:]]], ids=["at once", "in fragments"])
@pytest.mark.parametrize(("late", "fine"), LATE.values(), ids=LATE)
def test_what_comes_after_the_end(first: list[str], late: list[str], fine: bool) -> None:
    args = Arguments()
    for fragment in first:
        args.add(fragment)
        args.ready()
    args.rest()
    for fragment in late:
        args.add(fragment)

    if fine:
        args.check()
    else:
        with pytest.raises(Unusable):
            args.check()


def test_real_arguments_after_an_empty_object_that_was_sent_are_a_failure() -> None:
    args = Arguments()
    args.add("{}")
    assert args.rest() == "{}"
    args.add(LS)

    with pytest.raises(Unusable):
        args.check()


def test_the_end_of_an_object_is_held_back_and_nothing_else() -> None:
    args = Arguments()
    sent = []
    for fragment in ('{"command":', '"l', 's"}'):
        args.add(fragment)
        sent.append(args.ready())

    assert sent == ['{"command":', '"l', ""]


strings = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.dictionaries(
    strings, st.recursive(strings | st.integers() | st.none(), lambda x: st.lists(x, max_size=3) | st.dictionaries(strings, x, max_size=3))
)  # fmt: skip


@given(values, st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_any_object_cut_anywhere_is_the_same_object(value: dict[str, Any], cuts: list[int], plain: bool) -> None:
    said = json.dumps(value, ensure_ascii=plain)
    edges = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]

    assert json.loads(told(*(said[start:end] for start, end in pairwise(edges)))) == value


def test_arguments_cost_in_proportion_to_their_length() -> None:
    """Fragments that all look like an end are looked at once each."""
    args = Arguments()
    args.add('{"a":"')
    for _ in range(50_000):
        args.add("}")
    args.add('"}')

    assert args.whole
