"""Every fact about the client Claude Code that the balancer acts on, once.

Facts only, each with what it makes necessary; what is done about them stands where they are used. Observed with
version 2.1.330 (November 2026) unless another is named. Text of clients is cut before it is looked at, and looked
at in one pass.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

# How it is told from other clients, and what it says of itself

USER_AGENT = b"claude-cli/"
"""What its `user-agent` begins with."""

MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-fable-5-2")
"""What it asks for when nobody tells it otherwise (2.1.332): a route that none of them matches is seldom used."""

SESSION_HEADER = b"x-claude-code-session-id"
"""Names the session in every request: one conversation of the user, with all its subagents."""

AGENT_HEADER = b"x-claude-code-agent-id"
"""Names the subagent within the session. The main conversation sends none."""

TIMEOUT_HEADER = b"x-stainless-timeout"
"""How many seconds it waits for an answer: 600, or 300 when it asks again without streaming. (Of the SDK inside it.)"""

USER_ID_MAX_CHARS = 1024
"""Its `metadata.user_id` has about 150 characters: what is longer is somebody else's."""

_SESSION_MARK = "_session_"
_SESSION_NAME = re.compile(r"[0-9a-fA-F-]{8,}")


class _UserId(msgspec.Struct):
    session_id: str | None = None


_USER_ID = msgspec.json.Decoder(_UserId)


def is_client(user_agent: bytes) -> bool:
    """Return whether a request with this `user-agent` comes from Claude Code."""
    return user_agent.startswith(USER_AGENT)


def session_of(user_id: str) -> str | None:
    """Return the session that `metadata.user_id` names; None if it names none.

    It is a JSON object with `session_id`. Older versions wrote `user_..._session_<uuid>`.
    """
    if len(user_id) > USER_ID_MAX_CHARS:
        return None
    try:
        return _USER_ID.decode(user_id).session_id or None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    _, mark, name = user_id.rpartition(_SESSION_MARK)
    return name if mark and _SESSION_NAME.fullmatch(name) else None


# The models that it asks for

PROBE_TOKENS = 1
"""The `max_tokens` of a request by which older versions found out whether a model may be used."""

SMALL_MODEL = "haiku"
"""Part of the name of the models that it makes titles with."""


def base_model(name: str) -> str:
    """Return a model's name without a suffix like `[1m]`, which asks for another context window of the same model.

    Claude Code strips the suffix itself before it asks Anthropic; other clients and routes may send it on.
    """
    if not name.endswith("]"):
        return name
    at = name.rfind("[")
    return name if at < 0 or "]" in name[at:-1] else name[:at]


# What it puts into conversations

_BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*(?:\n|\Z)")

_REMINDER, _REMINDER_END = "<system-reminder>", "</system-reminder>"


def without_billing(text: str) -> str:
    """Return a system block without the billing line.

    The line holds a number that is new in every request: it would spoil every prefix cache.
    """
    return _BILLING.sub("", text)


def reminder(text: str) -> str:
    """Return text in the marks by which models know what the client says, and not the user."""
    return f"{_REMINDER}\n{text}\n{_REMINDER_END}"


def without_reminders(text: str) -> str:
    """Return what the user typed: text without the client's reminders. A reminder that does not end is kept."""
    parts: list[str] = []
    start = 0
    while (begin := text.find(_REMINDER, start)) >= 0 and (end := text.find(_REMINDER_END, begin)) >= 0:
        parts.append(text[start:begin])
        start = end + len(_REMINDER_END)
    return "".join((*parts, text[start:]))


_COMPACTION = "create a detailed summary of the conversation"


def is_compaction(typed: str) -> bool:
    """Return whether a user's turn is the one by which `/compact` asks for a summary of the conversation."""
    return _COMPACTION in typed.lower()


# What it does on an error: it goes by the status, and on 400 by the wording

TAKES_FOR_ITS_OWN = ("x-api-key", "api key", "credit balance", "prompt is too long", "oauth", "/login", "not logged in")
"""Words in any error, in small letters, from which it concludes that its own key, account or prompt is at fault: it
shows that instead of the message, or acts on it. (2.1.332; seen for `x-api-key`, the others read in its strings.)"""

PROMPT_TOO_LONG = "prompt is too long"
"""Begins the only message of a 400 on which it compacts the conversation: `prompt is too long: 9 tokens > 8 maximum`.
How much it drops, it reads from the two numbers."""


def prompt_too_long(prompt_tokens: int, limit_tokens: int) -> str:
    """Return the message that makes it compact the conversation."""
    return f"{PROMPT_TOO_LONG}: {prompt_tokens} tokens > {limit_tokens} maximum"


def answer_too_long(prompt_tokens: int, answer_tokens: int, limit_tokens: int) -> str:
    """Return the message that makes it ask again with a smaller `max_tokens`."""
    return (
        f"input length and `max_tokens` exceed context limit: {prompt_tokens} + {answer_tokens} > {limit_tokens}, "
        "decrease input length or `max_tokens` and try again"
    )


def could_not_process(medium: str) -> str:
    """Return the words, for `image` or `PDF`, at which it takes such blocks out of its history and asks again."""
    return f"Could not process {medium}: "


RETRY_AFTER_MAX_S = 60
"""It waits for a `retry-after` up to this long on 429, 503 and 529; above, it gives up at once. Without one it gives up
on 529 after three tries in two seconds, and on 503 after eleven in 195 s. On 401 it tells its user to mend the key."""

RETRIED_IN_STREAM = "overloaded_error"
"""The only type of an error event, before content, after which it streams again. On any other it asks at once without
streaming, and so gets to see the status and the words by which it mends its request."""

MODELS_WAIT_S = 3.0
"""How long it waits for `GET /v1/models`."""


def unparsed_input(written: str) -> dict[str, Any]:
    """Return a tool's input that could not be parsed, in the marker by which it tells the model of a clean error."""
    return {"__unparsedToolInput": {"raw": written, "len": len(written)}}


# How it is started

PROGRAM = "claude"

OFF_THE_PATH = ("~/.local/bin/claude", "~/.claude/local/claude")
"""Where its installers put it, whether or not a shell looks there."""

INSTALL = ("npm install -g @anthropic-ai/claude-code", "curl -fsSL https://claude.ai/install.sh | bash")
"""The commands that install it; the first needs Node.js."""

BASE_URL = "ANTHROPIC_BASE_URL"
"""The variable that says where it sends its requests."""

TOKEN = "ANTHROPIC_AUTH_TOKEN"  # noqa: S105 - the name of a variable
"""The variable whose value it sends as `Authorization: Bearer`. Without it, a key or a login it asks for a login."""

AUTO_MODE_SERVER = "CLAUDE_CODE_AUTO_MODE_SERVER"
"""The variable that, set to 0, makes it check actions in auto mode itself, with two small requests each (2.1.332).
Otherwise it asks the model's service in the session's own requests (`wire/safeguards.py`)."""

CUSTOM_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
"""The variable that adds headers, `Name: value` one a line."""

EXTRA_AUTHORITIES = "NODE_EXTRA_CA_CERTS"
"""The variable that names a file of authorities to trust besides its own."""

CLIENT_CERT, CLIENT_KEY = "CLAUDE_CODE_CLIENT_CERT", "CLAUDE_CODE_CLIENT_KEY"
"""The variables that name the certificate that it shows, and its key."""

CLOUDS = tuple(
    f"CLAUDE_CODE_USE_{cloud}"
    for cloud in ("BEDROCK", "MANTLE", "ANTHROPIC_AWS", "VERTEX", "ANTHROPIC_GOOGLE_CLOUD", "FOUNDRY")
)
"""Variables that make it use a cloud's own service, whatever its base URL is."""

CONFIG_DIR = "CLAUDE_CONFIG_DIR"
"""The variable that names its folder in place of `~/.claude`."""

SETTINGS_FLAG = "--settings"
"""Takes JSON that overrides its settings files, whose `env` overrides the environment."""
