"""Where connections to providers may lead."""

from __future__ import annotations

import ipaddress

import pytest

from balancer.policy import egress

REFUSED = [
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fe80::1", "fe80::1%eth0", "fd00:ec2::254",
    "fd20:ce::254", "::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:db8::5efe:a9fe:a9fe", "64:ff9b::6464:64c8",
]  # fmt: skip
DIALED = [
    "127.0.0.1", "::1", "::", "0.0.0.0", "10.0.0.1", "192.168.1.5", "8.8.8.8", "169.253.255.255", "fd00::1", "2606:4700::1111",
    "::ffff:10.0.0.1", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_nobody_connects_to_a_metadata_service(address: str) -> None:
    assert egress.is_refused(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", DIALED)
def test_other_addresses_may_be_dialed(address: str) -> None:
    assert not egress.is_refused(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("64:ff9b::7f00:1", False),
        ("10.0.0.1", False),
    ],
)
def test_which_addresses_are_this_machines_own(address: str, here: bool) -> None:
    assert egress.is_here(ipaddress.ip_address(address)) is here


def test_which_names_can_only_mean_this_machine() -> None:
    assert all(map(egress.is_named_here, ("localhost", "LOCALHOST.", "a.localhost")))
    assert not any(map(egress.is_named_here, ("notlocalhost", "localhost.example", "127.0.0.1")))


def test_a_host_that_is_an_address_is_known_with_and_without_brackets() -> None:
    assert egress.address_of("[::1]") == egress.address_of("::1") == ipaddress.ip_address("::1")
    assert egress.address_of("a.example") is egress.address_of("1.2.3") is None


ALLOWED = {
    "the host": ("api.example.com", "api.example.com", 443, True),
    "in other letters": ("API.Example.com", "api.EXAMPLE.com.", 443, True),
    "another host": ("api.example.com", "xapi.example.com", 443, False),
    "below": ("*.example.com", "a.b.example.com", 443, True),
    "not the top itself": ("*.example.com", "example.com", 443, False),
    "no end of a name": ("*.example.com", "evilexample.com", 443, False),
    "everybody": ("*", "any.example", 1, True),
    "everybody with an address": ("*", "10.0.0.1", 1, True),
    "with its port": ("api.example.com:8443", "api.example.com", 8443, True),
    "at another port": ("api.example.com:8443", "api.example.com", 443, False),
    "any host at a port": ("*:443", "a.example", 443, True),
    "an address": ("10.0.0.7", "10.0.0.7", 80, True),
    "an address in brackets": ("[fd00::7]", "fd00::7", 80, True),
    "a network": ("10.0.0.0/8", "10.9.9.9", 80, True),
    "a network and an address that is written as IPv6": ("10.0.0.0/8", "::ffff:10.0.0.1", 80, True),
    "outside the network": ("10.0.0.0/8", "11.0.0.1", 80, False),
    "a name is in no network": ("10.0.0.0/8", "10.example", 80, False),
    "an address is below no name": ("*.0.0.1", "10.0.0.1", 80, False),
    "as it is sent": ("b\u00fccher.example", "xn--bcher-kva.example", 443, True),
    "as it is read": ("xn--bcher-kva.example", "B\u00dcCHER.example", 443, True),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_pattern_names_hosts(case: str) -> None:
    pattern, host, port, allowed = ALLOWED[case]

    assert egress.allows((pattern,), host, port) is allowed
    assert egress.allows(("none.example", pattern), host, port) is allowed
    assert not egress.allows((), host, port)


@pytest.mark.parametrize(
    "text", ["api.example.com", "*.example.com", "*", "*:443", "a:1", "10.0.0.0/8", "::1", "[::1]", "10.0.0.1"]
)
def test_what_can_be_a_pattern(text: str) -> None:
    assert egress.is_pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://a.example",
        "a.example/v1",
        "api.*",
        "10.*",
        "*example.com",
        "a b",
        "a:b",
        "10.0.0.0/99",
        "1.2.3",
        "*.0.0.1",
    ],
)
def test_what_can_be_none(text: str) -> None:
    assert not egress.is_pattern(text)
