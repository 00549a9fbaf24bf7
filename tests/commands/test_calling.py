"""The commands' way to a balancer that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from balancer.commands.calling import CallFailed, call, url_of


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
