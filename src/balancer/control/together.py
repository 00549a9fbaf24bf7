"""What several workers show of their providers, as if it were one's.

Counters are added up, with those of workers that have ended. Health is the same at all of them. Of what cannot be added
the newest is shown, or the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from balancer.sharing.protocol import Report

COUNTS = ("requests", "successes", "failures")
TOKENS = ("input", "output", "cache_read", "cache_creation")

_PREFIX = "provider\x1f"


def counted(view: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return what is counted in a body of `GET /providers`, by provider: so that it outlives the worker."""
    return {
        f"{_PREFIX}{one['name']}": [*(one[name] for name in COUNTS), *(one["tokens"][kind] for kind in TOKENS)]
        for one in view["providers"]
    }


def joined(own: dict[str, Any], others: Sequence[Report], ended: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the body of `GET /providers` for this worker, the others and those that have ended."""
    views = [msgspec.msgpack.decode(report.view) for report in others]
    for name in ("in_flight", "retry_budget"):
        own[name] = round(own[name] + sum(view.get(name, 0) for view in views), 1)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for view in views:
        for one in view.get("providers", ()):
            by_name.setdefault(one["name"], []).append(one)
    for provider in own["providers"]:
        alike = by_name.get(provider["name"], [])
        _join(provider, alike, ended.get(f"{_PREFIX}{provider['name']}", ()))
    return own


def _join(own: dict[str, Any], others: list[dict[str, Any]], ended: Sequence[float]) -> None:
    """Add to `own` what others show of the same provider."""
    own["latency"] = _latency([own, *others])
    own["in_flight"] += sum(one["in_flight"] for one in others)
    for name in COUNTS:
        own[name] += sum(one[name] for one in others)
    for kind in TOKENS:
        own["tokens"][kind] += sum(one["tokens"][kind] for one in others)
    if len(ended) == len(COUNTS) + len(TOKENS):
        for name, count in zip(COUNTS, ended, strict=False):
            own[name] += int(count)
        for kind, count in zip(TOKENS, ended[len(COUNTS) :], strict=True):
            own["tokens"][kind] += int(count)
    errors = [one["last_error"] for one in (own, *others) if one["last_error"]]
    own["last_error"] = max(errors, key=lambda error: error["at"], default=None)
    own["organization"] = next((one["organization"] for one in (own, *others) if one["organization"]), None)
    if own["state"] == "healthy" and any(one["state"] == "probing" for one in others):
        own["state"] = "probing"


def _latency(all_of_them: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the latency over all workers: each counts by how many good answers it has had."""
    own = dict(all_of_them[0]["latency"])
    answered = [(one["latency"], one["successes"]) for one in all_of_them if one["successes"]]
    total = sum(count for _, count in answered)
    if total:
        for name in ("first_substance_ewma_s", "duration_ewma_s"):
            own[name] = round(sum(latency[name] * count for latency, count in answered) / total, 4)
        if own["first_substance_s"] is None:
            known = (latency["first_substance_s"] for latency, _ in answered)
            own["first_substance_s"] = next((one for one in known if one is not None), None)
    return own
