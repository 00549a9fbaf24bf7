"""Providers of type `simulated`: answers without an upstream, and the faults that can be injected."""

from balancer.dialects.simulated.dialect import DIALECT

__all__ = ["DIALECT"]
