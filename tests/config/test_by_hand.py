"""Configurations as people write them by hand, each with one slip: every message names the place and the remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from balancer.config import ConfigError, load, parse

BASE = """\
providers:
  - name: main
    type: anthropic
    base_url: https://api.anthropic.com
    auth_value: sk-ant-abc123
model_routes:
  "*":
    - {provider: main}
"""
KEY = "sk-ant-abc123"


class Slip(NamedTuple):
    """A file, and what must be said: `line words`, `line warning: words`; nothing: it is right."""

    text: str
    said: list[str]


def slip(old: str, new: str, *said: str) -> Slip:
    assert old in BASE
    return Slip(BASE.replace(old, new), list(said))


def more(text: str, *said: str) -> Slip:
    return Slip(BASE + text, list(said))


INDENTED = {
    "one space too few": slip("    type", "   type", "3 indented by 3 spaces; wants 4 spaces"),
    "one too many": slip("    type", "     type", "3 indented further than line 2; 4 spaces here"),
    "the last key deeper": slip("    auth", "      auth", "5 indented further than line 4; 4 spaces here"),
    "keys below the name": slip("name: main\n    type", "name:\n      type", "3 name must be a string; same column"),
    "keys under the dash": slip(
        "    type: anthropic\n", "  type: anthropic\n", "3 indented by 2 spaces; wants 4 spaces"
    ),
    "a dash at the margin": slip("  - name", "- name", "3 indented further than line 2; 2 spaces here"),
    "a second entry deeper": slip("model_r", "   - name: b\nmodel_r", "6 indented by 3 spaces; wants 2 spaces"),
    "a second entry further left": slip("model_r", " - name: b\nmodel_r", "6 indented by 1 space; wants 2 spaces"),
    "a section indented": slip("model_r", "  model_r", "6 'model_routes' must begin at the left margin"),
    "a dash too many": slip("    type", "    - type", "3 a '-' begins an entry of a list; leave the '-' out"),
    "a dash too few": slip("  - name", "    name", "2 a '- ' is missing before the first key"),
    "a tab": slip("    type", "\ttype", "3 a tab in the indentation; put spaces"),
    "spaces, then a tab": slip("    type", "    \ttype", "3 a tab in the indentation; put spaces"),
    "a tab behind a colon": slip("type: a", "type:\ta", "3 a tab here; put a space in its place"),
    "a tab at the end": slip("anthropic\n", "anthropic\t\n", "3 a tab at the end of the line: remove it"),
    "em spaces": slip("    type", "\u2003\u2003type", "3 U+2003 (em space) in the indentation; put spaces"),
    "an em space among spaces": slip(
        "    type", "    \u2003type", "3 U+2003 (em space) in the indentation; put spaces"
    ),
    "a zero width space": slip("    type", "    \u200btype", "3 U+200B (zero width space); put spaces"),
    "no-break spaces": slip("    type", "\u00a0\u00a0\u00a0\u00a0type", "3 U+00A0 (no-break space); put spaces"),
    "no-break spaces before a dash": slip("    - {", "\u00a0\u00a0- {", "8 U+00A0 (no-break space); put spaces"),
    "a no-break space behind a colon": slip("type: a", "type:\u00a0a", "3 U+00A0 (no-break space); put a space"),
}

MARKED = {
    "a bare star": slip('"*":', "*:", '7 put the pattern in quotes; "*"'),
    "a bare pattern": slip('"*":', "*sonnet*:", '7 put the pattern in quotes; "*sonnet*"'),
    "a bare pattern without an end": slip('"*":', "*opus:", "7 put the pattern in quotes"),
    "a star before a value": slip(KEY, "*abc", "5 a '*' at the beginning of a value; put the value in quotes"),
    "an ampersand": slip(KEY, "&abc$x", "5 a '&' at the beginning of a value; put the value in quotes"),
    "an ampersand that swallows": slip(KEY, "&abc long-enough-key", "5 warning: a '&'; put the value in quotes"),
    "an exclamation mark": slip(KEY, "!abc def", "5 a '!' at the beginning of a value; put the value in quotes"),
    "a percent sign": slip(KEY, "%abc", "5 a '%' at the beginning of a value; put the value in quotes"),
    "an at sign": slip(KEY, "@abc", "5 a '@' at the beginning of a value; put the value in quotes"),
    "a backtick": slip(KEY, "`abc`", "5 a '`' at the beginning of a value; put the value in quotes"),
    "a bar": slip(KEY, "|abc", "5 a '|' at the beginning of a value; put the value in quotes"),
    "a closing bracket": slip(KEY, "]abc", "5 a ']' at the beginning of a value; put the value in quotes"),
    "a bracket that is not closed": slip(KEY, "[abc", "5 a '[' is opened on this line and not closed"),
    "a brace that is not closed": slip(KEY, "{abc", "5 a '{' is opened on this line and not closed"),
    "braces of another language": slip(KEY, "{{KEY}}", '5 {{ }} is not replaced here; "${NAME}"'),
    "a colon in a value": slip(KEY, "key: value", "5 the value holds a colon; put the value in quotes"),
    "a colon at the end": slip(KEY, "abc:", "5 the value holds a colon; put the value in quotes"),
    "a key that is a comment": slip(KEY, "#abc123", "5 what follows '#' is a comment; put the value in quotes"),
    "a type that is a comment": slip("type: anthropic", "type: #anthropic", "3 type has no value; '#'; quotes"),
    "a quote that is not closed": slip("name: main", 'name: "main', '2 a quotation mark (") is opened; not closed'),
    "an apostrophe that is not closed": slip(
        "name: main", "name: 'main", "2 a quotation mark (') is opened; not closed"
    ),
    "the quote of a key": slip(KEY, f'"{KEY}', '5 a quotation mark (") is opened on this line and not closed'),
    "the quote of a pattern": slip('"*":', '"*:', '7 a quotation mark (") is opened on this line and not closed'),
    "two kinds of quotes": slip("anthropic\n", "'anthropic\"\n", "3 a quotation mark (') is opened; not closed"),
    "an apostrophe inside": slip("name: main", "name: 'it's'", "2 text follows the closing quotation mark; ''"),
    "text behind the quotes": slip("name: main", 'name: "main" x', '2 text follows the closing quotation mark; \\"'),
    "a target that is not closed": slip("main}", "main", "8 a '{' is opened on this line and not closed by '}'"),
    "a list that is not closed": slip(
        "- {provider: main}", "[{provider: main}", "8 a '[' is opened; not closed by ']'"
    ),
    "no comma": slip("main}", "main priority: 1}", "8 a comma is missing"),
    "a bracket in a target": slip("main}", "main, model: x[1m]}", "8 a '[' inside a value; put the value in quotes"),
    "a reference in a target": slip("main}", "${MAIN}}", '8 a reference stands in quotes: "${NAME}"'),
    "no space behind a colon": slip("type: a", "type:a", "3 a space is missing after the colon of 'type'"),
    "none at the last key": slip("value: sk", "value:sk", "5 a space is missing after the colon of 'auth_value'"),
    "none at the first key": slip("name: main", "name:main", "2 a space is missing after the colon of 'name'"),
    "none in a target": slip(
        "{provider: main}", "{provider:main}", "8 a space is missing after the colon of 'provider'"
    ),
    "no space behind a dash": slip("- name", "-name", "2 a space is missing after the '-'"),
    "none before a target": slip("- {", "-{", "8 a space is missing after the '-'"),
    "no colon": slip("type: a", "type a", "3 a colon is missing on this line"),
    "no colon at a section": slip("model_routes:", "model_routes", "6 a colon is missing on this line"),
    "no colon at the first line": slip("providers:", "providers", "1 a colon is missing on this line"),
    "an equals sign": slip("type: anthropic", "type = anthropic", "3 written with a colon: 'key: value'"),
    "an equals sign in a target": slip("{provider: main}", "{provider=main}", "8 written with a colon"),
    "a backslash in quotes": slip(KEY, '"C:\\certs"', "5 a backslash; write '...' instead"),
    "typographic quotes": slip("name: main", "name: \u201cmain\u201d", "2 a typographic quotation mark; use \" or '"),
    "typographic quotes round a key": slip(
        "- name", "- \u201cname\u201d", "2 a typographic quotation mark; use \" or '"
    ),
    "a control character": slip(KEY, "sk\x01ant", "5 a control character; remove it"),
    "a second document": more("---\nx: 1\n", "9 a second document; the file holds one"),
    "a key twice": slip("    type", "    name: b\n    type", "3 'name' stands here a second time; line 2; remove one"),
    "TOML": Slip("[providers]\nname = 'a'\n", ["2 the file holds 'providers:'"]),
    "variables": Slip("ANTHROPIC_API_KEY=x\n", ["1 must be a mapping; providers: [...]"]),
    "UTF-16": Slip("\ufeff", ["1 UTF-16; save it as UTF-8"]),
}

MEANT = {
    "a key nearly": slip("base_url", "baseurl", "4 unknown key 'baseurl'; did you mean 'base_url'?"),
    "another proxy's key": slip("auth_value", "api_key", "5 unknown key 'api_key'; did you mean 'auth_value'?"),
    "in camel case": slip("auth_value", "apiKey", "5 unknown key 'apiKey'; did you mean 'auth_value'?"),
    "token": slip("auth_value", "token", "5 unknown key 'token'; did you mean 'auth_value'?"),
    "key": slip("auth_value", "key", "5 unknown key 'key'; did you mean 'auth_value'?"),
    "url": slip("base_url", "url", "4 unknown key 'url'; did you mean 'base_url'?"),
    "api_base": slip("base_url", "api_base", "4 unknown key 'api_base'; did you mean 'base_url'?"),
    "endpoint": slip("base_url", "endpoint", "4 unknown key 'endpoint'; did you mean 'base_url'?"),
    "models": slip("    type", "    models: [x]\n    type", "3 unknown key 'models'; model_routes; provider: NAME"),
    "timeout": slip("    type", "    timeout: 9\n    type", "3 'timeout'; did you mean 'request_timeout'?"),
    "retries": slip("    type", "    retries: 3\n    type", "3 'retries'; the next target of the route is asked"),
    "a weight of a provider": slip("    type", "    weight: 3\n    type", "3 'weight'; belongs to a target"),
    "a setting of a provider": slip(
        "    type", "    log_level: INFO\n    type", "3 'log_level'; belongs below settings"
    ),
    "a provider's key in the settings": more(
        "settings: {auth_type: x}\n", "9 'auth_type'; belongs to an entry of providers"
    ),
    "a provider's key at the margin": more("ca_file: x\n", "9 'ca_file'; belongs to an entry of providers"),
    "another name of a section": slip(
        "model_routes:", "routes:", "6 unknown key 'routes'; did you mean 'model_routes'?"
    ),
    "disabled": slip("    type", "    disabled: true\n    type", "3 'disabled'; enabled: false"),
    "a rule without a class": more(
        "settings: {error_rules: [{status: 400}]}\n", "9 required key 'class': class: account"
    ),
    "a rule without a condition": more(
        "settings: {error_rules: [{class: limit}]}\n", "9 error_rules; needs a condition"
    ),
    "a rule of no class": more(
        "settings: {error_rules: [{status: 400, class: acount}]}\n", "9 class must be one of; did you mean 'account'?"
    ),
    "a rule with a slip": more(
        "settings:\n  error_rules:\n    - {status: 400, class: limit}\n    - {contain: x, class: limit}\n",
        "12 'contain'; did you mean 'contains'?",
    ),
    "a rule's status in words": more(
        "settings: {error_rules: [{status: 4xx, class: limit}]}\n", "9 status must be a whole number, not '4xx'"
    ),
    "rules that are no list": slip(
        "    auth", "    error_rules: {status: 400}\n    auth", "5 error_rules must be a list: error_rules: [{status"
    ),
    "no number": more("settings: {port: eighty}\n", "9 port must be a whole number, not 'eighty'"),
    "seconds": more("settings: {request_timeout: 60s}\n", "9 request_timeout; number of seconds: 60, not '60s'"),
    "minutes": more("settings: {request_timeout: 2m}\n", "9 request_timeout; number of seconds: 120, not '2m'"),
    "milliseconds": more("settings: {connect_timeout: 500ms}\n", "9 number of seconds: 0.5, not '500ms'"),
    "milliseconds without a unit": more(
        "settings: {request_timeout: 30000}\n", "9 warning: request_timeout is a number of seconds; did you mean 30?"
    ),
    "too many milliseconds": slip(
        "    type", "    request_timeout: 600000\n    type", "3 request_timeout must be at most 86400, not 600000; 600?"
    ),
    "megabytes": more("settings: {limits: {max_body_bytes: 32MB}}\n", "9 number of bytes: 33554432, not '32MB'"),
    "a missing variable": slip(
        KEY, "${MY_MISSING_KEY}", "5 variable MY_MISSING_KEY is not set; set it; .env; enabled: false"
    ),
    "a misspelt variable": slip(KEY, "${MY_KYE}", "5 variable MY_KYE is not set; did you mean MY_KEY?"),
    "a name twice": slip(
        "model_r", "  - {name: main, type: simulated}\nmodel_r", "6 'main' stands on line 2 already; own name"
    ),
    "a provider misspelt": slip("provider: main", "provider: mian", "8 no provider 'mian'; did you mean 'main'?"),
    "a URL of messages": slip(".com", ".com/v1/messages", "4 base_url; leave out what comes after /v1"),
    "a URL of chat": slip(".com", ".com/v1/chat/completions", "4 base_url; leave out what comes after /v1"),
    "no scheme": slip("https://", "", "4 base_url must begin with https://; put https:// before it"),
    "a scheme misspelt": slip("https://", "htps://", "4 base_url must begin with https://; misspelt"),
    "one slash": slip("https://", "https:/", "4 base_url must begin with https://; two slashes"),
    "a blank in a URL": slip("https://api.anthropic.com", "'https://api.anthropic.com '", "4 white space; remove it"),
    "a type in capitals": slip("type: a", "type: A", "3 unknown type 'Anthropic'; did you mean 'anthropic'?"),
    "a service as a type": slip("type: anthropic", "type: ollama", "3 type: openai; profile: ollama"),
    "another word for a type": slip(
        "type: anthropic", "type: claude", "3 unknown type 'claude'; did you mean 'anthropic'?"
    ),
    "empty": Slip("", ["1 the file is empty; providers"]),
    "only a comment": Slip("# nothing\n", ["1 the file is empty; providers"]),
    "a list": Slip("- a\n- b\n", ["1 must be a mapping; providers: [...]"]),
    "providers as a mapping": Slip(
        "providers:\n  main:\n    type: anthropic\n    auth_value: x\nmodel_routes:\n  '*': [{provider: main}]\n",
        ["1 must be a list; - name: main"],
    ),
    "no routes": Slip(BASE.split("model_routes")[0], ['1 model_routes must be a mapping; "*": [{provider: NAME}]']),
    "a reference that is not closed": slip(KEY, "${MY_KEY", "5 not closed; ${NAME}"),
    "a reference without braces": slip(KEY, "$HOME", "5 warning: sent as it stands; ${NAME}"),
    "a reference as on Windows": slip(KEY, "'%HOME%'", "5 warning: sent as it stands; ${NAME}"),
    "a route as a string": slip("    - {provider: main}", "    main", "7 route '*' must be a list; [{provider: main}]"),
    "a route as strings": slip("- {provider: main}", "- main", "8 a target is a mapping; {provider: main}"),
    "a route twice": more('  "*":\n    - {provider: main}\n', "9 '*' stands here a second time; line 7; remove one"),
    "a route in both forms": more(
        "  default: [{provider: main}]\n", "9 'default' and '*' are the same route; line 7; keep one"
    ),
    "a strategy": more("settings: {selection_strategy: roundrobin}\n", "9 'roundrobin'; did you mean 'round_robin'?"),
    "another proxy's strategy": more("settings: {selection_strategy: simple-shuffle}\n", "9 did you mean 'random'?"),
    "a level": more("settings: {log_level: warn}\n", "9 log_level; did you mean 'WARNING'?"),
    "bearer": slip("    auth_v", "    auth_type: bearer\n    auth_v", "5 'bearer'; did you mean 'auth_token'?"),
    "a profile misspelt": slip(
        "type: anthropic", "type: openai\n    openai_config: {profile: openrouer}", "4 did you mean 'openrouter'?"
    ),
    "a fault misspelt": slip(
        "type: anthropic", "type: simulated\n    simulated_config: {fault: cutt}", "4 no such fault; cut; not 'cutt'"
    ),
    "the block of another type": slip(
        "    type",
        "    openai_config: {profile: openai}\n    type",
        "3 warning: no effect on a provider of type 'anthropic'",
    ),
    "nobody enabled": slip("    type", "    enabled: false\n    type", "1 no provider is enabled; enabled: true"),
    "nobody enabled, in quotes": slip(
        "    type", "    enabled: 'no'\n    type", "1 no provider is enabled; enabled: true"
    ),
    "no key": slip(
        f"    auth_value: {KEY}\n", "", "2 missing required key 'auth_value' of provider 'main'; ${NAME}; none"
    ),
    "an empty key": slip(KEY, "${X:-}", "5 auth_value is empty; ${NAME}; passthrough"),
    "a placeholder": slip(KEY, "YOUR_API_KEY_HERE", "5 warning: placeholder; put the provider's key in its place"),
    "a placeholder in brackets": slip(KEY, "<key>", "5 warning: placeholder; without the brackets"),
    "a key cut at a comment": slip(KEY, "sk-ant #abc123", "5 warning: the key ends before '#'; in quotes"),
    "quotes inside": slip(KEY, f"\"'{KEY}'\"", "5 warning: quotation marks; remove the inner ones"),
    "a scheme word": slip(KEY, f"Bearer {KEY}", "5 warning: a word stands before the key; write the key alone"),
    "an assignment": slip(KEY, f"ANTHROPIC_API_KEY={KEY}", "5 warning: a variable is set here; write the key alone"),
    "the name of a variable": slip(KEY, "ANTHROPIC_API_KEY", "5 warning: the name of a variable; ${NAME}"),
    "another proxy's reference": slip(KEY, "os.environ/ANTHROPIC_API_KEY", "5 warning: sent as it stands; ${NAME}"),
    "a reference by a dot": slip(KEY, "env.MY_KEY", "5 warning: sent as it stands; ${NAME}"),
    "an address in the place of a key": slip(KEY, "https://api.x", "5 warning: an address, not a key; base_url"),
    "key and address swapped": slip(
        "base_url: https://api.anthropic.com", "base_url: sk-ant-xyz12", "4 looks like a key; auth_value"
    ),
    "a local server without a scheme": slip("https://api.anthropic.com", "localhost:11434", "4 put http:// before it"),
    "a blank in a key": slip(KEY, "sk-ant abc123", "5 warning: a space; copy it anew"),
    "a short key": slip(KEY, "sk-1", "5 warning: fewer than 8 characters; whole"),
    "a comma behind a key": slip(KEY, f"{KEY},", "5 warning: ends with ','; remove it"),
    "passthrough misspelt": slip(KEY, "pass-through", "5 warning: did you mean 'passthrough'?"),
    "an invisible character in a key": slip(KEY, f"{KEY}\u200b", "5 warning: can't be seen; copy it anew"),
    "a priority as a word": slip("main}", "main, priority: first}", "8 whole number; priority: 1; not 'first'"),
    "settings in a list": more("settings:\n  - port: 8080\n", "9 settings must be a mapping; without '-'"),
    "a header as a string": slip("    type", "    headers: x\n    type", "3 headers must be a mapping; headers: {"),
    "gate keys as a string": more("settings: {auth: {keys: abcdefghijkl}}\n", "9 keys must be a list; keys: ["),
    "four at once": Slip(
        BASE.replace("type: anthropic", "type: antropic").replace("provider: main", "provider: mian")
        + "settings:\n  selection_strategy: roundrobin\n  prot: 9\n",
        [
            "3 'antropic'; did you mean 'anthropic'?",
            "8 did you mean 'main'?",
            "10 'round_robin'?",
            "11 did you mean 'port'?",
        ],
    ),
    "a name that is a word for false": slip("name: main", "name: off", "2 name must be a string; put it in quotes"),
    "a simulated provider behind a real one": Slip(
        BASE.replace("model_r", "  - {name: fake, type: simulated}\nmodel_r") + "    - {provider: fake, priority: 2}\n",
        ["10 warning: simulated; remove this target"],
    ),
    "a route that the client never asks for": slip(
        '"*":', '"*opus*":', "6 warning: no route; claude-sonnet-5-5; 'default'"
    ),
}

RIGHT = {
    "as it should be": BASE,
    "JSON": '{"providers": [{"name":"main","type":"anthropic","auth_value":"long-enough-key"}], '
    '"model_routes": {"*": [{"provider":"main"}]}}',
    "lines of Windows": BASE.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + BASE,
    "a key that ends like base64": BASE.replace(KEY, "ABCDEFGH0123456789abcdef=="),
    "a key with a line end": BASE.replace(KEY, f'"{KEY}\\n"'),
    "a comment behind a key": BASE.replace(KEY, f"{KEY} # the team's"),
    "a quoted port": BASE + "settings: {port: '8080'}\n",
    "a list at the margin": BASE.replace("  - name", "- name").replace("    ", "  "),
    "a local server without a key": BASE.replace("https://api.anthropic.com", "http://localhost:11434").replace(
        f"    auth_value: {KEY}\n", ""
    ),
    "a local server with a made-up key": BASE.replace("https://api.anthropic.com", "http://127.0.0.1:1234").replace(KEY, "x"),
    "no key by intent": BASE.replace(KEY, "none"),
    "tiers": BASE.replace('"*":', "default:") + "  opus: [{provider: main}]\n  sonnet: {provider: main}\n",
    "only simulated ones": 'providers: [{name: a, type: simulated}]\nmodel_routes: {"*": [{provider: a}]}',
}  # fmt: skip

ALL = {**INDENTED, **MARKED, **MEANT}


def said(text: str) -> list[str]:
    data = text.encode("utf-16") if text == "\ufeff" else text.encode()
    try:
        return [str(warning) for warning in parse(data, "p", {"MY_KEY": "a-key-of-mine"}).warnings]
    except ConfigError as error:
        return str(error).splitlines()


@pytest.mark.parametrize("case", ALL)
def test_a_slip_is_told_with_its_place_and_its_remedy(case: str) -> None:
    found = said(ALL[case].text)

    assert len(found) == len(ALL[case].said), found
    for line, expected in zip(found, ALL[case].said, strict=True):
        number, _, words = expected.partition(" ")
        severity, colon, rest = words.rpartition("warning: ")
        assert line.startswith(f"p:{number}: {severity}{colon}"), line
        assert ("warning: " in line) is bool(colon), line
        for word in rest.split("; "):
            assert word in line, line


@pytest.mark.parametrize("case", ALL)
def test_no_message_has_the_words_of_the_parser(case: str) -> None:
    text = "\n".join(said(ALL[case].text))

    assert not any(
        word in text for word in ("block end", "any token", "scalar", "Input should", "str_type", "tag:yaml")
    )


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_taken_without_a_word(text: str) -> None:
    assert said(text) == []


def test_tiers_stand_for_patterns() -> None:
    routes = parse(RIGHT["tiers"], "p", {}).routes

    assert [route.pattern for route in routes] == ["*", "*opus*", "*sonnet*"]


def test_a_file_that_others_can_read_is_warned_of_once(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(BASE)
    os.chmod(path, 0o644)

    assert [str(warning) for warning in load(path, {}).warnings] == [
        "providers.yaml:5: warning: here is a key, and others on this machine can read the file; "
        "run: chmod 600 providers.yaml"
    ]
