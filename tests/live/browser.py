"""A real Chromium, driven over the pipe of its DevTools protocol: opens a page, waits for what it shows, takes a picture."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

WITHIN_S = 25.0

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--remote-debugging-pipe",
)  # fmt: skip


class Page:
    """One page of a browser."""

    def __init__(self, reader: asyncio.StreamReader, to_browser: int) -> None:
        self.complaints: list[str] = []
        """What its console says: errors, and what its policy has blocked."""
        self._reader, self._to = reader, to_browser
        self._numbers = itertools.count(1)
        self._session: str | None = None

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the protocol and return its result."""
        number = next(self._numbers)
        order: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            order["sessionId"] = self._session
        os.write(self._to, json.dumps(order).encode() + b"\0")
        while True:
            told = json.loads((await asyncio.wait_for(self._reader.readuntil(b"\0"), WITHIN_S))[:-1])
            if told.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(told["params"])[:500])
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    async def open(self, url: str, width: int = 1200, height: int = 600) -> None:
        """Open an address in a window of this size."""
        if self._session is None:
            target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
            self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
            for domain in ("Runtime", "Log", "Page"):
                await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Page.navigate", url=url)

    async def value(self, expression: str) -> Any:
        """Return what an expression gives in the page."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Return what an expression gives as soon as that is true."""
        ends = asyncio.get_running_loop().time() + WITHIN_S
        while not (found := await self.value(expression)):
            assert asyncio.get_running_loop().time() < ends, (expression, await self.value("document.body.innerText"))
            await asyncio.sleep(0.05)
        return found

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self) -> bytes:
        """Return the window as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def browser(program: str) -> AsyncIterator[Page]:
    """Run a Chromium with an empty profile, and give its page."""
    its_in, to_browser = os.pipe()
    from_browser, its_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The protocol's pipe is descriptors 3 and 4.
        script = f'exec "$0" "$@" 3<&{its_in} 4>&{its_out} {its_in}<&- {its_out}>&-'
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, program, *FLAGS, f"--user-data-dir={profile}",
            pass_fds=(its_in, its_out), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        os.close(its_in)
        os.close(its_out)
        reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_browser, "rb", 0)
        )
        try:
            yield Page(reader, to_browser)
        finally:
            process.kill()
            await process.wait()
            pipe.close()
            os.close(to_browser)
