"""The control endpoints: status, reload, fault injection, probes. FastAPI, never on the hot path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException as Refusal

from balancer import NAME, __version__
from balancer.config import Problem
from balancer.control import catalogue, live, status
from balancer.control.usage import NoUsage
from balancer.control.usage import told as usage_told
from balancer.control.workers import Workers
from balancer.dialects.simulated import faults as drills
from balancer.headers import REQUEST_ID as ID_HEADER
from balancer.server.access import is_json
from balancer.server.rejected import new_id
from balancer.server.resources import is_resource
from balancer.state.fleet import Fleet
from balancer.state.orders import Orders
from balancer.telemetry.metrics import Metrics
from balancer.telemetry.recent import Recent
from balancer.telemetry.usage.ledger import Ledger
from balancer.wire.error_shapes import openai_error
from balancer.wire.errors import error_body, kind_of

REQUEST_ID = ID_HEADER.decode()

PAGE_MAX = 1000
"""The most entries of a page of models, as in the Messages API."""

MAY_ASK = "balancer.may_ask"
"""In the scope of a request whose key may ask for some models only: the function that says for which."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Board(Protocol):
    """What the control endpoints work on."""

    fleet: Fleet
    metrics: Metrics
    workers: Workers
    """All workers of this machine."""
    one_of_several: bool
    """This process is one of several workers that share nothing: an order reaches this one alone."""

    recent: Recent
    ledger: Ledger | None
    """None: no usage is kept."""

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def uptime_s(self) -> float: ...

    def log_lines_lost(self) -> int:
        """Return how many lines the log file lacks."""
        ...

    async def reload(self) -> tuple[tuple[str, ...], list[Problem], dict[str, Any]]:
        """Return what changed, or what is wrong with the file; and how it went at other workers, if there are any."""
        ...

    restart: Callable[[], Awaitable[str]] | None
    """Replaces this balancer's processes by new ones, and returns why that failed; None: it can't be done here."""

    def note_restart(self) -> None:
        """A client has ordered a restart."""
        ...

    async def models(
        self, limit: int | None, after: str | None, before: str | None, may_ask: Callable[[str], bool] | None
    ) -> dict[str, Any]:
        """Return a page of the Messages API's list of models. `may_ask`: which are listed; None: all."""
        ...

    async def model(self, name: str) -> dict[str, Any] | None:
        """Return one entry of that list; None where no route matches the name."""
        ...


class ProviderOrder(BaseModel):
    """The body of `POST /admin/wake`, `/admin/pause` and `/admin/resume`."""

    model_config = ConfigDict(extra="forbid")

    provider: str


class DrillOrder(BaseModel):
    """The body of `POST /admin/drill`."""

    model_config = ConfigDict(extra="forbid")

    provider: str
    fault: str | None = None
    """None: stop the drill."""
    for_s: float | None = Field(default=None, gt=0, le=86400)
    requests: int | None = Field(default=None, gt=0, le=1_000_000)


def build(board: Board) -> FastAPI:
    """Return the application that serves everything but the hot paths."""
    # No redirects: where they lead would be read from the client's Host header.
    app = FastAPI(title=NAME, version=__version__, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _failed)
    _add_probes(app, board)
    _add_fleet(app, board)
    _add_page(app, board)
    _add_usage(app, board)
    _add_models(app, board)
    _add_orders(app, board)
    _add_elsewhere(app)
    return app


def _add_probes(app: FastAPI, board: Board) -> None:
    """Whether it lives, and whether it can serve."""

    @app.api_route("/", methods=["GET", "HEAD"])
    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", "")[:200]:  # a browser
            return _file(live.PAGE)
        told = {
            "name": NAME,
            "version": __version__,
            "status": "ok",
            "providers": status.overview(board.fleet, board.now()),
            "uptime_s": round(board.uptime_s(), 1),
        }
        return JSONResponse(told)

    @app.api_route("/api/hello", methods=["GET", "HEAD"])
    async def hello() -> Response:
        return Response(status_code=200)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> JSONResponse:
        if board.fleet.draining or board.fleet.drain_announced:
            return JSONResponse({"status": "draining"}, 503, headers={"retry-after": "1"})
        if not status.overview(board.fleet, board.now())["healthy"]:
            return JSONResponse({"status": "no usable provider"}, 503, headers={"retry-after": "5"})
        return JSONResponse({"status": "ok"})


def _add_fleet(app: FastAPI, board: Board) -> None:
    """What is served, and how it goes."""

    targets = status.Targets()

    @app.get("/providers")
    async def providers() -> Response:
        if not board.workers.alone:
            return JSONResponse(await board.workers.view())
        pieces = await status.in_slices(status.written(board.fleet, targets, board.now(), board.wall()))
        return Response(b"".join(pieces), media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        if not board.workers.alone:
            return PlainTextResponse(await board.workers.metrics(), media_type="text/plain; version=0.0.4")
        view = status.moment(board.fleet, board.now(), board.log_lines_lost())
        pieces = await status.in_slices(board.metrics.pieces(view))
        return PlainTextResponse("".join(pieces), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, board: Board) -> None:
    """The live page and what it shows. Its files hold nothing: who looks needs the right to read for `/events`."""
    shown = live.Live(board)

    @app.get(live.PAGE)
    @app.get(f"{live.PAGE}/app.js")
    @app.get(f"{live.PAGE}/style.css")
    async def page(request: Request) -> Response:
        return _file(request.scope["path"])

    @app.get("/events")
    async def events() -> Response:
        if shown.viewers >= live.VIEWERS_MAX:
            return _problem(503, f"{live.VIEWERS_MAX} look already", {"retry-after": "10"})
        return StreamingResponse(shown.events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _file(path: str) -> Response:
    content, kind = live.file(path)
    return Response(content, media_type=kind, headers=live.HEADERS)


def _add_usage(app: FastAPI, board: Board) -> None:
    """What was used and what it cost."""

    @app.get("/usage")
    async def usage(request: Request) -> Response:
        asked = request.query_params
        try:
            told = await usage_told(board.ledger, asked.get("by"), asked.get("since"), board.wall())
        except NoUsage as error:
            return _problem(error.status, str(error))
        return JSONResponse(told)


def _add_models(app: FastAPI, board: Board) -> None:
    """The list of models, in the Messages API's shape, or in one that is OpenAI's as well."""

    @app.api_route("/v1/models", methods=["GET", "HEAD"])
    async def models(request: Request) -> Response:
        asked = request.query_params
        limit = asked.get("limit")
        if limit is not None and not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= PAGE_MAX):
            return _problem(400, f"limit: must be a number from 1 to {PAGE_MAX}")
        listed = await board.models(
            int(limit) if limit else None, asked.get("after_id"), asked.get("before_id"), request.scope.get(MAY_ASK)
        )
        if not _is_of_messages_api(request):
            listed = catalogue.in_both_shapes(listed)
        return JSONResponse(listed, headers={REQUEST_ID: new_id()})

    @app.api_route("/v1/models/{id:path}", methods=["GET", "HEAD"])
    async def model(request: Request) -> Response:
        name = request.path_params["id"]
        may_ask = request.scope.get(MAY_ASK)
        found = await board.model(name) if may_ask is None or may_ask(name) else None
        if found is None:
            openai = not _is_of_messages_api(request)
            return _problem(404, f"no route matches the model '{name[:200]}'", openai=openai, model=True)
        if not _is_of_messages_api(request):
            found = catalogue.entry_in_both_shapes(found)
        return JSONResponse(found, headers={REQUEST_ID: new_id()})


def _add_elsewhere(app: FastAPI) -> None:
    """What clients ask of the Messages API's host, and this balancer does not do."""

    @app.api_route("/v1/messages/batches{rest:path}", methods=METHODS)
    @app.api_route("/v1/messages/cache_touch", methods=METHODS)
    @app.api_route("/v1/files{rest:path}", methods=METHODS)
    @app.api_route("/v1/skills{rest:path}", methods=METHODS)
    async def not_supported(request: Request) -> Response:
        path = request.scope["path"][:200]
        unless = " unless it has settings.proxy_endpoints: true" if is_resource(path) else ""
        message = f"{path} is not supported by this balancer{unless}; ask the provider itself"
        return _problem(501, message, {"x-should-retry": "false"}, "not_supported")

    @app.api_route("/api/event_logging{rest:path}", methods=METHODS)
    async def event_logging() -> Response:
        return JSONResponse({})


def _add_orders(app: FastAPI, board: Board) -> None:
    """What changes something."""

    @app.post("/providers/reload", dependencies=[Depends(_no_form)])
    async def reload() -> JSONResponse:
        changes, problems, others = await board.reload()
        if problems:
            told = [{"file": p.file, "line": p.line, "message": p.message} for p in problems]
            return JSONResponse({"status": "error", "problems": told}, 400)
        fleet = board.fleet
        answer = {
            "status": "ok",
            "generation": fleet.generation,
            "providers": len(fleet.config.providers),
            "changes": list(changes),
            "needs_restart": list(fleet.needs_restart),
            "warnings": [str(warning) for warning in fleet.config.warnings],
            **others,
        }
        return JSONResponse(answer)

    @app.post("/admin/restart", dependencies=[Depends(_no_form)])
    async def restart() -> Response:
        if board.restart is None:
            return _problem(501, "it was not started by `balancer serve`, so whoever has started it has to restart it")
        board.note_restart()
        if failure := await board.restart():
            return _problem(503, f"not restarted, the old processes go on: {failure}")
        return JSONResponse({"status": "ok"})

    @app.post("/admin/drill", dependencies=[Depends(_no_form)])
    async def drill(request: Request) -> Response:
        if not board.fleet.config.settings.drills:
            return _problem(403, "drills are off; set settings.drills: true in providers.yaml to allow them")
        try:
            order = DrillOrder.model_validate_json(await request.body())
        except ValidationError as error:
            return _invalid(error)
        return await _drill(board, order)

    for word, carry_out in (("wake", Orders.wake), ("pause", Orders.pause), ("resume", Orders.resume)):
        app.post(f"/admin/{word}", dependencies=[Depends(_no_form)])(_carrying_out(board, word, carry_out))


def _carrying_out(
    board: Board, word: str, carry_out: Callable[[Orders, str, float], None]
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of an order that names a provider and nothing else."""

    async def endpoint(request: Request) -> Response:
        try:
            name = ProviderOrder.model_validate_json(await request.body()).provider
        except ValidationError as error:
            return _invalid(error)
        provider = board.fleet.config.providers.get(name)
        if provider is None:
            return _unknown(board, name)
        carry_out(board.fleet.orders, name, board.wall())
        reached = await board.workers.tell(word, name)
        state, _ = board.fleet.health.state_of(provider, board.now())
        return JSONResponse({"status": "ok", "provider": name, "state": state, "applies_to": _reach(board, reached)})

    return endpoint


def _reach(board: Board, reached: str) -> str:
    """Say whom an order has reached: the whole balancer, or only the worker that took it."""
    return "this worker" if board.one_of_several else reached


async def _no_form(request: Request) -> None:
    """Refuse what a web page could send without asking: a form, or plain text."""
    kind = request.headers.get("content-type", "")
    if kind and not is_json(kind.encode("latin-1")):
        raise HTTPException(415, "send content-type: application/json, or no body at all")


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what the router or an endpoint refuses, in the shape of every other error."""
    if not isinstance(error, Refusal):
        raise error
    said = {404: f"there is no {request.scope['path'][:200]} here", 405: f"{request.method} is not allowed here"}
    openai = request.scope["path"].startswith("/v1/") and not _is_of_messages_api(request)
    return _problem(error.status_code, said.get(error.status_code, str(error.detail)), error.headers, openai=openai)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer where an endpoint of ours has a fault; the server logs it."""
    return _problem(500, "this endpoint failed; the log says where")


def _is_of_messages_api(request: Request) -> bool:
    """Say whether a client speaks the Messages API: it names a version, or sends its key as that API wants it."""
    return "anthropic-version" in request.headers or "x-api-key" in request.headers


def _problem(
    code: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    kind: str = "",
    *,
    openai: bool = False,
    model: bool = False,
) -> Response:
    """Return an error in the Messages API's shape; `openai`: with the members of OpenAI's shape in it, too.

    `model`: it is about a model.
    """
    request_id, kind = new_id(), kind or kind_of(code)
    body = error_body(kind, message, request_id)
    if openai:
        error = {"param": None, "code": None, **(openai_error(kind, message) if model else {})}
        error |= {"type": kind, "message": message}
        body = msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    return Response(body, code, {**(headers or {}), REQUEST_ID: request_id}, "application/json")


async def _drill(board: Board, order: DrillOrder) -> Response:
    if order.provider not in board.fleet.config.providers:
        return _unknown(board, order.provider)
    if order.fault is not None and order.fault not in drills.FAULTS:
        return _problem(400, f"unknown fault '{order.fault}'; there are: {', '.join(drills.FAULTS)}")
    ordered = None
    if order.fault is not None:
        ends = None if order.for_s is None else board.now() + order.for_s
        ordered = drills.Drill(order.provider, order.fault, order.requests, ends)
    until = ordered.in_words(board.now()) if ordered else "off"
    board.fleet.orders.inject(order.provider, ordered, board.now(), board.wall())
    reached = _reach(board, await board.workers.tell_drill(order.provider, ordered))
    told = {"provider": order.provider, "fault": order.fault, "until": until, "applies_to": reached}
    return JSONResponse({"status": "ok", **told})


def _unknown(board: Board, name: str) -> Response:
    names = ", ".join(board.fleet.config.providers)
    return _problem(404, f"there is no provider '{name[:100]}'; there are: {names}")


def _invalid(error: ValidationError) -> Response:
    first = error.errors()[0]
    return _problem(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}")
