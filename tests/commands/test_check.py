"""Is the configuration right?"""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli import main


def test_a_good_file(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(config_file)]) == 0

    assert capsys.readouterr().out.startswith("ok: 2 providers, 2 routes")


def test_every_problem_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "providers:\n  - {name: a, type: antropic}\nmodel_routes:\n  x:\n    - {provider: b, model: passthrough}\n"
    )

    assert main(["check", "--config", str(path)]) == 2

    told = capsys.readouterr()
    assert "p.yaml:2: " in told.err
    assert "p.yaml:5: " in told.err
    assert told.out == ""


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == 2

    assert "none.yaml" in capsys.readouterr().err


ELSEWHERE = """
providers:
  - {name: o, type: openai, base_url: "http://127.0.0.1:1/v1", auth_value: sk-x}
  - {name: a, type: anthropic, auth_value: sk-y}
model_routes:
  x: [{provider: o, model: m}]
  y: [{provider: a, model: m}]
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ELSEWHERE, "auto mode: not every route ('x') has a provider of type anthropic"),
        (ELSEWHERE.replace("provider: a,", "provider: o,"), "auto mode: no route has a provider of type anthropic"),
        (ELSEWHERE.replace("provider: o,", "provider: a,"), ""),
        ("providers: [{name: s, type: simulated}]\nmodel_routes: {x: [{provider: s, model: m}]}", ""),
    ],
)
def test_routes_on_which_nobody_can_check_actions_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)

    assert main(["check", "--config", str(path)]) == 0

    out = capsys.readouterr().out
    assert words in out
    assert ("CLAUDE_CODE_AUTO_MODE_SERVER=0" in out) is bool(words)


def test_a_safety_judge_is_said_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"{ELSEWHERE}settings: {{safety_judge: {{provider: a, model: claude-sonnet-5-5}}}}\n")

    assert main(["check", "--config", str(path)]) == 0

    out = capsys.readouterr().out
    assert "('x'), claude-sonnet-5-5 of 'a' gives the verdicts (settings.safety_judge)" in out
    assert "CLAUDE_CODE_AUTO_MODE_SERVER" not in out


def test_a_profile_that_the_address_picks_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "providers:\n"
        '  - {name: kimi, type: openai, base_url: "https://api.moonshot.ai/v1", auth_value: sk-0123456789}\n'
        '  - {name: said, type: openai, base_url: "https://api.x.ai/v1", auth_value: sk-0123456789, openai_config: {profile: xai}}\n'
        "model_routes:\n  x:\n    - {provider: kimi, model: kimi-k2.6}\n    - {provider: said, model: grok-4}\n"
    )

    assert main(["check", "--config", str(path)]) == 0

    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: provider 'kimi': profile 'moonshot', by its base_url; openai_config: {profile: NAME} sets another"
    ]
