"""From a clean clone to the first answer, as a newcomer does it: `make run`, then one request.

    python .ci/clean_clone.py [--pip VERSION | --uv]

--pip installs with that pip, as an older Python brings it along, and with no uv on PATH; --uv with the uv on PATH;
neither: with the pip that this Python brings along. Prints seconds (and how many of CPU), megabytes and packages.
Fails when there is no answer within `WITHIN_S`, or when .venv is larger than `MAX_MB`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITHIN_S = 120.0
"""For a machine that does much else as well. On a quiet one it takes 9 to 14 s with pip, 3 to 5 s with uv."""
MAX_MB = 100

NEEDED = ("sh", "make", "rm", "cp", "ln", "touch")
"""What may be found on PATH, besides Python: what every system with make has."""

OLD_PYTHON = """\
#!/bin/sh
# A Python whose `-m venv` brings along an older pip.
"{python}" "$@" || exit
case "$1 $2" in
  "-m venv")
    for folder; do :; done
    for packages in "$folder"/lib/python*/site-packages; do
      rm -rf "$packages"/pip "$packages"/pip-*
      cp -R "{older}"/pip "{older}"/pip-* "$packages"
    done
    ;;
esac
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="From a clean clone to the first answer.")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--pip", metavar="VERSION")
    way.add_argument("--uv", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        clone, tools, home = Path(work) / "clone", Path(work) / "bin", Path(work) / "home"
        for folder in (clone, tools, home):
            folder.mkdir()
        copy(clone)
        put_on_path(tools, ("uv",) if args.uv else ())
        python = old_python(tools, args.pip) if args.pip else Path(sys.executable)
        before = cpu_s()
        seconds = first_answer(clone, tools, home, python)
        cpu = cpu_s() - before
        megabytes = size_mb(clone / ".venv")
        packages = len(list(clone.glob(".venv/lib/*/site-packages/*.dist-info")))
        told = f"{installer(clone, args.uv)}: first answer after {seconds:.1f} s ({cpu:.1f} s of CPU)"
        print(f"{told}; .venv {megabytes:.0f} MB, {packages} packages", flush=True)
    if args.pip and f"pip {args.pip}:" not in told:
        print(f"that was not pip {args.pip}", file=sys.stderr)
        return 1
    if megabytes > MAX_MB:
        print(f".venv may have {MAX_MB} MB", file=sys.stderr)
        return 1
    return 0


def copy(clone: Path) -> None:
    """Put what is committed into `clone`; without a repository (a downloaded archive), what is here."""
    archive = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "archive", "HEAD"]
    if shutil.which("git") and (ROOT / ".git").exists():
        packed = subprocess.run(archive, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(clone)], input=packed, check=True)
    else:
        ignored = shutil.ignore_patterns(".venv", ".tools", ".git", "__pycache__")
        shutil.copytree(ROOT, clone, ignore=ignored, dirs_exist_ok=True)


def put_on_path(tools: Path, more: tuple[str, ...]) -> None:
    """Link what may be found on PATH into `tools`."""
    for name in (*NEEDED, *more):
        found = shutil.which(name)
        if found is None:
            sys.exit(f"{name} is missing")
        (tools / name).symlink_to(found)


def old_python(tools: Path, version: str) -> Path:
    """Return a Python whose environments have pip of that `version`."""
    older = tools / "older"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(older), f"pip=={version}"], check=True)
    script = tools / "python-with-old-pip"
    script.write_text(OLD_PYTHON.format(python=sys.executable, older=older))
    script.chmod(0o755)
    return script


def first_answer(clone: Path, tools: Path, home: Path, python: Path) -> float:
    """Run `make run` in `clone` and return after how many seconds a request was answered."""
    foreign = ("VIRTUAL_ENV", "PYTHON", "BALANCER_", "HOST", "PORT", "LOG_", "MAKE", "MFLAGS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env |= {"PATH": str(tools), "HOME": str(home), "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1", "PYTHONUNBUFFERED": "1"}
    began = time.monotonic()
    make = subprocess.Popen(
        ["make", "-s", "run", f"PYTHON={python}", "ARGS=--port 0"],
        cwd=clone, env=env, stdout=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    giving_up = threading.Timer(WITHIN_S, make.terminate)
    giving_up.start()
    try:
        assert make.stdout is not None
        for line in make.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                ask(found[0])
                return time.monotonic() - began
        sys.exit(f"no first answer within {WITHIN_S:.0f} s: make run ended with {make.wait()}")
    finally:
        giving_up.cancel()
        make.terminate()  # it hands the signal on
        make.communicate()


def ask(url: str) -> None:
    """Send one message to the balancer at `url`; anything but an answer ends the program."""
    message = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": "say hi"}]}
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    request = urllib.request.Request(f"{url}/v1/messages", json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
        if json.load(answer)["role"] != "assistant":
            sys.exit("that was no message")


def installer(clone: Path, with_uv: bool) -> str:
    """Return the name and version of what installed."""
    command = ["uv", "--version"] if with_uv else [str(clone / ".venv/bin/python"), "-m", "pip", "--version"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return " ".join(said.split()[:2])


def cpu_s() -> float:
    """Return the CPU time, in seconds, of all that was run so far: the same on a busy machine as on a quiet one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size_mb(folder: Path) -> float:
    """Return how much of a disk `folder` takes, in MB (1024 * 1024 bytes)."""
    files = (path.lstat() for path in folder.rglob("*"))
    return sum(file.st_blocks * 512 for file in files) / 2**20


if __name__ == "__main__":
    sys.exit(main())
