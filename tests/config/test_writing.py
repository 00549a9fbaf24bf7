"""A provider put into a file: whatever the file looks like, every byte of it stays, and the result means what it should."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.config import envfile, load, presets, writing

PRESET = presets.PRESETS["deepseek"]
ENTRY = presets.entry(PRESET, "new", None, None)
LINES = """\
  - name: "new"
    type: "anthropic"
    base_url: "https://api.deepseek.com/anthropic"
    auth_type: "api_key"
    auth_value: "${DEEPSEEK_API_KEY}"
"""
TARGET = '{provider: "new", model: "deepseek-v4-pro", priority: 2}'
FIRST = '{provider: "new", model: "deepseek-v4-pro", priority: 1}'
HAIKU = '{provider: "new", model: "deepseek-v4-flash", priority: 2}'

HEAD = "providers:\n  - {name: a, type: simulated}\n"
ROUTE = 'model_routes:\n  "*":\n    - {provider: a}\n'

CASES = {
    "blocks": (HEAD + ROUTE, HEAD + LINES + ROUTE + f"    - {TARGET}\n"),
    "no line end at the end": ((HEAD + ROUTE).rstrip(), HEAD + LINES + ROUTE + f"    - {TARGET}"),
    "lines of Windows": (
        (HEAD + ROUTE).replace("\n", "\r\n"),
        (HEAD + LINES + ROUTE + f"    - {TARGET}\n").replace("\n", "\r\n"),
    ),
    "comments behind, below and between": (
        f"{HEAD.rstrip()} # one\n    # more of it\n\n# routes\n{ROUTE.rstrip()} # two\n      # more\n\n# end\n",
        f"{HEAD.rstrip()} # one\n    # more of it\n{LINES}\n# routes\n{ROUTE.rstrip()} # two\n      # more\n    - {TARGET}\n\n# end\n",
    ),
    "blank lines between the entries": (
        "providers:\n  - name: a\n    type: simulated\n\n  - name: b\n    type: simulated\n\n" + ROUTE,
        "providers:\n  - name: a\n    type: simulated\n\n  - name: b\n    type: simulated\n\n" + LINES + "\n" + ROUTE + f"    - {TARGET}\n",
    ),
    "lists at the margin": (
        "providers:\n- name: a\n  type: simulated\nmodel_routes:\n  '*':\n  - provider: a\n",
        "providers:\n- name: a\n  type: simulated\n" + LINES.replace("\n  ", "\n")[2:] + f"model_routes:\n  '*':\n  - provider: a\n  - {TARGET}\n",
    ),
    "lists on one line": (
        "providers: [{name: a, type: simulated}]\nmodel_routes: {default: [{provider: a}], haiku: {provider: a}} # all\n",
        "providers: [{name: a, type: simulated}, "
        '{name: "new", type: "anthropic", base_url: "https://api.deepseek.com/anthropic", auth_type: "api_key", '
        'auth_value: "${DEEPSEEK_API_KEY}"}]\n'
        f"model_routes: {{default: [{{provider: a}}, {TARGET}], haiku: [{{provider: a}}, {HAIKU}]}} # all\n",
    ),
    "no route for all": (
        HEAD + "model_routes:\n  opus: [{provider: a, priority: 7}]\n  exact-name: [{provider: a}]\n# end\n",
        HEAD + LINES + f"model_routes:\n  opus: [{{provider: a, priority: 7}}, {TARGET.replace('2}', '8}')}]\n"
        f"  exact-name: [{{provider: a}}]\n  default:\n    - {FIRST}\n# end\n",
    ),
    "a section that is missing": ("settings: {port: 1}\n", f"settings: {{port: 1}}\n\nproviders:\n{LINES}\nmodel_routes:\n  default:\n    - {FIRST}\n"),
    "sections that are empty": ("providers: # none\nmodel_routes: {}\n", f"providers: # none\n{LINES}model_routes:\n  default:\n    - {FIRST}\n"),
    "a text of several lines at the end": (
        "providers:\n  - name: a\n    type: simulated\n    simulated_config:\n      answer: |\n        one\n\n        two\n\n" + ROUTE,
        "providers:\n  - name: a\n    type: simulated\n    simulated_config:\n      answer: |\n        one\n\n        two\n" + LINES + "\n" + ROUTE + f"    - {TARGET}\n",
    ),
    "a merge": (
        "providers:\n  - &a\n    name: a\n    type: simulated\n  - name: b\n    <<: *a\n" + ROUTE,
        "providers:\n  - &a\n    name: a\n    type: simulated\n  - name: b\n    <<: *a\n" + LINES + ROUTE + f"    - {TARGET}\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_new_is_new(case: str) -> None:
    before, after = CASES[case]

    assert writing.extended(before, ENTRY, PRESET).text == after


def test_json_stays_json() -> None:
    text = '{\n  "providers": [\n    {"name": "a", "type": "simulated"}\n  ],\n  "model_routes": {"x": [{"provider": "a"}]}\n}\n'
    extended = yaml.safe_load(writing.extended(text, ENTRY, PRESET).text.replace("\t", ""))

    assert extended["providers"][1] == ENTRY
    assert extended["model_routes"] == {
        "x": [{"provider": "a"}],
        "default": [{"provider": "new", "model": "deepseek-v4-pro", "priority": 1}],
    }


def test_a_target_in_a_form_that_can_t_be_extended_is_said() -> None:
    extension = writing.extended(HEAD + "model_routes:\n  default:\n    provider: a\n", ENTRY, PRESET)

    assert extension.left == [f"route 'default': add {TARGET} by hand"]


def test_what_is_no_mapping_is_refused() -> None:
    for text in ("- a\n", "providers: a\n", "providers: [{name: a}]\nmodel_routes: [a]\n"):
        with pytest.raises(writing.CantExtend):
            writing.extended(text, ENTRY, PRESET)


_spaces = st.sampled_from(["", "\n", "\n\n", "# a comment\n", "\n# a comment\n\n"])
_entries = st.sampled_from(
    [
        "{{name: {name}, type: simulated}}{end}",
        "name: {name}\n    type: simulated{end}",
        "name: {name}\n    type: anthropic\n    headers:\n      x: y{end}\n    # base_url: x",
        "name: {name}\n    type: simulated\n    simulated_config: {{fault: [cut,\n      '529']}}{end}",
    ]
)
_ends = st.sampled_from(["", "   ", " # why"])
_routes = st.sampled_from(
    [
        "[{provider: a}]",
        "[\n    {provider: a},\n  ]",
        "\n    - {provider: a}",
        "\n  - provider: a\n    priority: 3",
        "{provider: a}",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_entries, _ends, _spaces), min_size=1, max_size=3),
    st.lists(st.tuples(_routes, _ends, _spaces), min_size=1, max_size=3),
    _spaces,
    st.booleans(),
)
def test_every_layout_keeps_its_meaning_and_its_lines(
    entries: list[tuple[str, str, str]], routes: list[tuple[str, str, str]], last: str, routes_first: bool
) -> None:
    providers = "providers:\n" + "".join(
        f"  - {text.format(name='abc'[index], end=end)}\n{space}" for index, (text, end, space) in enumerate(entries)
    )
    patterns = ('"*"', "haiku", '"*x?"')
    listed = "model_routes:\n" + "".join(
        f"  {patterns[index]}: {text}{end}\n{space}" for index, (text, end, space) in enumerate(routes)
    )
    text = (listed + providers if routes_first else providers + listed) + last

    extension = writing.extended(text, ENTRY, PRESET)

    before, after = yaml.safe_load(text), yaml.safe_load(extension.text)
    assert after["providers"] == [*before["providers"], ENTRY]
    assert after["model_routes"].keys() == before["model_routes"].keys()
    for pattern, targets in before["model_routes"].items():
        old = targets if isinstance(targets, list) else [targets]
        assert after["model_routes"][pattern][:-1] == old
        assert after["model_routes"][pattern][-1]["provider"] == "new"
    rest = iter(extension.text)
    assert all(character in rest for character in text), "nothing was taken out"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    (tmp_path / "link.yaml").symlink_to(path)
    writing.save(tmp_path / "link.yaml", "one\r\n")

    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one\r\n", 0o600)
    path.chmod(0o640)
    with pytest.raises(UnicodeEncodeError):
        writing.save(path, "\ud800")
    writing.save(path, "two")

    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("two", 0o640)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.yaml", "providers.yaml"]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
def test_a_key_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    folder = tmp_path_factory.mktemp("env")
    (folder / ".env").write_text("A=1")
    writing.keep_key(folder / ".env", "KEY", key)

    assert envfile.read(folder / ".env", {}).values["A"] == "1"
    assert envfile.read(folder / ".env", {}).values["KEY"] == key or "${" in key


def test_what_is_written_is_right(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    writing.save(path, writing.new_file(ENTRY, PRESET).text)

    config = load(path, {"DEEPSEEK_API_KEY": "long-enough-key"})
    assert config.warnings == ()
    assert {route.pattern: route.targets[0].model for route in config.routes} == {
        "*haiku*": "deepseek-v4-flash",
        "*": "deepseek-v4-pro",
    }
