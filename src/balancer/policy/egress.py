"""Where connections to providers may lead: which addresses are never dialed, and which hosts are allowed.

A name is judged by the addresses that it leads to, when a connection is opened: what stands in the configuration says
nothing about them. So every way to write or to hide an address (decimal, IDNA, a wildcard name, an IPv4 address inside
an IPv6 one) ends at the same check.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = (
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle
    "fd00:ec2::/32",  # Amazon
    "fd20:ce::254/128",  # Google
)
"""Where clouds tell a machine its secrets, besides every link-local address."""

_METADATA = [ipaddress.ip_network(network) for network in METADATA]

_CARRIERS = (
    ("::ffff:0:0/96", 0),  # mapped
    ("::/96", 0),  # compatible
    ("::ffff:0:0:0/96", 0),  # translated
    ("64:ff9b::/96", 0),  # NAT64
    ("64:ff9b:1::/48", 0),  # NAT64 of one's own
    ("2002::/16", 80),  # 6to4
)
"""Networks of IPv6 whose addresses carry one of IPv4: so many bits stand behind it."""

_INSIDE = [(ipaddress.IPv6Network(network), bits) for network, bits in _CARRIERS]
_ISATAP = (0x00005EFE, 0x02005EFE)

REFUSED = "the address of a cloud's metadata service, or one that holds on this link only"

PATTERN = re.compile(r"(?:\*|(?:\*\.)?[\w-][\w.-]*)(?::\d{1,5})?")
"""The form of a pattern that is no address: a host, `*.` before it for all below it, or `*`; with or without a port."""


def address_of(host: str) -> Address | None:
    """Return a host that is an address, with or without brackets; None: it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def carried(address: Address) -> tuple[Address, ...]:
    """Return an address, and the one of IPv4 that it carries, if it does."""
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback or address.is_unspecified:
        return (address,)
    number = int(address)
    bits = next((bits for network, bits in _INSIDE if address in network), None)
    if bits is None and (number >> 32) & 0xFFFFFFFF in _ISATAP:
        bits = 0
    if bits is None:
        return (address,)
    return address, ipaddress.IPv4Address((number >> bits) & 0xFFFFFFFF)


def is_refused(address: Address) -> bool:
    """Say whether no connection may go to an address, whoever names it."""
    return any(
        one.is_link_local or any(one.version == network.version and one in network for network in _METADATA)
        for one in carried(address)
    )


def is_here(address: Address) -> bool:
    """Say whether an address is this machine's own."""
    one = getattr(address, "ipv4_mapped", None) or address
    return bool(one.is_loopback or one.is_unspecified)


def is_named_here(host: str) -> bool:
    """Say whether a name can only mean this machine: `localhost` and everything below it."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def host_name(host: str) -> str:
    """Return a host as names are compared: in lower case, in ASCII, without brackets and without the last dot."""
    name = host.strip("[]").rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode().lower()
    except UnicodeError:
        return name


def is_pattern(text: str) -> bool:
    """Say whether this can stand in `allowed_upstreams`."""
    if _network(text) is not None:
        return True
    return bool(PATTERN.fullmatch(text)) and not text.rpartition(".")[2].partition(":")[0].isdecimal()


def allows(patterns: Iterable[str], host: str, port: int) -> bool:
    """Say whether one of the patterns names a host: by name, or where it is an address, by address or network."""
    name, address = host_name(host), address_of(host)
    return any(_fits(pattern, name, address, port) for pattern in patterns)


def _fits(pattern: str, name: str, address: Address | None, port: int) -> bool:
    network = _network(pattern)
    if network is not None:
        return address is not None and any(
            one.version == network.version and one in network for one in carried(address)
        )
    wanted, _, its_port = pattern.partition(":")
    if its_port and int(its_port) != port:
        return False
    if wanted == "*":
        return True
    if address is not None:
        return False
    wanted = host_name(wanted)
    return name.endswith(wanted[1:]) and name != wanted[2:] if wanted.startswith("*.") else name == wanted


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
