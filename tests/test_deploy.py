"""The files for running it as a service: read by the tools that they are for, and by the rules that such files have.

Nothing is built or installed. nginx and the launchd command really run, in front of and as a real balancer.
"""

from __future__ import annotations

import configparser
import json
import os
import plistlib
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from commands.conftest import Running, ask, environment
from conftest import missing
from live.harness import free_port

from balancer.cli import build
from balancer.config import override, parse
from balancer.config.model import Settings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
FILES = [path for path in DEPLOY.rglob("*") if path.is_file()] + [ROOT / "Dockerfile", ROOT / "compose.yaml"]

DRAIN_S = Settings().drain_timeout
"""How long answers may go on after the signal to end. Whatever stops the balancer must wait longer."""


KEY = "sk-client-0123456789abcdef"

SIMULATED = """\
providers:
  - {{name: slow, type: simulated, simulated_config: {{latency: 0, speed: 20}}}}
model_routes:
  "*": [{{provider: slow, model: passthrough}}]
settings:
  port: {port}
"""


URL = r"http://127\.0\.0\.1:(\d+)"
"""The address in what a balancer says when it starts."""


def _port(line: str) -> int:
    found = re.search(URL, line)
    assert found, line
    return int(found[1])


def _eventually(ready: Callable[[], Any]) -> Any:
    """Return what `ready` returns, as soon as it is true. It has 20 s."""
    ends_at = time.monotonic() + 20
    while not (found := ready()):
        assert time.monotonic() < ends_at, "it did not come"
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_how_to_use_it_and_names_only_what_is_there(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r"(?<![\w/.])(?:deploy/[\w./-]*\w|requirements[\w-]*\.txt|providers\.example\.yaml)", text))

    assert [name for name in named if not (ROOT / name).exists()] == []
    assert re.search(r"^(# |<!--)", text[:400], re.MULTILINE)


# systemd

UNITS = {"balancer.service": "--system", "balancer-user.service": "--user"}


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        missing("systemd-analyze", "install your system's package systemd")
    return str(found)


def _service(unit: str) -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "systemd" / unit)
    return dict(parser["Service"])


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_little(unit: str, systemd_analyze: str) -> None:
    command = [
        systemd_analyze,
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=29",
        str(DEPLOY / "systemd" / unit),
    ]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "Overall exposure level" in said.stdout


@pytest.mark.parametrize(("unit", "manager"), UNITS.items())
def test_systemd_finds_nothing_wrong_with_a_unit(unit: str, manager: str, systemd_analyze: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / unit).read_text()
    copy = tmp_path / "balancer.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text, flags=re.MULTILINE))
    (tmp_path / "run").mkdir(mode=0o700)
    env = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}

    command = [systemd_analyze, "verify", manager, "--man=no", str(copy)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)

    assert said.returncode == 0, said.stderr
    assert "balancer" not in said.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_starts_what_there_is_and_lets_answers_end(unit: str) -> None:
    service = _service(unit)
    command, *arguments = shlex.split(service["ExecStart"])

    assert Path(command).name == "balancer"
    assert build().parse_args(arguments).command == "serve"
    assert float(service["TimeoutStopSec"]) > DRAIN_S
    assert service["RestartPreventExitStatus"] == "2", "a wrong configuration does not mend itself"


def test_both_units_lock_the_service_in_alike() -> None:
    """What differs has its reason in the unit."""
    system, own = (_service(unit) for unit in UNITS)
    only_system = {"User", "ProtectHome", "AmbientCapabilities", "RemoveIPC", "LimitNOFILE", "TasksMax", "MemoryMax"}
    paths = {"ExecStart", "EnvironmentFile"}

    assert {k for k in system.keys() | own.keys() if system.get(k) != own.get(k)} == only_system | paths


# launchd


def _job() -> dict[str, object]:
    (path,) = (DEPLOY / "launchd").glob("*.plist")
    job: dict[str, object] = plistlib.loads(path.read_bytes())
    assert job["Label"] == path.stem, "launchd wants the file to be named after it"
    return job


def test_the_launchd_job_lets_answers_end_and_is_restarted_after_a_crash_only() -> None:
    job = _job()

    assert int(str(job["ExitTimeOut"])) > DRAIN_S
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert job["RunAtLoad"] is True
    assert job["Umask"] == 0o077


@pytest.mark.live
def test_the_command_of_the_launchd_job_serves(tmp_path: Path) -> None:
    """Run as launchd runs it, in a home where the program and a configuration are."""
    command = _job()["ProgramArguments"]
    assert isinstance(command, list)
    (tmp_path / ".config" / "balancer").mkdir(parents=True)
    (tmp_path / ".config" / "balancer" / "providers.yaml").write_text(SIMULATED.format(port=0))
    (tmp_path / ".local" / "bin").mkdir(parents=True)
    program = tmp_path / ".local" / "bin" / "balancer"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m balancer.cli "$@"\n')
    program.chmod(0o755)
    log = tmp_path / "Library" / "Logs" / "balancer.log"
    env = environment(HOME=str(tmp_path), PYTHONPATH=str(ROOT / "src"))

    with subprocess.Popen(command, cwd="/", env=env) as process:
        try:
            found = _eventually(lambda: log.exists() and re.search(URL, log.read_text()))
            assert ask(found[0], max_tokens=1)["role"] == "assistant"
        finally:
            process.terminate()
        assert process.wait(20) == 0
    assert (tmp_path / ".config" / "balancer" / "logs").is_dir(), "as the file says"


# nginx

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  include {folder}/balancer.conf;
}}
"""
NAME = "balancer.example.com"


def _nginx_folder(tmp_path: Path, authority: trustme.CA, port: int, upstream: int) -> Path:
    """Return a folder in which nginx finds our file, with what differs from machine to machine put in."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    certificate = authority.issue_cert(NAME)
    (folder / "crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(folder / "key")
    text = (DEPLOY / "nginx" / "balancer.conf").read_text()
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
        "/etc/ssl/balancer.crt": f"{folder}/crt",
        "/etc/ssl/balancer.key": f"{folder}/key",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "balancer.conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return folder


@pytest.mark.live
def test_nginx_takes_the_file_and_finds_nothing_to_warn_of(nginx: str, tmp_path: Path) -> None:
    folder = _nginx_folder(tmp_path, trustme.CA(), 8443, 8080)

    said = subprocess.run([nginx, "-t", "-p", folder, "-c", folder / "nginx.conf"], capture_output=True, text=True)

    assert said.returncode == 0, said.stderr
    assert "[" not in said.stderr, "[warn], [emerg] ..."


@pytest.mark.live
def test_a_stream_goes_through_nginx_event_by_event_and_only_with_a_key(nginx: str, tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    config = tmp_path / "providers.yaml"
    config.write_text(SIMULATED.format(port=0) + f"  auth: {{keys: [{KEY}]}}\n  allowed_hosts: [{NAME}]\n")
    running = Running([sys.executable, str(ROOT / "src" / "main.py"), "--config", str(config)], tmp_path, environment())
    try:
        folder = _nginx_folder(tmp_path, authority, port, _port(running.until("http://")))
        with subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf"]) as process:
            try:
                _eventually(lambda: _listens(port))
                with _through(trusted, port, key="sk-of-somebody-else") as answer:
                    assert b" 401 " in answer.recv(100)
                with _through(trusted, port, key=KEY) as answer:
                    seen = b""
                    while b"content_block_delta" not in seen:
                        seen += _more(answer)
                    assert b"message_stop" not in seen, "the first event came before the last was made"
                    while b"message_stop" not in seen:
                        seen += _more(answer)
            finally:
                process.terminate()
    finally:
        running.close()


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _through(trusted: ssl.SSLContext, port: int, key: str) -> Iterator[ssl.SSLSocket]:
    """Ask for a stream by way of nginx."""
    question = {"role": "user", "content": "hi"}
    body = json.dumps({"model": "m", "max_tokens": 100, "stream": True, "messages": [question]}).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: {NAME}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        trusted.wrap_socket(plain, server_hostname=NAME) as connection,
    ):
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield connection


def _more(connection: ssl.SSLSocket) -> bytes:
    data = connection.recv(65536)
    assert data, "the answer broke off"
    return data


# The container


Instruction = tuple[str, str]


def _stages() -> list[list[Instruction]]:
    """Return the Dockerfile's instructions by stage: names, and what follows them."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if name:
            stages[-1].append((name, rest.strip()))
    return stages


ALL = [instruction for stage in _stages() for instruction in stage]


def _last(name: str) -> str:
    return next(rest for given, rest in reversed(_stages()[-1]) if given == name)


def _health_check() -> list[str]:
    command: list[str] = json.loads(_last("HEALTHCHECK").partition("CMD ")[2])
    return command


def test_every_instruction_is_one_that_docker_knows_and_no_shell_runs() -> None:
    known = [
        "FROM",
        "RUN",
        "COPY",
        "WORKDIR",
        "ENV",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ]

    assert [name for name, _ in ALL if name not in known] == []
    for _, rest in (pair for pair in ALL if pair[0] in ("RUN", "ENTRYPOINT", "CMD", "VOLUME")):
        assert all(isinstance(word, str) for word in json.loads(rest))


def test_every_base_image_has_a_version_that_the_project_supports() -> None:
    images = [rest.split()[0] for name, rest in ALL if name == "FROM"]

    assert len(set(images)) == 1, "what is built in one runs in the other"
    found = re.fullmatch(r"python:3\.(\d+)-slim", images[0])
    assert found
    assert int(found[1]) >= 11


def test_the_image_runs_as_a_user_without_rights() -> None:
    names = [name for name, _ in _stages()[-1]]

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", _last("USER")), (
        "a number, so that Kubernetes sees that it isn't root"
    )
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))


def test_everything_that_is_installed_is_pinned() -> None:
    installs = [json.loads(rest) for name, rest in ALL if name == "RUN" and "install" in json.loads(rest)]

    assert installs
    for command in installs:
        assert {"--no-deps", "--no-cache-dir"} <= set(command)
        assert {"--require-hashes", "--no-index"} & set(command)


@pytest.mark.live
def test_only_what_is_needed_is_handed_to_the_builder(tmp_path: Path) -> None:
    """And it is enough: the wheel is built of it, with all that belongs into it."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    allowed = {line[1:] for line in patterns if line.startswith("!")}
    copied = [rest.split() for name, rest in _stages()[0] if name == "COPY"]
    sources = {source for *sources, _ in copied for source in sources}
    assert sources == allowed

    for *names, target in copied:
        for name in names:
            place = tmp_path / target.strip("/")
            place.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / name, place)
    command = next(json.loads(rest) for name, rest in _stages()[0] if name == "RUN" and "hatchling" in rest)
    command = [sys.executable, *command[1:-1], str(tmp_path / "wheel")]
    subprocess.run(command, cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").iterdir()
    held = zipfile.ZipFile(wheel).namelist()
    assert {"balancer/cli.py", "balancer/py.typed", "balancer/shipped/providers.example.yaml"} <= set(held)


def test_the_image_serves_what_its_ports_and_checks_ask_for() -> None:
    command = json.loads(_last("CMD"))
    args = build().parse_args(command)

    assert json.loads(_last("ENTRYPOINT")) == ["balancer"]
    assert (args.command, args.host, str(args.port)) == ("serve", "0.0.0.0", _last("EXPOSE"))
    assert f"http://127.0.0.1:{args.port}/health" in _health_check()[-1]
    assert _last("STOPSIGNAL") == "SIGTERM"
    assert json.loads(_last("VOLUME")) == [_last("WORKDIR")], "the log is written where the volume is"


@pytest.mark.live
def test_the_health_check_tells_a_balancer_that_lives_from_none(tmp_path: Path) -> None:
    running = Running([sys.executable, str(ROOT / "src" / "main.py"), "--port", "0"], tmp_path, environment())
    try:
        code = _health_check()[-1].replace(":8080", f":{_port(running.until('http://'))}")
        assert code != _health_check()[-1]
        assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0
        running.process.terminate()
        assert running.ended() == 0
        assert subprocess.run([sys.executable, "-c", code], timeout=20, capture_output=True).returncode != 0
    finally:
        running.close()


def test_compose_runs_the_image_as_the_image_wants_it() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["balancer"]
    mounts = dict(line.split(":", 2)[:2] for line in service["volumes"])
    environment_of_image = dict(re.findall(r'(\w+)="([^"]*)"', _last("ENV")))

    assert service["build"] == "."
    assert Path(environment_of_image["BALANCER_CONFIG"]).parent == Path(mounts["./config"])
    assert mounts["state"] == _last("WORKDIR")
    assert compose["volumes"].keys() == {"state"}
    assert [line for line in service["ports"] if not re.fullmatch(rf"127\.0\.0\.1:\d+:{_last('EXPOSE')}", line)] == []
    assert float(service["stop_grace_period"].removesuffix("s")) > DRAIN_S


def test_compose_takes_every_right_that_is_not_needed() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["balancer"]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "user" not in service, "the image has one"


# Kubernetes


def _objects() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "balancer.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_the_configuration_in_the_manifest_can_be_used_there() -> None:
    text = _objects()["ConfigMap"]["data"]["providers.yaml"]
    env = {"ANTHROPIC_API_KEY": "sk-ant-api03-0123456789abcdef", "BALANCER_CLIENT_KEY": KEY}
    config = override(parse(text, "providers.yaml", env), {}, host="0.0.0.0")

    assert list(config.settings.auth.keys) == [KEY], "clients come from other addresses"
    assert _objects()["Service"]["metadata"]["name"] in config.settings.allowed_hosts
    assert not config.warnings


def test_a_pod_lets_answers_end_before_it_is_killed() -> None:
    pod = _objects()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    waits_s = float(re.findall(r"sleep\((\d+)\)", container["lifecycle"]["preStop"]["exec"]["command"][-1])[0])

    assert pod["terminationGracePeriodSeconds"] > DRAIN_S + waits_s
    assert build().parse_args(container["args"]).command
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe", "startupProbe")
    }
    assert paths == {"livenessProbe": "/health", "readinessProbe": "/ready", "startupProbe": "/health"}


def test_a_pod_has_no_right_that_it_does_not_need_and_a_place_for_all_that_it_writes() -> None:
    objects = _objects()
    spec = objects["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in dockerfile
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/etc/balancer", "/var/lib/balancer", "/tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert (
        spec["selector"]["matchLabels"]
        == spec["template"]["metadata"]["labels"]
        == objects["Service"]["spec"]["selector"]
    )
    (port,) = objects["Service"]["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in container["ports"]}
