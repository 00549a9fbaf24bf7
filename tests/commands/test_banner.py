"""What is said at the start can be used as it stands."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from balancer.commands.banner import Flags, banner
from balancer.config import Config, embedded, load, override, parse

from .conftest import SIMULATED


def config(settings: str = "", auth_value: str = "sk-a-secret-of-mine") -> Config:
    text = f"""\
providers: [{{name: a, type: anthropic, base_url: "https://a.example", auth_value: {auth_value}}}]
model_routes: {{"*": [{{provider: a}}]}}
settings: {{{settings}}}
"""
    return parse(text, "p.yaml", {}, Path("/etc/p.yaml"))


def told(served: Config, port: int = 8080, **flags: object) -> str:
    return banner(served, port, Flags(**flags))  # type: ignore[arg-type]


def test_both_variables_can_be_copied() -> None:
    shown = told(config())

    assert (
        "\n  export ANTHROPIC_BASE_URL=http://127.0.0.1:8080\n  export ANTHROPIC_AUTH_TOKEN=balancer\n  claude\n"
        in shown
    )
    assert "sk-a-secret" not in shown
    assert shown.endswith("Ctrl-C ends it.")


def test_the_clients_own_login_gets_no_token_beside_it() -> None:
    shown = told(config(auth_value="passthrough"))

    assert "export ANTHROPIC_BASE_URL=" in shown
    assert "ANTHROPIC_AUTH_TOKEN" not in shown


def test_a_key_is_not_shown_but_fetched() -> None:
    shown = told(config("auth: {keys: [a-key-of-ours]}, port: 9000"), port=9000, config="my file.yaml")

    assert "a-key-of-ours" not in shown
    assert """ env --config 'my file.yaml')"\n""" in shown
    assert "export" not in shown


def test_other_commands_find_this_balancer() -> None:
    usual = told(config())
    assert "status\n" in usual
    assert "run\n" in usual

    other = banner(config(), 40_123, Flags(port=0, config="f", host="::"))
    assert "status --url http://127.0.0.1:40123\n" in other
    assert "run --config f --host :: --port 40123\n" in other
    assert "logs -f --config f\n" in other


def test_one_provider_without_a_file_is_found_by_its_address() -> None:
    shown = told(config(), to=True)

    assert ", from --to\n" in shown
    assert "run --url http://127.0.0.1:8080\n" in shown
    assert "logs -f --file logs/logs.jsonl\n" in shown


def test_a_type_that_will_not_know_the_clients_models_is_warned_of() -> None:
    text = '{"providers": [{"name": "local", "type": "openai", "base_url": "http://localhost:1", "auth_value": "none"}], "model_routes": {"*": [{"provider": "local", "model": "%s"}]}}'

    assert "--model NAME says another" in told(parse(text % "passthrough", "f", {}), to=True)
    assert "--model" not in told(parse(text % "qwen3", "f", {}), to=True)


def test_a_log_that_can_not_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for name, reason in (("file/x.jsonl", "a part of its path is a file"), ("", "it is a folder")):
        shown = told(config(f'log_file: "{tmp_path / name}"'))
        assert f"warning: log_file can't be written: {reason}" in shown
        assert reason in shown
    assert "warning" not in told(config(f'log_file: "{tmp_path}/new/x.jsonl"'))
    assert "Log: none" in told(config("log_file: null"))


def test_an_address_that_is_refused_is_never_shown() -> None:
    shown = told(config("host: 192.0.2.7"))
    assert "nobody can use it on 192.0.2.7" in shown
    assert "export" not in shown

    name = socket.gethostname()
    assert f"http://{name}:" not in told(config(f"host: {name}"))


HOSTS = {
    "HOST": ({"HOST": "0.0.0.0"}, "0.0.0.0"),
    "BALANCER_HOST comes first": ({"HOST": "0.0.0.0", "BALANCER_HOST": "::1"}, "::1"),
    "a HOST that a shell set": ({"HOST": socket.gethostname()}, "127.0.0.1"),
    "this machine's name, on purpose": ({"BALANCER_HOST": socket.gethostname()}, socket.gethostname()),
}


@pytest.mark.parametrize(("env", "host"), HOSTS.values(), ids=HOSTS)
def test_where_the_host_comes_from(env: dict[str, str], host: str) -> None:
    assert override(embedded({}), env).settings.host == host
    assert override(embedded({}), env | {"PORT": "1", "BALANCER_PORT": "2"}).settings.port == 2


def test_without_a_file_it_says_how_to_get_one(tmp_path: Path) -> None:
    shown = told(embedded({}))

    assert "all of them simulated" in shown
    assert re.search(r"There is no providers.yaml. To write one: .*balancer.* init\n", shown)
    path = tmp_path / "providers.yaml"
    path.write_text(SIMULATED)
    assert f"2 providers, from {path}" in told(load(path, {}))
