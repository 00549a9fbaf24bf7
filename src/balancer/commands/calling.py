"""Talking to a balancer that runs: the commands' way to its control endpoints."""

from __future__ import annotations

import enum
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from balancer import NAME
from balancer.commands import addresses, reading
from balancer.commands.invocation import hint
from balancer.config import Config, ConfigError

WITHIN_S = 10.0
LOOK_WITHIN_S = 5.0

DEFAULT_URL = "http://127.0.0.1:8080"

CA = "BALANCER_CA"
"""A variable that names the authorities to trust besides the system's."""

CLIENT_CERT = "BALANCER_CLIENT_CERT"
"""A variable that names the certificate to show to a balancer that asks for one, with its key in the same file."""


class CallFailed(Exception):
    """The balancer could not be asked, or refused; `str(error)` says why and what to do."""


class Unreachable(CallFailed):
    """Nobody answers there, so asking again later makes sense."""


class OwnAddress(str):
    """The address of the balancer of this machine's configuration: it is known by its certificate, not by its name."""

    __slots__ = ("certificate",)

    certificate: Path | None

    def __new__(cls, url: str, config: Config) -> Self:
        self = super().__new__(cls, url)
        self.certificate = None if config.tls is None else config.tls.cert
        return self


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
        read = reading.read(config)
    except ConfigError:
        if config:
            raise
        return DEFAULT_URL
    return OwnAddress(addresses.reached(read.settings), read)


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
        if isinstance(reason, ssl.SSLError):
            raise CallFailed(f"no TLS with {url}: {_tls_in_words(reason)}") from None
        raise Unreachable(
            f"no balancer answers at {url} ({reason}); start it: {hint('serve')}; another address: --url"
        ) from None
    except (http.client.HTTPException, ValueError):
        raise CallFailed(f"what answers at {url} is no balancer; another address: --url") from None


def _told(url: str, path: str, secret: str | None, body: dict[str, Any] | None, within_s: float) -> Any:
    headers = {"content-type": "application/json"} | ({"x-balancer-key": secret} if secret else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(_checked(url) + path, data, headers)  # noqa: S310
    with _opened(request, url, within_s) as answer:
        return json.load(answer)


def who_answers(url: str) -> Listener:
    """Look who listens at an address, without a key. Raises `CallFailed` where it is no address."""
    try:
        with _opened(urllib.request.Request(f"{_checked(url)}/"), url, LOOK_WITHIN_S) as answer:  # noqa: S310
            told = json.loads(answer.read(65_536))
    except (http.client.HTTPException, urllib.error.HTTPError, ValueError, TimeoutError):
        return Listener.ANOTHER
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            raise CallFailed(f"no TLS with {url}: {_tls_in_words(reason)}") from None
        return Listener.ANOTHER if isinstance(reason, TimeoutError) else Listener.NOBODY
    if not isinstance(told, dict) or told.get("name") != NAME:
        return Listener.ANOTHER
    return Listener.STOPPING if _is_draining(url) else Listener.BALANCER


def _is_draining(url: str) -> bool:
    try:
        with _opened(urllib.request.Request(f"{url}/ready"), url, LOOK_WITHIN_S):  # noqa: S310
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


def _opened(request: urllib.request.Request, url: str, within_s: float) -> Any:
    # Straight to the balancer: a proxy of the environment is for the world outside.
    ways: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if url.startswith("https://"):
        ways.append(urllib.request.HTTPSHandler(context=_context(url)))
    return urllib.request.build_opener(*ways).open(request, timeout=within_s)


def _context(url: str) -> ssl.SSLContext:
    """Return how a balancer is known. Raises `CallFailed` for a file that can't be used."""
    try:
        if isinstance(url, OwnAddress) and url.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(url.certificate)
            context.check_hostname = False  # no other server has the key of this very certificate
        else:
            context = ssl.create_default_context()
            if ca := os.environ.get(CA):
                context.load_verify_locations(ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except OSError as error:
        raise CallFailed(f"{CA} names no PEM file of certificates: {error.strerror or error}") from None
    try:
        if shown := os.environ.get(CLIENT_CERT):
            context.load_cert_chain(shown, password=lambda: b"")
    except OSError as error:
        said = f"{CLIENT_CERT} names no PEM file with a certificate and its key: {error.strerror or error}"
        raise CallFailed(said) from None
    return context


def _tls_in_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; an authority of its own: --ca FILE or {CA}"
    reason = (error.reason or "it failed").lower().replace("_", " ")
    if "certificate required" in reason or "handshake failure" in reason:
        return f"{reason}; the certificate to show: {CLIENT_CERT}"
    if "wrong version number" in reason or "record layer" in reason:
        return f"{reason}; does it speak plain http?"
    return reason


def _remedy(code: int) -> str:
    return "; the key: --key KEY or $BALANCER_KEY" if code == 401 else ""


def _message(error: urllib.error.HTTPError) -> str:
    with error:
        try:
            return str(json.load(error)["error"]["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return str(error.reason)
