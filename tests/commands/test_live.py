"""Do the providers answer, and do they have the models that the routes ask for?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from balancer.cli import main

MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5", "models/gemini-x", "qwen:latest", "\x1b[31mred")
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip


class Upstream(BaseHTTPRequestHandler):
    """A provider that refuses every key but one; below /bare it has nothing but messages, below /more a longer list."""

    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, ""))
        if self.path.startswith("/bare"):
            self._answer(404, b"<html>not here</html>", "text/html")
        elif (
            self.headers.get("x-api-key") != "sk-good-key" and self.headers.get("authorization") != "Bearer sk-good-key"
        ):
            self._answer(401, b'{"type":"error","error":{"type":"authentication_error","message":"no"}}')
        else:
            listed = {"data": [{"id": name} for name in MODELS], "has_more": self.path.startswith("/more")}
            self._answer(200, json.dumps(listed).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.path, json.loads(body)["model"]))
        if self.path == "/bare/v1/messages" and b"refuse" not in body:
            self._answer(200, json.dumps(MESSAGE).encode())
        elif self.path.endswith("/v1/messages"):
            self._answer(
                402, b'{"type":"error","error":{"type":"billing_error","message":"no credit for sk-good-key"}}'
            )
        else:
            self._answer(404, b"<html>not here</html>", "text/html")

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[str]:
    Upstream.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "p.yaml"


def checked(file: Path, text: str, capsys: pytest.CaptureFixture[str], flag: str = "--live") -> tuple[int, list[str]]:
    """Return the exit code and what was printed of the providers that were asked."""
    file.write_text(text)
    code = main(["check", flag, "--config", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok: ")
    return code, [line for line in lines[1:] if not line.startswith(("note: ", "auto mode: "))]


def one(upstream: str, route: str, path: str = "", kind: str = "anthropic") -> str:
    return (
        f'providers: [{{name: a, type: {kind}, base_url: "{upstream}{path}", auth_value: sk-good-key}}]\n'
        f"model_routes: {{{route}}}\n"
    )


def test_each_provider_is_asked(file: Path, upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = checked(
        file,
        f"""\
providers:
  - {{name: good, type: anthropic, base_url: "{upstream}", auth_value: sk-good-key}}
  - {{name: wrong, type: anthropic, base_url: "{upstream}", auth_value: sk-wrong}}
  - {{name: theirs, type: anthropic, base_url: "{upstream}", auth_value: passthrough}}
  - {{name: away, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: sk-x}}
  - {{name: idle, type: anthropic, base_url: "http://127.0.0.1:9", auth_value: sk-x, enabled: false}}
  - {{name: fake, type: simulated}}
model_routes:
  "*": [{{provider: good, model: passthrough}}]
""",
        capsys,
    )

    rows = {line.split()[1]: line for line in lines}
    assert code == 1
    assert "idle" not in rows
    assert rows["good"].startswith("ok ")
    assert f"GET {upstream}/v1/models)" in rows["good"]
    assert rows["fake"].startswith("ok ")
    assert "http" not in rows["fake"]
    assert rows["theirs"].startswith("ok ")
    assert "reachable" in rows["theirs"]
    assert rows["wrong"].startswith("FAIL")
    assert f"401 authentication_error: no (GET {upstream}/v1/models)" in rows["wrong"]
    assert "connection refused (GET http://127.0.0.1:9/v1/models)" in rows["away"]
    assert "sk-" not in "".join(lines)


def test_a_provider_that_has_only_messages_is_not_told_to_fail(
    file: Path, upstream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = checked(file, one(upstream, '"*": [{provider: a}]', "/bare"), capsys)

    assert code == 0
    (line,) = lines
    assert line.startswith("?     a  there is no ")
    assert f"GET {upstream}/bare/v1/models (404) and no POST {upstream}/bare/v1/messages/count_tokens (404)" in line
    assert line.endswith("check --live=message")
    assert not any(path.endswith("/v1/messages") for path, _ in Upstream.asked)


def test_a_message_tells_what_costs_nothing_does_not(
    file: Path, upstream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = checked(file, one(upstream, '"*": [{provider: a, model: m-1}]', "/bare"), capsys, "--live=message")

    assert code == 0
    assert lines[0].startswith("ok    a  answers a message as m-1 (")
    assert lines[0].endswith(f"POST {upstream}/bare/v1/messages)")
    assert Upstream.asked[-1] == ("/bare/v1/messages", "m-1")


def test_a_message_that_is_refused(file: Path, upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = checked(
        file, one(upstream, '"*": [{provider: a, model: claude-sonnet-5-5}]'), capsys, "--live=message"
    )

    assert code == 1
    assert lines[0] == f"FAIL  a  402 billing_error: no credit for [redacted] (POST {upstream}/v1/messages)"


SAID = {
    "a model that is misspelt": (
        '"*sonnet*": [{provider: a, model: claude-sonet-5-5}]',
        "route '*sonnet*': 'claude-sonet-5-5' is not in its list of models; did you mean 'claude-sonnet-5-5'?",
    ),
    "a route by name that is misspelt": (
        "claude-sonet-5-5: [{provider: a}]",
        "route 'claude-sonet-5-5': 'claude-sonet-5-5' is not in its list of models; did you mean 'claude-sonnet-5-5'?",
    ),
    "a model that is like none": ("'*': [{provider: a, model: zzzzzzzz}]", "lists 5 models, none like it"),
    "names that it has not": (
        "opus: [{provider: a}]",
        "(claude-opus-5-5) are passed on, and none of them is in its list",
    ),
    "a model that it has": ("'*': [{provider: a, model: claude-haiku-5-5}]", ""),
    "one with a larger window": ("'*': [{provider: a, model: 'claude-haiku-5-5[1m]'}]", ""),
    "one that it calls a little differently": ("'*': [{provider: a, model: gemini-x}]", ""),
    "one of the newest": ("'*': [{provider: a, model: qwen}]", ""),
    "names of which it has some": ("'*': [{provider: a}]", ""),
    "a target that is off": ("'*': [{provider: a}, {provider: a, model: zzzz, enabled: false}]", ""),
}


@pytest.mark.parametrize(("route", "expected"), SAID.values(), ids=SAID)
def test_routes_are_compared_with_the_list_of_models(
    route: str, expected: str, file: Path, upstream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("anthropic", "openai"):
        code, lines = checked(file, one(upstream, route, kind=kind), capsys)

        assert code == 0
        assert lines[0].startswith("ok    a  answers")
        assert expected in "\n".join(lines[1:])
        assert bool(lines[1:]) is bool(expected), lines


def test_a_list_that_is_not_whole_says_nothing(file: Path, upstream: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = checked(file, one(upstream, "'*': [{provider: a, model: zzzzzzzz}]", "/more"), capsys)

    assert len(lines) == 1
    assert Upstream.asked == [("/more/v1/models?limit=1000", "")]
