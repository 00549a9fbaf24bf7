"""Which variables a client gets, and which of its own are left alone."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from conftest import missing

from balancer.commands.client_environment import EXPORTS, lacking, sets_token, variables
from balancer.config import Config, parse

URL = "http://127.0.0.1:8080"


def config(auth_value: str = "sk-something", keys: str = "", enabled: bool = True, asked: bool = True) -> Config:
    text = f"""\
providers:
  - {{name: a, type: anthropic, base_url: "https://a.example", auth_value: {auth_value}, enabled: {str(enabled).lower()}}}
  - {{name: b, type: simulated}}
model_routes: {{"*": [{{provider: {"a" if asked else "b"}}}]}}
settings: {{auth: {{keys: [{keys}]}}}}
"""
    return parse(text, "test", {})


OWN_LOGIN = config("passthrough")
KEYED = config(keys="a-key-of-ours, another-key")
BOTH = config("passthrough", keys="a-key-of-ours")

NAMED = config(
    keys="{name: m, key: the-key-of-m, rights: [read]}, {name: al, key: the-key-of-al, rights: [messages]}, "
    "{name: bob, key: the-key-of-bob}"
)
HASHED = config(keys="{name: a, key_sha256: %s}" % ("ab" * 32))

CASES: dict[str, tuple[Config | None, dict[str, str], dict[str, str]]] = {
    "no keys: any word": (config(), {}, {"ANTHROPIC_AUTH_TOKEN": "balancer"}),
    "a balancer elsewhere": (None, {}, {"ANTHROPIC_AUTH_TOKEN": "balancer"}),
    "a balancer elsewhere that asks for a key": (None, {"BALANCER_KEY": "k"}, {"ANTHROPIC_AUTH_TOKEN": "k"}),
    "keys: the first": (KEYED, {}, {"ANTHROPIC_AUTH_TOKEN": "a-key-of-ours"}),
    "named keys: one that may ask and read": (NAMED, {}, {"ANTHROPIC_AUTH_TOKEN": "the-key-of-bob"}),
    "only hashes": (HASHED, {"BALANCER_KEY": "k"}, {"ANTHROPIC_AUTH_TOKEN": "k"}),
    "the user's token stays": (config(), {"ANTHROPIC_AUTH_TOKEN": "mine"}, {}),
    "the word that we set ourselves is ours": (
        KEYED, {"ANTHROPIC_AUTH_TOKEN": "balancer"}, {"ANTHROPIC_AUTH_TOKEN": "a-key-of-ours"},
    ),
    "the user's token stays, and the key goes along": (
        KEYED, {"ANTHROPIC_AUTH_TOKEN": "mine"}, {"ANTHROPIC_CUSTOM_HEADERS": "x-balancer-key: a-key-of-ours"},
    ),
    "the user's token is the key": (KEYED, {"ANTHROPIC_AUTH_TOKEN": "a-key-of-ours"}, {}),
    "the client's own login": (OWN_LOGIN, {}, {}),
    "a provider that takes it is not enabled": (
        config("passthrough", enabled=False), {}, {"ANTHROPIC_AUTH_TOKEN": "balancer"},
    ),
    "a provider that takes it is never asked": (
        config("passthrough", asked=False), {}, {"ANTHROPIC_AUTH_TOKEN": "balancer"},
    ),
    "the client's own login, and a key": (BOTH, {}, {"ANTHROPIC_CUSTOM_HEADERS": "x-balancer-key: a-key-of-ours"}),
    "headers of the user's stay": (
        BOTH,
        {"ANTHROPIC_CUSTOM_HEADERS": "x-team: blue\nX-Balancer-Key: old"},
        {"ANTHROPIC_CUSTOM_HEADERS": "x-team: blue\nx-balancer-key: a-key-of-ours"},
    ),
    "the user's API key is no token": (config(), {"ANTHROPIC_API_KEY": "k"}, {"ANTHROPIC_AUTH_TOKEN": "balancer"}),
}  # fmt: skip


@pytest.mark.parametrize(("known", "env", "given"), CASES.values(), ids=CASES)
def test_what_is_set(known: Config | None, env: dict[str, str], given: dict[str, str]) -> None:
    assert variables(URL, known, env) == {"ANTHROPIC_BASE_URL": URL} | given


PROXIES: dict[str, tuple[str, dict[str, str], str | None]] = {
    "no proxy": (URL, {}, None),
    "a proxy": (URL, {"HTTP_PROXY": "p"}, "127.0.0.1"),
    "a proxy in small letters": (URL, {"https_proxy": "p"}, "127.0.0.1"),
    "others are left out already": (URL, {"ALL_PROXY": "p", "no_proxy": "a.example"}, "a.example,127.0.0.1"),
    "we are left out already": (URL, {"HTTP_PROXY": "p", "NO_PROXY": "x, 127.0.0.1"}, None),
    "a balancer elsewhere may need it": ("http://box:1", {"HTTP_PROXY": "p"}, None),
}


@pytest.mark.parametrize(("url", "env", "no_proxy"), PROXIES.values(), ids=PROXIES)
def test_no_proxy_is_asked_for_this_machine(url: str, env: dict[str, str], no_proxy: str | None) -> None:
    given = variables(url, None, env)

    assert given.get("NO_PROXY") == given.get("no_proxy") == no_proxy


def test_where_only_hashes_are_known_the_user_is_asked_for_the_key() -> None:
    assert "BALANCER_KEY" in lacking(HASHED, {})
    assert [lacking(HASHED, {"BALANCER_KEY": "k"}), lacking(NAMED, {}), lacking(config(), {}), lacking(None, {})] == [
        ""
    ] * 4


def test_whose_the_token_is() -> None:
    assert sets_token(config(), {})
    assert not sets_token(OWN_LOGIN, {})
    assert not sets_token(None, {"ANTHROPIC_AUTH_TOKEN": "mine"})


NASTY = "a 'b' \"c\" $HOME `id` \\ \n%d;é"


@pytest.mark.parametrize(("language", "shell"), [("sh", "sh"), ("sh", "bash"), ("sh", "zsh"), ("fish", "fish")])
def test_a_shell_reads_back_what_was_written(language: str, shell: str) -> None:
    if shutil.which(shell) is None:
        missing(shell, f"install your system's package {shell}")
    script = f"{EXPORTS[language]('NASTY', NASTY)}\nprintenv NASTY"

    told = subprocess.run([shell, "-c", script], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
    assert told.stdout.decode() == NASTY + "\n"


def test_powershell_doubles_its_marks() -> None:
    assert EXPORTS["powershell"]("A", "it's") == "$env:A = 'it''s'"


def test_by_tls_the_client_gets_authorities_and_a_certificate_unless_it_has_its_own() -> None:
    plain = variables("http://box:1", None, {"BALANCER_CA": "/ca.pem", "BALANCER_CLIENT_CERT": "/me.pem"})
    given = variables("https://box:1", None, {"BALANCER_CA": "/ca.pem", "BALANCER_CLIENT_CERT": "/me.pem"})
    own = variables("https://box:1", None, {"BALANCER_CA": "/ca.pem", "NODE_EXTRA_CA_CERTS": "/mine.pem"})

    assert not {"NODE_EXTRA_CA_CERTS", "CLAUDE_CODE_CLIENT_CERT", "CLAUDE_CODE_CLIENT_KEY"} & plain.keys()
    assert given["NODE_EXTRA_CA_CERTS"] == "/ca.pem"
    assert given["CLAUDE_CODE_CLIENT_CERT"] == given["CLAUDE_CODE_CLIENT_KEY"] == "/me.pem"
    assert "NODE_EXTRA_CA_CERTS" not in own
