"""providers.yaml -> Config, or every problem with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from balancer.config import Config, ConfigError, parse
from balancer.model import ErrorRule, RefusalClass

GOOD = """\
providers:
  - name: a
    type: anthropic
    base_url: https://api.example.com/v1/
    auth_value: sk-canary
model_routes:
  "*": [{provider: a}]
"""


def read(text: str, **env: str) -> Config:
    return parse(text, "providers.yaml", env)


def problems(text: str | bytes, **env: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "p.yaml", env)
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = read(GOOD).settings

    assert (settings.selection_strategy, settings.cooldown_s, settings.request_timeout) == ("priority", 60.0, 60.0)
    assert (settings.connect_timeout, settings.stream_idle_timeout, settings.non_streaming_timeout) == (
        5.0,
        120.0,
        600.0,
    )
    assert (settings.on_broken_stream, settings.host, settings.port) == ("auto", "127.0.0.1", 8080)
    assert (settings.sticky.enabled, settings.sticky.ttl, settings.sticky.by) == (True, 300.0, "session")
    assert (settings.limits.max_body_bytes, settings.limits.max_in_flight) == (33554432, 1000)


def test_a_provider_as_the_rest_sees_it() -> None:
    provider = read(GOOD).providers["a"]

    assert (provider.base_path, provider.origin.host, provider.origin.port, provider.origin.tls) == (
        "", "api.example.com", 443, True,
    )  # fmt: skip
    assert provider.secret == "sk-canary"
    assert "sk-canary" not in repr(provider)


JUDGED = """\
providers:
  - {name: a, type: anthropic, auth_value: sk-canary}
  - {name: mine, type: anthropic, auth_value: passthrough}
  - {name: idle, type: anthropic, auth_value: sk-canary, enabled: false}
  - {name: o, type: openai, base_url: "https://o.example.com/v1", auth_value: sk-canary}
model_routes: {"*": [{provider: a}]}
settings: {safety_judge: {provider: PROVIDER, model: MODEL}}
"""


@pytest.mark.parametrize(
    ("provider", "model", "words"),
    [
        ("aa", "claude-sonnet-5-5", "there is no provider 'aa'"),
        ("o", "claude-sonnet-5-5", "must be a provider of type anthropic; this one is of type openai"),
        ("idle", "claude-sonnet-5-5", "is not enabled"),
        ("mine", "claude-sonnet-5-5", "needs a key of its own"),
        ("a", "gpt-5.5", "must be a Claude model, by its whole name"),
        ("a", '""', "model"),
    ],
)
def test_a_safety_judge_that_can_not_judge_is_a_problem(provider: str, model: str, words: str) -> None:
    (problem,) = problems(JUDGED.replace("PROVIDER", provider).replace("MODEL", model))

    assert problem.startswith("p.yaml:7: ")
    assert words in problem


def test_a_safety_judge() -> None:
    judge = read(JUDGED.replace("PROVIDER", "a").replace("MODEL", "us.anthropic.claude-x")).settings.safety_judge

    assert judge is not None
    assert (judge.provider, judge.model) == ("a", "us.anthropic.claude-x")
    assert read(GOOD).settings.safety_judge is None


PATHS = {
    "https://h": "",
    "https://h/": "",
    "https://h/v1": "",
    "https://h/v1/": "",
    "https://h/api/v1": "/api",
    "https://h/x/y/": "/x/y",
}


@pytest.mark.parametrize(("url", "path"), PATHS.items())
def test_a_trailing_v1_is_taken_off(url: str, path: str) -> None:
    assert read(GOOD.replace("https://api.example.com/v1/", url)).providers["a"].base_path == path


def test_the_environment_is_put_in() -> None:
    text = GOOD.replace("sk-canary", '"${KEY}-${OTHER:-x}-$${LITERAL}"')

    assert read(text, KEY="k").providers["a"].secret == "k-x-${LITERAL}"


def test_timeouts_of_a_provider_go_over_the_settings() -> None:
    text = GOOD.replace("    auth_value", "    request_timeout: 7\n    auth_value") + "settings: {connect_timeout: 2}\n"
    timeouts = read(text).providers["a"].timeouts

    assert (timeouts.request_s, timeouts.connect_s, timeouts.idle_s) == (7.0, 2.0, 120.0)


STALLS = {
    "": 300.0,
    "stream_idle_timeout: 2": 20.0,
    "stream_idle_timeout: 900": 900.0,
    "stream_stall_timeout: 7": 7.0,
}


@pytest.mark.parametrize(("setting", "stall_s"), STALLS.items())
def test_how_long_pings_alone_keep_a_stream_alive(setting: str, stall_s: float) -> None:
    assert read(GOOD + f"settings: {{{setting}}}\n").providers["a"].timeouts.stall_s == stall_s
    own = GOOD.replace("    auth_value", f"    {setting}\n    auth_value")
    assert read(own).providers["a"].timeouts.stall_s == stall_s


def zed(more: str) -> Config:
    routes = 'model_routes: {"*": [{provider: z, model: passthrough}]}'
    return read(f"providers: [{{name: z, type: zed, auth_value: k1234567{more}}}]\n{routes}")


def test_a_type_may_say_how_many_requests_it_takes_at_once_and_the_entry_wins() -> None:
    assert zed("").providers["z"].max_in_flight == 4
    assert zed(", zed_config: {max_concurrency: 2}").providers["z"].max_in_flight == 2
    assert zed(", zed_config: {max_concurrency: null}").providers["z"].max_in_flight is None
    assert zed(", max_in_flight: 9, zed_config: {max_concurrency: 2}").providers["z"].max_in_flight == 9


def test_a_providers_rows_for_refusals_come_before_those_of_the_settings() -> None:
    text = """
providers:
  - {name: a, type: simulated, error_rules: [{status: 400, contains: " juice ", class: account}, {code: 1113, class: limit}]}
  - {name: b, type: simulated}
model_routes: {"*": [{provider: a}]}
settings: {error_rules: [{type: odd, class: request}]}
"""
    found = read(text).providers

    assert found["a"].error_rules == (
        ErrorRule("error_rules[0] of a", RefusalClass.ACCOUNT, 400, contains="juice"),
        ErrorRule("error_rules[1] of a", RefusalClass.LIMIT, code="1113"),
        ErrorRule("settings.error_rules[0]", RefusalClass.REQUEST, type="odd"),
    )
    assert [rule.name for rule in found["b"].error_rules] == ["settings.error_rules[0]"]


def test_a_type_may_have_remarks() -> None:
    burning = zed(", zed_config: {default_mode: burn}")

    assert [problem.message for problem in zed("").warnings] == []
    assert ["no server effect" in problem.message for problem in burning.warnings] == [True]
    assert not zed(", zed_config: {default_mode: burn, wire_profile: legacy}").warnings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("context_management: {rotation_threshold: 0}", "rotation_threshold must be greater than 0"),
        ("context_management: {rotation_threshold: 1.5}", "rotation_threshold must be at most 1, not 1.5"),
        ("thread_ttl: -1", "thread_ttl must be at least 0, not -1"),
        ("thread_management: {auto_rotat: true}", "did you mean 'auto_rotate'?"),
        ("auto_burn_mode_triggers: [complex]", "must be one of"),
        ("cost_control: {on_exceed: stop}", "on_exceed must be one of"),
    ],
)
def test_what_is_wrong_in_a_types_own_keys_is_told(given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        zed(f", zed_config: {{{given}}}")


def test_cooldown_as_a_number_and_as_a_mapping() -> None:
    assert read(GOOD + "settings: {failure_cooldown: 0}").settings.cooldown_s == 0
    constant = read(GOOD + "settings: {failure_cooldown: {seconds: 9, backoff: constant}}").settings
    assert (constant.cooldown_s, constant.cooldown_constant) == (9.0, True)


BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["p.yaml:1: the file is empty; it needs providers and model_routes"]),
    "only a comment": ("# nothing\n", ["p.yaml:1: the file is empty; it needs providers and model_routes"]),
    "not a mapping": (
        "- a\n",
        ["p.yaml:1: the file must be a mapping with providers and model_routes: providers: [...], model_routes: {...}"],
    ),
    "not YAML": ("a: [1\nb: 2\n", ["p.yaml:1: a '[' is opened on this line and not closed by ']'"]),
    "a tab": ("a:\n\t- b\n", ["p.yaml:2: a tab in the indentation: YAML takes only spaces; put spaces in its place"]),
    "not UTF-8": (b"a: b\nc: \xff\n", ["p.yaml:2: the file is not UTF-8 text; save it as UTF-8"]),
    "no sections": (
        "settings: {}\n",
        [
            "p.yaml:1: providers must be a list with at least one provider: "
            "'- name: main', and type, base_url and auth_value below name",
            'p.yaml:1: model_routes must be a mapping with at least one pattern: "*": [{provider: NAME}]',
        ],
    ),
    "an unknown type": (
        GOOD.replace("type: anthropic", "type: antropic"),
        ["p.yaml:3: unknown type 'antropic'; did you mean 'anthropic'?"],
    ),
    "an unknown key": (
        GOOD.replace("    base_url", "    base_ur"),
        ["p.yaml:4: unknown key 'base_ur'; did you mean 'base_url'?"],
    ),
    "an unknown section": (GOOD + "setings: {}\n", ["p.yaml:8: unknown key 'setings'; did you mean 'settings'?"]),
    "an unknown setting inside": (
        GOOD + "settings:\n  sticky:\n    tll: 3\n",
        ["p.yaml:10: unknown key 'tll'; did you mean 'ttl'?"],
    ),
    "a key twice": (
        GOOD.replace("    type", "    name: b\n    type"),
        ["p.yaml:3: 'name' stands here a second time; the first is on line 2; remove one of them"],
    ),
    "a name twice": (
        GOOD.replace(
            "model_routes", "  - {name: a, type: anthropic, base_url: https://h, auth_value: x}\nmodel_routes"
        ),
        ["p.yaml:6: a provider named 'a' stands on line 2 already; give each its own name"],
    ),
    "a route to nobody": (
        GOOD.replace("{provider: a}", "{provider: b}"),
        ["p.yaml:7: there is no provider 'b'; there are: a"],
    ),
    "a variable that is not set": (
        GOOD.replace("sk-canary", "${NOPE}"),
        [
            "p.yaml:5: the environment variable NOPE is not set; set it, or write it into the file .env beside this one, "
            "or say enabled: false"
        ],
    ),
    "a broken reference": (
        GOOD.replace("sk-canary", '"x${NOPE"'),
        ["p.yaml:5: a reference to the environment is not closed; it is written ${NAME} or ${NAME:-default}"],
    ),
    "no key": (
        GOOD.replace("    auth_value: sk-canary\n", ""),
        [
            "p.yaml:2: missing required key 'auth_value' of provider 'a'; "
            "write ${NAME}, passthrough (the client's own credential), or none"
        ],
    ),
    "a key that is a number": (
        GOOD.replace("sk-canary", "12345"),
        ["p.yaml:5: auth_value must be a string; put it in quotes"],
    ),
    "a URL without a scheme": (
        GOOD.replace("https://api.example.com/v1/", "api.example.com"),
        ["p.yaml:4: base_url must begin with https:// or http:// and name a host; put https:// before it"],
    ),
    "a URL with a password": (
        GOOD.replace("https://", "https://u:p@"),
        ["p.yaml:4: base_url must not hold a user or password; use auth_value"],
    ),
    "a metadata service": (
        GOOD.replace("https://api.example.com/v1/", "http://169.254.169.254/"),
        ["p.yaml:4: base_url is the address of a cloud's metadata service, which is no provider"],
    ),
    "a strategy that is none": (
        GOOD + "settings:\n  selection_strategy: fast\n",
        [
            "p.yaml:9: selection_strategy must be one of 'priority', "
            "'round_robin', 'random', 'weighted', 'least_busy' or 'fastest', not 'fast'; did you mean 'fastest'?",
        ],
    ),
    "a port that is none": (
        GOOD + "settings:\n  port: 70000\n",
        ["p.yaml:9: port must be at most 65535, not 70000"],
    ),
    "a word for a number": (
        GOOD + "settings:\n  request_timeout: soon\n",
        ["p.yaml:9: request_timeout must be a number of seconds, not 'soon'"],
    ),
    "a negative time": (
        GOOD + "settings:\n  connect_timeout: -1\n",
        ["p.yaml:9: connect_timeout must be greater than 0, not -1"],
    ),
    "a weight of nothing": (
        GOOD.replace("{provider: a}", "{provider: a, weight: 0}"),
        ["p.yaml:7: weight must be greater than 0, not 0"],
    ),
    "an empty route": (
        GOOD.replace("[{provider: a}]", "[]"),
        ["p.yaml:7: route '*' must be a list with at least one target: [{provider: NAME}]"],
    ),
    "a proxy that is none": (
        GOOD.replace("    auth", "    proxy: ftp://x\n    auth"),
        ["p.yaml:5: proxy must be a URL that begins with http://, https://, socks5:// or socks5h:// and names a host"],
    ),
    "a header that breaks out": (
        GOOD.replace("    auth", '    headers: {x: "a\\r\\nb: c"}\n    auth'),
        ["p.yaml:5: a header's value must not hold control characters"],
    ),
    **{
        f"a metadata service as {host}": (
            GOOD.replace("https://api.example.com/v1/", f"http://{host}/"),
            ["p.yaml:4: base_url is the address of a cloud's metadata service, which is no provider"],
        )
        for host in (
            "169.254.169.254.",
            "2852039166",
            "0xa9fea9fe",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
            "169.254.170.2",
        )
    },
    "a URL of an endpoint": (
        GOOD.replace("/v1/", "/v1/messages"),
        ["p.yaml:4: base_url is where the API begins; leave out what comes after /v1"],
    ),
    "a path that is not ASCII": (
        GOOD.replace("/v1/", "/\u00fc"),
        ["p.yaml:4: the path of base_url must be ASCII; write other characters as %C3%BC"],
    ),
    "a header that frames": (
        GOOD.replace("    auth", '    headers: {Content-Length: "5"}\n    auth'),
        ["p.yaml:5: 'Content-Length' is set by the balancer itself; remove it"],
    ),
    "a key with a line break": (
        GOOD.replace("sk-canary", '"sk-\\nx-a: b"'),
        ["p.yaml:5: auth_value must not hold line breaks or other control characters"],
    ),
    "authorities that are not there": (
        GOOD.replace("    auth", "    ca_file: /no/such.pem\n    auth"),
        ["p.yaml:5: ca_file can't be read: No such file or directory"],
    ),
    "authorities that are none": (
        GOOD.replace("    auth", f"    ca_file: {__file__}\n    auth"),
        ["p.yaml:5: ca_file is not a PEM file of certificates"],
    ),
    "a cooldown that is no number": (
        GOOD + "settings:\n  failure_cooldown: soon\n",
        ["p.yaml:9: failure_cooldown must be a number of seconds, not 'soon'"],
    ),
    "an object": (
        GOOD + "settings: !!python/object:x.Y {port: 1}\n",
        ["p.yaml:8: a '!' at the beginning of a value marks a tag in YAML; put the value in quotes"],
    ),
    "a merge of nothing": (
        GOOD.replace("    type", "    <<: x\n    type"),
        ["p.yaml:2: '<<' takes over the keys of a mapping: <<: *name"],
    ),
    "code": (
        "a: !!python/object/apply:os.system [id]\n",
        ["p.yaml:1: unknown key 'a'; there are: providers, model_routes, settings"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, expected: list[str]) -> None:
    told = problems(text)

    assert [line for line in told if line in expected] == expected


def test_all_problems_at_once_in_the_order_of_lines() -> None:
    text = GOOD.replace("anthropic", "antropic").replace("provider: a", "provider: z") + (
        "setings: {}\nsettings:\n  port: x\n  sticky: {by: moon}\n  hosst: h\n"
    )

    told = problems(text)

    lines = [int(re.match(r"p\.yaml:(\d+): ", line)[1]) for line in told]  # type: ignore[index]
    assert lines == sorted(lines)
    assert len(told) == 6


def test_a_bomb_of_aliases_is_refused() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )

    assert "more than 50000 values" in problems(text)[0]


def test_a_bomb_of_merges_is_refused() -> None:
    text = "a: &a {}\n" + "".join(
        f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 10)}]}}\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )

    assert "more than 50000 values" in problems(text)[0]


def test_a_provider_may_take_over_the_keys_of_another() -> None:
    text = GOOD.replace("- name", "- &first\n    name").replace(
        "model_routes", "  - {<<: *first, name: b, base_url: https://b.example}\nmodel_routes"
    )
    a, b = read(text).providers.values()

    assert (a.origin.host, b.origin.host, b.secret) == ("api.example.com", "b.example", "sk-canary")


def test_gate_keys_that_can_be_guessed_are_warned_of() -> None:
    keys = {"changeme-please-now": "from an example", "gate-key-1": "simple enough to be guessed"}
    for key, words in keys.items():
        (warning,) = read(GOOD + f"settings:\n  auth:\n    keys: [{key}]\n").warnings
        assert warning.line == 10
        assert words in warning.message
    assert read(GOOD + "settings: {auth: {keys: [b7d1e0c2f4a84c6e9d3b5a71]}}").warnings == ()


def test_variables_of_a_provider_that_is_not_enabled_may_be_missing() -> None:
    off = "  - {name: b, type: anthropic, auth_value: '${NOPE}', enabled: false}\nmodel_routes"

    assert not read(GOOD.replace("model_routes", off)).providers["b"].enabled


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_nothing_but_a_config_error_comes_of_any_text(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        parse(text, "p.yaml", {})


@given(
    st.lists(st.integers(0, len(GOOD) - 1), max_size=3), st.sampled_from(["", "x", "'", "[", "\n", ": ", "${", "&a "])
)
def test_a_damaged_file_never_shows_a_key(places: list[int], what: str) -> None:
    text = GOOD
    for place in places:
        text = text[:place] + what + text[place + 1 :]
    told = ""
    try:
        parse(text, "p.yaml", {})
    except ConfigError as error:
        told = str(error)

    assert "sk-canary" not in told


FAR = """\
providers:
  - {{name: a, type: {kind}, base_url: '{url}', auth_value: none{more}}}
model_routes: {{'*': [{{provider: a}}]}}
settings: {{{settings}}}
"""


def far(url: str, more: str = "", settings: str = "", kind: str = "anthropic") -> str:
    return FAR.format(url=url, more=more, settings=settings, kind=kind)


PLAIN = [
    "http://provider.example", "http://10.0.0.5:8000", "http://192.168.1.5", "http://box", "http://8.8.8.8", "http://[fd00::1]:80",
    "http://167772165", "http://localhost.example", "HTTP://provider.example/v1",
]  # fmt: skip


@pytest.mark.parametrize("url", PLAIN)
def test_other_machines_are_reached_by_https_unless_plain_http_is_allowed(url: str) -> None:
    told = problems(far(url))

    assert len(told) == 1
    assert told[0].startswith("p.yaml:2: base_url is plain http to another machine")
    assert "allow_http: true" in told[0]
    assert read(far(url, ", allow_http: true")).warnings == ()
    assert read(far(url, settings="allow_http: true")).providers["a"].origin.tls is False
    assert problems(far(url, ", allow_http: false", "allow_http: true")) == told


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "http://localhost",
        "http://a.localhost:8",
        "http://[::1]:1",
        "http://0.0.0.0:11434",
        "http://127.1",
    ],
)
def test_this_machine_is_reached_by_plain_http(url: str) -> None:
    assert read(far(url)).providers["a"].origin.tls is False


def test_a_key_that_is_sent_in_plain_http_is_warned_of_where_all_providers_may_have_it() -> None:
    text = far("http://box.example", settings="allow_http: true").replace("none", "sk-canary-1234")

    assert "plain http sends the key" in str(read(text).warnings[0])
    assert read(text.replace("}\nmodel", ", allow_http: true}\nmodel")).warnings == ()


def test_a_provider_that_is_off_or_simulated_is_not_reached_at_all() -> None:
    two = far("http://box.example", ", enabled: false", "allowed_upstreams: [none.example]")
    two = two.replace("\nmodel", "\n  - {name: b, type: simulated}\nmodel").replace("r: a}", "r: b}")

    assert set(read(two).providers) == {"a", "b"}


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("api.example.com", True),
        ("*.example.com", True),
        ("api.example.com:443", True),
        ("x.example", False),
        ("*:80", False),
    ],
)
def test_a_provider_has_a_host_that_is_allowed(pattern: str, fits: bool) -> None:
    text = far("https://api.example.com", settings=f"allowed_upstreams: ['{pattern}']")
    if fits:
        assert read(text).settings.allowed_upstreams == (pattern,)
    else:
        assert problems(text) == ["p.yaml:2: the host of base_url is not in settings.allowed_upstreams; add it there"]


@pytest.mark.parametrize("pattern", ["https://a.example", "api.*", "a/b", ""])
def test_what_is_no_pattern_of_hosts_is_told(pattern: str) -> None:
    told = problems(far("https://a.example", settings=f"allowed_upstreams: ['{pattern}']"))

    assert told[0].startswith("p.yaml:4: allowed_upstreams: an entry is a host, *.host, an address or a network")


def test_a_host_that_dns_can_not_have_is_told() -> None:
    for host in ("a..example", "\u00fc" * 70 + ".example", "a" * 64 + ".example"):
        assert "base_url names a host that DNS can't have" in problems(far(f"https://{host}"))[0]


def test_certificates_for_plain_http_are_warned_of(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    warnings = read(far("http://127.0.0.1:1", f", tls: {{ca: {tmp_path}/ca.pem}}")).warnings

    assert "tls has no effect on a base_url that begins with http://" in str(warnings[0])
