"""Set-up: the dependencies that are declared, the locks, the Makefile's installs, `./balancer`, and the wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
from functools import cache
from pathlib import Path

import pytest
from commands.conftest import Running, environment
from conftest import missing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

NOT_IMPORTED = {
    "bandit": "a command",
    "schemathesis": "a command",
    "argcomplete": "commands/completion.py imports it by name, only where it is needed",
    "psycopg": "SQLAlchemy loads it by name",
    "redis": "an extra, loaded by name and only where it is needed",
    "sqlalchemy": "an extra, loaded by name and only where it is needed",
    "uvloop": "uvicorn loads it by name",
    "hatchling": "builds the wheel",
    "import-linter": "a command",
    "mypy": "a command",
    "ruff": "a command",
    "types-pyyaml": "mypy reads it",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
}
"""Declared, and imported nowhere in the code."""

OPTIONAL = {
    "litellm": "bench compares with it where it is installed",
    "ctok": "where it is installed, estimates of tokens are compared with it",
    "xllamacpp": "make tools puts it elsewhere",
}
"""Imported where they are there; set-up does not install them."""


def _declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def _group(name: str) -> list[str]:
    """Return the requirements of a dependency group, with those of the groups that it includes."""
    lines: list[str] = []
    for entry in PROJECT["dependency-groups"][name]:
        lines += [entry] if isinstance(entry, str) else _group(entry["include-group"])
    return lines


RUNTIME = _declared(PROJECT["project"]["dependencies"])
DEVELOPMENT = _declared(_group("dev"))
EXTRAS = _declared([line for extra in PROJECT["project"].get("optional-dependencies", {}).values() for line in extra])


@cache
def _imported(*folders: str) -> set[str]:
    """Return the names that Python's files in `folders` import, without what lies there itself."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    names: set[str] = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    here = {"balancer", *folders}
    here |= {p.stem for top in (ROOT / folder for folder in folders) for p in top.iterdir() if p.suffix in ("", ".py")}
    return names - here - set(sys.stdlib_module_names)


def _distributions(names: set[str]) -> dict[str, set[str]]:
    """Return by import name the packages that bring it (`yaml`: PyYAML); a name that nothing brings stands for itself."""
    known = importlib.metadata.packages_distributions()
    return {name: {canonicalize_name(d) for d in known.get(name, [name])} for name in names}


@pytest.mark.parametrize(
    ("folders", "declared"),
    [(("src",), RUNTIME | EXTRAS), (("bench", "tests"), RUNTIME | EXTRAS | DEVELOPMENT | set(OPTIONAL))],
    ids=["at run time", "for development"],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], declared: set[str]) -> None:
    brought = _distributions(_imported(*folders))

    assert {name for name, packages in brought.items() if not packages & declared} == set()


@pytest.mark.parametrize(
    ("folders", "declared"),
    [(("src",), RUNTIME | EXTRAS), (("bench", "tests"), DEVELOPMENT)],
    ids=["at run time", "for development"],
)
def test_what_is_declared_is_imported(folders: tuple[str, ...], declared: set[str]) -> None:
    used = set().union(*_distributions(_imported(*folders)).values())

    assert declared - used - set(NOT_IMPORTED) == set(), "take it out of pyproject.toml, or name its use above"
    assert (declared & used) & set(NOT_IMPORTED) == set(), "it is imported after all"


def test_only_what_is_declared_is_excused() -> None:
    assert set(NOT_IMPORTED) - RUNTIME - DEVELOPMENT == set()


# The locks


def _locked(name: str) -> dict[str, set[str]]:
    """Return by package the versions that a lock allows: more than one where they hang on the Python."""
    pins: dict[str, set[str]] = {}
    for package, version in re.findall(
        r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE
    ):
        pins.setdefault(canonicalize_name(package), set()).add(version)
    return pins


LOCKS = {"requirements.txt": "", "requirements-dev.txt": "dev"} | {
    f"requirements-{group}.txt": group for group in ("build", "docs", "tools")
}
"""By file, the group of pyproject.toml that it pins."""


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_a_pin_with_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text().replace("\\\n", " ")

    assert [
        line for line in text.splitlines() if not re.match(r"[\w.-]+(\[[\w,]+\])?==\S.* --hash=sha256:\w{64}", line)
    ] == []
    assert "://" not in text, "no lock names an index"


@pytest.mark.parametrize(("lock", "group"), LOCKS.items())
def test_a_lock_pins_all_that_pyproject_names_within_its_bounds(lock: str, group: str) -> None:
    pins = _locked(lock)
    lines = (_group(group) if group else []) + (PROJECT["project"]["dependencies"] if group in ("", "dev") else [])
    direct = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}

    assert direct.keys() - pins.keys() == set(), "run: make requirements"
    assert [name for name, bounds in direct.items() if not all(version in bounds for version in pins[name])] == []


def test_the_locks_agree_with_each_other() -> None:
    """Those that are installed into one environment pin the same versions."""
    development = _locked("requirements-dev.txt")

    assert set(LOCKS) == {path.name for path in ROOT.glob("requirements*.txt")}
    for lock in ("requirements.txt", "requirements-build.txt", "requirements-docs.txt"):
        assert {name: pins for name, pins in _locked(lock).items() if development.get(name, pins) != pins} == {}
    assert _locked("requirements.txt").keys() <= development.keys()


def test_every_direct_dependency_has_a_lower_bound() -> None:
    """.ci/run tries them."""
    lines = [*PROJECT["project"]["dependencies"], *_group("dev")]

    assert [r for r in map(Requirement, lines) if not any(bound.operator == ">=" for bound in r.specifier)] == []


# The Makefile


def _own_environment(**changes: str) -> dict[str, str]:
    """Return an environment in which make doesn't know that `make test` may have started the tests."""
    return {name: value for name, value in environment(**changes).items() if not name.startswith(("MAKE", "MFLAGS"))}


def _dry(*targets: str) -> str:
    """Return what make would do for `targets` where nothing is set up yet."""
    command = ["make", "-n", f"PYTHON={sys.executable}", "VENV=none/.venv", "TOOLS=none/.tools", *targets]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=_own_environment()).stdout


@pytest.mark.parametrize("target", ["run", "check", "demo"])
def test_what_a_user_needs_installs_no_development_tool(target: str) -> None:
    done = _dry(target)

    assert "-r requirements.txt" in done
    assert "requirements-dev" not in done


@pytest.mark.parametrize("target", ["run", "setup", "site", "tools"])
def test_every_install_is_of_a_lock_as_it_stands(target: str) -> None:
    installs = re.findall(r"pip install [^;]*", _dry(target))

    assert len(installs) >= 2, "with uv and without"
    assert [line for line in installs if "--no-deps" not in line or "--require-hashes" not in line] == []


def _made(tmp_path: Path, python: str, **tools: str) -> subprocess.CompletedProcess[str]:
    """Run make for an empty folder, with `python` and with these scripts as all that is on PATH besides the system's."""
    (tmp_path / "bin").mkdir()
    for name in ("make", "sh", "rm", "touch", "ln"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    for name, script in tools.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    command = ["make", "-s", f"VENV={tmp_path}/.venv", f"PYTHON={python}", f"{tmp_path}/.venv/.run"]
    env = _own_environment(PATH=str(tmp_path / "bin"))
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=30)


def test_no_python_and_no_uv_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    made = _made(tmp_path, python="")

    assert made.returncode != 0
    assert "Python 3.11 or newer is needed. Install it, or uv" in made.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = 'case "$1" in --version) echo Python 3.10.2;; *) exit 1;; esac'

    made = _made(tmp_path, python="old-python", **{"old-python": old})

    assert made.returncode != 0
    assert made.stderr.splitlines()[0] == "Python 3.11 or newer is needed; old-python is Python 3.10.2"


def test_where_no_python_fits_uv_fetches_one(tmp_path: Path) -> None:
    made = _made(tmp_path, python="", uv=f'echo "$@" >> "{tmp_path}/asked"; exit 1')

    assert "uv fetches one" in made.stderr
    assert (tmp_path / "asked").read_text().splitlines()[0] == f"venv -q --python >=3.11 {tmp_path}/.venv"


# ./balancer


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is set up: its .venv is the one that runs the tests."""
    folder = tmp_path / "check out"  # people have blanks in their paths
    folder.mkdir()
    shutil.copy(ROOT / "balancer", folder)
    (folder / "requirements.txt").touch()
    os.utime(folder / "requirements.txt", (0, 0))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / ".run").touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "src"}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.live
def test_the_script_runs_from_anywhere_and_through_links(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "balancer").symlink_to(Path("..") / checkout.name / "balancer")
    (tmp_path / "again").symlink_to(tmp_path / "bin" / "balancer")
    (tmp_path / "rich.py").write_text("raise SystemExit('a file of the user is no package of ours')")

    for script in (checkout / "balancer", tmp_path / "bin" / "balancer", tmp_path / "again"):
        said = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=30)

        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.startswith("balancer ")


@pytest.mark.live
@pytest.mark.parametrize("state", ["new", "stale"])
def test_the_script_sets_up_first_where_that_is_due(checkout: Path, tmp_path: Path, state: str) -> None:
    if state == "new":
        (checkout / ".venv" / ".run").unlink()
    else:
        os.utime(checkout / ".venv" / ".run", (0, 0))
        (checkout / "requirements.txt").touch()
    (tmp_path / "make").write_text('#!/bin/sh\necho "make $*"\n')
    (tmp_path / "make").chmod(0o755)
    env = environment(PATH=f"{tmp_path}:{os.environ['PATH']}")

    said = subprocess.run([checkout / "balancer", "--version"], capture_output=True, text=True, timeout=30, env=env)

    assert said.stdout.startswith("balancer "), "and nothing else, for whoever reads it"
    assert said.stderr == f"make -s -C {checkout} .venv/.run\n"


# The wheel


def _installed(folder: Path) -> Path:
    """Build the wheel, install it next to the pinned dependencies, and return the folder of its commands."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    if subprocess.run([sys.executable, "-m", "venv", folder / "venv"], capture_output=True).returncode:
        missing("Python's ensurepip", "install your system's package python3-venv")
    (wheel,) = folder.glob("*.whl")
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    (packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


@pytest.mark.live
@pytest.mark.timeout(240)
def test_the_wheel_has_all_that_the_program_needs(tmp_path: Path) -> None:
    """One test for all of it: installing takes seconds."""
    commands = _installed(tmp_path)
    elsewhere = tmp_path / "elsewhere"  # nothing of the checkout is found by chance
    elsewhere.mkdir()

    def run(name: str, *arguments: str) -> str:
        command = [str(commands / name), *arguments]
        return subprocess.run(
            command, cwd=elsewhere, check=True, capture_output=True, text=True, env=environment(), timeout=60
        ).stdout

    package = Path(run("python", "-c", "import balancer; print(balancer.__path__[0])").strip())
    assert package.is_relative_to(tmp_path)
    source = ROOT / "src" / "balancer"
    files = {path.relative_to(source) for path in source.rglob("*") if path.suffix != ".pyc" and path.is_file()}
    assert Path("py.typed") in files
    assert {path for path in files if not (package / path).is_file()} == set()

    where = (
        "from balancer.config import shipped; print(shipped.path(shipped.EXAMPLE)); print(shipped.path(shipped.SCHEMA))"
    )
    example, schema = map(Path, run("python", "-c", where).splitlines())
    assert example.is_relative_to(package)
    assert schema.is_relative_to(package)
    assert example.read_text() == (ROOT / "providers.example.yaml").read_text()
    assert schema.read_text() == (ROOT / "docs" / "providers.schema.json").read_text()

    assert run("balancer", "--version").startswith("balancer ")
    assert run("balancer", "check", "--config", str(example)).startswith("ok")
    _answers(commands / "balancer", elsewhere)


def _answers(balancer: Path, cwd: Path) -> None:
    """Check that this `balancer` serves a request, and ends as it should."""
    running = Running([str(balancer), "serve", "--port", "0"], cwd, environment())
    try:
        message = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "say hi"}]}
        url = f"{running.url()}/v1/messages"
        request = urllib.request.Request(url, json.dumps(message).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["role"] == "assistant"
        running.process.terminate()
        assert running.ended() == 0
    finally:
        running.close()


# Scripts and CI

SCRIPTS = ["balancer", ".ci/run", ".ci/answers"]


def test_shellcheck_finds_nothing_wrong_with_the_scripts() -> None:
    if shutil.which("shellcheck") is None:
        missing("shellcheck", "install your system's package shellcheck")
    said = subprocess.run(["shellcheck", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert said.stdout == ""
    assert said.returncode == 0
    assert [name for name in SCRIPTS if not os.access(ROOT / name, os.X_OK)] == []


def test_the_tests_that_ci_names_exist() -> None:
    named = re.findall(r"\btests/[\w./]+", (ROOT / ".ci" / "run").read_text())

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
