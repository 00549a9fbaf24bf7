"""Claude Code's settings files, as far as they overrule the environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balancer.commands.client_settings import of_client


def write(path: Path, **env: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"env": env}))
    return path


def test_the_nearest_file_wins(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    write(home / ".claude" / "settings.json", ANTHROPIC_BASE_URL="a", OTHER="kept")
    nearest = write(project / ".claude" / "settings.local.json", ANTHROPIC_BASE_URL="c")
    write(project / ".claude" / "settings.json", ANTHROPIC_BASE_URL="b", NUMBER=1)

    known, source = of_client({"HOME": str(home)}, project)
    assert known == {"ANTHROPIC_BASE_URL": "c", "OTHER": "kept"}
    assert source == nearest


def test_the_clients_folder_may_be_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "settings.json", ANTHROPIC_BASE_URL="a")

    assert of_client({"CLAUDE_CONFIG_DIR": str(tmp_path)}, tmp_path / "none") == ({"ANTHROPIC_BASE_URL": "a"}, path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"env": []}', '{"env": {"A": 1}}', "[" * 100_000])
def test_a_broken_file_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)

    assert of_client({"CLAUDE_CONFIG_DIR": str(tmp_path)}, tmp_path) == ({}, None)
