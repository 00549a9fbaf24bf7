"""What an address means."""

from __future__ import annotations

import pytest

from balancer.config.addresses import is_loopback, is_metadata, proxy_url

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


METADATA = [
    "169.254.169.254", "\uff11\uff16\uff19.\uff12\uff15\uff14.\uff11\uff16\uff19.\uff12\uff15\uff14", "169\u3002254\u3002169\u3002254",
    "169\uff0e254\uff61169.254", "[fe80::a9fe:a9fe]", "fe80::1", "169.254.169.254.nip.io", "x-169-254-169-254.sslip.io", "a9fea9fe.nip.io",
    "METADATA.google.internal.", "[fd00:ec2::254]", "2852039166", "0xa9fea9fe", "::ffff:169.254.1.1",
]  # fmt: skip


@pytest.mark.parametrize("host", METADATA, ids=ascii)
def test_where_a_cloud_tells_its_secrets(host: str) -> None:
    assert is_metadata(host)


@pytest.mark.parametrize(
    "host", ["api.anthropic.com", "169.253.1.1", "10.0.0.1.nip.io", "169.254.example", "fd00::1", "b\u00fccher.example"]
)
def test_where_none_does(host: str) -> None:
    assert not is_metadata(host)


def test_a_proxy_is_no_metadata_service_either() -> None:
    assert "metadata" in proxy_url("http://169.254.169.254:80")
    assert proxy_url("http://10.0.0.1:80") == ""
