"""The Claude Code provider balancer: one Messages API endpoint in front of many providers."""

__version__ = "0.1.0"
