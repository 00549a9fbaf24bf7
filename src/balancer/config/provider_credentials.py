"""What a provider's key is taken from: the file itself, another file, a program; each looked at before it is used."""

from __future__ import annotations

import unicodedata

from balancer.config import credentials, words
from balancer.config.checking import Checker
from balancer.config.credential_commands import Command
from balancer.config.document import Path
from balancer.config.model import ProviderEntry
from balancer.config.problem import Problem
from balancer.config.quoting import Theirs, nearest
from balancer.config.secret_files import Unusable

FILE, COMMAND = "auth_value_file", "auth_value_command"
_SOURCES = ("auth_value", FILE, COMMAND)


def has_credential(entry: ProviderEntry) -> bool:
    """Say whether a provider gets a credential, wherever it comes from."""
    return any(getattr(entry, source) for source in _SOURCES)


class ProviderCredentials:
    """Takes the keys of providers from where they are, and looks at them."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def taken(self, entry: ProviderEntry, at: Path) -> ProviderEntry:
        """Return the entry with the key as its `auth_value`, or tell why it can't be had."""
        given = [source for source in _SOURCES if getattr(entry, source) is not None]
        if len(given) > 1:
            self._checker.tell((*at, given[1]), f"give one of {' and '.join(given)}")
        if len(given) != 1 or not entry.enabled or entry.type == "simulated":
            return entry
        key: str | None
        try:
            if entry.auth_value_file is not None:
                key = self._checker.secret_in(entry.auth_value_file, (*at, FILE))
            elif entry.auth_value_command is not None:
                key = self._from_command(entry, entry.auth_value_command, (*at, COMMAND))
            else:
                return entry
        except Unusable as error:
            self._checker.tell((*at, given[0]), f"{given[0]} {error}")
            return entry
        if key in (words.PASSTHROUGH, words.NO_KEY):
            self._checker.tell((*at, given[0]), f"{given[0]} must have a key; '{key}' is written as auth_value")
            return entry
        return entry.model_copy(update={"auth_value": key})

    def _from_command(self, entry: ProviderEntry, argv: tuple[str, ...], at: Path) -> str | None:
        """Return what the program prints; None: it is not run here."""
        document = self._checker.document
        command = Command(argv, document.folder)
        document.commands[entry.name] = command
        if document.credential_commands is None:
            return None
        key, failure = document.credential_commands.secret(command)
        if failure:
            self._checker.warn(at, f"{COMMAND} {failure}; the key that it printed before is still used")
        document.took(key)
        return key

    def look_at(self, entry: ProviderEntry, at: Path, *, is_local: bool) -> None:
        """Tell or warn of a key that is none, or that no service has."""
        if entry.type == "simulated" or not entry.enabled:
            return
        source = next((source for source in (FILE, COMMAND) if getattr(entry, source) is not None), "auth_value")
        key, place = (entry.auth_value or "").strip(), (*at, source)
        if not key:
            if source == "auth_value" and (not is_local or place in self._checker.document.variables):
                self._no_key(entry, at)
        elif any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in key):
            self._checker.tell(place, "auth_value must not hold line breaks or other control characters")
        elif source != "auth_value":
            if odd := credentials.oddity(key, may_hold_blank=entry.type == "zed", is_local=is_local):
                self._checker.warn(place, f"what {source} has is odd: {odd}")
        elif key not in (words.PASSTHROUGH, words.NO_KEY):
            self._look_at(key, place, entry, is_local=is_local)

    def _no_key(self, entry: ProviderEntry, at: Path) -> None:
        place = (*at, "auth_value")
        behind = self._checker.document.behind(place).strip()
        if place not in self._checker.document.lines:
            remedy = "; write ${NAME}, passthrough (the client's own credential), or none"
            self._checker.tell(at, "missing required key 'auth_value' of provider ", Theirs(entry.name), remedy)
        elif behind.startswith("#") and behind[1:2].strip():
            self._checker.tell(place, "auth_value is empty: what follows '#' is a comment; put the value in quotes")
        else:
            remedy = "give the provider's key, ${NAME}, passthrough (the client's own credential), or none"
            self._checker.tell(place, f"auth_value is empty; {remedy}")

    def _look_at(self, key: str, at: Path, entry: ProviderEntry, *, is_local: bool) -> None:
        """Warn of a key in a form that no key has."""
        nearly = nearest(key, (words.PASSTHROUGH,), 0.8) if len(key) < 16 else None
        odd = credentials.oddity(key, may_hold_blank=entry.type == "zed", is_local=is_local)
        span, behind = self._checker.document.spans.get(at), self._checker.document.behind(at)
        if nearly:
            self._checker.warn(at, "this is sent as a key; did you mean 'passthrough'?")
        elif span and span.is_plain and behind.lstrip().startswith("#") and behind.lstrip()[1:2].strip():
            self._checker.warn(
                at, "the key ends before '#', which begins a comment; if it goes on there, put all of it in quotes"
            )
        elif span and span.is_plain and self._checker.document.text.startswith("&", span.begin):
            self._checker.warn(
                at, "a '&' begins an anchor in YAML and is not part of the value; put the value in quotes"
            )
        elif odd:
            self._warn_of_variable(at, odd)

    def _warn_of_variable(self, at: Path, said: str) -> None:
        """Warn of a value; where it comes from `.env`, at the line there."""
        names = self._checker.document.variables.get(at, [])
        if len(names) == 1 and names[0] in self._checker.origins:
            file, line = self._checker.origins[names[0]]
            self._checker.warnings.append(Problem(file, line, self._checker.document.quoting.say(said), warning=True))
        elif len(names) == 1:
            self._checker.warn(at, "the value of ", Theirs(names[0], bare=True), f": {said}")
        else:
            self._checker.warn(at, said)
