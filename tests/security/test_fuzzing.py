"""Every parser of text from outside, fed with what hypothesis makes of good samples: nothing unexpected is raised.

In `make test` always the same examples, a few seconds in all. `make fuzz SECONDS=600` goes on with others for so long.
"""

from __future__ import annotations

import itertools
import os
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from security.parsers import PARSERS, Parser

EXAMPLES = 150
SECONDS = float(os.environ.get("BALANCER_FUZZ_SECONDS", "0"))
"""How long to go on with other examples, all parsers together."""
CORPUS: dict[str, list[str]] = tomllib.loads(Path(__file__).with_name("corpus.toml").read_text())
WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"0\r\n\r\n", b"ffffffffffffffff", b"-1", b"1e999", b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n", b"HTTP/1.1 ", b"data: ", b"event: ", b"[DONE]", b"[" * 2000, b'{"a":' * 2000, b'"', b"\\", b"\\ud800", b"null",
    b"{}", b"[]", b"NaN", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"!!python/object:os.system ", b"${", b"x" * 5000, b" " * 300, b"message_stop",
]  # fmt: skip

Change = tuple[int, int, bytes]
CHANGES = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 40), st.sampled_from(WORDS) | st.binary(max_size=12)), max_size=6
)
CUTS = st.lists(st.integers(0, 6000), max_size=6)


def changed(sample: bytes, changes: Sequence[Change]) -> bytes:
    for at, gone, put in changes:
        at %= len(sample) + 1
        sample = sample[:at] + put + sample[at + gone :]
    return sample


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def feed(parser: Parser, data: bytes, cuts: Sequence[int]) -> None:
    began = time.process_time()
    seen = parser.read(pieces(data, cuts))
    if parser.cut:
        assert parser.read([data]) == seen, "it hangs on where the bytes are cut"
    assert time.process_time() - began < 5


@pytest.mark.parametrize(("name", "parser"), PARSERS.items(), ids=PARSERS)
@pytest.mark.timeout(60 + SECONDS)
def test_a_parser_raises_nothing_unexpected(name: str, parser: Parser) -> None:
    for text in CORPUS.get(name, []):
        data = text.encode("latin-1")
        feed(parser, data, ())
        feed(parser, data, range(len(data)))

    fuzz(parser, settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None))
    ends_at = time.monotonic() + SECONDS / len(PARSERS)
    while time.monotonic() < ends_at:  # a run begins where chance has it begin
        fuzz(parser, settings(max_examples=500, database=None, deadline=None))


def fuzz(parser: Parser, how: settings) -> None:
    @settings(how, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(parser.samples), CHANGES, CUTS)
    def fuzzed(sample: bytes, changes: list[Change], cuts: list[int]) -> None:
        feed(parser, changed(sample, changes), cuts)

    fuzzed()


def test_every_case_that_was_found_has_its_parser() -> None:
    assert set(CORPUS) - set(PARSERS) == set()
