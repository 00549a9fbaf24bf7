"""What signals mean, in every way of starting.

TERM, INT   drain; a second time: end at once
HUP         read the configuration's file again; if it tells that the terminal is gone: drain
USR2        rolling restart
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from balancer.server.hangup import Hangup


class Obedient(Protocol):
    """Whoever obeys."""

    def drain(self) -> None: ...

    def read_file(self) -> None: ...

    def restart(self) -> Any: ...

    def child_ended(self) -> None: ...


@contextmanager
def obeying(one: Obedient) -> Iterator[None]:
    """Have `one` obey signals, on the running loop, while the context is open."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    hangup = Hangup()

    def hang_up() -> None:
        if hangup.ends():
            one.drain()
        else:
            one.read_file()

    orders: dict[str, Callable[[], Any]] = {
        "SIGTERM": one.drain,
        "SIGINT": one.drain,
        "SIGBREAK": one.drain,
        "SIGHUP": hang_up,
        "SIGUSR2": one.restart,
        "SIGCHLD": one.child_ended,
    }
    loop, before = asyncio.get_running_loop(), {}
    for name, obey in orders.items():
        if (number := getattr(signal, name, None)) is None:  # Windows lacks some
            continue
        before[number] = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, obey)
        except RuntimeError as error:
            if not isinstance(error, NotImplementedError):  # uvloop keeps SIGCHLD for itself: it is looked often enough
                del before[number]
                continue
            signal.signal(number, lambda *_, obey=obey: loop.call_soon_threadsafe(obey))
    try:
        yield
    finally:
        for number, known in before.items():
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            if known is not None:
                signal.signal(number, known)
