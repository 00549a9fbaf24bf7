"""Every fact about the client Claude Code that the balancer acts on, once."""

from __future__ import annotations

import re

BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*(?:\n|\Z)")
"""Claude Code's first system block holds a nonce: it would spoil every prefix cache."""

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

CUSTOM_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
"""The variable that adds headers, `Name: value` one a line."""

CLOUDS = tuple(
    f"CLAUDE_CODE_USE_{cloud}"
    for cloud in ("BEDROCK", "MANTLE", "ANTHROPIC_AWS", "VERTEX", "ANTHROPIC_GOOGLE_CLOUD", "FOUNDRY")
)
"""Variables that make it use a cloud's own service, whatever its base URL is."""

CONFIG_DIR = "CLAUDE_CONFIG_DIR"
"""The variable that names its folder in place of `~/.claude`."""

SETTINGS_FLAG = "--settings"
"""Takes JSON that overrides its settings files, whose `env` overrides the environment."""
