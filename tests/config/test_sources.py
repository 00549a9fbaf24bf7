"""Where a configuration comes from: a file, what is built in, the environment, flags; and what two of them differ in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from balancer.config import (
    EMBEDDED,
    Config,
    ConfigError,
    changes,
    embedded,
    find,
    load,
    lost,
    needs_restart,
    override,
    parse,
)

ROOT = Path(__file__).resolve().parents[2]

GOOD = """\
providers:
  - name: a
    type: anthropic
    base_url: https://api.example.com/v1/
    auth_value: sk-canary
model_routes:
  "*": [{provider: a}]
"""


def test_the_example_of_the_project_is_valid_without_any_environment() -> None:
    config = load(ROOT / "providers.example.yaml", {})

    assert config.warnings == ()
    assert config.settings == embedded({}).settings.model_copy(update={"drills": False})


def test_what_is_served_without_a_file() -> None:
    config = embedded({})

    assert [provider.type for provider in config.providers.values()] == ["simulated"] * 3
    assert "simulated" in EMBEDDED


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=message):
            load(path, {})


def test_keys_that_others_can_read_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(GOOD)
    path.chmod(0o644)
    (warning,) = load(path, {}).warnings
    assert warning.line == 5
    assert "chmod 600" in warning.message
    path.chmod(0o600)
    assert load(path, {}).warnings == ()


def test_find(tmp_path: Path) -> None:
    here = tmp_path / "providers.yaml"
    here.write_text(GOOD)

    assert find(None, {}, tmp_path) == here
    assert find("providers.yaml", {}, tmp_path) == here
    assert find(None, {"BALANCER_CONFIG": str(here)}, Path("/")) == here
    with pytest.raises(ConfigError, match="--config names it"):
        find("other.yaml", {}, tmp_path)
    with pytest.raises(ConfigError, match="BALANCER_CONFIG names it"):
        find(None, {"BALANCER_CONFIG": "/no/where.yaml"}, tmp_path)


def test_a_flag_wins_over_the_environment_over_the_file() -> None:
    config = parse(GOOD + "settings: {port: 1, host: 127.0.0.3, log_level: debug}", "providers.yaml", {})

    both: Any = override(config, {"PORT": "2", "LOG_COLOR": "false"}, port=3).settings
    assert (both.port, both.host, both.log_level, both.log_color) == (3, "127.0.0.3", "DEBUG", False)
    assert override(config, {"PORT": "2"}).settings.port == 2
    with pytest.raises(ConfigError, match="environment: PORT: must be a whole number, not 'x'"):
        override(config, {"PORT": "x"})


def test_a_flag_leaves_every_other_setting_as_it_is() -> None:
    settings = """settings:
  failure_cooldown: {seconds: 7, backoff: constant}
  error_rules: [{status: 400, contains: no juice, class: account}, {code: "1113", class: limit}]
  passthrough_to: [a]
  drop_headers: [x-team]
  allowed_origins: ["https://app.example.com"]
  trusted_proxies: ["10.0.0.0/8"]
  limits: {max_connections: 50, max_connections_per_address: 5}
  deduplication: {enabled: false}
  stream_idle_timeout: 20
  log_file: null
"""
    config = parse(GOOD + settings, "providers.yaml", {})
    changed = override(config, {}, port=3)

    assert changed.settings.port == 3
    assert override(changed, {}, port=config.settings.port) == config


def test_what_a_reload_changes_is_named() -> None:
    before = parse(GOOD, "p.yaml", {})
    moved = GOOD.replace("api.example.com", "other.example.com") + "settings: {failure_cooldown: 9}\n"

    assert list(changes(before, before)) == []
    named = " ".join(changes(before, parse(moved, "p.yaml", {})))
    assert "failure_cooldown" in named
    assert "'a'" in named
    assert "sk-canary" not in named


def test_only_what_is_bound_at_the_start_needs_a_restart() -> None:
    started = parse(GOOD, "p.yaml", {}).settings
    now = parse(GOOD + "settings: {port: 9, failure_cooldown: 9}\n", "p.yaml", {}).settings

    assert needs_restart(started, started) == ()
    assert needs_restart(started, now) == ("port",)


@pytest.mark.parametrize("key", ["changeme", "short-key", "a" * 40, "changeme-and-much-longer-than-that"])
def test_a_key_that_can_be_guessed_is_an_error_once_others_can_reach_the_balancer(key: str) -> None:
    config = parse(GOOD + f"settings: {{auth: {{keys: [{key}]}}}}\n", "p.yaml", {})

    with pytest.raises(ConfigError, match=r"command line: host 0\.0\.0\.0 .* balancer key new") as caught:
        override(config, {}, host="0.0.0.0")
    assert key not in str(caught.value)
    with pytest.raises(ConfigError, match=r"environment: "):
        override(config, {"BALANCER_HOST": "10.0.0.1"})
    assert override(config, {}, host="127.0.0.2").settings.host == "127.0.0.2"
    with pytest.raises(ConfigError, match=r"p\.yaml:8: others can reach this balancer"):
        parse(GOOD + f"settings: {{host: 0.0.0.0, auth: {{admin_keys: [{key}]}}}}\n", "p.yaml", {})


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o622])
def test_a_file_that_others_can_change_is_warned_of(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(GOOD)
    path.chmod(mode)

    (warning,) = load(path, {}).warnings
    assert "chmod go-w providers.yaml" in str(warning)


def test_authorities_that_others_can_change_are_warned_of(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    path = tmp_path / "providers.yaml"
    path.write_text(GOOD.replace("    auth_value", f"    ca_file: {tmp_path / 'ca.pem'}\n    auth_value"))
    path.chmod(0o600)

    (tmp_path / "ca.pem").chmod(0o644)
    assert load(path, {}).warnings == ()
    (tmp_path / "ca.pem").chmod(0o666)
    (warning,) = load(path, {}).warnings
    assert str(warning).endswith("others on this machine can change ca_file; run chmod go-w on it")


def test_variables_that_others_can_change_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "providers.yaml"
    path.write_text(GOOD.replace("sk-canary", "${KEY_OF_A}"))
    (tmp_path / ".env").write_text("KEY_OF_A=sk-canary-1234567")
    (tmp_path / ".env").chmod(0o620)

    (warning,) = load(path, {}).warnings
    assert "others on this machine can change the keys in it; run: chmod 600 .env" in str(warning)


@pytest.mark.live
def test_an_installed_package_looks_for_no_file_in_the_folder_around_it(tmp_path: Path) -> None:
    """There it would be the interpreter's own: `lib/python3.11/providers.yaml`."""
    package = tmp_path / "lib" / "site-packages" / "balancer"
    shutil.copytree(ROOT / "src" / "balancer", package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "lib" / "providers.yaml").write_text("")
    (tmp_path / "work").mkdir()
    code = "import pathlib; from balancer.config import find; print(find(None, {}, pathlib.Path.cwd()))"
    env = {**os.environ, "PYTHONPATH": str(package.parent)}
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path / "work", env=env, capture_output=True, text=True
    )

    assert (found.stdout.strip(), found.returncode) == ("None", 0), found.stderr


@pytest.mark.parametrize(("left", "warns"), [(4, False), (2, False), (1, True), (0, True)])
def test_a_file_that_has_lost_more_than_half_of_its_providers_is_warned_of(left: int, warns: bool) -> None:
    def of(names: str) -> Config:
        listed = "".join(f"  - {{name: {name}, type: simulated}}\n" for name in names)
        return parse(f'providers:\n{listed}model_routes: {{"*": [{{provider: {names[-1]}}}]}}\n', "p.yaml", {})

    loss = lost(of("abcd"), of("abcd"[:left] + "z"))

    assert (loss is not None) == warns
    assert loss is None or f"{4 - left} of the 4 providers are gone" in str(loss)
