"""TLS with clients and with providers: certificates of the test's own authority, the real balancer, its own commands."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from live.harness import (
    PYTHON,
    ROOT,
    Peer,
    Running,
    Seen,
    Upstream,
    balancer,
    configuration,
    delta,
    eventually,
    good,
    start,
    stop,
)
from live.harness import block as a_block

pytestmark = pytest.mark.live

ASK: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
TLS = "tls: {cert: cert.pem, key: key.pem}"
MUTUAL = "tls: {cert: cert.pem, key: key.pem, client_ca: ca.pem}"


@dataclass
class Trust:
    """An authority and what it has issued."""

    authority: trustme.CA

    def files(self, *names: str) -> dict[str, bytes]:
        """Return a new certificate, its key, and the authority, each as the file of the balancer's that it is."""
        issued = self.authority.issue_cert(*(names or ("127.0.0.1", "localhost")))
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return {
            "cert.pem": chain,
            "key.pem": issued.private_key_pem.bytes(),
            "ca.pem": self.authority.cert_pem.bytes(),
        }

    def client(self, *, shows: bool = False) -> ssl.SSLContext:
        """Return how a client speaks TLS; `shows`: it has a certificate."""
        context = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        if shows:
            self.authority.issue_cert("a-client.example").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust(trustme.CA())


def put(running: Running, files: dict[str, bytes]) -> None:
    """Put other files into the place of those of the same name, as tools that renew certificates do."""
    for name, content in files.items():
        new = running.folder / f"{name}.new"
        new.touch(0o600)
        new.write_bytes(content)
        new.rename(running.folder / name)


async def serial_of(running: Running, context: ssl.SSLContext) -> str:
    """Return the number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
    told = writer.get_extra_info("peercert")
    writer.close()
    return str(told["serialNumber"])


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one process", "two"])
async def test_clients_are_served_by_https(trust: Trust, flags: tuple[str, ...]) -> None:
    async with Upstream() as up:
        running_with = configuration(up, settings=TLS)
        async with balancer(running_with, *flags, tls=trust.client(), files=trust.files()) as running:
            async with httpx2.AsyncClient(base_url=running.url, verify=trust.client()) as http:
                whole = await http.post("/v1/messages", json=ASK)
                streamed = await http.post("/v1/messages", json=ASK | {"stream": True})
                view = (await http.get("/providers")).json()
                foreign = await http.get("/providers", headers={"origin": running.url.replace("https", "http")})
                own = await http.get("/providers", headers={"origin": running.url})

            assert whole.json()["content"][0]["text"] == "Hello from the upstream."
            assert b"message_stop" in streamed.content
            assert set(view["tls"]["names"]) == {"127.0.0.1", "localhost"}
            assert view["tls"]["expires"] > "2026"
            assert (foreign.status_code, own.status_code) == (403, 200)
            assert f"on https://127.0.0.1:{running.port}".encode() in running.output
            assert f"export ANTHROPIC_BASE_URL=https://127.0.0.1:{running.port}".encode() in running.output


async def test_old_versions_of_tls_and_plain_http_get_nothing(trust: Trust) -> None:
    async with (
        Upstream() as up,
        balancer(configuration(up, settings=TLS), tls=trust.client(), files=trust.files()) as running,
    ):
        old = trust.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", running.port, ssl=old)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")

        assert b"200" not in await reader.read()
        writer.close()


async def test_a_new_certificate_is_used_for_new_connections_and_open_ones_stay(trust: Trust) -> None:
    goes_on = asyncio.Event()

    async def slowly(seen: Seen, peer: Peer) -> None:
        await peer.sse()
        await peer.chunk(start() + a_block() + delta("first"))
        await goes_on.wait()
        await peer.chunk(delta("second") + stop())
        await peer.end()

    client = trust.client()
    async with (
        Upstream(slowly) as up,
        balancer(configuration(up, settings=TLS), tls=client, files=trust.files()) as running,
    ):
        before = await serial_of(running, client)
        async with (
            httpx2.AsyncClient(base_url=running.url, verify=client, timeout=30) as http,
            http.stream("POST", "/v1/messages", json=ASK | {"stream": True}) as answer,
        ):
            text = answer.aiter_text()
            got = await anext(text)
            while "first" not in got:
                got += await anext(text)
            put(running, trust.files())
            await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
            after = await serial_of(running, client)
            goes_on.set()
            async for more in text:
                got += more

        assert after != before
        assert "second" in got
        assert "message_stop" in got
        told = [line for line in running.log() if line["event"] == "reloaded"]
        assert told[0]["changes"] == ["settings.tls: other certificates"]


async def test_a_broken_pair_keeps_the_old_one_and_is_told(trust: Trust) -> None:
    client = trust.client()
    async with Upstream() as up, balancer(configuration(up, settings=TLS), tls=client, files=trust.files()) as running:
        before = await serial_of(running, client)
        put(running, {"key.pem": trust.files()["key.pem"]})  # of another certificate
        await eventually(lambda: any(line["event"] == "reload_refused" for line in running.log()))
        async with httpx2.AsyncClient(base_url=running.url, verify=client) as http:
            view = (await http.get("/providers")).json()
            answer = await http.post("/v1/messages", json=ASK)
            by_hand = await http.post("/providers/reload")
            assert await serial_of(running, client) == before

            pair = trust.files()
            put(running, {"key.pem": pair["key.pem"]})
            put(running, {"cert.pem": pair["cert.pem"]})
            await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
            mended = (await http.get("/providers")).json()

        assert "the key does not belong to the certificate" in view["refused_configuration"][0]
        assert view["refused_configuration"][0].startswith("providers.yaml:5: ")
        assert by_hand.status_code == 400
        assert answer.status_code == 200
        assert mended["refused_configuration"] == []
        assert await serial_of(running, client) != before


async def test_clients_must_show_a_certificate_where_an_authority_for_them_is_named(trust: Trust) -> None:
    shown, stranger = trust.client(shows=True), trust.client()
    trustme.CA().issue_cert("a-client.example").configure_cert(stranger)
    async with (
        Upstream() as up,
        balancer(configuration(up, settings=MUTUAL), tls=shown, files=trust.files()) as running,
    ):
        async with httpx2.AsyncClient(base_url=running.url, verify=shown) as http:
            assert (await http.post("/v1/messages", json=ASK)).status_code == 200
            assert (await http.get("/providers")).json()["tls"]["client_certificates"] is True
        for context in (trust.client(), stranger):
            async with httpx2.AsyncClient(base_url=running.url, verify=context) as http:
                with pytest.raises(httpx2.TransportError):
                    await http.post("/v1/messages", json=ASK)
        assert len(up.asked) == 1


async def test_silent_handshakes_give_way_to_clients(trust: Trust) -> None:
    client = trust.client()
    limits = f"{TLS}, limits: {{max_connections: 4}}"
    async with (
        Upstream() as up,
        balancer(configuration(up, settings=limits), tls=client, files=trust.files()) as running,
    ):
        silent = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(12)]
        async with httpx2.AsyncClient(base_url=running.url, verify=client) as http:
            answer = await http.post("/v1/messages", json=ASK)
        for _, writer in silent:
            writer.close()

    assert answer.status_code == 200


async def command(*words: str, env: dict[str, str] | None = None, folder: Path = ROOT) -> tuple[int, str, str]:
    """Run a command of the balancer's, and return its exit code and what it says."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("BALANCER", "ANTHROPIC", "NODE"))
    }
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-P", "-m", "balancer.cli", *words, cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT / "src"), **(env or {})},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_commands_work_with_it(trust: Trust) -> None:
    settings = f"{TLS}, drills: true"
    files = trust.files("box.example", "localhost")
    lenient = trust.client()
    lenient.check_hostname = False
    async with Upstream() as up, balancer(configuration(up, settings=settings), tls=lenient, files=files) as running:
        file = str(running.folder / "providers.yaml")
        port = {"BALANCER_PORT": str(running.port)}
        ca = str(running.folder / "ca.pem")
        by_name = f"https://localhost:{running.port}"

        own = await command("status", "--config", file, "--json", env=port)
        drilled = await command("drill", "a", "--fault", "529", "--for", "1s", "--config", file, env=port)
        woken = await command("wake", "a", "--url", by_name, "--ca", ca)
        by_variable = await command("status", "--url", by_name, env={"BALANCER_CA": ca})
        unknown = await command("status", "--url", by_name)
        as_plain = await command("status", "--url", by_name.replace("https", "http"))
        exports = await command("env", "--config", file, env=port)

        assert own[0] == 0, own
        assert json.loads(own[1])["tls"]["names"] == ["box.example", "localhost"]
        assert drilled[0] == 0, drilled
        assert woken[0] == 0, woken
        assert by_variable[0] == 0, by_variable
        assert unknown[0] == 1
        assert "--ca FILE or BALANCER_CA" in unknown[2]
        assert as_plain[0] == 1
        assert f"ANTHROPIC_BASE_URL=https://localhost:{running.port}" in exports[1]
        assert f"NODE_EXTRA_CA_CERTS={running.folder.resolve()}/cert.pem" in exports[1]


def upstream_tls(trust: Trust) -> ssl.SSLContext:
    """Return how a provider speaks TLS that serves only those who show a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.authority.issue_cert("127.0.0.1").configure_cert(context)
    trust.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_provider_is_shown_a_certificate_and_a_new_one_on_new_connections(trust: Trust) -> None:
    shown: list[str] = []

    async def noting(seen: Seen, peer: Peer) -> None:
        shown.append(str(peer.writer.get_extra_info("peercert")["serialNumber"]))
        await good(seen, peer)

    async with Upstream(noting, upstream_tls(trust)) as up:
        text = configuration(up, provider=", tls: {cert: cert.pem, key: key.pem, ca: ca.pem}")
        text = text.replace("http://", "https://")
        async with (
            balancer(text, files=trust.files("balancer.example")) as running,
            httpx2.AsyncClient(base_url=running.url) as http,
        ):
            answers = [await http.post("/v1/messages", json=ASK) for _ in range(3)]
            connections = up.connections
            put(running, trust.files("balancer.example"))
            await eventually(lambda: any(line["event"] == "reloaded" for line in running.log()))
            answers += [await http.post("/v1/messages", json=ASK) for _ in range(3)]
            check = await command("check", "--live", folder=running.folder)

    assert [answer.status_code for answer in answers] == [200] * 6
    assert connections == 1
    assert len(set(shown[:3])) == 1
    assert shown[3] != shown[0]
    assert check[0] == 0, check
