"""Events: every field is filled by something that happens, and each kind is made in one place."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec.structs import replace
from stand_ins import request
from virtual_time import run
from worlds import ANSWER, CONFIG, GOOD, JSON, OPENAI, SSE, START, World, error, script

from balancer import config, events
from balancer.app import create_app
from balancer.dialects.simulated.faults import Drill
from balancer.events import Attempt, Bus, Event, ProviderRecovered, Reloaded
from balancer.policy.grants import KeyGrant, KeyUse
from balancer.script import Data, Head, Pause
from balancer.supervisor.report import Report

SOURCE = Path(__file__).resolve().parents[1] / "src" / "balancer"
KINDS: tuple[Any, ...] = (*get_args(Event), Attempt)

CHAT = b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},\
"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


async def failing_over() -> list[Event]:
    """Provider a fails in several ways, is left alone, and recovers; its model's cooldown is one of its own."""
    limited = error(429, "rate_limit_error", retry_after="5")
    world = World([limited, GOOD, GOOD, error(401, "authentication_error")], [GOOD])
    asking: dict[str, Any] = {"conversation": "c", "client": "0123", "user_agent": "claude-cli/2"}
    asking |= {"session": "0456", "project": "acme"}
    asking["grant"] = KeyGrant("team", KeyUse())
    await world.ask(**asking)
    await asyncio.sleep(600)  # the cooldown is over
    world.fleet.orders.wake("b", 1.0)
    for _ in range(3):
        await world.ask(conversation="another")
    await world.ask(replace(request(), model="unknown"))
    world.fleet.reload(config.parse(CONFIG.format(settings=", drills: true"), "providers.yaml", {}), 1.0)
    return world.events


async def injecting_a_fault() -> list[Event]:
    world = World([GOOD], [GOOD])
    world.fleet.orders.inject("a", Drill("a", "529", requests_left=1), 0.0, 0.0)
    await world.ask()
    return world.events


async def queueing() -> list[Event]:
    world = World([[SSE, Data(START), Pause(0.5), *GOOD[1:]]], [GOOD], ", limits: {max_in_flight: 1}")
    await asyncio.gather(world.ask(), world.ask())
    return world.events


async def repairing() -> list[Event]:
    refusal = error(400, "invalid_request_error", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.")
    world = World([refusal, script(JSON, Data(CHAT))], text=OPENAI)
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    await world.ask(body=body, stream=False)
    return world.events


async def leaving_reasoning() -> list[Event]:
    """A conversation with thinking goes from one organization to another; the other reports what it dropped."""
    of_a = Head(200, (*SSE.headers, (b"anthropic-organization-id", b"one")))
    of_b = Head(200, (*SSE.headers, (b"anthropic-organization-id", b"two")))
    dropped = START.replace(b'"content":[]', b'"content":[],"input_transformations":[{"type":"thinking_dropped"}]')
    world = World([[of_a, *GOOD[1:]], error(529)], [[of_b, Data(dropped + ANSWER[len(START) :])]])
    body = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","signature":"s"}]}]}'
    for _ in range(2):
        await world.ask(conversation="c", body=body)
    return world.events


def losing_a_worker() -> list[Event]:
    seen: list[Event] = []
    report = Report(None, "INFO")
    report.bus.add(seen.append)
    report.ended(2, 77, "hang", "signal 9 (SIGKILL)", 4.0)
    return seen


SIMULATED = """
providers: [{name: fake, type: simulated, simulated_config: {latency: 0.3}}]
model_routes: {"*": [{provider: fake, model: passthrough}]}
settings: {drills: true, log_file: null, log_level: CRITICAL, host: 127.0.0.1}
"""


async def running(folder: Path) -> list[Event]:
    """The whole application: two identical requests at once, an order to fail, reloads that are and are not used."""
    path = folder / "providers.yaml"
    path.write_text(SIMULATED)
    seen: list[Event] = []
    app = create_app(str(path))
    await app.start()
    try:
        app.fleet.bus.add(seen.append)
        ask = {"model": "claude-x", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        answers = await asyncio.gather(*(post(app, "/v1/messages", ask) for _ in range(2)))
        assert [status for status, _ in answers] == [200, 200]
        ordered = {"provider": "fake", "fault": "529", "for_s": 30}
        assert (await post(app, "/admin/drill", ordered))[0] == 200
        for order in ("wake", "pause", "resume"):
            assert (await post(app, f"/admin/{order}", {"provider": "fake"}))[0] == 200
        path.write_text(SIMULATED.replace("0.3", "0.4").replace("host:", "port: 9, host:"))
        assert (await post(app, "/providers/reload", None))[0] == 200
        path.write_text("providers: 5")
        assert (await post(app, "/providers/reload", None))[0] == 400
    finally:
        await app.stop()
    return seen


async def post(app: Any, path: str, body: object) -> tuple[int, bytes]:
    """Return status and body of the answer to a request that comes through ASGI."""
    sent: list[dict[str, Any]] = []
    whole = asyncio.Event()
    asked = [{"type": "http.request", "body": msgspec.json.encode(body) if body else b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await whole.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            whole.set()

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"user-agent", b"test/1")]
    await app(
        {
            "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": headers, "client": ("127.0.0.1", 9), "server": ("127.0.0.1", 9),
            "scheme": "http", "root_path": "",
        },
        receive,
        send,
    )  # fmt: skip
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def default_of(field: msgspec.structs.FieldInfo) -> object:
    """Return the default of a field; for one without, the empty value that it must not always have."""
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


async def test_every_field_of_every_event_is_filled_by_some_story(tmp_path: Path) -> None:
    """A field that is declared, documented and rendered, but never filled, misleads whoever reads the log."""
    seen = await running(tmp_path) + losing_a_worker()
    for story in (failing_over, injecting_a_fault, queueing, repairing, leaving_reasoning):
        seen += await asyncio.to_thread(run, story())
    ends = [event for event in seen if isinstance(event, events.RequestEnded)]
    everything: list[Any] = [*seen, *(attempt for event in ends for attempt in event.attempts)]

    empty = {
        f"{kind.__name__}.{field.name}"
        for kind in KINDS
        for field in msgspec.structs.fields(kind)
        if not any(
            (value := getattr(event, field.name)) and value != default_of(field)
            for event in everything
            if type(event) is kind
        )
    }

    assert empty == set()
    assert {event.dedup for event in ends} == {"", "leader", "follower"}


def test_each_kind_of_event_is_made_in_one_place() -> None:
    """Their arguments go by position, where one too few or two exchanged show nowhere else."""
    names = {kind.__name__ for kind in KINDS}
    made: Counter[str] = Counter()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in names:
                    made[name] += 1

    assert made == dict.fromkeys(names, 1) | {"RequestEnded": 2}, "the second is of a worker that was killed"


def test_listeners_are_called_in_order_and_only_with_the_kinds_that_they_asked_for() -> None:
    heard: list[tuple[str, Event]] = []
    bus = Bus()
    bus.add(lambda event: heard.append(("all", event)))
    bus.add(lambda event: heard.append(("reloads", event)), (Reloaded,))
    reloaded, recovered = Reloaded(1.0, 2), ProviderRecovered(1.0, "a")

    bus.emit(reloaded)
    bus.emit(recovered)

    assert heard == [("all", reloaded), ("reloads", reloaded), ("all", recovered)]


def test_an_event_without_listeners_is_no_error() -> None:
    Bus().emit(Reloaded(1.0, 2))
