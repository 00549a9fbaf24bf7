"""The Claude Code provider balancer: one Messages API endpoint in front of many providers."""

__version__ = "0.1.0"

NAME = "claude-code-provider-balancer"
"""How a balancer calls itself in the answer to `GET /`."""
