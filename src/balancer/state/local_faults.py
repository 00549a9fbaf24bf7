"""Shortages of this machine, counted, and told once for as long as they last."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from balancer.policy.shortage import DESCRIPTORS, DISK, KINDS, MEMORY, PORTS, THREADS

_log = logging.getLogger(__name__)

SAID_AGAIN_S = 60.0
"""A shortage that was not met for so long is told of anew when it comes back."""

REMEDIES = {
    DESCRIPTORS: "raise the limit of open files (ulimit -n; LimitNOFILE= of a service), or lower limits.max_in_flight",
    MEMORY: "give it more memory, or lower limits.max_buffered_bytes and limits.max_in_flight",
    PORTS: "widen net.ipv4.ip_local_port_range, or lower limits.max_in_flight",
    DISK: "free space where the log lies",
    THREADS: "raise the limit of processes and threads (ulimit -u, TasksMax= of the service)",
}


class LocalFaults:
    """Counts what could not be done for want of something that this machine has too little of. From any thread."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        """By kind; all kinds are there from the start, so that a first one shows as an increase."""
        self._met_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def count(self, kind: str, what: str, now: float) -> None:
        """Count one, at `now` on the driver's clock, and say what could not be done if it is the first in a while.

        `what` is empty where somebody else says it.
        """
        with self._lock:
            self.counts[kind] += 1
            last = self._met_at.get(kind)
            if what:
                self._met_at[kind] = now
        if what and (last is None or now - last >= SAID_AGAIN_S):
            _log.error("this machine is short of %s: %s; %s", kind, what, REMEDIES[kind])
