"""Do the providers answer?"""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from balancer.cli import main


class Upstream(BaseHTTPRequestHandler):
    """A provider that refuses every key but one."""

    def do_GET(self) -> None:
        good = self.headers.get("x-api-key") == "sk-good"
        body = b'{"data": []}' if good else b'{"type":"error","error":{"type":"authentication_error","message":"no"}}'
        self.send_response(200 if good else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_each_provider_is_asked(tmp_path: Path, upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        f"""\
providers:
  - {{name: good, type: anthropic, base_url: "{upstream}", auth_value: sk-good}}
  - {{name: wrong, type: anthropic, base_url: "{upstream}", auth_value: sk-wrong}}
  - {{name: theirs, type: anthropic, base_url: "{upstream}", auth_value: passthrough}}
  - {{name: away, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: sk-x}}
  - {{name: idle, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: sk-x, enabled: false}}
  - {{name: fake, type: simulated}}
model_routes:
  "*": [{{provider: good, model: passthrough}}]
"""
    )

    assert main(["check", "--live", "--config", str(path)]) == 1

    told = capsys.readouterr().out
    rows = {line.split()[1]: line for line in told.splitlines()[1:]}
    assert "idle" not in rows
    assert rows["good"].startswith("ok ")
    assert rows["fake"].startswith("ok ")
    assert rows["theirs"].startswith("ok ")
    assert "reachable" in rows["theirs"]
    assert rows["wrong"].startswith("FAIL")
    assert "401 authentication_error" in rows["wrong"]
    assert "connection refused" in rows["away"]
    assert "sk-" not in told
