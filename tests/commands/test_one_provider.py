"""One provider from flags: its type and name by the address, its key by the name of a variable."""

from __future__ import annotations

import pytest

from balancer.commands.one_provider import Unfit, name_of, type_of, written
from balancer.config import parse

TYPES = {
    "https://api.anthropic.com": ("anthropic", "anthropic"),
    "https://api.anthropic.com/v1": ("anthropic", "anthropic"),
    "https://api.deepseek.com/anthropic": ("anthropic", "deepseek"),
    "https://api.z.ai/api/anthropic": ("anthropic", "z"),
    "https://api.openai.com/v1": ("openai", "openai"),
    "https://api.openai.com": ("openai", "openai"),
    "https://openrouter.ai/api/v1": ("openai", "openrouter"),
    "https://openrouter.ai/api": ("anthropic", "openrouter"),
    "https://generativelanguage.googleapis.com/v1beta/openai/": ("openai", "googleapis"),
    "http://localhost:11434": ("openai", "local"),
    "http://127.0.0.1:1234/v1": ("openai", "local"),
    "http://127.0.0.1:1234/anthropic": ("anthropic", "local"),
    "https://cloud.zed.dev": ("zed", "zed"),
    "https://192.0.2.1/api": ("anthropic", "provider"),
    "https://[::zz/": ("anthropic", "provider"),
    "nonsense": ("anthropic", "provider"),
}


@pytest.mark.parametrize(("url", "guessed"), TYPES.items())
def test_type_and_name_by_the_address(url: str, guessed: tuple[str, str]) -> None:
    assert (type_of(url), name_of(url)) == guessed


def test_the_configuration_that_the_flags_stand_for() -> None:
    env = {"DEEPSEEK_API_KEY": "sk-a-secret-of-mine"}
    text = written("https://api.deepseek.com/anthropic", "DEEPSEEK_API_KEY", None, "deepseek-chat", env)

    assert "sk-a-secret" not in text
    config = parse(text, "flags", env)
    provider = config.providers["deepseek"]
    assert (provider.type, provider.auth_type, provider.secret) == ("anthropic", "auth_token", "sk-a-secret-of-mine")
    assert [(t.provider, t.model) for r in config.routes for t in r.targets] == [("deepseek", "deepseek-chat")]


def test_anthropic_itself_gets_its_key_as_it_wants_it() -> None:
    config = parse(
        written("https://api.anthropic.com", "K", None, None, {"K": "sk-ant-12345678"}), "f", {"K": "sk-ant-12345678"}
    )

    assert config.providers["anthropic"].auth_type == "api_key"
    assert config.routes[0].targets[0].model == "passthrough"


def test_a_type_that_is_given_is_taken() -> None:
    assert '"type": "openai"' in written("https://a.example/api", "K", "openai", None, {"K": "sk-12345678"})


def test_a_server_on_this_machine_needs_no_key() -> None:
    config = parse(written("http://localhost:11434", None, None, "qwen3", {}), "f", {})

    assert config.providers["local"].type == "openai"


KEY = "sk-ant-api03-Secret"
UNFIT = {
    "no variable named": (None, {}, "--key-env VAR is missing"),
    "a variable that is not set": ("MY_KEY", {}, "the environment variable MY_KEY is not set"),
    "one that is empty": ("MY_KEY", {"MY_KEY": "  "}, "MY_KEY is not set"),
    "the key itself": (KEY, {}, "not the key itself"),
    "a key that could be a name": ("gsk_abcDEF123", {}, "not the key itself"),
}


@pytest.mark.parametrize(("key_env", "env", "words"), UNFIT.values(), ids=UNFIT)
def test_what_is_missing_is_named_and_a_key_is_not_quoted(key_env: str | None, env: dict[str, str], words: str) -> None:
    with pytest.raises(Unfit) as unfit:
        written("https://a.example", key_env, None, None, env)

    assert words in str(unfit.value)
    assert "sk-ant-api03" not in str(unfit.value)
    assert "gsk_abc" not in str(unfit.value)


def test_plain_http_to_another_machine_is_meant_by_who_types_it() -> None:
    text = written("http://box:8000/v1", "KEY_OF_BOX", None, None, {"KEY_OF_BOX": "sk-a-secret-of-mine"})
    config = parse(text, "flags", {"KEY_OF_BOX": "sk-a-secret-of-mine"})

    assert config.providers["provider"].origin.host == "box"
    assert "plain http sends the key" in str(config.warnings[0])
