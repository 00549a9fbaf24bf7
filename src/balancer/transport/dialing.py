"""Opening connections: names, TCP, proxies, TLS. Errors come out in the transport's words.

A name is looked up once, each address that it leads to is checked (`policy.egress`), and the connection goes to an
address that was: a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar, cast
from urllib.parse import SplitResult, unquote, urlsplit

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio import Proxy

from balancer.model import Origin
from balancer.policy import egress, shortage
from balancer.script import Cause
from balancer.transport.connection import UpstreamConnection
from balancer.transport.errors import TransportError
from balancer.transport.limits import LIMITS, Limits
from balancer.transport.names import Names

P = TypeVar("P", bound=asyncio.Protocol)

_PROXY_TYPES = {"http": ProxyType.HTTP, "socks5": ProxyType.SOCKS5, "socks5h": ProxyType.SOCKS5}
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@lru_cache(maxsize=64)
def tls_context(
    ca_file: str | None, cert_file: str | None = None, key_file: str | None = None, digest: str = ""
) -> ssl.SSLContext:
    """Return the TLS settings: verified, 1.2 or newer, the system's authorities or those of a file.

    `cert_file` and `key_file`: the certificate to show. `digest` is that of the files: it makes changed ones be read.
    Raises `OSError` if a file can't be used.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")  # without one OpenSSL asks the terminal
    return context


TlsContexts: TypeAlias = Callable[[str | None, str | None, str | None, str], ssl.SSLContext]
"""Returns the TLS settings for a file of authorities (None: the system's), a certificate, its key, and their digest."""

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses that a name leads to. Raises `OSError`."""


class Dialer:
    """Opens connections."""

    def __init__(self, limits: Limits = LIMITS, tls: TlsContexts = tls_context, lookup: Lookup | None = None) -> None:
        self._limits = limits
        self._tls = tls
        self._lookup = lookup or Names().addresses
        self.allowed_upstreams: Collection[str] = ()
        """Patterns of the hosts to which connections may go; none: to all."""

    async def dial(self, origin: Origin, connect_s: float) -> UpstreamConnection:
        """Return a new connection to `origin`, proxy and TLS included. Raises `TransportError`."""
        try:
            async with asyncio.timeout(connect_s):
                return await self._dial(origin)
        except TimeoutError:
            raise TransportError(Cause.CONNECT_TIMEOUT) from None
        except ProxyError as error:
            code = error.error_code
            raise TransportError(Cause.PROXY, "it refused" if code is None else f"it refused: {code}") from None
        except (ProxyConnectionError, ProxyTimeoutError) as error:
            if kind := shortage.kind_of(error.__cause__):
                raise TransportError(Cause.LOCAL, kind) from None
            raise TransportError(Cause.PROXY, "it can't be reached") from None
        except OSError as error:
            raise _in_our_words(error) from None
        except (MemoryError, RuntimeError) as error:
            if (kind := shortage.kind_of(error)) is None:
                raise
            raise TransportError(Cause.LOCAL, kind) from None

    async def _dial(self, origin: Origin) -> UpstreamConnection:
        if self.allowed_upstreams and not egress.allows(self.allowed_upstreams, origin.host, origin.port):
            raise TransportError(Cause.NOT_ALLOWED, "settings.allowed_upstreams does not list it")
        context = self._context(origin) if origin.tls else None
        name = origin.host if origin.tls else None
        if origin.proxy is None:
            return await self._connected(self._connection, origin.host, origin.port, context, name)
        _checked_literal(origin.host)
        proxy = urlsplit(origin.proxy)
        if speaks_absolute_form(origin):
            return await self._to_proxy(self._connection, proxy)
        if proxy.scheme == "https":
            return await self._through_tls_proxy(origin, proxy)
        sock = await self._through_proxy(origin, proxy)
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                self._connection, sock=sock, ssl=context, server_hostname=name
            )
        except BaseException:
            sock.close()
            raise
        return made

    def _connection(self) -> UpstreamConnection:
        return UpstreamConnection(asyncio.get_running_loop(), self._limits)

    def _context(self, origin: Origin) -> ssl.SSLContext:
        try:
            return self._tls(origin.ca_file, origin.cert_file, origin.key_file, origin.tls_digest)
        except OSError:
            raise TransportError(Cause.TLS, "a file of its tls or ca_file can't be used any more") from None

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        """Return those addresses of a host to which a connection may go, in the resolver's order."""
        literal = egress.address_of(host)
        if literal is not None:
            _checked_literal(host)
            return (str(literal),)
        try:
            found = await self._lookup(host, port)
        except UnicodeError:  # no name that DNS could have
            raise TransportError(Cause.DNS) from None
        addresses = {text: egress.address_of(text) for text in found}
        local = egress.is_named_here(host)
        allowed = [text for text, address in addresses.items() if address and _may_be_dialed(address, local)]
        if addresses and not allowed:
            where = "another machine than this one" if local else egress.REFUSED
            raise TransportError(Cause.NOT_ALLOWED, f"its name leads to {where}")
        return allowed

    async def _connected(
        self, protocol: Callable[[], P], host: str, port: int, context: ssl.SSLContext | None, name: str | None
    ) -> P:
        """Connect to the first address of a host that can be reached. Raises `TransportError` or `OSError`."""
        failed: OSError | None = None
        for address in await self._addresses(host, port):
            try:
                _, made = await asyncio.get_running_loop().create_connection(
                    protocol, address, port, ssl=context, server_hostname=name
                )
            except ssl.SSLError:
                raise  # somebody was reached
            except OSError as error:
                if not isinstance(failed, ConnectionRefusedError):  # which says most
                    failed = _unreachable(error) if ":" in address else error
            else:
                return made
        raise failed or TransportError(Cause.DNS)

    async def _to_proxy(self, protocol: Callable[[], P], proxy: SplitResult) -> P:
        """Return a connection to the proxy itself."""
        host, port = proxy.hostname or "", proxy.port or _PORTS[proxy.scheme]
        context, name = (self._tls(None, None, None, ""), host) if proxy.scheme == "https" else (None, None)
        try:
            return await self._connected(protocol, host, port, context, name)
        except TransportError as error:
            raise _proxy_not_allowed(error) from None
        except OSError as error:
            raise _unreached(error) from None

    async def _through_proxy(self, origin: Origin, proxy: SplitResult) -> socket.socket:
        """Return a connection to the origin through an HTTP or SOCKS proxy, which looks the name up itself.

        With `socks5` the name is looked up here, and the proxy is told the address that was checked.
        """
        host = origin.host
        if proxy.scheme == "socks5":
            host = next(iter(await self._addresses(host, origin.port)), host)
        try:
            addresses = await self._addresses(proxy.hostname or "", proxy.port or _PORTS[proxy.scheme])
        except TransportError as error:
            raise _proxy_not_allowed(error) from None
        except OSError as error:
            raise _unreached(error) from None
        failed: ProxyConnectionError | None = None
        for address in addresses:
            way = Proxy(
                _PROXY_TYPES[proxy.scheme],
                address,
                proxy.port or _PORTS[proxy.scheme],
                unquote(proxy.username or ""),
                unquote(proxy.password or ""),
                rdns=True,
            )
            try:
                return await way.connect(host, origin.port)
            except ProxyConnectionError as error:
                failed = error
        raise failed or TransportError(Cause.PROXY, "it can't be reached")

    async def _through_tls_proxy(self, origin: Origin, proxy: SplitResult) -> UpstreamConnection:
        """Return a connection to the origin: CONNECT inside TLS to the proxy, then TLS to the origin inside that."""
        loop = asyncio.get_running_loop()
        greeting = await self._to_proxy(lambda: _Greeting(loop, self._limits.head_max_bytes), proxy)
        outer = greeting.transport
        try:
            outer.write(_connect_request(origin))
            if (await greeting.answered).split(b" ", 2)[1:2] != [b"200"]:
                raise TransportError(Cause.PROXY, "it refused")
            made = self._connection()
            inner = await loop.start_tls(outer, made, self._context(origin), server_hostname=origin.host)
            if inner is None:
                raise TransportError(Cause.TLS)
            made.connection_made(inner)
        except BaseException:
            outer.abort()
            raise
        return made


def _checked_literal(host: str) -> None:
    """Refuse a host that is an address to which nobody may connect. Raises `TransportError`."""
    address = egress.address_of(host)
    if address is not None and egress.is_refused(address):
        raise TransportError(Cause.NOT_ALLOWED, f"it is {egress.REFUSED}")


def _may_be_dialed(address: egress.Address, local: bool) -> bool:
    """Say whether an address may be dialed; `local`: its name can only mean this machine."""
    return egress.is_here(address) if local else not egress.is_refused(address)


def _proxy_not_allowed(error: TransportError) -> TransportError:
    if error.cause is Cause.NOT_ALLOWED:
        return TransportError(Cause.NOT_ALLOWED, f"its proxy: {error.detail}")
    return TransportError(Cause.PROXY, f"it can't be reached: {error.cause}")


def speaks_absolute_form(origin: Origin) -> bool:
    """Return whether requests go to the proxy itself, with the whole URL: plain HTTP by an HTTP proxy."""
    return not origin.tls and origin.proxy is not None and origin.proxy.startswith(("http://", "https://"))


def proxy_authorization(origin: Origin) -> bytes | None:
    """Return the value of `proxy-authorization`, if the proxy's URL holds credentials."""
    parts = urlsplit(origin.proxy or "")
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(pair.encode())


def _connect_request(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}".encode()
    lines = [b"CONNECT %b HTTP/1.1" % target, b"host: " + target]
    if credentials := proxy_authorization(origin):
        lines.append(b"proxy-authorization: " + credentials)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class _Greeting(asyncio.Protocol):
    """Collects a proxy's answer to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_bytes: int) -> None:
        self.answered: asyncio.Future[bytes] = loop.create_future()
        """Its head; what is no whole one is empty."""
        self._head = bytearray()
        self._max_bytes = max_bytes
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.answered.done():
            return
        seam = max(0, len(self._head) - 3)
        self._head += data
        if self._head.find(b"\r\n\r\n", seam) >= 0:
            self.answered.set_result(bytes(self._head))
        elif len(self._head) > self._max_bytes:
            self.answered.set_result(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_result(b"")


def _unreachable(error: OSError) -> OSError:
    """Return the error of an IPv6 address: where the machine has none itself, it says that no port is free."""
    return OSError(errno.ENETUNREACH, error.strerror) if error.errno == errno.EADDRNOTAVAIL else error


def _unreached(error: OSError) -> TransportError:
    words = _in_our_words(error)
    return words if words.cause is Cause.LOCAL else TransportError(Cause.PROXY, f"it can't be reached: {words.cause}")


def _in_our_words(error: OSError) -> TransportError:
    if kind := shortage.kind_of(error):
        return TransportError(Cause.LOCAL, kind)
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError(Cause.TLS, error.verify_message or "the certificate could not be verified")
    if isinstance(error, ssl.SSLError):
        return TransportError(Cause.TLS, error.reason or "")
    if isinstance(error, socket.gaierror):
        return TransportError(Cause.DNS)
    if isinstance(error, ConnectionRefusedError):
        return TransportError(Cause.REFUSED)
    if isinstance(error, ConnectionResetError):
        return TransportError(Cause.RESET)
    return TransportError(Cause.UNREACHABLE, error.strerror or "")
