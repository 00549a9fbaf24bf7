"""The table in shared memory, as one worker sees it: everything of `protocol.Sharing` that needs no messages."""

from __future__ import annotations

from balancer.sharing.facts import Facts
from balancer.sharing.in_flight import InFlightRows, left
from balancer.sharing.leases import Leases
from balancer.sharing.memory import Memory
from balancer.sharing.pins import SharedPins
from balancer.sharing.places import NO_ROOM, Counted, Places


class Table:
    """The parts of the table. Each method of theirs that a request calls is called without a step in between."""

    def __init__(self, memory: Memory, worker: int) -> None:
        if not 0 <= worker < memory.workers:
            raise ValueError(f"there is no worker {worker} of {memory.workers}")
        self.worker = worker
        self.workers = memory.expected
        self.memory = memory
        self._facts = facts = Facts(memory, worker)
        self._places = places = Places(memory, worker)
        self._leases = leases = Leases(memory, worker)
        pins = SharedPins(memory)
        rows = InFlightRows(memory, worker)
        self.changed = facts.changed
        self.news = facts.news
        self.history = facts.history
        self.tell = facts.tell
        self.use = facts.use
        self.hash_of = memory.hash_of
        self.freed = places.freed
        self.lease = leases.lease
        self.release = leases.release
        self.leased = leases.leased
        self.pin = pins.pin
        self.pinned = pins.pinned
        self.began = rows.began
        self.ended = rows.ended

    def place(self, name: str) -> Counted:
        """Return the places of this name."""
        return self._places[name]

    def turn(self, name: str) -> int:
        """Return the next number of a sequence."""
        return self._places[f"turn {name}"].turn()

    @property
    def trouble(self) -> str:
        """Why something is not shared, in plain words; empty: everything is."""
        return NO_ROOM if self._places.full else ""


def ended(memory: Memory, worker: int) -> list[bytes]:
    """Give back what a worker held that has ended, however it ended. What it told stays known.

    Returns what it said of the requests that it had begun and not ended (`Sharing.began`).
    """
    Places(memory, -1).clear(worker)
    Leases(memory, -1).clear(worker)
    return left(memory, worker)
