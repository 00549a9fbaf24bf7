"""Nouns for tests, made with one line."""

from __future__ import annotations

from balancer.model import Candidate, Headers, Operation, Origin, Provider, Request


def provider(name: str = "a", **more: object) -> Provider:
    """Return a provider on loopback."""
    fields: dict[str, object] = {
        "type": "anthropic",
        "base_url": "http://127.0.0.1:9",
        "origin": Origin(tls=False, host="127.0.0.1", port=9),
        "base_path": "",
        "secret": f"sk-{name}",
    }
    return Provider(name=name, **{**fields, **more})  # type: ignore[arg-type]


def candidate(name: str = "a", model: str = "m", priority: int = 1, weight: float = 1.0, **more: object) -> Candidate:
    """Return a provider with the model that it is asked for."""
    return Candidate(provider(name, **more), model, priority, weight, "*")


def request(body: bytes = b'{"model":"m","messages":[]}', headers: Headers = (), **more: object) -> Request:
    """Return a client's request."""
    fields: dict[str, object] = {
        "id": "req_test",
        "operation": Operation.MESSAGES,
        "query": b"",
        "headers": headers,
        "body": body,
        "model": "m",
        "stream": True,
    }
    return Request(**{**fields, **more})  # type: ignore[arg-type]
