"""Every block of the documentation is what it says: commands that exist, configurations that load, JSON and Python that parse."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import subprocess
from pathlib import Path

import endpoints
import pytest
import yaml
from pages import DOCS, PAGES, ROOT, Block, blocks, blocks_of, commands, inline_code, name

from balancer import cli
from balancer.commands import arguments
from balancer.config import ConfigError, parse
from balancer.config.presets import PRESETS
from balancer.config.presets import entry as entry_of
from balancer.policy import routes

PROGRAMS = frozenset(
    {"balancer", "claude", "make", "curl", "uvicorn", "python", "python3", "pip", "pipx", "uv", "git", "jq", "openssl"}
    | {
        "export",
        "unset",
        "eval",
        "source",
        "cd",
        "cp",
        "echo",
        "chmod",
        "mkdir",
        "touch",
        "install",
        "tail",
        "id",
        "sudo",
    }
    | {"docker", "systemctl", "journalctl", "launchctl", "loginctl", "nginx", "ollama", "lms", "vllm"}
)
"""What a block of shell may call. A name that is not here is a slip, or a program that readers can't be expected to have."""

ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):8080(/[\w/]*)")


def _accepted(words: list[str]) -> str:
    """Return what the command line has against these words; empty: nothing."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            arguments.parse(cli.build(), words)
        except SystemExit as end:
            if end.code:
                return said.getvalue().strip().splitlines()[-1]
    return ""


def _environment(text: str) -> dict[str, str]:
    """Return a value for every variable that a configuration names, in the form of a real key."""
    digests = {key: hashlib.sha256(key.encode()).hexdigest()[:32] for key in re.findall(r"\$\{(\w+)", text)}
    return {key: f"4711 {digest}" if key == "ZED_ACCOUNT" else f"sk-{digest}" for key, digest in digests.items()}


def _is_configuration(text: str) -> bool:
    return bool(re.search(r"^(providers|model_routes|settings):", text, re.MULTILINE))


ASKED_FOR = ("claude-opus-5-5", "claude-sonnet-5-5[1m]", "claude-haiku-5-5", "claude-fable-5-2")
"""What Claude Code asks for by itself."""

WHOLE = (
    "providers: [{name: anthropic, type: anthropic, auth_value: '${ANTHROPIC_API_KEY}'}]\n"
    'model_routes: {"*": [{provider: anthropic}]}\n'
)
"""What a block that shows settings alone stands in."""


def test_there_is_something_to_test() -> None:
    assert {language: len(blocks(language)) > least for language, least in LEAST.items()} == dict.fromkeys(LEAST, True)


LEAST = {"bash": 40, "yaml": 30, "json": 2, "python": 0}


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_shell_is_shell_and_calls_programs_that_exist(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    heads = [Path(words[0]).name for words in commands(block.text)]

    assert checked.returncode == 0, checked.stderr
    assert set(heads) - PROGRAMS == set()


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_commands_of_the_balancer_are_accepted_as_they_stand(block: Block) -> None:
    given = [words[1:] for words in commands(block.text) if Path(words[0]).name == "balancer"]

    assert {" ".join(words): fault for words in given if (fault := _accepted(words))} == {}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_name_a_command_and_its_flags(page: Path) -> None:
    known = arguments.commands_of(cli.build())
    # In a table a pipe is escaped: `balancer wake\|pause NAME` names two commands.
    given = [code.split() for code in inline_code(page) if code.startswith("balancer ")]
    given = [words for words in given if words[1:] != ["--version"]]  # the one flag that needs no command
    wrong = []
    for words in given:
        named = [known.get(one) for one in words[1].replace("\\", "").split("|")]
        flags = {word.partition("=")[0] for word in words[2:] if word.startswith("-") and word != "--"}
        if any(command is None or not flags <= set(command._option_string_actions) for command in named):
            wrong.append(" ".join(words))

    assert wrong == []


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_shell_names_targets_files_modules_and_addresses_that_exist(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    paths = endpoints.paths()
    for words in commands(block.text):
        match Path(words[0]).name, words[1:]:
            case "make", rest:
                assert {word for word in rest if "=" not in word and not word.startswith("-")} <= targets
            case "cp", [source, *_]:
                assert (ROOT / source).exists(), source
            case "python" | "python3", ["-m", module, *_] if module.startswith(("bench", "balancer")):
                assert any((ROOT / root / f"{module.replace('.', '/')}.py").exists() for root in ("", "src")), module
    assert {path for path in ADDRESS.findall(block.text) if path not in paths} == set()


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if _is_configuration(b.text)], ids=str)
def test_configurations_load_without_a_problem_or_a_warning(block: Block) -> None:
    data = yaml.safe_load(block.text)
    text = WHOLE + block.text if set(data) == {"settings"} else block.text
    try:
        config = parse(text, name(block.page), _environment(text))
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)

    served = routes.compile(config.routes)
    assert [str(warning) for warning in config.warnings] == []
    assert [model for model in ASKED_FOR if served.match(model) is None] == [], "Claude Code would get 404"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_page_of_a_service_shows_what_balancer_add_writes(preset: str) -> None:
    """`balancer add` and the page agree on type, address, credential, options and models."""
    page = DOCS / "providers" / f"{preset}.md"
    shown = yaml.safe_load(next(block.text for block in blocks_of(page) if block.language == "yaml"))
    entry = next(one for one in shown["providers"] if one["name"] == (PRESETS[preset].name or preset))
    written = entry_of(PRESETS[preset], entry["name"], None, None)
    options = f"{PRESETS[preset].type}_config"
    wanted = PRESETS[preset].options
    targets = {key: target for key, route in shown["model_routes"].items() for target in route}
    models = {
        key: target.get("model", "passthrough") for key, target in targets.items() if len(shown["providers"]) == 1
    }

    assert {key: entry.get(key) for key in written if key != options} == {
        k: v for k, v in written.items() if k != options
    }
    assert {k: v for k, v in wanted.items() if entry.get(options, {}).get(k) != v} == {}
    assert models in ({}, dict(PRESETS[preset].models))
    assert f"`balancer add {preset}`" in page.read_text()


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_parses(block: Block) -> None:
    yaml.safe_load(block.text)


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_parses_and_settings_of_claude_code_are_strings(block: Block) -> None:
    data = json.loads(block.text)

    assert [value for value in data.get("env", {}).values() if not isinstance(value, str)] == []


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


def test_the_first_steps_are_the_same_everywhere() -> None:
    """README, the site's first page and the guide say the same, word by word."""
    (exports,) = [block.text for block in blocks_of(ROOT / "README.md") if block.text.startswith("export ")]

    assert exports in [block.text for block in blocks_of(DOCS / "index.md")]
    assert exports in [block.text for block in blocks_of(DOCS / "claude-code.md")]
    assert exports.removesuffix("claude\n") + 'claude -p "say hi"\n' in [
        block.text for block in blocks_of(DOCS / "getting-started.md")
    ]
