"""Which errors tell of a shortage of this machine."""

from __future__ import annotations

import errno
import socket

import pytest
from shortages import no_descriptors

from balancer.policy import shortage

KINDS = {
    errno.EMFILE: "descriptors",
    errno.ENFILE: "descriptors",
    errno.ENOMEM: "memory",
    errno.ENOBUFS: "memory",
    errno.EADDRNOTAVAIL: "ports",
    errno.ENOSPC: "disk",
    errno.EDQUOT: "disk",
    errno.ECONNREFUSED: None,
    errno.ENOENT: None,
    errno.EACCES: None,
}


@pytest.mark.parametrize("number", KINDS)
def test_a_number_tells_what_is_short(number: int) -> None:
    error = OSError(number, "in words")

    assert shortage.kind_of(error) == KINDS[number]
    assert shortage.kind_of(OSError(f"Multiple exceptions: {error}, {error}")) == KINDS[number]


def test_memory_and_threads_have_errors_of_their_own() -> None:
    assert shortage.kind_of(MemoryError()) == "memory"
    assert shortage.kind_of(RuntimeError("can't start new thread")) == "threads"
    assert shortage.kind_of(RuntimeError("else")) is None
    assert shortage.kind_of(ValueError("[Errno 24]")) is None
    assert shortage.kind_of(None) is None


def test_what_a_name_lookup_says_when_there_are_no_descriptors_is_no_kind_by_itself() -> None:
    assert shortage.kind_of(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")) is None


def test_the_system_s_own_error_is_recognised() -> None:
    with no_descriptors(), pytest.raises(OSError, match="open files") as raised:
        socket.socket()
    assert shortage.kind_of(raised.value) == "descriptors"
