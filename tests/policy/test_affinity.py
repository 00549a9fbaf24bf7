"""Which conversation a request belongs to."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from stand_ins import request

from balancer.headers import Headers
from balancer.model import Operation, Request
from balancer.policy.affinity import (
    LOOKED_AT_BYTES,
    _without_cache_control,
    asks_long_cache,
    cache_ttl_s,
    of_openai,
    of_request,
)
from balancer.wire.messages import head
from balancer.wire.openai_requests import head as openai_head

SESSION: Headers = ((b"x-claude-code-session-id", b"11111111-2222"),)
AGENT: Headers = (*SESSION, (b"x-claude-code-agent-id", b"agent-1"))


def name(headers: Headers = (), by: str = "session", client: str = "c", **body: Any) -> str | None:
    return of_request(dict(headers), head(json.dumps({"model": "m", "messages": [], **body}).encode()), client, by)[0]


def test_a_session_is_that_of_all_its_agents() -> None:
    body = head(b'{"model":"m","messages":[]}')
    (main, session), (sub, same) = (of_request(dict(headers), body, "c", "session") for headers in (SESSION, AGENT))
    assert main != sub
    assert session == same != ""
    assert of_request(dict(SESSION), body, "other", "session")[1] != session
    assert of_request({}, body, "c", "session") == (None, "")


def test_by_session_and_agent() -> None:
    assert name(SESSION) == name(SESSION)
    assert len({name(SESSION), name(AGENT), name(SESSION, client="other"), None}) == 4


def test_by_the_session_in_the_users_id_in_both_its_forms() -> None:
    new = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "11111111-2222"})

    assert name(metadata={"user_id": new}) == name(SESSION)
    assert name(metadata={"user_id": "user_abc_account__session_11111111-2222"}) == name(SESSION)


def test_a_request_that_says_nothing_is_nobodys_conversation() -> None:
    assert name() is None
    assert name(metadata={"user_id": "somebody"}) is None
    assert name(metadata={"user_id": json.dumps({"device_id": "d"})}) is None


def test_by_prefix_a_growing_conversation_keeps_its_name() -> None:
    cached = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    plain = {"type": "text", "text": "long"}
    first = name(by="prefix", messages=[{"role": "user", "content": [cached]}], system="s")
    later = name(by="prefix", system="s", messages=[
        {"role": "user", "content": [plain]},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": [{**cached, "text": "more"}]},
    ])  # fmt: skip

    assert first is not None
    assert first == later
    assert first != name(by="prefix", messages=[{"role": "user", "content": [cached]}], system="other")
    assert name(by="prefix", messages=[{"role": "user", "content": [plain]}]) is None
    assert name(messages=[{"role": "user", "content": [cached]}]) is None


def test_blanks_before_a_mark_take_no_more_time_than_anything_else() -> None:
    def took_s(blanks: int) -> float:
        message = b'{"a":' + b" " * blanks + b'1,  "cache_control": {"type": "ephemeral"}}'
        began = time.process_time()
        assert _without_cache_control(message).endswith(b" 1}")
        return time.process_time() - began

    assert took_s(1_000_000) < 1.0, "by the square it would be half an hour"


@pytest.mark.parametrize(
    ("body", "ttl_s"),
    [
        (b'{"cache_control":{"type":"ephemeral","ttl":"1h"}}', 3600.0),
        (b'{"cache_control" : {"ttl" : "1h", "type": "ephemeral"}}', 3600.0),
        (b'{"a":{"cache_control":{"type":"ephemeral","ttl":"1h"}},"b":{"cache_control":{"type":"ephemeral"}}}', 3600.0),
        (b'{"a":{"cache_control":{"ttl":"5m"}},"b":{"cache_control":{"ttl":"90s"}}}', 300.0),
        (b'{"cache_control":{"ttl":"99999d"}}', 86400.0),
        (b'{"cache_control":{"type":"ephemeral"},"ttl":"1h"}', 0.0),
        (b'{"text":"\\"cache_control\\":{\\"ttl\\":\\"1h\\"}"}', 0.0),
        (b'{"cache_control":null}', 0.0),
        (b"{}", 0.0),
    ],
)
def test_the_longest_cache_that_a_body_asks_for(body: bytes, ttl_s: float) -> None:
    assert cache_ttl_s(request(body)) == ttl_s
    assert cache_ttl_s(request(body, long_cache=True)) == max(ttl_s, 3600.0)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_longer_cache_is_seen_as_it_is_mostly_written(separators: tuple[str, str]) -> None:
    def asked(ttl: str) -> Request:
        mark = {"cache_control": {"type": "ephemeral", "ttl": ttl}}
        return request(json.dumps({"model": "m", "system": [mark]}, separators=separators).encode())

    assert asks_long_cache(asked("1h"))
    assert not asks_long_cache(asked("5m"))
    assert asks_long_cache(request(long_cache=True))


def test_only_the_end_of_a_very_large_body_is_looked_at() -> None:
    mark = b'{"cache_control":{"type":"ephemeral","ttl":"1h"}}'

    assert not asks_long_cache(request(mark + b" " * LOOKED_AT_BYTES))
    assert cache_ttl_s(request(mark + b" " * LOOKED_AT_BYTES)) == 0.0
    assert asks_long_cache(request(b" " * LOOKED_AT_BYTES + mark))


def test_marks_without_end_are_looked_at_only_so_often() -> None:
    began = time.thread_time()

    assert cache_ttl_s(request(b'{"cache_control":{"ttl":"1h"}}' + b'"cache_control":{ ' * 500_000)) == 0.0
    assert time.thread_time() - began < 0.5


def test_clients_of_openais_api_name_a_conversation_by_its_cache_key_or_session() -> None:
    def named(headers: Headers = (), client: str = "c", **body: Any) -> str | None:
        read = openai_head(json.dumps({"model": "m", **body}).encode(), Operation.RESPONSES)
        return of_openai(dict(headers), read, client)

    session = ((b"session_id", b"k"),)

    assert named() is None
    assert named(session) == named(prompt_cache_key="k") == named(((b"session_id", b"x"),), prompt_cache_key="k")
    assert len({named(session), named(session, "other"), named(prompt_cache_key="l")}) == 3
