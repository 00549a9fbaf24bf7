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
from balancer.transport.dialing import Lookup


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
        transport = Transport(tls=lambda *_: _trusting(ca_file))

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


# Where connections may lead


def leading_to(*addresses: str) -> tuple[list[str], Lookup]:
    """Return a resolver that has these addresses for every name, and the names that it was asked for."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return list(addresses)

    return asked, lookup


def plain_to(host: str, port: int = 80, proxy: str | None = None) -> WireRequest:
    return WireRequest(Origin(tls=False, host=host, port=port, proxy=proxy), b"POST", b"/", (), (b"{}",))


METADATA = ["169.254.169.254", "::ffff:169.254.169.254", "fe80::a9fe:a9fe", "100.100.100.200", "64:ff9b::a9fe:a9fe"]


@pytest.mark.parametrize("address", METADATA)
async def test_a_name_that_leads_to_a_metadata_service_is_looked_up_once_and_refused(address: str) -> None:
    asked, lookup = leading_to(address)
    with pytest.raises(TransportError) as caught:
        await ask(Transport(lookup=lookup), plain_to("provider.example"))

    assert (caught.value.cause, caught.value.sent, caught.value.headed) == ("not_allowed", False, False)
    assert "metadata service" in caught.value.detail
    assert asked == ["provider.example"]


@pytest.mark.parametrize("host", ["169.254.169.254", "fe80::1", "::ffff:a9fe:a9fe"])
@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:9", "socks5h://127.0.0.1:9"])
async def test_an_address_of_a_metadata_service_is_refused_before_anybody_is_asked(
    host: str, proxy: str | None
) -> None:
    asked, lookup = leading_to("127.0.0.1")
    with pytest.raises(TransportError) as caught:
        await ask(Transport(lookup=lookup), plain_to(host, proxy=proxy))

    assert caught.value.cause == "not_allowed"
    assert asked == []


async def test_the_connection_goes_to_the_very_address_that_was_checked() -> None:
    """A name that leads elsewhere at the second look, as one of an attacker does, is looked up only once."""
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    async with BadServer(saying(OK)) as server:
        transport = Transport(lookup=rebinding)
        assert (await ask(transport, plain_to("provider.example", server.port)))[2] == b"hello"
        await transport.close()

    assert asked == ["provider.example"]


async def test_of_several_addresses_those_that_may_be_dialed_are_tried_in_turn() -> None:
    _, lookup = leading_to("fe80::1", "127.0.0.2", "127.0.0.1")
    async with BadServer(saying(OK)) as server:
        transport = Transport(lookup=lookup)
        assert (await ask(transport, plain_to("provider.example", server.port)))[2] == b"hello"
        await transport.close()


async def test_a_name_of_this_machine_leads_to_no_other() -> None:
    _, lookup = leading_to("203.0.113.7")
    with pytest.raises(TransportError) as caught:
        await ask(Transport(lookup=lookup), plain_to("api.localhost"))

    assert caught.value.cause == "not_allowed"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
async def test_a_proxy_whose_name_leads_to_a_metadata_service_is_refused(scheme: str) -> None:
    asked, lookup = leading_to("169.254.169.254")
    request = WireRequest(
        Origin(tls=True, host="203.0.113.7", port=443, proxy=f"{scheme}://proxy.example:3128"), b"POST", b"/", ()
    )
    with pytest.raises(TransportError) as caught:
        await ask(Transport(lookup=lookup), request)

    assert (caught.value.cause, asked) == ("not_allowed", ["proxy.example"])
    assert "its proxy" in caught.value.detail


async def test_a_socks_proxy_is_told_the_address_that_was_checked(authority: trustme.CA, ca_file: str) -> None:
    proxy = Proxy()
    names, lookup = leading_to("127.0.0.1")
    async with upstream(authority) as port, BadServer(proxy.socks) as server:
        transport = Transport(lookup=lookup)
        answer = await ask(transport, secure(port, ca_file, f"socks5://127.0.0.1:{server.port}"))
        await transport.close()

    assert answer[2] == b"hello"
    assert (names, proxy.heads) == (["localhost"], [b"127.0.0.1"])


async def test_a_name_behind_a_socks_proxy_that_leads_to_a_metadata_service_is_refused(ca_file: str) -> None:
    proxy = Proxy()
    _, lookup = leading_to("169.254.169.254")
    request = WireRequest(Origin(True, "provider.example", 443, "socks5://127.0.0.1:9"), b"POST", b"/", ())
    with pytest.raises(TransportError) as caught:
        await ask(Transport(lookup=lookup), request)

    assert (caught.value.cause, proxy.heads) == ("not_allowed", [])


async def test_only_hosts_that_are_allowed_are_dialed() -> None:
    asked, lookup = leading_to("127.0.0.1")
    async with BadServer(saying(OK)) as server:
        transport = Transport(lookup=lookup)
        transport.allow(("good.example",))
        assert (await ask(transport, plain_to("good.example", server.port)))[2] == b"hello"
        with pytest.raises(TransportError) as caught:
            await ask(transport, plain_to("evil.example", server.port))
        await transport.close()

    assert caught.value.cause == "not_allowed"
    assert "allowed_upstreams" in caught.value.detail
    assert asked == ["good.example"]


async def test_a_name_that_dns_can_not_have_is_not_found() -> None:
    with pytest.raises(TransportError) as caught:
        await ask(Transport(), plain_to("a" * 70 + ".example"))

    assert caught.value.cause == "dns"


# Certificates of the balancer's own


def asking_for_a_certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


async def test_a_provider_is_shown_the_certificate_that_it_asks_for(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    issued = authority.issue_cert("balancer.example")
    cert, key, both = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    issued.private_key_and_cert_chain_pem.write_to_path(str(both))
    async with BadServer(saying(OK), tls=asking_for_a_certificate(authority)) as server:
        for cert_file, key_file in ((cert, str(key)), (both, None)):
            transport = Transport()
            origin = Origin(True, "localhost", server.port, None, ca_file, str(cert_file), key_file)
            assert (await ask(transport, WireRequest(origin, b"POST", b"/", (), (b"{}",))))[2] == b"hello"
            await transport.close()
        with pytest.raises(TransportError) as caught:
            await ask(Transport(), secure(server.port, ca_file))

    assert caught.value.cause in ("tls", "reset", "closed")


async def test_files_of_certificates_that_are_gone_are_the_providers_fault(ca_file: str) -> None:
    origin = Origin(True, "127.0.0.1", 9, None, ca_file, "/no/such/file.pem", None, "once")
    with pytest.raises(TransportError) as caught:
        await ask(Transport(), WireRequest(origin, b"POST", b"/", ()))

    assert caught.value.cause == "tls"
    assert "/no/such" not in caught.value.detail
