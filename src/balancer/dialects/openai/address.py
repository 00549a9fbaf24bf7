"""Addresses: which path a provider's API has. What the user wrote is taken as it is, and `/v1` is tried after a 404."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from balancer.model import Reply
from balancer.wire.complaints import body_complaint

VERSION = "/v1"

_VERSION = re.compile(r"(?:\A|/)v\d+[a-z0-9]*(?:/|\Z)")
_ENDPOINT = re.compile(r"/(?:chat/completions|responses|completions)\Z")
_DEPLOYMENT = re.compile(r"/deployments/[^/]+\Z")


class Address(NamedTuple):
    """Where an API lives."""

    path: str
    other: str | None
    """The path to try where nothing is found at `path`; None: there is only one."""
    query: str


@lru_cache(maxsize=256)
def address(base_url: str, *, versioned: bool | None = None) -> Address:
    """Return where the API lives. `versioned` says whether `/v1` stands behind the path; None: as the path looks.

    `https://host`, `https://host/v1` and `https://host/v1/chat/completions` are the same; a path is taken as it is:
    `/api/v1`, `/v1beta/openai`, `/api/paas/v4`, `/inference`, `/openai/deployments/NAME`.
    """
    url = urlsplit(base_url)
    path = _ENDPOINT.sub("", url.path.rstrip("/"))
    if _VERSION.search(path):
        bare = path.removesuffix(VERSION)
        return Address(bare if versioned is False else path, None, url.query)
    with_version = path + VERSION
    if versioned is not None:
        return Address(with_version if versioned else path, None, url.query)
    return Address(path, with_version, url.query) if path else Address(with_version, path, url.query)


def is_classic(base_url: str) -> bool:
    """Return whether the address is a deployment of Azure's: it has Chat Completions only."""
    return _DEPLOYMENT.search(_ENDPOINT.sub("", urlsplit(base_url).path.rstrip("/"))) is not None


_NOT_THERE = frozenset({404, 405})
_ABOUT_SOMETHING = re.compile(
    r"model|deployment|endpoints? found|tool|image|parameter|previous_response|item|file|account|region", re.IGNORECASE
)
LOOKED_AT_CHARS = 2000


def is_misplaced(reply: Reply) -> bool:
    """Return whether an answer says that nothing is served at the path, rather than that a model is not known there."""
    if reply.status not in _NOT_THERE:
        return False
    said = body_complaint(reply.body)
    return _ABOUT_SOMETHING.search(f"{said.message} {said.type} {said.code}"[:LOOKED_AT_CHARS]) is None
