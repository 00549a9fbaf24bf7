"""HTTP header lines: their type, interned names, and how they are written."""

from __future__ import annotations

import pytest

from balancer import headers
from balancer.headers import collector, written


def test_names_of_headers_are_told_in_lower_case_however_many_there_are() -> None:
    """Those that are remembered, those for which there is no room any more, and those that are too long."""
    into: list[tuple[bytes, bytes]] = []
    on_header = collector(into)
    names = [b"X-Name-%d" % number for number in range(headers.NAMES_MAX + 100)] + [b"X-" + b"L" * 100]
    for name in names * 2:
        on_header(name, b"Value")

    assert into == [(name.lower(), b"Value") for name in names] * 2
    assert len(headers._names) <= headers.NAMES_MAX + 1


def test_a_client_that_makes_up_names_does_not_keep_the_usual_ones_from_being_remembered() -> None:
    into: list[tuple[bytes, bytes]] = []
    on_header = collector(into)
    for number in range(headers.NAMES_MAX * 2):
        on_header(b"made-up-%d" % number, b"")
    for _ in range(2):
        on_header(bytes(bytearray(b"Usual")), b"")

    assert into[-1][0] is into[-2][0]


def test_headers_are_written_a_line_each() -> None:
    assert written(((b"a", b"1"), (b"b", b""), (b"a", b"x: \t\xff"))) == b"a: 1\r\nb: \r\na: x: \t\xff\r\n"
    assert written(()) == b""


@pytest.mark.parametrize("character", [b"\r", b"\n", b"\r\n", b"\0"])
def test_no_header_breaks_out_of_its_line(character: bytes) -> None:
    for line in ((b"a", b"1" + character + b"b: 2"), (b"a" + character, b"1")):
        with pytest.raises(ValueError, match="control character"):
            written(((b"before", b"1"), line, (b"after", b"2")))
