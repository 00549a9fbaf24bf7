"""Which conversation a request belongs to."""

from __future__ import annotations

import json
import time
from typing import Any

from balancer.headers import Headers
from balancer.model import Operation
from balancer.policy.affinity import _without_cache_control, of_openai, of_request
from balancer.wire.messages import head
from balancer.wire.openai_requests import head as openai_head

SESSION: Headers = ((b"x-claude-code-session-id", b"11111111-2222"),)
AGENT: Headers = (*SESSION, (b"x-claude-code-agent-id", b"agent-1"))


def name(headers: Headers = (), by: str = "session", client: str = "c", **body: Any) -> str | None:
    return of_request(dict(headers), head(json.dumps({"model": "m", "messages": [], **body}).encode()), client, by)


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
        began = time.perf_counter()
        assert _without_cache_control(message).endswith(b" 1}")
        return time.perf_counter() - began

    assert took_s(1_000_000) < 1.0, "by the square it would be half an hour"


def test_clients_of_openais_api_name_a_conversation_by_its_cache_key_or_session() -> None:
    def named(headers: Headers = (), client: str = "c", **body: Any) -> str | None:
        read = openai_head(json.dumps({"model": "m", **body}).encode(), Operation.RESPONSES)
        return of_openai(dict(headers), read, client)

    session = ((b"session_id", b"k"),)

    assert named() is None
    assert named(session) == named(prompt_cache_key="k") == named(((b"session_id", b"x"),), prompt_cache_key="k")
    assert len({named(session), named(session, "other"), named(prompt_cache_key="l")}) == 3
