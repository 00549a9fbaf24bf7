"""Opening connections: names, TCP, proxies, TLS. Errors come out in the transport's words."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import TypeAlias, TypeVar, cast
from urllib.parse import unquote, urlsplit

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from balancer.model import Origin
from balancer.policy import shortage
from balancer.script import Cause
from balancer.transport.connection import UpstreamConnection
from balancer.transport.errors import TransportError
from balancer.transport.limits import LIMITS, Limits
from balancer.transport.names import Names

P = TypeVar("P", bound=asyncio.Protocol)


@lru_cache(maxsize=64)
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings: verified, 1.2 or newer, the system's authorities or those of a file."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


TlsContexts: TypeAlias = Callable[[str | None], ssl.SSLContext]
"""Returns the TLS settings for a file of authorities; None: the system's."""


Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses that a name leads to. Raises `OSError`."""


class Dialer:
    """Opens connections."""

    def __init__(self, limits: Limits = LIMITS, tls: TlsContexts = tls_context, lookup: Lookup | None = None) -> None:
        self._limits = limits
        self._tls = tls
        self._lookup = lookup or Names().addresses

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
        loop = asyncio.get_running_loop()
        context = self._tls(origin.ca_file) if origin.tls else None
        name = origin.host if origin.tls else None
        if origin.proxy is None:
            return await self._connected(self._connection, origin.host, origin.port, context, name)
        proxy = urlsplit(origin.proxy)
        if speaks_absolute_form(origin):
            return await self._to_proxy(proxy.scheme, proxy.hostname or "", proxy.port)
        if proxy.scheme == "https":
            return await self._through_tls_proxy(origin)
        scheme, _, rest = origin.proxy.partition("://")
        url = f"{'socks5' if scheme == 'socks5h' else scheme}://{rest}"
        sock = await Proxy.from_url(url, rdns=scheme != "socks5").connect(origin.host, origin.port)
        try:
            _, made = await loop.create_connection(self._connection, sock=sock, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        return made

    def _connection(self) -> UpstreamConnection:
        return UpstreamConnection(asyncio.get_running_loop(), self._limits)

    async def _connected(
        self, protocol: Callable[[], P], host: str, port: int, context: ssl.SSLContext | None, name: str | None
    ) -> P:
        """Connect to the first address of a host that can be reached. Raises `TransportError` or `OSError`."""
        failed: OSError | None = None
        try:
            addresses = await self._lookup(host, port)
        except UnicodeError:  # no name that DNS could have
            raise TransportError(Cause.DNS) from None
        for address in addresses:
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

    async def _to_proxy(self, scheme: str, host: str, port: int | None) -> UpstreamConnection:
        """Return a connection to the proxy itself: it is told the whole URL of each request."""
        context = self._tls(None) if scheme == "https" else None
        port = port or (443 if scheme == "https" else 80)
        try:
            return await self._connected(self._connection, host, port, context, host if context else None)
        except OSError as error:
            raise _unreached(error) from None

    async def _through_tls_proxy(self, origin: Origin) -> UpstreamConnection:
        """Return a connection to the origin: CONNECT inside TLS to the proxy, then TLS to the origin inside that."""
        loop = asyncio.get_running_loop()
        proxy = urlsplit(origin.proxy or "")
        try:
            greeting = await self._connected(
                lambda: _Greeting(loop, self._limits.head_max_bytes),
                proxy.hostname or "",
                proxy.port or 443,
                self._tls(None),
                proxy.hostname,
            )
        except OSError as error:
            raise _unreached(error) from None
        outer = greeting.transport
        try:
            outer.write(_connect_request(origin))
            if (await greeting.answered).split(b" ", 2)[1:2] != [b"200"]:
                raise TransportError(Cause.PROXY, "it refused")
            made = self._connection()
            inner = await loop.start_tls(outer, made, self._tls(origin.ca_file), server_hostname=origin.host)
            if inner is None:
                raise TransportError(Cause.TLS)
            made.connection_made(inner)
        except BaseException:
            outer.abort()
            raise
        return made


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
