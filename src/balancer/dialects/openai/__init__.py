"""Providers of type `openai`: Chat Completions and Responses, as OpenAI and the many compatible servers speak them."""

from balancer.dialects.openai.dialect import DIALECT

__all__ = ["DIALECT"]
