"""The commands' way to a balancer that runs."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from balancer.commands.calling import CallFailed, OwnAddress, call, url_of, who_answers
from balancer.config import Config, load


class Balancer(BaseHTTPRequestHandler):
    """Says what it was asked, or refuses."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        refused = self.path == "/refused"
        told = {"error": {"message": "no"}} if refused else {"key": self.headers.get("x-balancer-key"), "body": body}
        self.send_response(403 if refused else 200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Balancer) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCER_KEY", "from-env")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # a proxy of the environment is not asked

    assert call(url, "/x") == {"key": "from-env", "body": ""}
    assert call(url, "/x", "flag", {"a": 1}) == {"key": "flag", "body": '{"a": 1}'}


def test_a_refusal_is_told_in_its_own_words(url: str) -> None:
    with pytest.raises(CallFailed, match="/refused answers 403: no"):
        call(url, "/refused")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc/passwd"])
def test_what_can_not_be_asked(url: str) -> None:
    with pytest.raises(CallFailed):
        call(url, "/")


def test_where_the_balancer_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BALANCER_URL", "HOST", "PORT", "BALANCER_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    assert url_of("box:1/") == "http://box:1"
    monkeypatch.setenv("BALANCER_URL", "https://b.example.com/")
    assert url_of(None) == "https://b.example.com"


# By TLS

AUTHORITY = trustme.CA()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    issued = AUTHORITY.issue_cert("box.example")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    (tmp_path / "both.pem").chmod(0o600)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "providers.yaml").write_text(
        "providers: [{name: a, type: simulated}]\nmodel_routes: {'*': [{provider: a}]}\nsettings: {tls: {cert: both.pem}}"
    )
    return tmp_path


def config_in(folder: Path) -> Config:
    return load(folder / "providers.yaml", {})


@contextmanager
def secure(*names: str, both: Path | None = None, asks: bool = False) -> Iterator[str]:
    """Serve by TLS with the certificate in a file, or with a new one for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if both is not None:
        context.load_cert_chain(both)
    else:
        AUTHORITY.issue_cert(*names).configure_cert(context)
    if asks:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Balancer) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # handshakes that fail are the test
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_own_balancer_is_known_by_its_certificate_whatever_its_name(folder: Path) -> None:
    with secure(both=folder / "both.pem") as url:
        assert call(OwnAddress(url, config_in(folder)), "/")["body"] == ""
        with pytest.raises(CallFailed, match="no TLS with"):
            call(url, "/")


def test_another_server_with_a_certificate_for_the_same_name_is_not_taken_for_it(folder: Path) -> None:
    with secure("box.example", "127.0.0.1") as url, pytest.raises(CallFailed, match="no TLS with"):
        call(OwnAddress(url, config_in(folder)), "/")


def test_authorities_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with secure("127.0.0.1") as url:
        with pytest.raises(CallFailed, match="--ca FILE or BALANCER_CA"):
            call(url, "/")
        with pytest.raises(CallFailed, match="--ca FILE or BALANCER_CA"):
            who_answers(url)
        monkeypatch.setenv("BALANCER_CA", str(folder / "ca.pem"))
        assert call(url, "/")["body"] == ""
        monkeypatch.setenv("BALANCER_CA", str(folder / "none.pem"))
        with pytest.raises(CallFailed, match="BALANCER_CA names no PEM file"):
            call(url, "/")


def test_a_certificate_is_shown_where_the_balancer_asks_for_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALANCER_CA", str(folder / "ca.pem"))
    with secure("127.0.0.1", asks=True) as url:
        with pytest.raises(CallFailed):
            call(url, "/")
        monkeypatch.setenv("BALANCER_CLIENT_CERT", str(folder / "both.pem"))
        assert call(url, "/")["body"] == ""
        monkeypatch.setenv("BALANCER_CLIENT_CERT", str(folder / "ca.pem"))
        with pytest.raises(CallFailed, match="BALANCER_CLIENT_CERT names no PEM file"):
            call(url, "/")


def test_an_https_address_of_a_plain_server_is_told(url: str) -> None:
    with pytest.raises(CallFailed, match="does it speak plain http"):
        call(url.replace("http", "https"), "/")
