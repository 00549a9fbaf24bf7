"""Providers of type `zed`: Zed's cloud service with the user's own account."""

from balancer.dialects.zed.dialect import DIALECT

__all__ = ["DIALECT"]
