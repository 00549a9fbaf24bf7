"""Addresses: what may stand as a URL in the file, and which hosts are this machine."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from balancer.policy import egress

_PROXIES = ("http", "https", "socks5", "socks5h")
_SCHEMES = ("http", "https", "simulated")
_METADATA = frozenset(
    {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "metadata.tencentyun.com"}
)
"""Names under which clouds tell their secrets. Where other names lead is looked at when a connection is opened."""

_DOTS = {ord(dot): "." for dot in "\u3002\uff0e\uff61"}
_WILDCARDS = (".nip.io", ".sslip.io", ".xip.io")
"""Names below these lead to whatever address stands in them."""
_METADATA_IN_NAME = re.compile(r"169[.-]254[.-]\d|a9fea9fe|fd00-ec2--254")

_ENDPOINTS = (
    "/messages",
    "/messages/count_tokens",
    "/messages/batches",
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/v1/models",
    "/v1/complete",
)
_SLIP_OF_A_SCHEME = re.compile(r"h?t{1,3}p{1,2}s?:/{0,3}(?=[^/])", re.IGNORECASE)


def provider_url(text: str, *, may_have_query: bool = False) -> tuple[SplitResult | None, str]:
    """Return the parts of a `base_url`, or None and what is wrong with it. Nothing of it is quoted."""
    url, wrong = _split(text)
    if any(c.isspace() or ord(c) < 32 for c in text):
        wrong = "base_url must not hold white space; remove it"
    elif wrong or url is None:
        pass
    elif url.scheme not in _SCHEMES or not url.hostname:
        wrong = _why_no_url(text, url)
    elif url.username is not None or url.password is not None:
        wrong = "base_url must not hold a user or password; use auth_value"
    elif url.fragment or (url.query and not may_have_query):
        wrong = "base_url must not hold a query or fragment; leave out what begins with ? or #"
    elif not _is_name(url.hostname):
        wrong = "base_url names a host that DNS can't have; a part between two dots is empty or too long"
    elif is_metadata(url.hostname):
        wrong = "base_url is the address of a cloud's metadata service, which is no provider"
    elif not url.path.isascii():
        wrong = "the path of base_url must be ASCII; write other characters as %C3%BC"
    elif url.path.rstrip("/").lower().endswith(_ENDPOINTS) and not (may_have_query and "/deployments/" in url.path):
        wrong = "base_url is where the API begins; leave out what comes after /v1"
    else:
        wrong = _why_no_query(url.query)
    return (None, wrong) if wrong else (url, "")


def _is_name(host: str) -> bool:
    """Say whether a host can be looked up at all: the parts of a name have 1 to 63 characters as they are sent."""
    try:
        host.rstrip(".").encode("idna")
    except UnicodeError:
        return egress.address_of(host) is not None
    return True


def odd_path(path: str) -> str:
    """Say what is odd about the path of a `base_url` that may be right all the same; nothing if nothing is."""
    if path.rstrip("/").lower().endswith("/v1/v1"):
        return "base_url ends with /v1 twice, so requests go to /v1/v1/...; write /v1 once, or leave it out"
    return ""


_SECRET = re.compile(r"(?:\A|[&_-])(?:api_?key|key|token|secret|sig|signature|password|auth|code)=", re.IGNORECASE)


def _why_no_query(query: str) -> str:
    """Say what is wrong with a query that goes along with every request; nothing if it is right."""
    if not query.isascii():
        return "the query of base_url must be ASCII; write other characters as %C3%BC"
    if _SECRET.search(query):
        return "base_url must not hold a key; use auth_value (and openai_config: {key_header: NAME} for its header)"
    return ""


def _why_no_url(text: str, url: SplitResult) -> str:
    begins = "base_url must begin with https:// or http:// and name a host"
    if url.scheme in _SCHEMES:
        return f"{begins}: two slashes stand behind the colon"
    if _SLIP_OF_A_SCHEME.match(text):
        return f"{begins}; the word before :// is misspelt"
    if "://" in text:
        return begins
    is_local = is_loopback(re.split(r"[:/]", text, maxsplit=1)[0])
    return f"{begins}; put {'http' if is_local else 'https'}:// before it"


def proxy_url(text: str) -> str:
    """Say what is wrong with the URL of a proxy; nothing if it is right."""
    url, wrong = _split(text)
    if wrong or url is None or url.scheme not in _PROXIES or not url.hostname:
        return "proxy must be a URL that begins with http://, https://, socks5:// or socks5h:// and names a host"
    if is_metadata(url.hostname):
        return "proxy is the address of a cloud's metadata service, which is no proxy"
    return ""


def _split(text: str) -> tuple[SplitResult | None, str]:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None, "base_url is not a valid URL; look at the port and the brackets"
    return url, ""


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Say whether `host` can only mean this machine.

    `host` is a name (`localhost` and everything below it) or an address, with or without brackets; an IPv4
    address may be written as IPv6 (`::ffff:127.0.0.1`).
    """
    name = host.strip("[]").rstrip(".").lower()
    if egress.is_named_here(name):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_metadata(host: str) -> bool:
    """Say whether a cloud tells its secrets there, in whatever way the address is written."""
    name = _as_it_is_looked_up(host.strip("[]"))
    if name in _METADATA or (name.endswith(_WILDCARDS) and _METADATA_IN_NAME.search(name)):
        return True
    address = _address(name)
    return address is not None and egress.is_refused(address)


def needs_https(host: str) -> bool:
    """Say whether what goes to a host leaves this machine, where others could read it if it were plain."""
    address = _address(_as_it_is_looked_up(host.strip("[]")))
    return not (is_loopback(host) if address is None else egress.is_here(address))


def is_plain_to_others(url: str) -> bool:
    """Say whether a URL leads to another machine by plain http."""
    parts, _ = _split(url)
    return parts is not None and parts.scheme == "http" and bool(parts.hostname) and needs_https(parts.hostname or "")


def _address(name: str) -> egress.Address | None:
    """Return a host that is an address in any way of writing one: 2852039166, 0xa9fea9fe, 127.1."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(name))
    except (OSError, UnicodeError, ValueError):
        return None


def _as_it_is_looked_up(host: str) -> str:
    """Return a host as the resolver gets it: IDNA folds full-width digits and other dots into plain ones."""
    return unicodedata.normalize("NFKC", host).translate(_DOTS).rstrip(".").lower()
