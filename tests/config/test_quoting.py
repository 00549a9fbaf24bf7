"""What a message may quote: whatever a file holds, and wherever a key stands in it, no message shows the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balancer.config import Config, ConfigError, changes, load, override, parse
from balancer.config.quoting import Quoting, Theirs, is_keylike, is_wordlike, looks_random, nearest, shown_host

KEY = "sk-canary-123456"
KEYS = (
    KEY,
    "sk-canary",
    "hunter2secretvalue99",
    "9f86d081884c7d659a2feaa0c55ad015",
    "deadbeefcafe0001",
    "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP",
    "550e8400-e29b-41d4-a716-446655440000",
    "aB3dE5gH7jK9mN1pQ3",
    "top-secret-value-of-mine",
    "user-17 z3d4cc3sst0k3n",
)
ROUTES = 'model_routes: {"*": [{provider: a}]}\n'
GOOD = "name: a, type: anthropic, auth_value: long-enough-key"
PLACES = {
    "the fields one step too far to the right": "providers:\n  - name:\n      type: anthropic\n      auth_value: {key}\n{routes}",
    "the name is a list": "providers:\n- name: [{key}]\n  type: anthropic\n{routes}",
    "the name": "providers:\n- {{name: {key}, type: anthropic, auth_value: x, bogus: 1}}\n{routes}",
    "the name, long": "providers:\n- {{name: x{key}{key}{key}{key}{key}{key}{key}, type: anthropic, auth_value: x}}\n{routes}",
    "the key is a key of the mapping": "providers:\n- name: a\n  type: anthropic\n  auth_value: x\n  {key}: y\n{routes}",
    "a key at the top": "{key}: 1\nproviders:\n- {{{good}}}\n{routes}",
    "a key of the mapping, twice": "providers:\n- {{{good}}}\n{routes}settings: {{{key}: 1, {key}: 2}}\n",
    "the type": "providers:\n- name: a\n  type: {key}\n{routes}",
    "the name, twice": "providers:\n- {{name: {key}, type: anthropic, auth_value: x}}\n- {{name: {key}, type: anthropic, auth_value: x}}\n{routes}",
    "a tag": "providers:\n- {{name: a, type: anthropic, auth_value: !{key} x}}\n{routes}",
    "a tag of a mapping": "providers:\n- !{key} {{name: a, type: anthropic, auth_value: x}}\n{routes}",
    "a tag's handle": "providers:\n- {{name: a, type: anthropic, auth_value: !{key}!x y}}\n{routes}",
    "an alias": "providers:\n- {{name: a, type: anthropic, auth_value: *{key}}}\n{routes}",
    "an alias as a value": "providers:\n- name: a\n  type: anthropic\n  auth_value: *{key}\n{routes}",
    "an anchor, twice": "providers:\n- &{key} a\n- &{key} b\n{routes}",
    "an anchor alone": "providers:\n- name: a\n  type: anthropic\n  auth_value: &{key}\n{routes}",
    "an integer by its tag": "providers:\n- {{name: a, type: anthropic, auth_value: !!int {key}}}\n{routes}",
    "a merge": "providers:\n- <<: {key}\n  name: a\n{routes}",
    "a directive": "%{key}\n---\nproviders:\n- {{{good}}}\n{routes}",
    "behind a special character": "providers:\n- name: a\n  type: anthropic\n  auth_value: @{key}\n{routes}",
    "an escape": 'providers:\n- name: a\n  type: anthropic\n  auth_value: "\\{key}"\n{routes}',
    "a block scalar": "providers:\n- name: a\n  type: anthropic\n  auth_value: |{key}\n{routes}",
    "a quote that is not closed": 'providers:\n- name: a\n  auth_value: "{key}\n  type: anthropic\n{routes}',
    "a list that is not closed": "providers:\n- name: a\n  auth_value: [{key}\n  type: anthropic\n{routes}",
    "behind a quote that closes too early": "providers:\n- name: a\n  auth_value: '{key}'x'{key}'\n{routes}",
    "no blank after the colon": "providers:\n- name: a\n  type: anthropic\n  auth_value:{key}\n{routes}",
    "a colon within": "providers:\n- name: a\n  type: anthropic\n  auth_value: {key}: {key}\n{routes}",
    "an assignment": "providers:\n- name: a\n  type: anthropic\n  auth_value={key}\n{routes}",
    "the line alone": "providers:\n- name: a\n  type: anthropic\n  {key}\n{routes}",
    "the file alone": "{key}\n",
    "a list at the top": "- {key}\n",
    "a second document": "providers:\n- {{{good}}}\n{routes}---\n{key}\n",
    "a section": "providers: {key}\nmodel_routes: {key}\nsettings: {key}\n",
    "a provider": "providers: [{key}]\n{routes}",
    "the name of a provider as a key": "providers:\n  {key}:\n    type: anthropic\n{routes}",
    "the gate key is a key of the mapping": "providers:\n- {{{good}}}\n{routes}settings: {{auth: {{{key}: 1}}}}\n",
    "the gate key is not in a list": "providers:\n- {{{good}}}\n{routes}settings: {{auth: {{keys: {key}}}}}\n",
    "the gate key is the section": "providers:\n- {{{good}}}\n{routes}settings: {{auth: {key}}}\n",
    "the gate key is too deep": "providers:\n- {{{good}}}\n{routes}settings: {{auth: {{keys: [[{key}]]}}}}\n",
    "a setting": "providers:\n- {{{good}}}\n{routes}settings: {{{key}: 1}}\n",
    "the port": "providers:\n- {{{good}}}\n{routes}settings: {{port: {key}}}\n",
    "the strategy": "providers:\n- {{{good}}}\n{routes}settings: {{selection_strategy: {key}}}\n",
    "the cooldown": "providers:\n- {{{good}}}\n{routes}settings: {{failure_cooldown: {key}}}\n",
    "the timeout": "providers:\n- {{{good}, request_timeout: {key}}}\n{routes}",
    "whether it is enabled": "providers:\n- {{{good}, enabled: {key}}}\n{routes}",
    "how it is sent": "providers:\n- {{{good}, auth_type: {key}}}\n{routes}",
    "the authorities": "providers:\n- {{{good}, ca_file: {key}}}\n{routes}",
    "the file of the log": "providers:\n- {{{good}}}\n{routes}settings: {{log_file: /dev/null/{key}, bogus: 1}}\n",
    "the target": 'providers:\n- {{{good}}}\nmodel_routes: {{"*": [{{provider: {key}}}]}}\n',
    "the target is a string": 'providers:\n- {{{good}}}\nmodel_routes: {{"*": [{key}]}}\n',
    "the route is a string": 'providers:\n- {{{good}}}\nmodel_routes: {{"*": {key}}}\n',
    "the pattern": "providers:\n- {{{good}}}\nmodel_routes: {{{key}: []}}\n",
    "the pattern of a string": "providers:\n- {{{good}}}\nmodel_routes: {{{key}: {key}}}\n",
    "a key of the target": 'providers:\n- {{{good}}}\nmodel_routes: {{"*": [{{provider: a, {key}: 1}}]}}\n',
    "the priority": 'providers:\n- {{{good}}}\nmodel_routes: {{"*": [{{provider: a, priority: {key}}}]}}\n',
    "the value is a mapping": "providers:\n- {{name: a, type: anthropic, auth_value: {{x: {key}}}}}\n{routes}",
    "the value is a key of a mapping": "providers:\n- {{name: a, type: anthropic, auth_value: {{{key}: x}}}}\n{routes}",
    "a placeholder of another language": "providers:\n- {{name: a, type: anthropic, auth_value: {{{{{key}}}}}}}\n{routes}",
    "a user in the address": 'providers:\n- {{{good}, base_url: "ftp://u:{key}@h"}}\n{routes}',
    "the user of an address": 'providers:\n- {{{good}, base_url: "https://{key}@h"}}\n{routes}',
    "the address": 'providers:\n- {{{good}, base_url: "{key}"}}\n{routes}',
    "the port of the address": 'providers:\n- {{{good}, base_url: "https://h:{key}"}}\n{routes}',
    "the path of the address": 'providers:\n- {{{good}, base_url: "https://h/{key}/v1/messages"}}\n{routes}',
    "the query of the address": 'providers:\n- {{{good}, base_url: "https://h/?key={key}"}}\n{routes}',
    "a user in the proxy": 'providers:\n- {{{good}, proxy: "foo://u:{key}@h"}}\n{routes}',
    "the name of a header": 'providers:\n- {{{good}, headers: {{"x {key}": y}}}}\n{routes}',
    "the value of a header": 'providers:\n- {{{good}, headers: {{"x y": {key}}}}}\n{routes}',
    "a header's value is a list": "providers:\n- {{{good}, headers: {{authorization: [{key}]}}}}\n{routes}",
    "the name of a variable": "providers:\n- {{name: a, type: anthropic, auth_value: '${{{key}}}'}}\n{routes}",
    "a variable's default": "providers:\n- {{{good}, enabled: '${{X:-{key}}}'}}\n{routes}",
    "a reference that is not closed": "providers:\n- {{name: a, type: anthropic, auth_value: '${{{key}'}}\n{routes}",
    "a fault": "providers:\n- {{name: a, type: simulated, simulated_config: {{fault: {key}}}}}\n{routes}",
    "a profile": "providers:\n- {{{good}}}\n- {{name: b, type: openai, auth_value: x, openai_config: {{profile: {key}}}}}\n{routes}",
    "a key of the options": "providers:\n- {{name: a, type: zed, auth_value: xxxxxxxxx, zed_config: {{{key}: 1}}}}\n{routes}",
    "deep in the options": "providers:\n- {{name: a, type: zed, auth_value: x, zed_config: {{cost_control: {{pricing: {{{key}: {{input: -1}}}}}}}}}}\n{routes}",
    "the options of another type": "providers:\n- {{{good}, zed_config: {{{key}: 1}}}}\n{routes}",
    "a short form, twice": "providers:\n- {{{good}}}\nmodel_routes: {{opus: [{{provider: a}}], '*opus*': [{{provider: {key}}}]}}\n",
    "indented by a tab": "providers:\n- name: a\n\tauth_value: {key}\n{routes}",
    "indented by what looks like a space": "providers:\n- name: a\n  type: anthropic\n\u00a0\u00a0auth_value: {key}\n{routes}",
}


def told(text: str, env: dict[str, str] | None = None) -> str:
    """Return every message about a file: what is wrong with it, or what it is warned of."""
    try:
        return "\n".join(map(str, parse(text, "p.yaml", env or {}).warnings))
    except ConfigError as error:
        return str(error)


def shows(key: str, text: str) -> bool:
    """Say whether `text` shows the key, or ten characters of it."""
    return any(key[at : at + 10] in text for at in range(max(1, len(key) - 9)))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_no_message_shows_a_key_wherever_it_stands(place: str) -> None:
    said = {key: told(place.format(key=key, routes=ROUTES, good=GOOD)) for key in KEYS}

    assert {key: words for key, words in said.items() if shows(key, words)} == {}


@pytest.mark.parametrize("place", sorted(PLACES.keys() - {"a directive"}))
def test_a_key_in_the_wrong_place_is_told_of(place: str) -> None:
    """Nothing is hushed up: there is a message, and it names the line."""
    text = PLACES[place].format(key=KEY, routes=ROUTES, good=GOOD)

    assert told(text).startswith("p.yaml:")


MISPLACED = {
    "the name": "{name: KEY, type: anthropic, auth_value: long-enough-key}",
    "the address": "{name: a, type: anthropic, auth_value: x, base_url: https://KEY.example}",
    "a path": "{name: a, type: anthropic, auth_value: x, base_url: https://h.example/KEY}",
    "a header": "{name: a, type: anthropic, auth_value: long-enough-key, headers: {KEY: x}}",
}


@pytest.mark.parametrize("entry", MISPLACED.values(), ids=MISPLACED)
def test_a_key_that_would_be_shown_by_tables_and_headers_is_refused(entry: str) -> None:
    said = told(
        f"providers: [{entry.replace('KEY', KEY)}]\n{ROUTES.replace('a}', KEY + '}') if 'name: KEY' in entry else ROUTES}"
    )

    assert "looks like a key" in said
    assert not shows(KEY, said)


@pytest.mark.parametrize(
    "rest",
    [
        "model_routes: {KEY: [{provider: a}]}",
        'model_routes: {"*": [{provider: a, model: KEY}]}',
        'model_routes: {"*": [{provider: a}]}\nsettings: {host: KEY}',
        'model_routes: {"*": [{provider: a}]}\nsettings: {log_file: KEY}',
        'model_routes: {"*": [{provider: a}]}\nsettings: {allowed_hosts: [KEY]}',
    ],
)
def test_so_is_one_in_a_route_or_a_setting(rest: str) -> None:
    said = told(f"providers: [{{{GOOD}}}]\n{rest.replace('KEY', KEY)}\n")

    assert "looks like a key" in said
    assert not shows(KEY, said)


def test_a_name_that_looks_drawn_by_chance_is_warned_of() -> None:
    said = told(
        "providers: [{name: hunter2secretvalue99, type: simulated}]\nmodel_routes: {'*': [{provider: hunter2secretvalue99}]}"
    )

    assert said.startswith("p.yaml:1: warning: this name looks like a key")
    assert "hunter2" not in said


WHOLE = """\
# my configuration
providers:
  - name: main
    type: anthropic
    base_url: https://api.example.com/v1/
    auth_type: api_key
    auth_value: KEY
    proxy: http://user:KEY@proxy:8080
    headers: {x-team: blue, authorization: "Bearer KEY"}
  - {name: second, type: openai, base_url: "http://localhost:11434", openai_config: {profile: ollama, top_k: true}}
model_routes:
  "*sonnet*":
    - {provider: main, model: passthrough, priority: 1}
    - provider: second
      model: "qwen"
  opus: [{provider: second}]
  "*": [{provider: main, weight: 2}]
settings:
  selection_strategy: weighted
  request_timeout: 30
  auth: {keys: [KEY, "KEY"], admin_keys: []}
  log_level: INFO
"""

_cuts = st.tuples(
    st.integers(0, len(WHOLE) - 1),
    st.integers(0, 3),
    st.sampled_from(
        ["", " ", "  ", "\t", "\n", "x", "'", '"', "[", "{", "}", "]", ": ", ":", "- ", "-", "#", " #", "${"]
    )
    | st.sampled_from(
        ["&a ", "*", "*a", "!", "!!int ", "|", ">", "%", "@", "\\", ",", "\u00a0", "\u200b", "\u201c", "=", "<<: "]
    )
    | st.sampled_from(
        ["KEY", " KEY ", "KEY: ", "\n    KEY: x", "\nKEY\n", "{KEY: 1}", "[KEY]", "${KEY}", "${KEY", "!KEY ", "*KEY"]
    ),
)
_moves = st.tuples(
    st.integers(0, 24), st.integers(0, 24), st.sampled_from(["move", "copy", "indent", "dedent", "delete", "join"])
)


def damaged(cuts: list[tuple[int, int, str]], moves: list[tuple[int, int, str]]) -> str:
    """Return the file with characters put in and taken out, and lines moved, shifted, joined and deleted."""
    text = WHOLE
    for place, length, what in cuts:
        text = text[:place] + what + text[place + length :]
    lines = text.split("\n")
    for source, target, what in moves:
        source, target = source % len(lines), target % len(lines)
        line = lines[source]
        if what == "move":
            lines.insert(target, lines.pop(source))
        elif what == "copy":
            lines.insert(target, line)
        elif what == "indent":
            lines[source] = " " * (target % 5) + line
        elif what == "dedent":
            lines[source] = line[min(target % 5, len(line) - len(line.lstrip())) :]
        elif what == "delete" and len(lines) > 1:
            lines.pop(source)
        elif what == "join" and source + 1 < len(lines):
            lines[source : source + 2] = [line + lines[source + 1]]
    return "\n".join(lines)


@settings(max_examples=600, deadline=None)
@given(st.lists(_cuts, max_size=3), st.lists(_moves, max_size=3), st.sampled_from(KEYS))
@example([], [(2, 3, "indent")], KEY)
@example([], [(3, 2, "indent"), (4, 2, "indent"), (5, 2, "indent")], KEY)
@example([(52, 0, "\n    KEY: x")], [], "hunter2secretvalue99")
def test_a_damaged_file_never_shows_a_key(
    cuts: list[tuple[int, int, str]], moves: list[tuple[int, int, str]], key: str
) -> None:
    said = told(damaged(cuts, moves).replace("KEY", key))

    assert not shows(key, said)


@pytest.mark.parametrize("key", KEYS)
def test_no_deletion_of_a_line_or_two_characters_shows_a_key(key: str) -> None:
    text = WHOLE.replace("KEY", key)
    lines = text.splitlines(keepends=True)
    for number in range(len(lines)):
        for shift in ("", " ", "   ", "\t"):
            changed = [*lines[:number], *([shift + lines[number]] if shift else []), *lines[number + 1 :]]
            assert not shows(key, told("".join(changed)))
    for place in range(0, len(text) - 2, 3):
        assert not shows(key, told(text[:place] + text[place + 2 :]))


def test_what_comes_from_the_environment_is_never_shown() -> None:
    for place in ("port", "log_level", "selection_strategy", "request_timeout", "host", "log_file"):
        text = f"providers: [{{{GOOD}}}]\n{ROUTES}settings: {{{place}: '${{MINE}}', bogus: 1}}\n"

        assert "swordfish" not in told(text, {"MINE": "swordfish"})


def config_of(name: str) -> Config:
    text = f"providers: [{{name: {name}, type: simulated}}]\nmodel_routes: {{'*': [{{provider: {name}}}]}}"
    return parse(text, "p.yaml", {})


def test_neither_changes_nor_overrides_show_a_key() -> None:
    old, new = config_of("main"), config_of("hunter2secretvalue99")

    assert sorted(changes(old, new)) == ["a provider added", "model_routes changed", "provider 'main' removed"]
    for key in KEYS:
        with pytest.raises(ConfigError) as error:
            override(old, {"PORT": key, "LOG_LEVEL": key, "LOG_COLOR": key})
        assert not shows(key, str(error.value))


@pytest.mark.parametrize("key", KEYS)
def test_no_message_about_the_file_of_variables_shows_a_key(tmp_path: Path, key: str) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(
        f"providers: [{{name: a, type: anthropic, auth_value: '${{A}}', headers: {{x: '${{B}}'}}}}]\n{ROUTES}"
    )
    for text in (
        f"A='{key}",
        f"{key}",
        f"{key}=1\n{key}=2",
        f"A={key} {key}",
        f"A=\"'{key}'\"",
        f"A\nB={key}",
        f"A={key}\nA=x\n= {key}",
    ):
        (tmp_path / ".env").write_text(text)
        try:
            said = "\n".join(map(str, load(path, {}).warnings))
        except ConfigError as error:
            said = str(error)
        assert not shows(key, said), text


WORDS = {
    True: "main mian openrouter-2 simulated-a glm-4.7 qwen3-coder:30b claude-3-5-sonnet-20241022 *sonnet* ANTHROPIC_API_KEY "
    "MY_KEY_2 Zhipu.GLM lm-studio kimi-k2p5 deepseek-chat eighty 60s a",
    False: f"{KEY} sk-proj-abc hunter2secretvalue99 deadbeef0123456789abcdef aGVsbG8gd29ybGQ AKIAIOSFODNN7EXAMPLE xkcdqwrtzp "
    "550e8400-e29b-41d4-a716-446655440000 AbCdEfGhIj a--b$ 1234567890",
}


@pytest.mark.parametrize(("word", "expected"), [(word, yes) for yes, words in WORDS.items() for word in words.split()])
def test_names_have_a_form_that_keys_have_not(word: str, expected: bool) -> None:
    assert is_wordlike(word) is expected


def test_keys_of_known_services_are_known() -> None:
    known = (
        "sk-ant-api03-abc",
        "ghp_abcdefgh123",
        "AIzaSyD-9tSrke72",
        "eyJhbGciOiJI",
        "xoxb-1234-abcd",
        "gsk_abcdefghijklm",
    )

    assert [key for key in known if not is_keylike(f"prefix/{key}")] == []
    assert [word for word in ("task-list", "ask-me", "disk-1", "basket", "hf-mirror", "desk") if is_keylike(word)] == []


def test_what_looks_drawn_by_chance() -> None:
    assert [looks_random(text) for text in ("hunter2secretvalue99", "9f86d081884c7d659a2feaa0c55ad015")] == [True, True]
    assert [looks_random(text) for text in ("azureopenaieastus2", "claude-3-5-sonnet-20241022", "a1b2")] == [False] * 3


def test_the_nearest_word() -> None:
    assert [nearest(word, ("base_url", "auth_value")) for word in ("baseurl", "BASE_URL", "zebra", "x" * 100)] == [
        "base_url",
        "base_url",
        None,
        None,
    ]


PARTS: list[tuple[object, str]] = [
    ("main", "'main'"),
    ("base_url", "'base_url'"),
    (8080, "8080"),
    (1.5, "1.5"),
    (True, "true"),
    (None, "nothing"),
    ({"a": 1}, "a mapping"),
    ([1], "a list"),
    (12345678901, "(a number, not shown)"),
    ("", "(empty)"),
    (KEY, "(16 characters, not shown)"),
    ("x" * 49, "(49 characters, not shown)"),
    (b"bytes", "something else"),
]


@pytest.mark.parametrize(("value", "shown"), PARTS)
def test_what_is_quoted_and_what_described(value: object, shown: str) -> None:
    assert Quoting().say("not ", Theirs(value)) == f"not {shown}"


def test_a_host_is_shown_unless_it_may_be_a_key() -> None:
    hosts = ("127.0.0.1", "::1", "192.168.178.20", "my-machine.local", "localhost")

    assert [shown_host(host) for host in hosts] == list(hosts)
    assert shown_host("hunter2secretvalue99") == "(20 characters, not shown)"


def test_what_is_withheld_is_not_even_shown_by_our_own_words() -> None:
    quoting = Quoting()
    quoting.withhold("Bearer swordfish-soup")
    quoting.take_text("token: fj39dk20sl49 other: zz9plural8za7")

    assert quoting.say("look at swordfish-soup and zz9plural8za7, port") == "look at [redacted] and [redacted], port"
