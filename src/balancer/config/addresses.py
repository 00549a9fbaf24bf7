"""What an address or the name of a host means."""

from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Say whether `host` can only mean this machine.

    `host` is a name (`localhost` and everything below it) or an address, with or without brackets; an IPv4
    address may be written as IPv6 (`::ffff:127.0.0.1`).
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
