"""Opening connections: names, TCP, proxies, TLS. Errors come out in the transport's words."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from balancer.model import Origin
from balancer.transport.connection import HEAD_MAX_BYTES, UpstreamConnection
from balancer.transport.errors import TransportError


@lru_cache(maxsize=64)
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings: verified, 1.2 or newer, the system's authorities or those of a file."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(origin: Origin, connect_s: float) -> UpstreamConnection:
    """Return a new connection to `origin`, proxy and TLS included. Raises `TransportError`."""
    try:
        async with asyncio.timeout(connect_s):
            return await _dial(origin)
    except TimeoutError:
        raise TransportError("connect_timeout") from None
    except ProxyError as error:
        code = error.error_code
        raise TransportError("proxy", "it refused" if code is None else f"it refused: {code}") from None
    except (ProxyConnectionError, ProxyTimeoutError):
        raise TransportError("proxy", "it can't be reached") from None
    except OSError as error:
        raise _in_our_words(error) from None


async def _dial(origin: Origin) -> UpstreamConnection:
    loop = asyncio.get_running_loop()

    def protocol() -> UpstreamConnection:
        return UpstreamConnection(loop)

    context = tls_context(origin.ca_file) if origin.tls else None
    name = origin.host if origin.tls else None
    if origin.proxy is None:
        _, made = await loop.create_connection(protocol, origin.host, origin.port, ssl=context, server_hostname=name)
        return made
    proxy = urlsplit(origin.proxy)
    if speaks_absolute_form(origin):
        return await _to_proxy(proxy.scheme, proxy.hostname or "", proxy.port)
    if proxy.scheme == "https":
        return await _through_tls_proxy(origin)
    scheme, _, rest = origin.proxy.partition("://")
    url = f"{'socks5' if scheme == 'socks5h' else scheme}://{rest}"
    sock = await Proxy.from_url(url, rdns=scheme != "socks5").connect(origin.host, origin.port)
    try:
        _, made = await loop.create_connection(protocol, sock=sock, ssl=context, server_hostname=name)
    except BaseException:
        sock.close()
        raise
    return made


def speaks_absolute_form(origin: Origin) -> bool:
    """Say whether requests go to the proxy itself, with the whole URL: plain HTTP by an HTTP proxy."""
    return not origin.tls and origin.proxy is not None and origin.proxy.startswith(("http://", "https://"))


def proxy_authorization(origin: Origin) -> bytes | None:
    """Return the value of `proxy-authorization`, if the proxy's URL holds credentials."""
    parts = urlsplit(origin.proxy or "")
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return b"Basic " + base64.b64encode(pair.encode())


async def _to_proxy(scheme: str, host: str, port: int | None) -> UpstreamConnection:
    loop = asyncio.get_running_loop()
    context = tls_context(None) if scheme == "https" else None
    try:
        _, made = await loop.create_connection(
            lambda: UpstreamConnection(loop),
            host,
            port or (443 if scheme == "https" else 80),
            ssl=context,
            server_hostname=host if context else None,
        )
    except OSError as error:
        raise TransportError("proxy", f"it can't be reached: {_in_our_words(error).cause}") from None
    return made


class _Greeting(asyncio.Protocol):
    """Collects a proxy's answer to CONNECT."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        done = b"\r\n\r\n" in self._head or len(self._head) > HEAD_MAX_BYTES
        if done and not self.answered.done():
            self.answered.set_result(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_result(b"")


async def _through_tls_proxy(origin: Origin) -> UpstreamConnection:
    """CONNECT inside TLS to the proxy, then TLS to the origin inside that."""
    loop = asyncio.get_running_loop()
    proxy = urlsplit(origin.proxy or "")
    try:
        outer, greeting = await loop.create_connection(
            lambda: _Greeting(loop),
            proxy.hostname or "",
            proxy.port or 443,
            ssl=tls_context(None),
            server_hostname=proxy.hostname,
        )
    except OSError as error:
        raise TransportError("proxy", f"it can't be reached: {_in_our_words(error).cause}") from None
    try:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        target = f"{host}:{origin.port}".encode()
        lines = [b"CONNECT %b HTTP/1.1" % target, b"host: " + target]
        if credentials := proxy_authorization(origin):
            lines.append(b"proxy-authorization: " + credentials)
        outer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        if (await greeting.answered).split(b" ", 2)[1:2] != [b"200"]:
            raise TransportError("proxy", "it refused")
        made = UpstreamConnection(loop)
        inner = await loop.start_tls(outer, made, tls_context(origin.ca_file), server_hostname=origin.host)
        if inner is None:
            raise TransportError("tls")
        made.connection_made(inner)
    except BaseException:
        outer.abort()
        raise
    return made


def _in_our_words(error: OSError) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError("tls", error.verify_message or "the certificate could not be verified")
    if isinstance(error, ssl.SSLError):
        return TransportError("tls", error.reason or "")
    if isinstance(error, socket.gaierror):
        return TransportError("dns")
    if isinstance(error, ConnectionRefusedError):
        return TransportError("refused")
    if isinstance(error, ConnectionResetError):
        return TransportError("reset")
    if "Multiple exceptions" in str(error) and "refused" in str(error).lower():
        return TransportError("refused")
    return TransportError("unreachable", error.strerror or "")
