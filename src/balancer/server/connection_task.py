"""The task in which the requests of one connection are answered, where they do not go through ASGI.

One task for all of them: a task for each costs 5 us more a request.

    state       `_task`            `_next`       what `give` does
    NONE        none, or ended     None          starts a task
    ANSWERING   runs               None, done    starts another task: the running one ends after its answer
    WAITING     waits for `_next`  not done      hands the exchange over

`give` may find the task in ANSWERING: a client can send its next request as soon as it has the whole answer, while
the task still counts, logs and lets go of what belongs to it. uvicorn waits for the tasks in `tasks` when it is
stopped, so this one is among them in ANSWERING only.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import msgspec

from balancer.server.endpoint import Messages
from balancer.server.exchange import Exchange
from balancer.server.progress import FINISHED

_log = logging.getLogger(__name__)


class ConnectionTask(msgspec.Struct, eq=False):
    """Answers the exchanges of one connection, one after the other."""

    _messages: Messages
    _tasks: set[asyncio.Task[Any]]
    _transport: asyncio.Transport
    _loop: asyncio.AbstractEventLoop
    _task: asyncio.Task[None] | None = None
    """Held here: the loop holds tasks weakly."""
    _next: asyncio.Future[Exchange | None] | None = None
    """What is answered next; None as a result: nothing any more."""

    def give(self, exchange: Exchange) -> None:
        """Answer `exchange`, whose request is whole."""
        if self._next is not None and not self._next.done():
            self._next.set_result(exchange)
        else:
            self._task = self._loop.create_task(self._run(exchange))

    def end(self) -> None:
        """The connection is lost: nothing comes any more."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)

    async def _run(self, exchange: Exchange) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task(self._loop))
        answer = self._messages.answer
        following: Exchange | None = exchange
        while following is not None:
            exchange = following
            self._tasks.add(task)
            try:  # nothing here may hold the body: an open stream would hold it too
                await answer(exchange.admitted, exchange.operation, exchange.query, exchange.body(), exchange, task)
            except Exception:
                _log.exception("a request failed in a way that it should not")
                await exchange.abort()
            finally:
                self._tasks.discard(task)
            if exchange.progress not in FINISHED:
                self._transport.close()
            if self._transport.is_closing() or self._task is not task:
                return
            self._next = self._loop.create_future()
            following = await self._next
