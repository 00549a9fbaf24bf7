"""Worlds: a relay between clients and two providers that follow scripts. The stories of tests/relay are told with them."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from frames import ANSWER, DELTA, OVERLOADED, START, STOP, TEXT
from stand_ins import HandFed, PlayedTransport, Taker, request

from balancer import config, events
from balancer.clock import Clock
from balancer.model import Request
from balancer.relay.limits import DEFAULT, RelayLimits
from balancer.relay.relay import Relay
from balancer.script import Data, Head, Step
from balancer.state.fleet import Fleet

__all__ = ["ANSWER", "DELTA", "OVERLOADED", "START", "STOP", "TEXT"]

SSE = Head(200, ((b"content-type", b"text/event-stream"), (b"request-id", b"req_up"), (b"set-cookie", b"no")))
JSON = Head(200, ((b"content-type", b"application/json"),))
MESSAGE = b'{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":1,"output_tokens":2}}'
GOOD: list[Step] = [SSE, Data(ANSWER)]
WHOLE: list[Step] = [JSON, Data(MESSAGE)]

CONFIG = """
providers:
  - {{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 1, max_in_flight: 8}}
  - {{name: b, type: anthropic, base_url: "http://127.0.0.1:1002", auth_value: sk-secret-of-b, request_timeout: 1}}
model_routes:
  "m": [{{provider: a, model: passthrough, priority: 1}}, {{provider: b, model: other, priority: 2}}]
settings: {{failure_cooldown: 60{settings}}}
"""

ZED = """
providers:
  - {name: a, type: zed, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a, request_timeout: 1,
     zed_config: {max_context_tokens: 1000}}
model_routes: {"m": [{provider: a, model: passthrough}]}
"""

OPENAI = """
providers:
  - {name: a, type: openai, base_url: "http://127.0.0.1:1001/v1", auth_value: sk-secret-of-a, request_timeout: 1}
model_routes: {"m": [{provider: a, model: passthrough}]}
"""


def script(*steps: Step) -> list[Step]:
    """Return the steps as a script."""
    return list(steps)


def error(status: int, kind: str = "api_error", message: str = "no", **headers: str) -> list[Step]:
    """Return the script of an error's answer."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return [Head(status, ((b"content-type", b"application/json"), *lines)), Data(body)]


class World:
    """A relay with two providers, a and b. Each of their scripts is for one exchange, the last for all that follow."""

    def __init__(
        self,
        a: list[list[Step]],
        b: list[list[Step]] | None = None,
        settings: str = "",
        *,
        text: str | None = None,
        limits: RelayLimits = DEFAULT,
        fed: HandFed | None = None,
    ) -> None:
        self.events: list[events.Event] = []
        bus = events.Bus()
        bus.add(self.events.append)
        text = text or CONFIG.format(settings=settings)
        self.fleet = Fleet(config.parse(text, "providers.yaml", {}), bus, random.Random(1))
        self.transport = PlayedTransport({1001: a, 1002: b or [GOOD]})
        transport = fed or self.transport
        self.clock = Clock(asyncio.get_running_loop().time, lambda: 1.8e9)
        self.relay = Relay(self.fleet, transport, self.clock, limits)

    async def ask(self, ask: Request | None = None, **more: Any) -> Taker:
        """Ask, and return the client with its whole answer."""
        taker = Taker()
        await self.relay.answer(ask or request(**more), taker)
        return taker

    def begin(self, taker: Taker, **more: Any) -> asyncio.Task[None]:
        """Ask for `taker`, and return the task that answers."""
        return asyncio.create_task(self.relay.answer(request(**more), taker))

    @property
    def asked(self) -> str:
        """The providers in the order in which they were asked."""
        return "".join({1001: "a", 1002: "b"}[port] for port in self.transport.asked)

    @property
    def ended(self) -> events.RequestEnded:
        """The latest request that ended."""
        return [event for event in self.events if isinstance(event, events.RequestEnded)][-1]


# Providers whose bytes the test gives by hand

FLOWING = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
"""The head of a stream over a connection, whose content is handed on as it comes (`HandFed`)."""

BEGUN = START + TEXT + DELTA


def chunk(data: bytes) -> bytes:
    """Return `data` as a chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def settled() -> None:
    """Return when everybody who had something to do has done it."""
    for _ in range(12):
        await asyncio.sleep(0)


class Quick(Taker):
    """A client that takes what it is given at once, where `takes` does not say otherwise."""

    gone = False

    def __init__(self, takes: list[bool] | None = None) -> None:
        super().__init__()
        self._takes = iter(takes or ())
        self.ended = asyncio.Event()

    def put(self, data: bytes, *, last: bool = False) -> bool:
        assert self.status
        assert not self.end
        self.busy = self.busy or not next(self._takes, True)
        if self.busy:
            return False
        self.body += data
        self.begun.set()
        self.end = "whole" if last else ""
        return True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.busy = False
        await super().write(data, last=last)
        if last:
            self.ended.set()


class Stuck(Taker):
    """A client that takes nothing from the `after`-th write on."""

    gone = False

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self._left = after

    async def write(self, data: bytes, *, last: bool = False) -> None:
        self._left -= 1
        if self._left < 0:
            self.begun.set()
            await asyncio.Event().wait()
        await super().write(data, last=last)
