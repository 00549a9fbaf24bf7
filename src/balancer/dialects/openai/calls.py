"""The tool calls of one answer: which call a fragment belongs to.

Servers number calls, name them by an id, do both, or neither; some give every call the index 0, some repeat id and name
with every fragment, some let the index move on within a call, some use a tool's name as its id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from balancer.dialects.openai.arguments import Arguments


@dataclass(slots=True, eq=False)
class Call:
    """A tool call as far as it has come."""

    args: Arguments
    id: str = ""
    name: str = ""
    begun: bool = False
    """The client knows of it."""
    closed: bool = False
    """The client has all of it."""
    block_id: str = ""
    """Its id as the client has it."""
    extras: dict[str, Any] = field(default_factory=dict)
    """What else its provider said of it, and wants to see again."""


class Calls:
    """The calls of an answer."""

    def __init__(self) -> None:
        self.held = False
        """Of no call anything is sent before its end: all of it is there already."""
        self._apart = False
        self.all: list[Call] = []
        self._by_key: dict[object, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._latest: Call | None = None

    def apart(self) -> None:
        """Every fragment is a call of its own from now on, and whole: so it is in an answer in one piece."""
        self._apart = self.held = True

    def take(self, key: object, identifier: str, name: str, args: str) -> Call:
        """Return the call that a fragment belongs to. `key` is its index, if it has one."""
        call = None if self._apart else self._found(key, identifier, name, args)
        if call is None or _another(call, identifier, name, args):
            call = Call(Arguments(held=self.held))
            self.all.append(call)
        self._latest = call
        if key is not None:
            self._by_key[key] = call
        if identifier and identifier not in self._by_id:
            self._by_id[identifier] = call
        call.id = call.id or identifier
        call.name = call.name or name
        return call

    def _found(self, key: object, identifier: str, name: str, args: str) -> Call | None:
        """Return the call that is meant by index, id or place; None: there is none yet."""
        latest, by_id = self._latest, self._by_id.get(identifier) if identifier else None
        if key is None and not identifier:
            return latest
        call = self._by_key.get(key) if key is not None else by_id
        if call is not None:
            return by_id if by_id is not None and call.id != identifier else call
        if key is not None and by_id is not None and (by_id.args.open or not name):
            return by_id  # the index has moved on within a call
        if not name and latest is not None and latest.args.open and (key is None or not identifier):
            return latest
        return None


def _another(call: Call, identifier: str, name: str, args: str) -> bool:
    """Say whether a fragment begins another call under an index that is in use.

    Some servers give every call the index 0; some repeat id and name with every fragment. Without ids, arguments that
    are the same to the letter are the same call, said once more.
    """
    if not name or not call.name:
        return False
    if identifier and call.id:
        return identifier != call.id
    if name != call.name:
        return True
    return bool(args) and call.args.whole and not call.args.may_be_said_again and call.args.written != args
