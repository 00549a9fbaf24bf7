"""A first providers.yaml; one that is there is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli import main
from balancer.config import load
from balancer.config.presets import PRESETS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BALANCER_CONFIG", raising=False)
    return tmp_path


def test_several_services_in_the_order_in_which_they_are_named(folder: Path) -> None:
    assert main(["init", "claude-subscription", "anthropic", "openrouter"]) == 0

    config = load(
        folder / "providers.yaml", {"ANTHROPIC_API_KEY": "long-enough-key", "OPENROUTER_API_KEY": "long-enough-2"}
    )
    assert list(config.providers) == ["subscription", "anthropic", "openrouter"]
    (route,) = config.routes
    assert [target.model for target in route.targets] == ["passthrough", "passthrough", "anthropic/claude-sonnet-5.5"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_service_alone_makes_a_file_that_is_right(name: str, folder: Path) -> None:
    assert main(["init", name, "--config", "deep/er/p.yaml"]) == 0

    variable = PRESETS[name].key_env
    config = load(folder / "deep" / "er" / "p.yaml", {variable: "long-enough-key"} if variable else {})
    assert config.warnings == ()
    assert {route.pattern for route in config.routes} >= {"*"}


def test_a_file_that_is_there_is_not_touched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "providers.yaml").write_text("mine")

    assert main(["init", "ollama"]) == 1

    assert (folder / "providers.yaml").read_text() == "mine"
    assert "another provider: " in capsys.readouterr().err


REFUSED = {
    "nothing named, nobody to ask": ([], 2, "name one or more of these"),
    "a name for two": (["ollama", "vllm", "--name", "x"], 2, "are for one preset"),
    "an unknown service": (["ollama", "olama"], 1, "did you mean 'ollama'?"),
    "the same twice": (["ollama", "ollama"], 1, "has a provider 'ollama' already"),
}


@pytest.mark.parametrize(("argv", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_writes_nothing(
    argv: list[str], code: int, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", *argv]) == code
    assert words in capsys.readouterr().err
    assert list(folder.iterdir()) == []
