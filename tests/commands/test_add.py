"""A known service put into providers.yaml: what is written, what stays, what is asked, what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from balancer.cli import main
from balancer.commands.invocation import hint
from balancer.config import load
from balancer.config.presets import PRESETS

FIRST = """\
# mine
providers:
  - name: "main"        # the best
    type: simulated

# who answers what
model_routes:
  "*": [{provider: main}]   # everything
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_ACCOUNT")) or name.startswith("BALANCER_"):
            monkeypatch.delenv(name)
    return tmp_path


def test_without_a_preset_they_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add"]) == 0

    shown = capsys.readouterr().out
    assert [name for name, preset in PRESETS.items() if f"  {name} " not in shown or preset.title not in shown] == []
    assert list(folder.iterdir()) == []


def test_the_first_one_makes_a_file_that_only_its_owner_can_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["add", "anthropic"]) == 0

    path = folder / "providers.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = capsys.readouterr().out
    assert "added the provider 'anthropic'" in shown
    assert f"Put it into {folder / '.env'}:  ANTHROPIC_API_KEY=..." in shown
    assert shown.endswith(f"Next:  {hint('check', '--live')}\n")
    assert load(path, {"ANTHROPIC_API_KEY": "long-enough-key"}).warnings == ()


def test_what_stands_in_the_file_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "providers.yaml"
    path.write_text(FIRST)
    path.chmod(0o640)

    assert main(["add", "deepseek", "--name", "second", "--key-env", "MY_KEY"]) == 0

    assert path.read_text() == FIRST.replace(
        "simulated\n",
        """\
simulated
  - name: "second"
    type: "anthropic"
    base_url: "https://api.deepseek.com/anthropic"
    auth_type: "api_key"
    auth_value: "${MY_KEY}"
""",
    ).replace("main}]", 'main}, {provider: "second", model: "deepseek-v4-pro", priority: 2}]')
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "route '*': priority 2, model deepseek-v4-pro" in capsys.readouterr().out


def test_others_keys_may_still_be_missing(folder: Path) -> None:
    assert [main(["add", name]) for name in PRESETS] == [0] * len(PRESETS)

    env = {preset.key_env: "long-enough-key" for preset in PRESETS.values() if preset.key_env}
    config = load(folder / "providers.yaml", env)
    assert len(config.providers) == len(PRESETS)
    assert [target.priority for target in config.routes[0].targets] == list(range(1, len(PRESETS) + 1))


def test_a_model_and_an_address_of_your_own(folder: Path) -> None:
    assert main(["add", "kimi", "--model", "k-9", "--base-url", "https://api.moonshot.cn/anthropic"]) == 0

    config = load(folder / "providers.yaml", {"MOONSHOT_API_KEY": "long-enough-key"})
    assert config.providers["moonshot"].base_url == "https://api.moonshot.cn/anthropic"
    assert [(route.pattern, route.targets[0].model) for route in config.routes] == [("*", "k-9")]


REFUSED = {
    "an unknown service": (["add", "opnrouter"], 1, "did you mean 'openrouter'?"),
    "a name twice": (["add", "ollama", "--name", "main"], 1, "has a provider 'main' already; --name"),
    "a key for a name": (["add", "ollama", "--name", "sk-canary-123456"], 1, "--name takes a plain word"),
    "a key for a variable": (["add", "openai", "--key-env", "sk-canary-123456"], 1, "not a key; put the key into .env"),
    "an address that is none": (["add", "openai", "--base-url", "api.x"], 2, "base_url must begin with https://"),
    "a file in a folder that is none": (["add", "ollama", "--config", "providers.yaml/x"], 1, "can't be read"),
}


@pytest.mark.parametrize(("argv", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_leaves_the_file_alone(
    argv: list[str], code: int, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "providers.yaml").write_text(FIRST)

    assert main(argv) == code

    told = capsys.readouterr()
    assert words in told.err
    assert "canary" not in told.err + told.out
    assert (folder / "providers.yaml").read_text() == FIRST
    assert [path.name for path in folder.iterdir()] == ["providers.yaml"]


def test_a_file_that_is_wrong_is_mended_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "providers.yaml").write_text(FIRST.replace("simulated", "simulatd"))

    assert main(["add", "ollama"]) == 2
    assert "providers.yaml:4: unknown type 'simulatd'" in capsys.readouterr().err


class Upstream(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.headers.get("authorization") == "Bearer the-right-key"
        body = b'{"data": [{"id": "qwen3-coder:latest"}]}' if good else b"{}"
        self.send_response(200 if good else 401)
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
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_the_new_provider_is_asked_if_that_is_wanted(
    folder: Path, upstream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "providers.yaml").write_text(FIRST.replace("simulated", "anthropic\n    auth_value: ${NOT_THERE}"))
    order = ["add", "ollama", "--base-url", upstream, "--key-env", "OLLAMA_API_KEY", "--check"]

    without = main([*order, "--name", "a"])
    (folder / ".env").write_text("OLLAMA_API_KEY=the-right-key")
    right = main([*order, "--name", "b"])
    (folder / ".env").write_text("OLLAMA_API_KEY=the-wrong-key")
    wrong = main([*order, "--name", "c"])

    shown = capsys.readouterr().out
    assert (without, right, wrong) == (1, 0, 1)
    assert "Not checked: without its key" in shown
    assert "ok    b  answers" in shown
    assert "FAIL  c  401" in shown
    assert "warning" not in shown


AT_A_TERMINAL = """\
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from balancer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def at_a_terminal(folder: Path, typed: list[tuple[str, str]], *argv: str) -> tuple[int, str]:
    """Run a command at a terminal; `typed`: what is waited for, and what is typed then."""
    ours, theirs = os.openpty()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "dumb"}
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *argv],
        cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = ""
        for expected, answer in [*typed, ("\0", "")]:
            while expected not in shown:
                try:
                    data = os.read(ours, 4096)
                except OSError:  # the other side has gone
                    data = b""
                if not data:
                    break
                shown += data.decode()
            if answer:
                os.write(ours, f"{answer}\n".encode())
        code = process.wait(30)
    os.close(ours)
    return code, shown


@pytest.mark.live
def test_at_a_terminal_the_key_is_asked_for_and_not_shown(folder: Path) -> None:
    (folder / ".env").write_text("OTHER=1")

    code, shown = at_a_terminal(folder, [("paste the key", "it's a-key")], "add", "deepseek")

    assert code == 0, shown
    assert (folder / ".env").read_text() == "OTHER=1\nDEEPSEEK_API_KEY='it\\'s a-key'\n"
    assert load(folder / "providers.yaml", {}).providers["deepseek"].secret == "it's a-key"
    assert "a-key" not in shown
    assert "DEEPSEEK_API_KEY is set" in shown


@pytest.mark.live
def test_at_a_terminal_the_services_are_asked_for(folder: Path) -> None:
    typed = [("Which services", "2, deepseek"), ("paste the key", "sk-the-key-itself")]

    code, shown = at_a_terminal(folder, typed, "init")

    assert code == 0, shown
    assert list(load(folder / "providers.yaml", {}).providers) == ["subscription", "deepseek"]
    assert (folder / ".env").read_text() == "DEEPSEEK_API_KEY=sk-the-key-itself\n"
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert "sk-the" not in shown
