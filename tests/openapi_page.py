"""Writes docs/openapi.json, the description of the control endpoints, for programs.

FastAPI describes the paths; what an endpoint reads by itself (bodies, queries) and answers is added here. The balancer
does not serve the description: whoever may not ask an endpoint need not learn of it. `make docs` runs this;
tests/security/test_openapi.py checks that it is current, and plays it against a running balancer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import endpoints
from pydantic import BaseModel

from balancer.app import create_app
from balancer.control.api import PAGE_MAX, DrillOrder, ProviderOrder
from balancer.telemetry.usage.sums import GROUPS

SINCE = "^(|[1-9][0-9]{0,3}[mhdw]|today|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]))$"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"

ELSEWHERE = ("/v1/messages/batches", "/v1/messages/cache_touch", "/v1/files", "/v1/skills", "/api/event_logging")
"""What clients ask of the Messages API's own host; described there."""

STREAM = "/events"
RESTART = "/admin/restart"
"""What answers without end: whoever reads whole answers must leave it out."""

OPEN = ("/", "/health", "/ready", "/api/hello", "/dashboard", "/dashboard/app.js", "/dashboard/style.css")
"""What is answered without a key."""

ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string", "pattern": "^req_[0-9a-f]{24}$"},
    },
}
REFUSALS = {
    400: "the request is not as it should be",
    401: "a key is needed",
    403: "not from here, from this page, or with this key",
    404: "there is no such thing",
    405: "not by this method",
    413: "the body is too large",
    415: "the body is not declared as JSON",
    421: "the Host header names another machine",
    431: "the head is too large",
}
ALWAYS = (400, 403, 405, 421, 431)
ORDERED = {
    "type": "object",
    "required": ["status", "provider"],
    "properties": {"status": {"const": "ok"}, "provider": {"type": "string"}, "state": {"type": "string"}},
}
RELOADED = {
    "type": "object",
    "required": ["status", "generation", "changes", "needs_restart", "warnings"],
    "properties": {"status": {"const": "ok"}, "changes": {"type": "array", "items": {"type": "string"}}},
}
LISTED = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "array", "items": {"type": "object"}}},
}
WORD = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
ANY = {"type": "object"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _text(kind: str) -> dict[str, Any]:
    return {f"text/{kind}": {"schema": {"type": "string"}}}


GOOD: dict[str, dict[str, dict[str, Any]]] = {
    "/": {"200": {"description": "what this is", "content": _json(WORD)}},
    "/api/hello": {"200": {"description": "nothing but a sign of life"}},
    "/health": {"200": {"description": "it runs", "content": _json(WORD)}},
    "/ready": {
        "200": {"description": "it may be asked", "content": _json(WORD)},
        "503": {"description": "it is being stopped, or no provider is usable", "content": _json(WORD)},
    },
    "/providers": {"200": {"description": "the providers and how they are", "content": _json(ANY)}},
    "/metrics": {"200": {"description": "Prometheus' text format", "content": _text("plain")}},
    "/usage": {"200": {"description": "what requests used and cost", "content": _json(ANY)}},
    "/dashboard": {"200": {"description": "the live page", "content": _text("html")}},
    "/dashboard/app.js": {"200": {"description": "the live page's script", "content": _text("javascript")}},
    "/dashboard/style.css": {"200": {"description": "the live page's style", "content": _text("css")}},
    STREAM: {
        "200": {
            "description": "server-sent events without end: `snapshot`, then `change`, and `draining` at a stop",
            "content": _text("event-stream"),
        },
        "503": {
            "description": "enough look already",
            "content": _json({"$ref": "#/components/schemas/Error"}),
        },
    },
    "/v1/models": {"200": {"description": "a page of models", "content": _json(LISTED)}},
    "/v1/models/{id}": {"200": {"description": "one model", "content": _json(ANY)}},
    "/providers/reload": {"200": {"description": "what changed", "content": _json(RELOADED)}},
    RESTART: {
        "200": {"description": "new processes serve", "content": _json(WORD)},
        "501": {
            "description": "another program has started it: that one restarts it",
            "content": _json({"$ref": "#/components/schemas/Error"}),
        },
        "503": {
            "description": "new processes could not start; the old ones go on",
            "content": _json({"$ref": "#/components/schemas/Error"}),
        },
    },
}
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "/usage": [
        {"name": "by", "in": "query", "schema": {"type": "string", "enum": ["", *GROUPS]}},
        {"name": "since", "in": "query", "schema": {"type": "string", "pattern": SINCE}},
    ],
    "/v1/models": [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX}},
        {"name": "after_id", "in": "query", "schema": {"type": "string"}},
        {"name": "before_id", "in": "query", "schema": {"type": "string"}},
    ],
    "/v1/models/{id}": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
}
BODIES: dict[str, type[BaseModel]] = {
    "/admin/drill": DrillOrder,
    "/admin/wake": ProviderOrder,
    "/admin/pause": ProviderOrder,
    "/admin/resume": ProviderOrder,
}


def document() -> dict[str, Any]:
    """Return the description."""
    described: dict[str, Any] = asyncio.run(_described())
    paths = {}
    for path, operations in described["paths"].items():
        if not path.startswith(ELSEWHERE):
            paths[path.replace(":path}", "}")] = {
                method: _operation(path.replace(":path}", "}"), method, operation)
                for method, operation in operations.items()
            }
    security = {
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Control endpoints of the Claude Code provider balancer", "version": "1"},
        "security": [{"x-api-key": []}, {"bearer": []}, {}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {"Error": ERROR}, "securitySchemes": security},
    }


def _operation(path: str, method: str, described: dict[str, Any]) -> dict[str, Any]:
    good = GOOD.get(path) or {"200": {"description": "done", "content": _json(ORDERED)}}
    body = BODIES.get(path)
    codes = sorted(
        {
            *ALWAYS,
            *((413, 415) if method == "post" else ()),
            *((404,) if body or "{" in path or path == "/usage" else ()),
        }
    )
    codes = sorted({*codes, *(() if path in OPEN else (401,))})
    refusals = {
        str(code): {"description": REFUSALS[code], "content": _json({"$ref": "#/components/schemas/Error"})}
        for code in codes
    }
    if path == "/providers/reload":
        refusals["400"]["content"] = _json(ANY)
    told = {"summary": described["summary"], "operationId": f"{method}_{path.strip('/').replace('/', '_') or 'root'}"}
    if path in PARAMETERS:
        told["parameters"] = PARAMETERS[path]
    if body is not None:
        told["requestBody"] = {"required": True, "content": _json(body.model_json_schema())}
    if method == "head":
        good = {code: {"description": answer["description"]} for code, answer in good.items()}
        refusals = {code: {"description": answer["description"]} for code, answer in refusals.items()}
    return {**told, "responses": {**good, **refusals}}


async def _described() -> dict[str, Any]:
    """Return what FastAPI knows of the real application."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "providers.yaml"
        file.write_text(endpoints.CONFIG)
        app = create_app(str(file))
        await app.start()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate Operation ID")  # GET and HEAD share a function
                return app._control.openapi()
        finally:
            await app.stop()


def text() -> str:
    return json.dumps(document(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
    sys.exit(0)
