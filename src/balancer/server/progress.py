"""How far the answer to one client has got: the states of what writes it (`Exchange`, `AsgiClient`).

    state      the client has                                  what comes next
    WAITING    nothing, and no head is known                   STARTED (`start`), ABORTED, LEFT
    STARTED    nothing yet; the head is known                  SENDING or COMPLETE (`put`, `write`), ABORTED, LEFT
    SENDING    the head and some of the body                   COMPLETE (the last byte), ABORTED, LEFT
    COMPLETE   the whole answer                                nothing
    ABORTED    some of it, and a connection that was closed    nothing
    LEFT       closed its connection before the end            nothing

Why two states before the first byte: the head goes out in one write with the first of the body, so
until then an answer can still become another one. Why ABORTED and LEFT are two: what we break off
ends the work for good, while the work for a client that left goes on as long as others share it.
Body is taken in STARTED and SENDING only. The three last states are final.
"""

from __future__ import annotations

import enum


class Progress(enum.Enum):
    """How far an answer has got."""

    WAITING = "waiting"
    STARTED = "started"
    SENDING = "sending"
    COMPLETE = "complete"
    ABORTED = "aborted"
    LEFT = "left"


WAITING, STARTED, SENDING, COMPLETE, ABORTED, LEFT = Progress
"""The members by themselves: asking an `Enum` class for a member costs ten times as much (Python 3.11)."""

OPEN = (SENDING, STARTED)
"""Body can be given."""

FINISHED = (COMPLETE, ABORTED)
"""The balancer has ended the answer."""
