"""Every part of uvicorn that the balancer uses although uvicorn does not promise to keep it.

Tried with uvicorn 0.51 to 0.54; `pyproject.toml` bounds the version, and `tests/server/test_uvicorn_internals.py`
compares the lists below with the installed version. Nothing else in the package imports from `uvicorn.protocols`.

* `http11.ClientConnection` is an `HttpToolsProtocol`: it takes over the parser's callbacks and the timers, and hands
  requests that are not plain on to the methods it inherits (`PROTOCOL_METHODS`), which work on `PROTOCOL_ATTRIBUTES`.
* `http11` reads and sets `CYCLE_ATTRIBUTES` of uvicorn's requests. An `exchange.Exchange` has those that uvicorn uses
  of any connection's `cycle` (`EXCHANGE_ATTRIBUTES`, in `shutdown` and `connection_lost`).
* `asgi.AsgiClient` reaches the connection behind an ASGI `send` by `connection_of`.
* `run.Server` overrides `capture_signals`, and makes connections as uvicorn's `startup` does (`connection`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["STATUS_LINE", "FlowControl", "HttpToolsProtocol", "RequestResponseCycle", "connection_of"]

PROTOCOL_METHODS = frozenset(
    {
        "connection_made",
        "connection_lost",
        "data_received",
        "on_message_begin",
        "on_url",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "shutdown",
        "_unset_keepalive_if_required",
    }
)

PROTOCOL_ATTRIBUTES = frozenset(
    {
        "client",
        "cycle",
        "expect_100_continue",
        "flow",
        "headers",
        "loop",
        "parser",
        "pipeline",
        "server_state",
        "tasks",
        "timeout_keep_alive",
        "transport",
        "url",
    }
)

CYCLE_ATTRIBUTES = frozenset(
    {"disconnected", "flow", "message_event", "response_complete", "response_started", "transport"}
)

EXCHANGE_ATTRIBUTES = frozenset({"disconnected", "keep_alive", "message_event", "response_complete"})


def connection_of(send: Any) -> tuple[FlowControl | None, asyncio.Transport | None]:
    """Return the flow control and the transport behind an ASGI `send`, or None for each under another server.

    ASGI has no words for "is the client slow" and "close without the end of the body". uvicorn's `send` is a bound
    method of the request's cycle, which has both.
    """
    cycle = getattr(send, "__self__", None)
    return getattr(cycle, "flow", None), getattr(cycle, "transport", None)
