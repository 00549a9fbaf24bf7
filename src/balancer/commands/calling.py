"""Talking to a balancer that runs: the commands' way to its control endpoints."""

from __future__ import annotations

import enum
import http.client
import json
import os
import urllib.error
import urllib.request
from typing import Any

from balancer import NAME
from balancer.commands import addresses, reading
from balancer.commands.invocation import hint
from balancer.config import ConfigError

WITHIN_S = 10.0
LOOK_WITHIN_S = 5.0

DEFAULT_URL = "http://127.0.0.1:8080"


class CallFailed(Exception):
    """The balancer could not be asked, or refused; `str(error)` says why and what to do."""


class Unreachable(CallFailed):
    """Nobody answers there, so asking again later makes sense."""


class Listener(enum.Enum):
    """Who answers at an address."""

    NOBODY = "nobody"
    BALANCER = "balancer"
    STOPPING = "stopping"
    """A balancer that lets running answers end and takes no new ones."""
    ANOTHER = "another"
    """Another program."""


def url_of(explicit: str | None, config: str | None = None) -> str:
    """Return where the balancer is: flag, `BALANCER_URL`, else what the configuration says."""
    if given := elsewhere(explicit):
        return given
    try:
        settings = reading.read(config).settings
    except ConfigError:
        if config:
            raise
        return DEFAULT_URL
    return addresses.reached(settings)


def elsewhere(explicit: str | None) -> str | None:
    """Return the address that a flag or `BALANCER_URL` names; None: neither does."""
    given = explicit or os.environ.get("BALANCER_URL")
    if not given:
        return None
    return given.rstrip("/") if "://" in given else f"http://{given}".rstrip("/")


def call(
    url: str,
    path: str,
    key: str | None = None,
    body: dict[str, Any] | None = None,
    within_s: float = WITHIN_S,
) -> Any:
    """Return what the balancer answers. Raises `CallFailed`."""
    secret = key or os.environ.get("BALANCER_KEY")
    try:
        try:
            return _told(url, path, secret, body, within_s)
        except urllib.error.HTTPError as error:
            if error.code != 403 or key or not secret:
                raise
            error.close()
        return _told(
            url, path, None, body, within_s
        )  # no key has the right there: then this machine has it, without a key
    except urllib.error.HTTPError as error:
        raise CallFailed(f"{url}{path} answers {error.code}: {_message(error)}{_remedy(error.code)}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(
            f"no balancer answers at {url} ({reason}); start it: {hint('serve')}; another address: --url"
        ) from None
    except (http.client.HTTPException, ValueError):
        raise CallFailed(f"what answers at {url} is no balancer; another address: --url") from None


def _told(url: str, path: str, secret: str | None, body: dict[str, Any] | None, within_s: float) -> Any:
    headers = {"content-type": "application/json"} | ({"x-balancer-key": secret} if secret else {})
    data = None if body is None else json.dumps(body).encode()
    with _opened(urllib.request.Request(_checked(url) + path, data, headers), within_s) as answer:  # noqa: S310
        return json.load(answer)


def who_answers(url: str) -> Listener:
    """Look who listens at an address, without a key. Raises `CallFailed` where it is no address."""
    try:
        with _opened(urllib.request.Request(f"{_checked(url)}/"), LOOK_WITHIN_S) as answer:  # noqa: S310
            told = json.loads(answer.read(65_536))
    except (http.client.HTTPException, urllib.error.HTTPError, ValueError, TimeoutError):
        return Listener.ANOTHER
    except OSError as error:
        return Listener.ANOTHER if isinstance(getattr(error, "reason", error), TimeoutError) else Listener.NOBODY
    if not isinstance(told, dict) or told.get("name") != NAME:
        return Listener.ANOTHER
    return Listener.STOPPING if _is_draining(url) else Listener.BALANCER


def _is_draining(url: str) -> bool:
    try:
        with _opened(urllib.request.Request(f"{url}/ready"), LOOK_WITHIN_S):  # noqa: S310
            return False
    except urllib.error.HTTPError as error:
        with error:
            return b"draining" in error.read(65_536)
    except (OSError, http.client.HTTPException):
        return True


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise CallFailed(f"{url} is no http address")
    return url


def _opened(request: urllib.request.Request, within_s: float) -> Any:
    # Straight to the balancer: a proxy of the environment is for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=within_s)


def _remedy(code: int) -> str:
    return "; the key: --key KEY or $BALANCER_KEY" if code == 401 else ""


def _message(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            return str(json.load(error)["error"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return str(error.reason)
