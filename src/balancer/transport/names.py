"""Looking up names, in threads of their own: one slow name keeps only those waiting that want that name."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address

from balancer.policy import shortage

THREADS_MAX = 32
"""So many names are looked up at once; a resolver may take half a minute over one that nobody answers for."""

FAILED_KEPT_S = 2.0
"""A name that was not found is not looked up again for so long: everybody who asks would only wait for the same."""

FAILED_MAX = 1024
"""So many names that were not found are remembered."""

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a name, and blocks meanwhile. Raises `OSError`."""


@lru_cache(maxsize=1024)
def is_address(host: str) -> bool:
    """Say whether `host` is an address already, so that there is nothing to be looked up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses that the system's resolver has for a name, each once. Raises `OSError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        _look_for_descriptors()
        raise
    return tuple(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))


def _look_for_descriptors() -> None:
    """Raise `OSError` if no file can be opened: the resolver calls that a failure of the name."""
    os.close(os.open(os.devnull, os.O_RDONLY))


class Names:
    """Looks names up: each once at a time, however many ask for it. Of one event loop."""

    def __init__(self, resolve: Resolve = resolved, now: Callable[[], float] = time.monotonic) -> None:
        self._resolve = resolve
        self._now = now
        self._in_flight: dict[str, asyncio.Future[Sequence[str]]] = {}
        self._failed: dict[str, tuple[float, OSError]] = {}
        """When a name may be looked up again, and what was wrong with it."""
        self._waiting: deque[tuple[str, int]] = deque()
        """Names for which there is no thread yet."""
        self._threads = 0

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, in the resolver's order; those of an address are itself. Raises `OSError`.

        Raises `UnicodeError` for what can't be a name.
        """
        if is_address(host):
            return (host,)
        until, failure = self._failed.get(host, (0.0, None))
        if failure is not None and self._now() < until:
            raise type(failure)(*failure.args)
        future = self._in_flight.get(host)
        if future is None:
            future = self._in_flight[host] = asyncio.get_running_loop().create_future()
            self._waiting.append((host, port))
            self._begin()
        await asyncio.wait((future,))  # whoever stops waiting must not end it for the others
        return future.result()

    def _begin(self) -> None:
        """Begin what is waiting, as far as there are threads for it."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._threads < THREADS_MAX:
            host, port = self._waiting.popleft()
            # A daemon: a resolver that takes its time must not keep the process from ending.
            thread = threading.Thread(target=self._run, args=(loop, host, port), name="name-lookup", daemon=True)
            self._threads += 1
            try:
                thread.start()
            except RuntimeError as error:
                self._settle(host, error)

    def _run(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        result: Sequence[str] | Exception
        try:
            result = self._resolve(host, port)
        except Exception as error:
            result = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._end, host, result)

    def _end(self, host: str, result: Sequence[str] | Exception) -> None:
        self._settle(host, result)
        self._begin()

    def _settle(self, host: str, result: Sequence[str] | Exception) -> None:
        """Give those who wait for a name what came of it."""
        self._threads -= 1
        future = self._in_flight.pop(host)
        if isinstance(result, Exception):
            if isinstance(result, OSError) and shortage.kind_of(result) is None:
                self._remember(host, result)
            future.set_exception(result)
            future.exception()  # that nobody waits for it any more is no fault
        else:
            self._failed.pop(host, None)
            future.set_result(result)

    def _remember(self, host: str, error: OSError) -> None:
        if len(self._failed) >= FAILED_MAX:
            self._failed.clear()
        self._failed[host] = (self._now() + FAILED_KEPT_S, error)
