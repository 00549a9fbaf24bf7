"""The services: one place for the facts, and the example that people copy is made of the same ones."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
import yaml

from balancer.config import Config, load, parse, presets, writing
from balancer.config.presets import PRESETS, Preset

EXAMPLE = Path(__file__).resolve().parents[2] / "providers.example.yaml"
TEXT = EXAMPLE.read_text()
OFF = re.compile(r"^(  |    )# (?=- |  )", re.MULTILINE)
"""What is before a line of configuration that is switched off; a sentence begins with a letter."""


class Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: object = None) -> str:
        return "a-long-enough-key"


def switched_on(*names: str) -> str:
    """Return the example with these services switched on, as a user would do it."""
    lines, on = [], False
    for line in TEXT.splitlines():
        if found := re.match(r'  # - name: "(.*)"', line):
            on = found[1] in names
        elif not line.strip():
            on = False
        in_route = re.match(r'    # - \{provider: "(.*?)"', line)
        lines.append(OFF.sub(r"\1", line) if on or (in_route and in_route[1] in names) else line)
    return "\n".join(lines)


def sections() -> list[str]:
    return re.findall(r'^  (?:# )?- name: "(.*)"', TEXT, re.MULTILINE)


def read(text: str) -> Config:
    return parse(text, "p.yaml", Everything())


def test_the_example_is_valid_as_it_is_without_any_environment() -> None:
    config = load(EXAMPLE, {})

    assert config.warnings == ()
    assert [provider.passthrough for provider in config.providers.values()] == [True]


@pytest.mark.parametrize("name", sections())
def test_every_section_of_the_example_is_valid_when_it_is_switched_on(name: str) -> None:
    config = read(switched_on(name))

    assert config.warnings == ()
    assert set(config.providers) == {"subscription", name}
    assert any(target.provider == name for route in config.routes for target in route.targets)


def test_all_of_them_together_are_valid_and_none_is_made_up() -> None:
    config = read(OFF.sub(r"\1", TEXT))

    assert config.warnings == ()
    assert list(config.providers) == sections()
    assert not any(provider.type == "simulated" for provider in config.providers.values())
    assert {target.provider for route in config.routes for target in route.targets} == set(sections())


@pytest.mark.parametrize("name", PRESETS)
def test_the_example_says_of_every_service_what_its_preset_says(name: str) -> None:
    preset = PRESETS[name]
    called = preset.name or name
    file = yaml.safe_load(OFF.sub(r"\1", TEXT))
    (section,) = [entry for entry in file["providers"] if entry["name"] == called]
    models = {
        pattern: target["model"]
        for pattern, targets in file["model_routes"].items()
        for target in targets
        if target["provider"] == called
    }

    assert section == presets.entry(preset, called, None, None)
    assert models["default"] == preset.models["default"]
    assert models.get("haiku", models["default"]) == presets.model_for(preset, "haiku")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_is_whole(preset: Preset) -> None:
    assert "default" in preset.models
    assert preset.key_env or preset.auth_value or (preset.base_url or "").startswith("http://127.0.0.1:")
    assert preset.auth_type in (None, "api_key", "auth_token")
    assert preset.title


def test_names_are_found_in_whatever_case_and_by_others() -> None:
    found = [presets.find(word) for word in ("DeepSeek", "kimi", "LM-Studio", "z.ai", "subscription", "nobody")]

    assert found == ["deepseek", "moonshot", "lmstudio", "zai", "claude-subscription", None]
    assert len(list(presets.words())) == len(set(presets.words()))


def test_a_variable_of_your_own_goes_in_the_place_of_none() -> None:
    assert presets.entry(PRESETS["ollama"], "o", "MINE", None)["auth_value"] == "${MINE}"
    assert presets.entry(PRESETS["claude-subscription"], "s", "MINE", None)["auth_value"] == "${MINE}"
    assert "auth_value" not in presets.entry(PRESETS["ollama"], "o", None, None)


def test_the_example_takes_one_service_more_and_stays_as_it_is() -> None:
    preset = PRESETS["deepseek"]
    extension = writing.extended(TEXT, presets.entry(preset, "new", None, None), preset)

    changed = [line for line in difflib.ndiff(TEXT.splitlines(), extension.text.splitlines()) if line[0] != " "]
    assert [line[0] for line in changed] == ["+"] * 7
    assert [line[2:] for line in changed] == [
        '  - name: "new"',
        '    type: "anthropic"',
        '    base_url: "https://api.deepseek.com/anthropic"',
        '    auth_type: "api_key"',
        '    auth_value: "${DEEPSEEK_API_KEY}"',
        '    - {provider: "new", model: "deepseek-v4-flash", priority: 2}',
        '    - {provider: "new", model: "deepseek-v4-pro", priority: 2}',
    ]
    assert set(read(extension.text).providers) == {"subscription", "new"}


def test_plain_http_to_another_machine_is_meant_by_who_types_it() -> None:
    assert presets.entry(PRESETS["ollama"], "o", None, "http://box:11434/v1")["allow_http"] is True
    assert "allow_http" not in presets.entry(PRESETS["ollama"], "o", None, "https://box:11434/v1")
    assert "allow_http" not in presets.entry(PRESETS["ollama"], "o", None, None)
