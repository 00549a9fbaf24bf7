"""The clients' side of the balancer without sockets: real connections on transports that keep what is written.

What is above the relay is real, and so is the relay; its providers follow scripts.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import Any

from frames import ANSWER
from stand_ins import PlayedTransport
from uvicorn.server import ServerState

from balancer import config as configuration
from balancer import events
from balancer.clock import Clock
from balancer.coalescing.shared import InFlight
from balancer.model import Request
from balancer.relay.relay import Relay
from balancer.relay.writer import ResponseWriter
from balancer.script import Data, Head, Step
from balancer.server import run
from balancer.server.access import Denied, Gate
from balancer.server.asgi import AsgiClient, Receive, Scope, Send
from balancer.server.connections import Connections
from balancer.server.endpoint import Messages
from balancer.server.http11 import ClientConnection
from balancer.server.limits import ClientLimits
from balancer.server.paths import OPERATIONS, canonical
from balancer.server.rejected import Rejected, new_id, reject
from balancer.server.uvicorn_internals import HttpToolsProtocol
from balancer.state.fleet import Fleet

SSE = Head(200, ((b"content-type", b"text/event-stream"),))
JSON = Head(200, ((b"content-type", b"application/json"),))
MESSAGE = b'{"type":"message","content":[{"type":"text","text":"hi"}],"usage":{"input_tokens":1,"output_tokens":2}}'
STREAMED: list[Step] = [SSE, Data(ANSWER)]
WHOLE: list[Step] = [JSON, Data(MESSAGE)]
COUNTED: list[Step] = [JSON, Data(b'{"input_tokens":42}')]

CONFIG = """
providers:
  - {{name: a, type: anthropic, base_url: "http://127.0.0.1:1001", auth_value: sk-secret-of-a}}
model_routes: {{"*": [{{provider: a, model: passthrough}}]}}
settings: {{{settings}}}
"""

BODY = b'{"model":"m","max_tokens":5,"messages":[]}'
HOST = b"host: localhost\r\n"


def post(body: bytes = BODY, *lines: bytes, path: bytes = b"/v1/messages", version: bytes = b"1.1") -> bytes:
    """Return a request whose body has a length, with more header lines."""
    head = [b"POST %b HTTP/%b" % (path, version), b"host: localhost", b"content-length: %d" % len(body), *_typed(lines)]
    return b"\r\n".join([*head, b"", body])


def _typed(lines: tuple[bytes, ...]) -> list[bytes]:
    """Return header lines with one that declares the body as JSON, unless they say what it is."""
    told = any(line.lower().startswith(b"content-type:") for line in lines)
    return [*lines] if told else [b"content-type: application/json", *lines]


def chunked(body: bytes = BODY, *lines: bytes, size: int = 10, trailers: bytes = b"") -> bytes:
    """Return a request whose body comes in chunks."""
    head = [b"POST /v1/messages HTTP/1.1", b"host: localhost", b"transfer-encoding: chunked", *_typed(lines)]
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"\r\n".join([*head, b"", b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)]) + (
        b"0\r\n" + trailers + b"\r\n"
    )


class Recording(Relay):
    """The relay, which keeps the requests that reach it."""

    def __init__(self, fleet: Fleet, transport: Any, clock: Clock) -> None:
        super().__init__(fleet, transport, clock)
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []

    async def answer(self, request: Request, writer: ResponseWriter, task: Any = None, route: Any = None) -> None:
        self.requests.append(request)
        self.bodies.append(request.body)
        await super().answer(request, writer, task, route)


class Failing(Recording):
    """A relay with a fault of its own."""

    begins = False

    async def answer(self, request: Request, writer: ResponseWriter, task: Any = None, route: Any = None) -> None:
        if self.begins:
            writer.start(200, ((b"x-a", b"b"),))
            await writer.write(b"so far")
        raise RuntimeError("a fault of ours")


class Front:
    """Everything above the relay, as the application wires it, and the relay: a `Host` and an ASGI application."""

    def __init__(
        self,
        *scripts: list[Step],
        settings: str = "",
        limits: ClientLimits | None = None,
        keys: tuple[str, ...] = (),
        relay: type[Recording] = Recording,
        direct: bool = True,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.told: list[events.Event] = []
        bus = events.Bus()
        bus.add(self.told.append)
        parsed = configuration.parse(CONFIG.format(settings=settings), "providers.yaml", {})
        self.fleet = Fleet(parsed, bus, random.Random(1))
        clock = Clock(loop.time, lambda: 1.8e9)
        self.transport = PlayedTransport({1001: [list(script) for script in scripts] or [list(STREAMED)]})
        transport: Any = self.transport
        self.relay = relay(self.fleet, transport, clock)
        self.in_flight = InFlight(1_000_000, loop.time)
        self.limits = limits or ClientLimits()
        self.connections = Connections()
        self.connections.apply(most=1000, most_per_address=None, most_bytes=1_000_000_000)
        self.ways: list[str] = []
        """How each request came in: the class of what writes its answer."""
        self.messages: Messages = _Messages(self)
        self.gate = Gate(keys, (), (), b"seed") if direct else _Shut(keys, (), (), b"seed")
        self._asgi_gate = Gate(keys, (), (), b"seed")
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        scope["path"] = canonical(scope["path"])
        admitted = self._asgi_gate.check(scope["path"], scope["method"], scope["client"], tuple(scope["headers"]))
        if isinstance(admitted, Denied):
            client = AsgiClient(receive, send, scope["http_version"], self.limits, loop)
            await reject(client, Rejected(admitted.status, admitted.kind, admitted.message), new_id())
        elif scope["path"] in OPERATIONS:
            await self.messages(scope, receive, send, admitted)
        else:  # as the control endpoints: the body is not looked at
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"other", "more_body": False})

    client_tls = None

    def drain(self) -> None:
        self.fleet.draining = True

    def connect(self, *, plain: bool = False, address: tuple[str, int] = ("127.0.0.1", 5)) -> Wire:
        """Return the client's end of a new connection; `plain`: to uvicorn's own protocol."""
        kind: type[HttpToolsProtocol] = HttpToolsProtocol if plain else ClientConnection
        config = run.configured(self)
        config.load()
        return Wire(kind(config, self.state, {}, asyncio.get_running_loop()), address)

    @property
    def ended(self) -> list[events.RequestEnded]:
        return [event for event in self.told if isinstance(event, events.RequestEnded)]

    @property
    def began(self) -> list[events.RequestBegan]:
        return [event for event in self.told if isinstance(event, events.RequestBegan)]


class _Messages(Messages):
    def __init__(self, front: Front) -> None:
        super().__init__(front.relay, front.in_flight, 1, front.limits, asyncio.get_running_loop(), front.connections)
        self._ways = front.ways

    def answer(self, *args: Any) -> Any:
        self._ways.append(type(args[4]).__name__)
        return super().answer(*args)


class _Shut(Gate):
    """Lets nothing in without ASGI, so that everything has to go that way."""

    def check(self, *args: Any, **more: Any) -> Any:
        return Denied(401, "", "")


class Wire(asyncio.Transport):
    """The client's end of a connection: what was written to it, and whether it was closed. It may be slow."""

    def __init__(self, connection: HttpToolsProtocol, address: tuple[str, int]) -> None:
        super().__init__()
        self.connection = connection
        self.got = b""
        self.late = b""
        """What was written after the connection had been closed."""
        self.closed = False
        self.aborted = False
        self.end = asyncio.Event()
        """Set when it is closed."""
        self.reads = True
        """The server reads."""
        self._address = address
        connection.connection_made(self)

    def says(self, *parts: bytes) -> None:
        """Each part is read by itself."""
        for part in parts:
            if not self.closed and part:
                self.connection.data_received(part)

    async def closes(self) -> float:
        """Wait until the server closes it; return how many seconds that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.end.wait()
        return loop.time() - began

    def leaves(self) -> None:
        """The client closes its end."""
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(None)

    # What the server does

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._address, "sockname": ("127.0.0.1", 8082)}.get(name, default)

    def write(self, data: Any) -> None:
        if self.closed:
            self.late += bytes(data)
        else:
            self.got += bytes(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.end.set()
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    @property
    def answers(self) -> list[Answer]:
        """What was written so far, as answers."""
        return list(parsed(self.got, self.closed))

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


@dataclass
class Answer:
    """One answer as a client reads it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True

    @property
    def comparable(self) -> Answer:
        """The same without what differs from request to request."""
        headers = {name: value for name, value in self.headers.items() if name != "date"}
        for name in ("x-balancer-request-id", "request-id"):
            if name in headers:
                headers[name] = re.sub(r"^req_[0-9a-f]{24}$", "req_", headers[name])
        return Answer(self.status, headers, re.sub(rb"req_[0-9a-f]{24}", b"req_", self.body), self.whole)


def parsed(data: bytes, closed: bool) -> list[Answer]:
    """Return the answers in `data`; the last one may not be whole."""
    answers = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        lines = head.decode().split("\r\n")
        answer = Answer(int(lines[0].split()[1]))
        for line in lines[1:]:
            name, _, value = line.partition(": ")
            assert name not in answer.headers, f"{name} stands there twice"
            answer.headers[name.lower()] = value
        if answer.status != 100:
            data = _body(answer, data, closed)
        answers.append(answer)
    return answers


def _body(answer: Answer, data: bytes, closed: bool) -> bytes:
    """Fill in the body, and return what follows it."""
    if "content-length" in answer.headers:
        length = int(answer.headers["content-length"])
        answer.body, rest = data[:length], data[length:]
        answer.whole = len(answer.body) == length
        return rest
    if answer.headers.get("transfer-encoding") != "chunked":
        answer.body, answer.whole = data, closed
        return b""
    while True:
        size, end, rest = data.partition(b"\r\n")
        length = int(size, 16) if end else 0
        if not end or len(rest) < length + 2:
            answer.whole = False
            answer.body += data
            return b""
        assert rest[length : length + 2] == b"\r\n"
        data = rest[length + 2 :]
        if not length:
            return data
        answer.body += rest[:length]
