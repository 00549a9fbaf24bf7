"""What is written down, shown and counted: lines 14, 17 to 20, 23, 25 and 26 of the checklist, as attacks."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import endpoints
import pytest
import pytest_asyncio
from conftest import missing
from live.harness import ROOT, Peer, Seen, Upstream, balancer, configuration, eventually, free_port, good
from security.attacks import ask, beginning, everything_written, exchange, get, head_of, question, request, status
from security.test_entry import Attacked

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loud() -> AsyncIterator[Attacked]:
    """A balancer that writes down as much as it ever does."""
    settings = "log_level: DEBUG, drills: true, failure_cooldown: 0"
    async with Upstream() as upstream, balancer(configuration(upstream, settings=settings)) as running:
        yield Attacked(running, upstream)


# 14

PROMPT, SAID = "canary-of-the-prompt-4711", "canary-of-the-answer-4711"


async def test_no_word_of_a_conversation_is_written_down(loud: Attacked) -> None:
    """Whatever becomes of it: a good answer, one that is cut off, a refusal, and a request that is none."""

    async def behaves(seen: Seen, peer: Peer) -> None:
        code = next((code for code in (400, 413, 422, 429, 500, 529) if f"code-{code}" in seen.body.decode()), 200)
        if code == 200:
            await good(seen, peer, SAID)
        else:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": f"bad at 3: {PROMPT}"}}
            await peer.whole(code, json.dumps({**error, "input": seen.json}).encode())

    loud.upstream.behaviour = behaves
    try:
        for words in ("", "code-400", "code-413", "code-422", "code-429", "code-500", "code-529"):
            for stream in (False, True):
                await ask(loud.running, question(f"{PROMPT} {words}", stream=stream))
        await ask(loud.running, question(PROMPT), path="/v1/messages/count_tokens")
        await ask(loud.running, question(PROMPT)[:-9])
        shown = await get(loud.running, "/providers") + await get(loud.running, "/metrics")
    finally:
        loud.upstream.behaviour = good
    await loud.running.ended(15)
    written = everything_written(loud.running)

    assert b"canary-of-the-answer" not in written + shown
    assert b"canary-of-the-prompt" not in written + shown


SAID_IN_AN_ANSWER = {
    "a stream that begins with an error": ("event: error\ndata: {}\n\n", 200, "text/event-stream"),
    "an error that is no JSON": ("event: error\ndata: {} is bad\n\n", 200, "text/event-stream"),
    "an error of another API's": ('data: {{"error": {{"message": "{}", "code": 500}}}}\n\n', 200, "text/event-stream"),
    "an error in place of a message": ('{{"type": "error", "error": {{"type": "x", "message": "{}"}}}}', 200, "application/json"),
    "a page": ("<html><title>{}</title></html>", 200, "text/html"),
    "words": ("{} is bad", 500, "text/plain"),
    "a refused key": ('{{"error": {{"type": "authentication_error", "message": "{}"}}}}', 401, "application/json"),
    "an ability that it lacks": ('{{"error": {{"type": "x", "message": "tools are not supported: {}"}}}}', 400, "application/json"),
    "a limit": ('{{"error": {{"type": "rate_limit_error", "message": "try again in 20s: {}"}}}}', 429, "application/json"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_what_providers_say_of_a_conversation_is_not_written_down(kind: str) -> None:
    """It may quote the request, in whatever shape: messages, batches, and what is passed on in OpenAI's API."""

    async def behaves(seen: Seen, peer: Peer) -> None:
        case = next(name for name in SAID_IN_AN_ANSWER if name in seen.body.decode())
        words, code, media_type = SAID_IN_AN_ANSWER[case]
        await peer.whole(code, words.format(PROMPT).encode(), media_type)

    paths = (
        ["/v1/messages", "/v1/messages/batches"] if kind == "anthropic" else ["/v1/messages", "/v1/chat/completions"]
    )
    async with Upstream(behaves) as one:
        text = configuration(one, one, settings="log_level: DEBUG, failure_cooldown: 0, proxy_endpoints: true")
        async with balancer(text.replace("type: anthropic", f"type: {kind}")) as running:
            for case in SAID_IN_AN_ANSWER:
                for stream in (False, True):
                    for path in paths:
                        await ask(running, question(f"{PROMPT} {case}", stream=stream), path=path)
            shown = await get(running, "/providers") + await get(running, "/metrics")
            await running.ended(len(SAID_IN_AN_ANSWER) * 4)
        written = everything_written(running)

    assert b"canary-of-the-prompt" not in written + shown


async def test_log_files_are_private(loud: Attacked) -> None:
    await ask(loud.running)
    await loud.running.ended()

    assert {stat.S_IMODE(path.stat().st_mode) for path in (loud.running.folder / "logs").iterdir()} == {0o600}


# 17


async def test_nothing_that_is_shown_is_a_page_that_runs_foreign_code(loud: Attacked) -> None:
    """All is JSON or text that browsers do not guess about; a page of our own brings a policy that names its sources."""
    paths = [
        *sorted(re.sub(r"\{.*?\}", "x", path) for path in await asyncio.to_thread(endpoints.paths)),
        "/nowhere",
        "/docs",
        "/openapi.json",
    ]
    wrong = []
    for path in paths:
        for method in ("GET", "POST"):
            head = head_of(await beginning(loud.port, request(b"", path=path, method=method)))
            if head.get("content-type", "").startswith("text/html"):
                policy = head.get("content-security-policy", "")
                fine = "default-src 'self'" in policy or "default-src 'none'" in policy
                fine = fine and "frame-ancestors 'none'" in policy and "unsafe" not in policy
            else:
                fine = True
            if not fine or (head.get("content-length") != "0" and head.get("x-content-type-options") != "nosniff"):
                wrong.append((method, path, head))

    assert wrong == []


async def test_names_from_outside_are_shown_as_json_alone(loud: Attacked) -> None:
    name = "<img src=x onerror=alert(1)>"
    await ask(loud.running, question(model=name))
    answers = [await get(loud.running, path) for path in ("/providers", "/v1/models", f"/{name.replace(' ', '%20')}")]

    assert all(head_of(answer)["content-type"].startswith("application/json") for answer in answers)


# 18


def bombs() -> dict[str, str]:
    good_one = configuration(9)
    names = "abcdefghij"
    laughs = "a: &a [1,1,1,1,1,1,1,1,1]\n"
    laughs += "".join(f"{y}: &{y} [{','.join(['*' + x] * 9)}]\n" for x, y in itertools.pairwise(names))
    merges = "a: &a {x: 1}\n"
    merges += "".join(f"{y}: &{y} {{<<: [{','.join(['*' + x] * 9)}]}}\n" for x, y in itertools.pairwise(names))
    return {
        "aliases of aliases": laughs,
        "merges of merges": merges,
        "a tag that calls": "providers: !!python/object/apply:os.system ['touch attacked']\n",
        "a tag that makes": "providers: !!python/object/new:os.system ['touch attacked']\n",
        "an alias of itself": "providers: &x [*x]\n",
        "nested 5000 deep": "providers: " + "[" * 5000,
        "nested 5000 deep in mappings": "providers: " + "{a: " * 5000,
        "a key twice": good_one + "settings: {port: 1}\n",
        "two megabytes": "#" + "x" * 2_000_000,
        "a NUL": good_one + "\0",
        "UTF-16": "\ufeff" + "\0".join(good_one),
        "no number": good_one.replace("settings: {}", "settings: {request_timeout: .nan}"),
    }


@pytest.mark.parametrize("text", bombs().values(), ids=bombs())
async def test_a_configuration_that_is_a_weapon_is_refused_with_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "providers.yaml").write_text(text)
    command = [sys.executable, "-P", "-m", "balancer.cli", "check", "--config", "providers.yaml"]
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}

    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=20, check=False
    )

    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert "providers.yaml" in said
    assert "Traceback" not in said
    assert not (tmp_path / "attacked").exists()


async def test_nothing_of_the_package_evaluates_text() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))

    assert (
        re.findall(r"(?<![\w.])(?:eval|exec)\(|\bpickle\b|\bmarshal\b|yaml\.(?:unsafe_|full_)?load\(|shell=True", text)
        == []
    )


# 19

NASTY = [
    'a\n{"event":"forged"}',
    "a\r\x1b[2J",
    "\x1b]0;t\x07",
    "a\x00b",
    "\u2028x",
    "\u202eevil",
    "\u2066x\u2069",
    "\x7f\x9b31m",
    "a" * 900,
]


@pytest.mark.parametrize("name", NASTY, ids=ascii)
async def test_no_name_from_outside_forges_a_line_of_the_log(loud: Attacked, name: str) -> None:
    before = len(loud.running._ends())
    await ask(loud.running, question(model=name), path="/v1/messages?x=%0a%1b[2J")
    await ask(loud.running, question(), "user-agent: \x1b[2Jagent")
    await ask(loud.running, question(), path="/v1/" + "".join(f"%{byte:02x}" for byte in name.encode()))
    await ask(loud.running)
    await loud.running.ended(before + 1)
    raw = b"".join(path.read_bytes() for path in (loud.running.folder / "logs").glob("*.jsonl"))
    lines = [json.loads(line) for line in raw.splitlines()]
    printed = bytes(loud.running.output)

    assert [line for line in lines if line.get("event") == "forged"] == []
    assert re.findall(rb"[\x00-\x09\x0b-\x1f\x7f]", raw) == []
    assert re.findall("[\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", raw.decode()) == []
    assert re.findall(rb"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x7f]", printed) == []


# 20


async def test_a_reload_with_a_wrong_file_changes_nothing(loud: Attacked) -> None:
    file = loud.running.folder / "providers.yaml"
    right = file.read_text()
    try:
        for wrong in ("", "providers: [", right + "nonsense: 1\n", right.replace("anthropic", "nobody"), "\0"):
            file.write_text(wrong)
            assert status(await exchange(loud.port, request(b"", path="/providers/reload"))) == 400
            assert status(await ask(loud.running)) == 200
    finally:
        file.write_text(right)
    assert status(await exchange(loud.port, request(b"", path="/providers/reload"))) == 200


# 23


async def test_it_starts_and_answers_without_a_network(tmp_path: Path) -> None:
    """In a network namespace of its own, where there is a loopback and nothing else."""
    alone = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "ip link set lo up"], capture_output=True).returncode:  # noqa: ASYNC221
        missing("a network namespace", "install util-linux and iproute2, and allow user namespaces")
    port = free_port()
    asks = f"import time, urllib.request as u\nfor _ in range(200):\n try: print(u.urlopen('http://127.0.0.1:{port}/ready').read()); break\n except OSError: time.sleep(.1)"
    script = f'ip link set lo up; "{sys.executable}" "{ROOT}/src/main.py" --port {port} & '
    script += f'"{sys.executable}" -c "{asks}"; kill $!; wait $!'

    done = await asyncio.to_thread(
        subprocess.run, [*alone, script], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )

    assert '{"status":"ok"}' in done.stdout, done.stdout + done.stderr


# 25


async def test_made_up_models_make_no_more_series(loud: Attacked) -> None:
    for number in range(130):
        await ask(loud.running, question(model=f"made-up-{number}"))
    before = (await get(loud.running, "/metrics")).count(b"\n")
    for number in range(130, 230):
        await ask(loud.running, question(model=f"made-up-{number}"))

    assert (await get(loud.running, "/metrics")).count(b"\n") == before


# 26

LEARNT = '{"version":1,"providers":{"a":{"type":"openai","base_url":"http://127.0.0.1:PORT","learnt":%s}}}'
POISON = {
    "nothing": "",
    "zeros": "\0" * 100,
    "nested 100,000 deep": "[" * 100_000,
    "too long": "x" * 3_000_000,
    "another version": '{"version":2,"providers":[]}',
    "no provider": '{"providers":{"a":null}}',
    "lessons that are none": LEARNT
    % '{"by_model":{"*":{"drop:messages":1e99,"set:stream=[]":1e99,"config:base_url=x":1e99}}}',
    "lessons of another type": LEARNT % '{"*":{"drop:model":1e99},"m":[1,2],"by_model":7}',
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_a_poisoned_memory_is_ignored(poison: str, tmp_path: Path) -> None:
    """No state is shared by a server like Redis; what outlives a process is what was learnt of providers, in a file."""

    async def completes(seen: Seen, peer: Peer) -> None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        await peer.whole(
            200, json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()
        )

    async with Upstream(completes) as upstream:
        (tmp_path / "l.learnt.json").write_text(poison.replace("PORT", str(upstream.port)))
        text = configuration(upstream, settings=f'log_file: "{tmp_path}/l.jsonl"').replace(
            "type: anthropic", "type: openai"
        )
        async with balancer(text) as running:
            answer = await ask(running)

        assert status(answer) == 200
        assert b"Traceback" not in running.output
        assert upstream.asked[-1].json["messages"] == [{"role": "user", "content": "q"}]


# the rule behind them all: nobody stops everybody


async def test_a_process_that_stood_still_says_so_in_metrics_and_log() -> None:
    async with Upstream() as upstream, balancer(configuration(upstream)) as running:
        running.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.2)
        running.process.send_signal(signal.SIGCONT)

        def told() -> list[str]:
            return [line["message"] for line in running.log() if line["event"] == "said"]

        await eventually(lambda: any("event loop was late by" in text for text in told()))
        metrics = (await get(running, "/metrics")).decode()

    late = re.findall(r'lag_seconds_bucket\{le="(?:0.5|\+Inf)"\} (\d+)', metrics)
    assert int(late[0]) < int(late[1])
