"""A credential is looked at before it is used: forms that no service's key has are warned of, and never quoted."""

from __future__ import annotations

import re

KEY_LENGTH = 24
"""A gate key shorter than this can be guessed."""

DIFFERENT = 8
"""A key with fewer different characters was typed, not made by chance."""

SHORTEST = 8
"""No service hands out a shorter key."""

GUESSABLE = (
    "others can reach this balancer (host), and this key can be guessed: "
    f"use {KEY_LENGTH} random characters or more; balancer key new prints one"
)

_MARKS = "\"'`\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_SCHEME = re.compile(
    r"(?:bearer|basic|token|(?:proxy-)?authorization:?|x-api-key:?|api[-_]?key:?)(?:\s+|:\s*)", re.IGNORECASE
)
_ASSIGNMENT = re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]{2,60}=(?=[^=\s])")
_SHELL = re.compile(r"\$\(?[A-Za-z_][A-Za-z0-9_]*\)?|\$env:\w+", re.IGNORECASE)
_WINDOWS = re.compile(r"%[A-Za-z_][A-Za-z0-9_]*%")
_ELSEWHERE = re.compile(r"os\.environ\b|os\.getenv\b|process\.env\.|env[:./][A-Za-z_]|secrets?[:./][A-Za-z_]")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_(?:KEY|TOKEN|SECRET)(?:_[A-Z0-9]+)*")
_FRAMED = re.compile(r"<.*>|\[.*\]|\{.*\}|\{\{.*\}\}", re.DOTALL)
_TEMPLATE = re.compile(
    r"your[-_ ]?(?:own|api|key|token|secret|auth|zed|anthropic|openai)|api[-_]?key[-_]?here|(?:key|token)[-_ ]?here"
    r"|change[-_ ]?me|replace[-_ ]?(?:me|with|this)|insert[-_ ]|placeholder|\A(?:sk|key)[-_]?(?:ant[-_])?x{3,}|x{6,}",
    re.IGNORECASE,
)
"""What stands in examples to be replaced: nobody chooses it, not even for a server that wants no key."""
_MADE_UP = re.compile(
    r"\.\.\.\Z|\u2026\Z|\Atodo|\A(?:my|the)?[-_]?(?:api)?[-_]?key\Z|\Atest[-_]?key|\Aexample|dummy", re.IGNORECASE
)
_SAMPLE_KEYS = ("sk-1234", "changeme", "change-me", "password", "example", "test", "your-")


def oddity(key: str, *, may_hold_blank: bool = False, is_local: bool = False) -> str | None:
    """Say what is odd about a provider's key, and what to do; None: nothing is.

    `may_hold_blank`: it is made of two words by right. `is_local`: the provider is on this machine, where keys are
    often made up.
    """
    if odd := _form(key, may_hold_blank):
        return odd
    if _TEMPLATE.search(key) or (not is_local and _MADE_UP.search(key)):
        return "this looks like a placeholder; put the provider's key in its place, better as ${NAME}"
    if not is_local and len(key) < SHORTEST:
        return f"the key has fewer than {SHORTEST} characters, which no service's has; is it whole?"
    return None


def _form(key: str, may_hold_blank: bool) -> str | None:
    if len(key) > 1 and key[0] in _MARKS and key[-1] in _MARKS:
        return "the key stands in quotation marks that are part of it, so they are sent too; remove the inner ones"
    if _SCHEME.match(key):
        return "a word stands before the key (Bearer, x-api-key, ...) and is sent too; write the key alone"
    if _ASSIGNMENT.match(key):
        return "a variable is set here, NAME=..., all of which is sent as the key; write the key alone"
    if odd := _stand_in(key):
        return odd
    if "://" in key:
        return "this is an address, not a key; an address belongs to base_url"
    if _FRAMED.fullmatch(key):
        return "this looks like a placeholder; put the key in its place, without the brackets"
    if not key.isascii():
        return "the key holds a character that no key has (a typographic mark, or one that can't be seen); copy it anew"
    if any(mark in key for mark in "\"'`"):
        return "the key holds a quotation mark, which no key does; remove it"
    if not may_hold_blank and len(key.split()) > 1:
        return "the key holds a space, which no key does; copy it anew"
    if key.endswith((",", ";")):
        return f"the key ends with '{key[-1]}', which is sent too; remove it"
    return None


def _stand_in(key: str) -> str | None:
    """Say what is meant where something stands for a key that is elsewhere."""
    if key.startswith("$(") and " " in key:
        return "this is sent as it stands; a program that prints the key is named by auth_value_command, without $( )"
    if key.startswith(("file:", "credential:")):
        return "this is sent as it stands; a file that holds the key is named by auth_value_file"
    if _SHELL.fullmatch(key):
        return "this is sent as it stands; a variable of the environment is written with braces: ${NAME}"
    if _WINDOWS.fullmatch(key):
        return "this is sent as it stands; a variable of the environment is written ${NAME}, not %NAME%"
    if _ELSEWHERE.match(key):
        return "this is sent as it stands; a variable of the environment is written ${NAME}"
    if _VARIABLE.fullmatch(key) and not _TEMPLATE.search(key):
        return "this is the name of a variable, and is sent as it stands; for its value write ${NAME}"
    return None


def is_guessable(key: str) -> bool:
    """Say whether a key of the balancer's own could be guessed by somebody who can reach it."""
    return len(key) < KEY_LENGTH or len(set(key)) < DIFFERENT or key.lower().startswith(_SAMPLE_KEYS)


def gate_oddity(key: str) -> str | None:
    """Say what is odd about a key of the balancer's own."""
    if key.lower().startswith(_SAMPLE_KEYS):
        return "this key looks like one from an example; choose your own"
    if odd := _form(key, may_hold_blank=False):
        return odd
    if is_guessable(key):
        return f"this key is short or simple enough to be guessed; use {KEY_LENGTH} random characters: balancer key new"
    return None
