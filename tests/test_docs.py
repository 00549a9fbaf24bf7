"""What exists is documented, and what is documented exists."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import endpoints
import pytest
import yaml
from pages import DOCS, PAGES, ROOT, anchors, links, name
from pydantic import BaseModel

from balancer import cli
from balancer.config.model import ProviderEntry, Settings, TargetEntry
from balancer.events import Bus, ProviderRecovered, Reloaded
from balancer.telemetry.metrics import Metrics

ALL = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("model", [ProviderEntry, TargetEntry, Settings])
def test_every_key_is_described(model: type[BaseModel]) -> None:
    assert [key for key, info in model.model_fields.items() if not info.description] == []


def test_every_endpoint_is_documented() -> None:
    served = [path for path in endpoints.paths() if not path.startswith("/api/")]
    paths = [path.replace("{rest:path}", "*").replace(":path}", "}") for path in served]

    assert [path for path in paths if f"{path}`" not in ALL] == []


def test_every_metric_is_documented() -> None:
    view = {
        "in_flight": 0,
        "retry_budget": 1.0,
        "providers": [{"name": "a", "state": "healthy", "resting_for_s": 0.0, "in_flight": 0}],
    }
    names = re.findall(r"# TYPE (\S+)", Metrics().render(view))

    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in ALL] == []


def test_every_command_is_documented() -> None:
    listed = re.findall(r"^ {2,4}([a-z]+) {2,}", cli.build().format_help(), re.MULTILINE)
    commands = {"run", "serve", "check", "explain", "status", "demo", "drill", "wake", "pause", "resume"}

    assert commands <= set(listed)

    assert [command for command in sorted(commands | set(listed)) if f"`balancer {command}" not in ALL] == []


def _commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli.build()._actions
    (commands,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


@pytest.mark.parametrize("command", _commands())
def test_every_flag_is_documented(command: str) -> None:
    flags = [flag for action in _commands()[command]._actions for flag in action.option_strings if flag != "--help"]

    assert [flag for flag in flags if flag.startswith("--") and not re.search(rf"{flag}\b", ALL)] == []


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()

    assert readme.index("make run") < readme.index("make test") < 1500, "both on the first screen"
    assert [path for path in re.findall(r"(?:python|cp) ([\w./]+\.\w+)", readme) if not (ROOT / path).exists()] == []


def test_the_picture_of_the_house_is_true() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    (tree,) = re.findall(r"```\n(src/main.py.*?)```", text, re.DOTALL)
    drawn = set(re.findall(r"^  ([\w.]+/?) ", tree, re.MULTILINE))
    source = [path for path in (ROOT / "src" / "balancer").iterdir() if path.is_dir() or path.suffix == ".py"]
    built = {f"{path.name}/" if path.is_dir() else path.name for path in source if not path.name.startswith("__")}

    assert drawn == built


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    dead = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)

    assert dead == []


SERVICES = sorted((DOCS / "providers").glob("*.md"))
HEADINGS = ["What you need", "Configuration", "Try it", "Known limits", "Troubleshooting"]


@pytest.mark.parametrize("page", SERVICES, ids=name)
def test_every_page_of_a_service_has_the_same_headings(page: Path) -> None:
    assert re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("table", ["README.md", "docs/providers.md"])
def test_every_service_is_listed(table: str) -> None:
    listed = {Path(link).name for link in links(ROOT / table) if "providers/" in link}

    assert listed == {page.name for page in SERVICES}


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/-]+\.md", str(site["nav"])))
    outside = set(re.findall(r'"([\w-]+\.md)"[,}]', (DOCS / "hooks.py").read_text()))

    assert listed - outside == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


@pytest.mark.parametrize("picture", sorted((DOCS / "images").glob("*.svg")), ids=name)
def test_pictures_load_nothing_from_other_hosts(picture: Path) -> None:
    assert re.findall(r"""(?:href|src)=["']?https?:|url\(["']?https?:|@import""", picture.read_text()) == []


def test_every_target_of_the_makefile_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:^|`)make ([a-z]+)", ALL, re.MULTILINE))

    assert mentioned - targets == set()


def test_events_reach_those_who_listen_to_their_kind() -> None:
    every: list[object] = []
    some: list[object] = []
    bus = Bus()
    bus.add(every.append)
    bus.add(some.append, (Reloaded,))
    reloaded, recovered = Reloaded(0.0, 1), ProviderRecovered(0.0, "a")
    bus.emit(reloaded)
    bus.emit(recovered)

    assert every == [reloaded, recovered]
    assert some == [reloaded]
