"""The configuration as a command finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.commands import reading
from balancer.config import ConfigError
from balancer.model import Origin, Provider

ADDRESSES = {
    "https://api.example.com/v1": "https://api.example.com/v1",
    "https://user:secret@api.example.com:444": "https://api.example.com:444",
}


@pytest.mark.parametrize(("base_url", "shown"), ADDRESSES.items())
def test_no_password_is_shown(base_url: str, shown: str) -> None:
    assert reading.address(Provider("a", "anthropic", base_url, Origin(True, "x", 443), "")) == shown


def test_a_flag_goes_over_the_environment_and_that_over_the_file(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file.write_text(config_file.read_text() + "  port: 1\n  log_level: ERROR\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")

    settings = reading.read(str(config_file), {"port": 3}).settings

    assert (settings.port, settings.log_level) == (3, "DEBUG")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        reading.read(str(tmp_path / "none.yaml"))


def test_numbers_with_their_nouns() -> None:
    assert [reading.counted(n, "route") for n in (0, 1, 2)] == ["0 routes", "1 route", "2 routes"]
