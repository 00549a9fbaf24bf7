"""What SIGHUP means: read the configuration again, or, where a terminal was closed, end."""

from __future__ import annotations

import os
import signal
import threading


class Hangup:
    """Made when the process starts, it tells a hang-up that was sent on purpose from a terminal that is gone."""

    def __init__(self) -> None:
        disposition = signal.getsignal(signal.SIGHUP) if hasattr(signal, "SIGHUP") else None
        self._had_terminal = _has_terminal()
        self._stays = disposition is signal.SIG_IGN  # nohup
        self.is_ours = disposition is signal.SIG_DFL and threading.current_thread() is threading.main_thread()
        """Nobody else handles the signal."""

    def ends(self) -> bool:
        """Say whether the hang-up that has come means the end: the terminal was closed, and nothing said to stay."""
        return self._had_terminal and not self._stays and not _has_terminal()


def _has_terminal() -> bool:
    """Say whether this process has a terminal that can send it signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except (OSError, AttributeError):
        return False
    return True
