"""What workers tell each other, in shared memory: the latest of each fact, and a journal of what is new.

A fact has a row by its name, and in it each worker has a record of its own. The journal of a worker says which rows it
has written; so to know the news is to compare the journals' counters, and to read what they name. A worker that has
fallen behind by a whole journal reads all rows.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import xxhash

from balancer.sharing import layout
from balancer.sharing.layout import ENTRY, FACT, JOURNAL_ROWS, RECORD_BYTES, USE, WAYS, WORD
from balancer.sharing.memory import SIGN, Memory
from balancer.sharing.protocol import Fact, News, Use

USES_KEPT_NS = 60_000_000_000
"""Older uses are of no interest to a worker that begins: limits are by the minute."""

_MIX = 0x5BD1E995_9E3779B1
_AT_AND_LENGTH = struct.Struct("@2q")
_HEAD_BYTES = 5 * WORD


class Facts:
    """Facts and journals as one worker sees them."""

    def __init__(self, memory: Memory, worker: int) -> None:
        self._memory = memory
        self._worker = worker
        self._rows: dict[str, int] = {}
        span = memory.layout.news
        self._news_span = slice(span, span + memory.workers * WORD)
        self._counters = memory.words[span // WORD : span // WORD + memory.workers]
        self._seen = memory.buffer[self._news_span]
        self._read = list(self._counters)
        """Up to where each journal was read."""
        self.unshared = 0
        """How many facts were too long, or had no row."""

    # Reading

    def changed(self) -> bool:
        """Say whether anything was told since `news`."""
        return self._memory.buffer[self._news_span] != self._seen

    def news(self) -> list[News]:
        """Return what others have told since this was last asked."""
        self._seen = self._memory.buffer[self._news_span]
        news: list[News] = []
        for writer, count in enumerate(self._counters):
            start, self._read[writer] = self._read[writer], count
            if writer == self._worker or start == count:
                continue
            if count - start > JOURNAL_ROWS // 2:  # the rest may be overwritten while it is read
                news += self._of(writer)
                start = count - JOURNAL_ROWS // 2
            news += self._journal(writer, start, count)
        return news

    def history(self) -> list[News]:
        """Return all that is known, the oldest first."""
        self._seen = self._memory.buffer[self._news_span]
        known: list[News] = []
        since_ns = time.monotonic_ns() - USES_KEPT_NS
        for writer, count in enumerate(self._counters):
            self._read[writer] = count
            known += self._of(writer)
            entries = self._journal(writer, max(0, count - JOURNAL_ROWS), count)
            known += [entry for entry in entries if isinstance(entry, Use) and entry.at_ns > since_ns]
        return sorted(known, key=lambda entry: entry.at_ns)

    def _journal(self, writer: int, start: int, end: int) -> Iterator[News]:
        """Return what a part of a journal says; each fact once."""
        told = set()
        base = self._memory.layout.journals + writer * JOURNAL_ROWS * ENTRY.size
        for number in range(start, end):
            at = base + number % JOURNAL_ROWS * ENTRY.size
            check, kind, what, one, two, at_ns = ENTRY.unpack_from(self._memory.buffer, at)
            if check != _check(number, kind, what, one, two, at_ns):
                continue
            if kind == USE:
                yield Use(what, one, two, at_ns)
            elif kind == FACT and what not in told:
                told.add(what)
                if (fact := self._fact(what, writer)) is not None:
                    yield fact

    def _of(self, writer: int) -> list[News]:
        """Return all facts that one worker has told."""
        rows = range(layout.FACT_SETS * WAYS)
        words = self._memory.words
        facts = [self._fact(row, writer) for row in rows if words[self._in_index(row)]]
        return [fact for fact in facts if fact is not None]

    def _fact(self, row: int, writer: int) -> Fact | None:
        """Return what a worker has told in a row; None: nothing, or it is being written just now."""
        buffer, at = self._memory.buffer, self._at(row)
        name_hash, length = self._memory.words[self._in_index(row)], self._memory.words[at // WORD]
        if not name_hash or not 0 < length <= layout.NAME_MAX_BYTES:
            return None
        name = buffer[at + WORD : at + WORD + length]
        start = at + layout.NAME_BYTES + writer * RECORD_BYTES
        record = buffer[start : start + RECORD_BYTES]
        check, at_ns, size = struct.unpack_from("@3q", record)
        if not at_ns or not 0 <= size <= layout.BODY_MAX_BYTES:
            return None
        body = record[_HEAD_BYTES : _HEAD_BYTES + size]
        if check != self._check(name_hash, at_ns, body) or self._memory.hash_of(name) != name_hash:
            return None
        return Fact(name.decode("utf-8", "replace"), body, at_ns, writer)

    # Writing

    def tell(self, name: str, body: bytes) -> None:
        """Tell a fact to all others."""
        row = self._row(name) if len(body) <= layout.BODY_MAX_BYTES else None
        if row is None:
            self.unshared += 1
            return
        buffer, at, now_ns = self._memory.buffer, self._at(row), time.monotonic_ns()
        start = at + layout.NAME_BYTES + self._worker * RECORD_BYTES
        check = self._check(self._memory.words[self._in_index(row)], now_ns, body)
        self._memory.words[start // WORD] = 0
        buffer[start + _HEAD_BYTES : start + _HEAD_BYTES + len(body)] = body
        _AT_AND_LENGTH.pack_into(buffer, start + WORD, now_ns, len(body))
        self._memory.words[start // WORD] = check
        self._memory.words[self._in_index(row) + 1] = now_ns
        self._note(FACT, row, 0, 0, now_ns)

    def use(self, name: int, requests: int, tokens: int) -> None:
        """Tell what was used."""
        self._note(USE, name, requests, tokens, time.monotonic_ns())

    def _note(self, kind: int, what: int, one: int, two: int, at_ns: int) -> None:
        """Write an entry into the journal of this worker."""
        number = self._counters[self._worker]
        at = self._memory.layout.journals + (self._worker * JOURNAL_ROWS + number % JOURNAL_ROWS) * ENTRY.size
        check = _check(number, kind, what, one, two, at_ns)
        ENTRY.pack_into(self._memory.buffer, at, check, kind, what, one, two, at_ns)
        self._counters[self._worker] = number + 1

    def _check(self, name_hash: int, at_ns: int, body: bytes) -> int:
        """Return the check word of a record."""
        return xxhash.xxh3_64_intdigest(body, (name_hash ^ at_ns) & (2 * SIGN - 1)) - SIGN or 1

    # Rows

    def _row(self, name: str) -> int | None:
        """Return the row of a name, a new one if it has none; None: it can't have one."""
        name_hash = self._memory.hash_of(name)
        known = self._rows.get(name)
        if known is not None and self._memory.words[self._in_index(known)] == name_hash:
            return known
        row, found = self._find(name_hash)
        if not found and not self._claim(name_hash, name.encode("utf-8", "replace")):
            return None
        row, found = self._find(name_hash)
        if not found:
            return None
        if len(self._rows) > layout.FACT_SETS * WAYS:
            self._rows.clear()
        self._rows[name] = row
        return row

    def _find(self, name_hash: int) -> tuple[int, bool]:
        """Return the row of a name, or the one that it may have: the one least recently told."""
        first = name_hash % layout.FACT_SETS * WAYS
        words = self._memory.words
        oldest, oldest_ns = first, SIGN
        for row in range(first, first + WAYS):
            at = self._in_index(row)
            if words[at] == name_hash:
                return row, True
            if words[at + 1] < oldest_ns:
                oldest, oldest_ns = row, words[at + 1]
        return oldest, False

    def _claim(self, name_hash: int, name: bytes) -> bool:
        """Give a name a row. That of another one is taken if need be: it was told longest ago."""
        if len(name) > layout.NAME_MAX_BYTES or not self._memory.lock():
            return False
        try:
            row, found = self._find(name_hash)
            if not found:
                buffer, words, at, index = self._memory.buffer, self._memory.words, self._at(row), self._in_index(row)
                words[index] = 0
                records = self._memory.workers * RECORD_BYTES
                buffer[at + layout.NAME_BYTES : at + layout.NAME_BYTES + records] = bytes(records)
                buffer[at + WORD : at + WORD + len(name)] = name
                words[at // WORD] = len(name)
                words[index + 1] = time.monotonic_ns()
                words[index] = name_hash
            return True
        finally:
            self._memory.unlock()

    def _at(self, row: int) -> int:
        return self._memory.layout.facts + row * self._memory.layout.fact_bytes

    def _in_index(self, row: int) -> int:
        """Return where a row stands in the index, in words."""
        return self._memory.layout.index // WORD + row * layout.INDEX_WORDS


def _check(number: int, kind: int, what: int, one: int, two: int, at_ns: int) -> int:
    """Return the check word of a journal's entry."""
    return (number ^ kind ^ what ^ one ^ two << 20 ^ at_ns ^ _MIX) & (SIGN - 1)
