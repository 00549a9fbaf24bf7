"""Real TLS with authorities of the test's own, real proxies, and a real nginx."""

from __future__ import annotations

import asyncio
import base64
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from badserver import BadServer, Line
from transport.test_pool import OK, ask, saying

from balancer.model import Origin, WireRequest
from balancer.transport import Transport, TransportError


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def secure(port: int, ca_file: str | None, proxy: str | None = None) -> WireRequest:
    return WireRequest(
        Origin(tls=True, host="localhost", port=port, proxy=proxy, ca_file=ca_file), b"POST", b"/", (), (b"{}",)
    )


async def test_a_certificate_of_a_known_authority(authority: trustme.CA, ca_file: str) -> None:
    async with BadServer(saying(OK), tls=server_context(authority)) as server:
        transport = Transport()
        for _ in range(3):
            assert (await ask(transport, secure(server.port, ca_file)))[2] == b"hello"

        assert server.connections == 1
        await transport.close()


async def test_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    async with BadServer(saying(OK), tls=server_context(authority)) as server:
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(server.port, None))

    assert (caught.value.cause, caught.value.sent) == ("tls", False)


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, ca_file: str) -> None:
    async with BadServer(saying(OK), tls=server_context(authority, "elsewhere.example")) as server:
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(server.port, ca_file))

    assert caught.value.cause == "tls"


async def test_old_versions_of_tls_are_refused(authority: trustme.CA, ca_file: str) -> None:
    context = server_context(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with BadServer(saying(OK), tls=context) as server:
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(server.port, ca_file))

    assert caught.value.cause in ("tls", "reset")


async def test_plain_text_where_tls_was_expected(ca_file: str) -> None:
    async with BadServer(saying(OK)) as server:
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(server.port, ca_file), connect_s=1)

    assert caught.value.cause in ("tls", "reset", "connect_timeout")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def _tunnel(line: Line, host: str, port: int, answer: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    await line.say(answer)
    await asyncio.gather(_pump(line.reader, writer), _pump(reader, line.writer))


class Proxy:
    """An HTTP proxy (CONNECT and absolute form) or a SOCKS5 one."""

    def __init__(self, credentials: str | None = None) -> None:
        self.credentials = credentials
        self.heads: list[bytes] = []

    async def http(self, line: Line) -> None:
        head = await line.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.credentials:
            wanted = b"basic " + base64.b64encode(self.credentials.encode())
            if wanted.lower() not in head.lower():
                await line.say(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
                return
        method, target, _ = head.split(b" ", 2)
        if method == b"CONNECT":
            host, _, port = target.rpartition(b":")
            await _tunnel(line, host.decode(), int(port), b"HTTP/1.1 200 Yes\r\n\r\n")
        else:
            await line.say(OK)

    async def socks(self, line: Line) -> None:
        _, count = await line.reader.readexactly(2)
        await line.reader.readexactly(count)
        if self.credentials:
            await line.say(b"\x05\x02")
            _, length = await line.reader.readexactly(2)
            user = await line.reader.readexactly(length)
            password = await line.reader.readexactly((await line.reader.readexactly(1))[0])
            good = f"{user.decode()}:{password.decode()}" == self.credentials
            await line.say(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        else:
            await line.say(b"\x05\x00")
        _, _, _, kind = await line.reader.readexactly(4)
        if kind == 3:
            host = (await line.reader.readexactly((await line.reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await line.reader.readexactly(4))) if kind == 1 else "::1"
            if kind == 4:
                await line.reader.readexactly(16)
        port = int.from_bytes(await line.reader.readexactly(2), "big")
        self.heads.append(host.encode())
        await _tunnel(line, "127.0.0.1", port, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")


@asynccontextmanager
async def upstream(authority: trustme.CA) -> AsyncIterator[int]:
    async with BadServer(saying(OK), tls=server_context(authority)) as server:
        yield server.port


@pytest.mark.parametrize("credentials", [None, "user:p%40ss"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_tls_through_a_proxy(authority: trustme.CA, ca_file: str, scheme: str, credentials: str | None) -> None:
    proxy = Proxy(credentials and credentials.replace("%40", "@"))
    async with upstream(authority) as port, BadServer(proxy.http if scheme == "http" else proxy.socks) as server:
        url = f"{scheme}://{credentials + '@' if credentials else ''}127.0.0.1:{server.port}"
        transport = Transport()

        assert (await ask(transport, secure(port, ca_file, url)))[2] == b"hello"
        assert len(proxy.heads) == 1
        await transport.close()


async def test_an_https_proxy(authority: trustme.CA, ca_file: str) -> None:
    proxy = Proxy("u:p")
    async with upstream(authority) as port, BadServer(proxy.http, tls=server_context(authority)) as server:
        transport = Transport(tls=lambda _: _trusting(ca_file))

        assert (await ask(transport, secure(port, ca_file, f"https://u:p@localhost:{server.port}")))[2] == b"hello"
        await transport.close()


def _trusting(ca_file: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_refuses(authority: trustme.CA, ca_file: str, scheme: str) -> None:
    proxy = Proxy("user:right")
    async with upstream(authority) as port, BadServer(proxy.http if scheme == "http" else proxy.socks) as server:
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(port, ca_file, f"{scheme}://user:wrong@127.0.0.1:{server.port}"))

    assert (caught.value.cause, caught.value.sent) == ("proxy", False)
    assert "wrong" not in str(caught.value)
    assert caught.value.detail == ("it refused: 407" if scheme == "http" else "it refused")


async def test_a_proxy_that_is_not_there(ca_file: str) -> None:
    with pytest.raises(TransportError) as caught:
        await ask(Transport(), secure(443, ca_file, "http://127.0.0.1:9"))

    assert (caught.value.cause, caught.value.detail) == ("proxy", "it can't be reached")


async def test_plain_http_goes_in_absolute_form() -> None:
    proxy = Proxy("u:p")
    async with BadServer(proxy.http) as server:
        origin = Origin(tls=False, host="provider.example", port=81, proxy=f"http://u:p@127.0.0.1:{server.port}")
        request = WireRequest(origin, b"POST", b"/v1/messages?beta=true", (), (b"{}",))

        assert (await ask(Transport(), request))[2] == b"hello"

    assert proxy.heads[0].startswith(
        b"POST http://provider.example:81/v1/messages?beta=true HTTP/1.1\r\nhost: provider.example:81\r\n"
    )
    assert b"proxy-authorization: Basic dTpw" in proxy.heads[0]


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_timeout 1; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 50m;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }}
    location /file {{ alias {folder}/file; gzip on; gzip_min_length 1; gzip_types *; gzip_proxied any; }} }}
}}
"""


@pytest.mark.live
async def test_a_real_nginx(nginx: str, tmp_path: Path) -> None:
    """Keep-alive, a file with and without compression, a large body, and a keep-alive that runs out."""
    from live.harness import eventually, free_port

    port = free_port()
    (tmp_path / "file").write_bytes(b"0123456789" * 50_000)
    (tmp_path / "conf").write_text(NGINX.format(folder=tmp_path, port=port))
    process = await asyncio.create_subprocess_exec(
        nginx, "-p", str(tmp_path), "-c", str(tmp_path / "conf"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        transport = Transport()

        def request(target: bytes, *headers: tuple[bytes, bytes], body: bytes = b"") -> WireRequest:
            method = b"POST" if body else b"GET"
            return WireRequest(Origin(tls=False, host="127.0.0.1", port=port), method, target, headers, (body,))

        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await ask(transport, request(b"/")))[2] == b"hello"
                    break
                except TransportError:
                    await asyncio.sleep(0.05)
        for body in (b"", b"x" * 5_000_000):
            assert (await ask(transport, request(b"/", body=body)))[2] == b"hello"
        plain = await ask(transport, request(b"/file"))
        packed = await ask(transport, request(b"/file", (b"accept-encoding", b"gzip")))
        assert plain[2] == packed[2] == b"0123456789" * 50_000
        await eventually(lambda: "idle=0" in repr(transport))  # nginx has closed it
        assert (await ask(transport, request(b"/")))[2] == b"hello"
        await transport.close()
    finally:
        process.terminate()
        await process.wait()
