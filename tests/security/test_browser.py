"""What a web page can do to a balancer on the same machine, in a real Chromium: nothing. Line 3 of the checklist."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from live.harness import Upstream, balancer, configuration
from security.attacks import QUESTION, get, head_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

EVIL = "evil.example"
"""A name of the attacker's that leads to this machine: the rebound DNS record."""

PAGE = """\
<!doctype html><title>evil</title><body><pre id=out></pre><script>
const PORT = %d, QUESTION = %s, DRILL = '{"provider":"a","fault":"500","for_s":60}';
const got = [];
async function tries(name, url, how) {
  try {
    const answer = await fetch(url, how);
    got.push([name, answer.type, answer.status, (await answer.text()).slice(0, 200)]);
  } catch (error) { got.push([name, "error", 0, ""]); }
}
function adds(tag, more) { const one = document.createElement(tag); Object.assign(one, more); document.body.append(one); return one; }
function posts(url, body) {
  const form = adds("form", {method: "POST", action: url, enctype: "text/plain", target: "sink"});
  const field = document.createElement("input"); field.name = body; form.append(field); form.submit();
}
(async () => {
  adds("iframe", {name: "sink"});
  for (const host of ["127.0.0.1", "localhost", "x.localhost", "%s"]) {
    const base = `http://${host}:${PORT}`;
    for (const [path, body] of [["/v1/messages", QUESTION], ["/providers/reload", ""], ["/admin/drill", DRILL], ["/admin/pause", '{"provider":"a"}']]) {
      await tries("simple", base + path, {method: "POST", mode: "no-cors", body});
      await tries("untyped", base + path, {method: "POST", mode: "no-cors", body: new Blob([body])});
      await tries("preflighted", base + path, {method: "POST", body, headers: {"content-type": "application/json", "x-api-key": "x"}});
      await tries("with credentials", base + path, {method: "POST", body, credentials: "include"});
      navigator.sendBeacon(base + path, body);
      posts(base + path, body);
    }
    for (const path of ["/providers", "/metrics", "/v1/models", "/"]) {
      await tries("read", base + path, {});
      await tries("read blindly", base + path, {mode: "no-cors"});
      adds("img", {src: base + path}); adds("script", {src: base + path}); adds("iframe", {src: base + path});
      adds("object", {data: base + path}); adds("link", {rel: "stylesheet", href: base + path});
    }
    try { new WebSocket(`ws://${host}:${PORT}/v1/messages`); } catch (error) {}
    new EventSource(base + "/providers");
  }
  await new Promise(done => setTimeout(done, 500));
  document.getElementById("out").textContent = JSON.stringify(got);
})();
</script>
"""


class Recorder:
    """Stands between the browser and the balancer, and keeps each request line with the status that it got."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.lines: list[bytes] = []
        self.statuses: list[int] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            with suppress(ConnectionError):
                ways = (self._pass(reader, to_writer, self._asked), self._pass(to_reader, writer, self._answered))
                await asyncio.gather(*ways)
        finally:
            for end in (writer, to_writer):
                end.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], None]
    ) -> None:
        while data := await reader.read(1 << 16):
            note(data)
            writer.write(data)
        with suppress(OSError):
            writer.write_eof()

    def _asked(self, data: bytes) -> None:
        self.lines += re.findall(rb"^([A-Z]{3,7} \S+) HTTP/1\.1\r$", data, re.MULTILINE)

    def _answered(self, data: bytes) -> None:
        self.statuses += [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d+)", data, re.MULTILINE)]


@asynccontextmanager
async def recorded(port: int) -> AsyncIterator[Recorder]:
    recorder = Recorder(port)
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        for task in recorder.tasks:
            task.cancel()
        await asyncio.gather(*recorder.tasks, return_exceptions=True)


@asynccontextmanager
async def attackers(page: str) -> AsyncIterator[int]:
    """Serve the attacker's page, on a port of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(page.encode())}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + page.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def seen_at(chromium: str, url: str, folder: Path) -> str:
    """Return the page as the browser has it in the end. It reaches this machine alone, as which `EVIL` counts."""
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-extensions", f"--user-data-dir={folder}", "--virtual-time-budget=20000",
        f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP x.localhost 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        # the browser's own protection of the local network off: others have none
        "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
        "--dump-dom", url,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        chromium,
        *flags,
        env={**os.environ, "HOME": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode()


@pytest.mark.parametrize("origin", ["localhost", EVIL])
async def test_no_page_of_another_origin_gets_through(chromium: str, origin: str, tmp_path: Path) -> None:
    """Simple and preflighted requests, forms, beacons, images, scripts, frames, and names that were rebound."""
    async with Upstream() as upstream, balancer(configuration(upstream, settings="drills: true")) as running:
        async with recorded(running.port) as between:
            page = PAGE % (between.port, json.dumps(QUESTION.decode()), EVIL)
            async with attackers(page) as port:
                dom = await seen_at(chromium, f"http://{origin}:{port}/", tmp_path)
            (told,) = re.findall(r"<pre id=\"out\">(.*?)</pre>", dom, re.DOTALL)
            got = json.loads(html.unescape(told))

        assert len(got) == 4 * (4 * 4 + 4 * 2), "the page did not come to its end"
        assert [one for one in got if one[3]] == [], "it could read an answer"
        assert len(between.lines) > 60, "the browser did not even ask"
        assert b"POST /v1/messages" in between.lines
        assert [code for code in between.statuses if code < 400] == []
        assert upstream.seen == []
        state = json.loads((await get(running, "/providers")).partition(b"\r\n\r\n")[2])
        assert (state["providers"][0]["state"], state["generation"]) == ("healthy", 0)


async def test_a_rebound_name_shows_nothing_and_the_own_one_does(chromium: str, tmp_path: Path) -> None:
    async with Upstream() as upstream, balancer(configuration(upstream)) as running:
        rebound = await seen_at(chromium, f"http://{EVIL}:{running.port}/providers", tmp_path / "1")
        own = await seen_at(chromium, f"http://127.0.0.1:{running.port}/providers", tmp_path / "2")
        kind = head_of(await get(running, "/providers"))["content-type"]

    assert "allowed_hosts" in rebound
    assert '"providers"' not in html.unescape(rebound)
    assert '"providers"' in html.unescape(own)
    assert kind == "application/json"
