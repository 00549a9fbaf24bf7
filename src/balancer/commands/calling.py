"""Talking to a balancer that runs: the commands' way to its control endpoints."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from balancer.commands import reading
from balancer.config import ConfigError
from balancer.server import run as server

WITHIN_S = 10.0


class CallFailed(Exception):
    """The balancer could not be asked, or refused; `str(error)` says why and what to do."""


def url_of(explicit: str | None) -> str:
    """Return where the balancer is: flag, `BALANCER_URL`, else what the configuration says."""
    given = explicit or os.environ.get("BALANCER_URL")
    if given:
        return given.rstrip("/") if "://" in given else f"http://{given}".rstrip("/")
    try:
        settings = reading.read(None).settings
    except ConfigError:
        return "http://127.0.0.1:8080"
    return server.url(settings.host, settings.port)


def call(url: str, path: str, key: str | None = None, body: dict[str, Any] | None = None) -> Any:
    """Return what the balancer answers. Raises `CallFailed`."""
    headers = {"content-type": "application/json"}
    if secret := key or os.environ.get("BALANCER_KEY"):
        headers["x-balancer-key"] = secret
    data = None if body is None else json.dumps(body).encode()
    if not url.startswith(("http://", "https://")):
        raise CallFailed(f"{url} is no http address")
    request = urllib.request.Request(url + path, data, headers)  # noqa: S310 - its scheme was looked at
    # Straight to the balancer: a proxy of the environment is for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=WITHIN_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise CallFailed(f"{url}{path} answers {error.code}: {_message(error)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise CallFailed(f"no balancer answers at {url} ({reason}); is it running? Another address: --url") from None


def _message(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            return str(json.load(error)["error"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return str(error.reason)
