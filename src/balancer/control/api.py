"""The control endpoints: status, reload, drills, probes. FastAPI, never on the hot path."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from balancer import __version__, drills, events
from balancer.config import Problem
from balancer.control import status
from balancer.fleet import Fleet
from balancer.telemetry.metrics import Metrics
from balancer.wire import anthropic as wire

NAME = "claude-code-provider-balancer"


class Board(Protocol):
    """What the control endpoints work on."""

    fleet: Fleet
    metrics: Metrics

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def uptime_s(self) -> float: ...

    async def reload(self) -> tuple[tuple[str, ...], list[Problem]]:
        """Return what changed, or what is wrong with the file."""
        ...

    async def models(self, limit: int | None) -> dict[str, Any]:
        """Return the Messages API's list of models."""
        ...


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
    app = FastAPI(title=NAME, version=__version__, docs_url=None, redoc_url=None)
    _add_probes(app, board)
    _add_fleet(app, board)
    _add_orders(app, board)
    return app


def _add_probes(app: FastAPI, board: Board) -> None:
    """Whether it lives, and whether it can serve."""

    @app.api_route("/", methods=["GET", "HEAD"])
    async def root() -> dict[str, Any]:
        providers = status.overview(board.fleet, board.now())
        return {
            "name": NAME,
            "version": __version__,
            "status": "ok",
            "providers": providers,
            "uptime_s": round(board.uptime_s(), 1),
        }

    @app.api_route("/api/hello", methods=["GET", "HEAD"])
    async def hello() -> Response:
        return Response(status_code=200)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> JSONResponse:
        if board.fleet.draining:
            return JSONResponse({"status": "draining"}, 503, headers={"retry-after": "1"})
        if not status.overview(board.fleet, board.now())["healthy"]:
            return JSONResponse({"status": "no usable provider"}, 503, headers={"retry-after": "5"})
        return JSONResponse({"status": "ok"})


def _add_fleet(app: FastAPI, board: Board) -> None:
    """What is served, and how it goes."""

    @app.get("/providers")
    async def providers() -> dict[str, Any]:
        return status.describe(board.fleet, board.now(), board.wall())

    @app.get("/metrics")
    async def metrics() -> PlainTextResponse:
        text = board.metrics.render(status.describe(board.fleet, board.now(), board.wall()))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> JSONResponse:
        limit = request.query_params.get("limit", "")
        return JSONResponse(await board.models(int(limit) if limit.isdigit() else None))


def _add_orders(app: FastAPI, board: Board) -> None:
    """What changes something."""

    @app.post("/providers/reload")
    async def reload() -> JSONResponse:
        changes, problems = await board.reload()
        if problems:
            told = [{"file": p.file, "line": p.line, "message": p.message} for p in problems]
            return JSONResponse({"status": "error", "problems": told}, 400)
        count = len(board.fleet.config.providers)
        return JSONResponse(
            {"status": "ok", "generation": board.fleet.generation, "providers": count, "changes": list(changes)}
        )

    @app.post("/admin/drill")
    async def drill(request: Request) -> JSONResponse:
        if not board.fleet.config.settings.drills:
            return _problem(403, "drills are off; set settings.drills: true in providers.yaml to allow them")
        try:
            order = DrillOrder.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors()[0]
            return _problem(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}")
        return _drill(board, order)


def _problem(code: int, message: str) -> JSONResponse:
    return JSONResponse({"type": "error", "error": {"type": wire.kind_of(code), "message": message}}, code)


def _drill(board: Board, order: DrillOrder) -> JSONResponse:
    if order.provider not in board.fleet.config.providers:
        names = ", ".join(board.fleet.config.providers)
        return _problem(404, f"there is no provider '{order.provider}'; there are: {names}")
    if order.fault is not None and order.fault not in drills.FAULTS:
        return _problem(400, f"unknown fault '{order.fault}'; there are: {', '.join(drills.FAULTS)}")
    ordered = None
    if order.fault is not None:
        ends = None if order.for_s is None else board.now() + order.for_s
        ordered = drills.Drill(order.provider, order.fault, order.requests, ends)
    until = ordered.in_words(board.now()) if ordered else "off"
    board.fleet.drill(order.provider, ordered)
    board.fleet.bus.emit(events.Drilled(board.wall(), order.provider, order.fault or "", until))
    return JSONResponse({"status": "ok", "provider": order.provider, "fault": order.fault, "until": until})
