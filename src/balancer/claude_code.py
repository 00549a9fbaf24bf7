"""Every fact about the client Claude Code that the balancer acts on, once."""

from __future__ import annotations

import re

USER_AGENT = b"claude-cli/"
"""What its `user-agent` begins with."""

BILLING = re.compile(r"\Ax-anthropic-billing-header:[^\n]*(?:\n|\Z)")
"""Claude Code's first system block holds a nonce: it would spoil every prefix cache."""
