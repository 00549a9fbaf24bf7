"""Where everything stands in the memory that the workers of a machine share.

    header       magic, layout version, workers, the key of hashes, the generation of the configuration
    processes    who has which column: a process each, 0: nobody
    news         a counter a worker: how many entries its journal has had
    freed        a counter a worker: how many places it has given back
    places       rows by name: a hash, and a column for each worker: how many it holds
    index        of the facts' rows: a hash, and when something was told there last
    facts        rows by name: the name, and a column for each worker: what it told last
    leases       rows by name: a hash, who has it, until when
    pins         one for each conversation: who answered, when
    journals     one a worker: what it has told lately, the oldest overwritten
    in flight    rows a worker: which requests it has begun and not ended

Each column and journal has one writer. Numbers are aligned to 8 bytes and written whole. What is longer has a check
word: who meets one that is wrong, while it is being written, ignores it; the writer's next journal entry tells of it.
Rows of places, facts and leases are given out under a lock on the file, which no request waits for long.
"""

from __future__ import annotations

import struct

import msgspec

MAGIC = int.from_bytes(b"balancer", "little")
VERSION = 1

WORD = 8
HEADER_BYTES = 4096
H_MAGIC, H_VERSION, H_WORKERS, H_SEED, H_GENERATION, H_EXPECTED = range(6)
"""Words of the header."""

COLUMNS_MAX = 160

PLACE_ROWS = 4096
FACT_SETS = 1024
LEASE_SETS = 256
WAYS = 4
"""A name may have one of so many rows, by its hash; if all are taken by others, the oldest makes room."""

NAME_MAX_BYTES = 232
NAME_BYTES = WORD + NAME_MAX_BYTES
"""Length and name."""
INDEX_WORDS = 2
"""Of the index of facts: hash, and when it was last told. By itself, so that who looks through it touches few pages."""
BODY_MAX_BYTES = 472
RECORD_BYTES = 5 * WORD + BODY_MAX_BYTES
"""Check word, when it was told, length and two words that are kept free, body."""

LEASE_WORDS = 4
"""Hash, worker + 1 (0: nobody), process, end."""

PIN_ROWS = 1 << 16
PIN = struct.Struct("@16sqqdq")
"""Hash, provider, when it answered, for how long its prompt cache lives (s), check word."""

JOURNAL_ROWS = 4096
ENTRY = struct.Struct("@6q")
"""Check word, what it is (`FACT` or `USE`), row or hash, two numbers, when."""
FACT, USE = 1, 2

IN_FLIGHT_ROWS = 1024
IN_FLIGHT_BYTES = 512


class Layout(msgspec.Struct, frozen=True):
    """Where the parts begin, in bytes, for this many workers."""

    workers: int

    @property
    def processes(self) -> int:
        return HEADER_BYTES

    @property
    def news(self) -> int:
        return self.processes + COLUMNS_MAX * WORD

    @property
    def freed(self) -> int:
        return self.news + COLUMNS_MAX * WORD

    @property
    def places(self) -> int:
        return self.freed + COLUMNS_MAX * WORD

    @property
    def place_bytes(self) -> int:
        return (1 + self.workers) * WORD

    @property
    def index(self) -> int:
        return self.places + PLACE_ROWS * self.place_bytes

    @property
    def facts(self) -> int:
        return self.index + FACT_SETS * WAYS * INDEX_WORDS * WORD

    @property
    def fact_bytes(self) -> int:
        return NAME_BYTES + self.workers * RECORD_BYTES

    @property
    def leases(self) -> int:
        return self.facts + FACT_SETS * WAYS * self.fact_bytes

    @property
    def pins(self) -> int:
        return self.leases + LEASE_SETS * WAYS * LEASE_WORDS * WORD

    @property
    def journals(self) -> int:
        return self.pins + PIN_ROWS * PIN.size

    @property
    def in_flight(self) -> int:
        return self.journals + self.workers * JOURNAL_ROWS * ENTRY.size

    @property
    def size(self) -> int:
        """All of it, in bytes. Memory is taken only where something was written."""
        return self.in_flight + self.workers * IN_FLIGHT_ROWS * IN_FLIGHT_BYTES
