"""What a service manager gives and is told: sockets (`LISTEN_FDS`) and how the service is (`NOTIFY_SOCKET`).

Both are plain: environment variables and datagrams, see sd_listen_fds(3) and sd_notify(3). The variables are taken out
of the environment, since they are meant for this process alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3


def inherited(env: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that the service manager has opened. Raises `OSError` where one is of no use here."""
    count, pid = env.pop("LISTEN_FDS", ""), env.pop("LISTEN_PID", "")
    env.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or (pid and pid != str(os.getpid())):
        return []
    sockets = [socket.socket(fileno=FIRST_DESCRIPTOR + index) for index in range(int(count))]
    try:
        for sock in sockets:
            _check(sock)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _check(sock: socket.socket) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        raise OSError("only sockets of TCP (ListenStream=HOST:PORT) can be served")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError("it does not listen; a unit with Accept=yes can't be served")
    sock.set_inheritable(True)


class Notifier:
    """Tells the service manager how it goes; where there is none, it does nothing."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        self._address = env.pop("NOTIFY_SOCKET", "")
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        watched = self._address and usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 / 2 if watched else None
        """How often the watchdog is to hear of it; None: there is none."""
        self._watched_at = 0.0
        self._serves = False
        self._stopping = False

    def serves(self) -> None:
        """It serves; also said when a reload is done."""
        if not self._stopping:
            self._serves = True
            self._send("READY=1\nSTATUS=serving")

    def reloads(self) -> None:
        """It has begun to read the configuration again. `serves` is to follow."""
        if self._serves and not self._stopping:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reading the configuration")

    def stops(self, within_s: float) -> None:
        """It drains, which takes so long at most."""
        self._stopping = True
        self._send(f"STOPPING=1\nSTATUS=answers under way may end\nEXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    def lives(self, now: float) -> None:
        """It is well. To be called often: the watchdog hears of it as often as it has to."""
        if self.watchdog_s is not None and now - self._watched_at >= self.watchdog_s / 2:
            self._watched_at = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # The manager may be gone, or not read: that is no reason to stop serving.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(message.encode())
