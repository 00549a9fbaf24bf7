"""The audit log: what is noted, in which words, and what it never does."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from balancer.events import Drilled, ProviderPaused, ProviderResumed, ProviderWoken, Reloaded, ReloadRefused
from balancer.telemetry.audit import ASKER, NAME, REFUSED_A_MINUTE, Asker, Audit
from balancer.telemetry.background import WriterLimits

FAST = WriterLimits(flush_every_s=0.0)
OPS = Asker("203.0.113.9", "ops", "0123abcd")


class Clock:
    now_s = 100.0

    def now(self) -> float:
        return self.now_s


def audit(folder: Path, clock: Clock | None = None, stderr: io.StringIO | None = None) -> Audit:
    now = (clock or Clock()).now
    return Audit(str(folder / "logs" / "x.jsonl"), lambda: 1.5, now, stderr=stderr, limits=FAST)


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "logs" / NAME).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_who_ordered_what_is_noted_and_what_the_balancer_did_by_itself(tmp_path: Path) -> None:
    log = audit(tmp_path)
    log.started()
    token = ASKER.set(OPS)
    log.take(Reloaded(1.0, 2, ("provider 'a' changed",), ("port",)))
    log.take(Drilled(1.0, "a", "529", "for 3 requests"))
    log.take(ProviderWoken(1.0, "a", "operator"))
    log.take(ProviderPaused(1.0, "a"))
    log.take(ProviderResumed(1.0, "a"))
    ASKER.reset(token)
    log.take(ReloadRefused(1.0, ("providers.yaml:1: no",)))
    log.take(ProviderWoken(1.0, "a", "probe"))
    log.close()
    started, *orders, refused, ended = lines(tmp_path)

    assert (started["event"], ended["event"], started["pid"]) == ("started", "ended", os.getpid())
    assert started["time"] == "1970-01-01T00:00:01.500Z"
    by = {"by": "client", "address": "203.0.113.9", "key": "ops", "key_hash": "0123abcd"}
    assert [order["event"] for order in orders] == ["reloaded", "drill", "wake", "pause", "resume"]
    assert all(by.items() <= order.items() for order in orders)
    assert (orders[0]["changes"], orders[0]["needs_restart"]) == (["provider 'a' changed"], ["port"])
    assert (orders[1]["provider"], orders[1]["fault"], orders[1]["until"]) == ("a", "529", "for 3 requests")
    assert (refused["event"], refused["by"], refused["problems"]) == (
        "reload_refused",
        "balancer",
        ["providers.yaml:1: no"],
    )


def test_refused_keys_are_noted_once_a_minute_each_and_not_too_often_in_all(tmp_path: Path) -> None:
    clock = Clock()
    log = audit(tmp_path, clock)
    for _ in range(3):
        log.refused(Asker("a", key_hash="1"), "POST", "/v1/messages", 401)
    for number in range(2 * REFUSED_A_MINUTE):
        log.refused(Asker("a", key_hash=f"x{number}"), "POST", "/v1/messages", 401)
    clock.now_s += 61
    log.refused(Asker("a", key_hash="1"), "POST", "/x\x7f\u202e\U0001f600" + "y" * 500, 401)
    log.close()
    *noted, last, _ = lines(tmp_path)

    assert len(noted) == REFUSED_A_MINUTE
    assert noted[0] == {
        "time": "1970-01-01T00:00:01.500Z", "event": "key_refused", "address": "a", "key_hash": "1",
        "method": "POST", "path": "/v1/messages", "status": 401,
    }  # fmt: skip
    assert noted[1]["more"] == 2
    assert last["more"] == 2 * REFUSED_A_MINUTE - (REFUSED_A_MINUTE - 1)
    assert len(last["path"]) <= 200
    assert "\U0001f600y" in last["path"]
    assert (tmp_path / "logs" / NAME).read_bytes().isascii()
    assert len(log._seen) <= 2 * REFUSED_A_MINUTE


def test_nobody_else_can_read_it_and_no_link_leads_it_elsewhere(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "logs" / NAME, tmp_path / "elsewhere"
    place.parent.mkdir()
    place.write_text("")
    place.chmod(0o644)
    first = audit(tmp_path)
    first.close()
    mode = stat.S_IMODE(place.stat().st_mode)
    place.unlink()
    elsewhere.write_text("untouched")
    place.symlink_to(elsewhere)
    said = io.StringIO()
    second = audit(tmp_path, stderr=said)
    second.started()
    second.close()

    assert mode == 0o600
    assert elsewhere.read_text() == "untouched"
    assert said.getvalue().count("can't be written") == 1


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_new_file_is_private(tmp_path: Path) -> None:
    audit(tmp_path).close()

    assert stat.S_IMODE((tmp_path / "logs" / NAME).stat().st_mode) == 0o600
