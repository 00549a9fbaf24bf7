"""What an address means."""

from __future__ import annotations

import pytest

from balancer.config.addresses import is_loopback

LOOPBACK = [
    "localhost", "LOCALHOST", "localhost.", "app.localhost", "a.b.localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]",
    "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "[::ffff:7f00:1]", "::1%lo",
]  # fmt: skip
OTHERS = [
    "", ".", "localhost.example", "notlocalhost", "0.0.0.0", "::", "10.0.0.1", "192.168.1.5", "128.0.0.1", "126.255.255.255",
    "::2", "::ffff:10.0.0.1", "::127.0.0.1", "fe80::1%lo", "127.0.0.1.example", "127.0.0.1 x", "example.com",
]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", OTHERS, ids=[host or "empty" for host in OTHERS])
def test_other_machines(host: str) -> None:
    assert not is_loopback(host)
