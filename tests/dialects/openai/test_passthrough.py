"""Requests of OpenAI's own API: what goes along, and what an answer that is no good one means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stand_ins import provider, request

from balancer.dialect import Ask, Incapable, TypedState
from balancer.dialects.openai.dialect import DIALECT
from balancer.dialects.openai.options import Options
from balancer.dialects.openai.passthrough import MISSING_FOR_S
from balancer.model import Candidate, Operation, Reply, WireRequest

BODY = b'{"input": "\\"model\\": 1",  "model" : "m"}'
JSON = ((b"content-type", b"application/json"),)
CHAT, RESPONSES = Operation.CHAT_COMPLETIONS, Operation.RESPONSES


def ask(*lines: tuple[bytes, bytes], state: TypedState | None = None, wall: float = 1.8e9, **more: Any) -> Ask:
    operation = more.pop("operation", RESPONSES)
    asked = request(BODY, (*JSON, *lines), operation=operation, query=more.pop("query", b""))
    model = more.pop("model", "m")
    one = provider(**{"base_url": "https://api.example", "options": Options(), **more})
    return Ask(asked, Candidate(one, model, operation=operation), operation, state or TypedState(), wall, "n")


def sent(of: Ask) -> WireRequest:
    return next(DIALECT.flow(of))


def names(wire: WireRequest) -> set[bytes]:
    return {name for name, _ in wire.headers}


def answered(of: Ask, status: int, message: str = "no") -> Exception | None:
    """Return what the flow raises after this answer; None: it has ended."""
    flow = DIALECT.flow(of)
    try:
        next(flow)
        flow.send(Reply(status, JSON, json.dumps({"error": {"message": message}}).encode()))
    except StopIteration:
        return None
    except Incapable as error:
        return error
    raise AssertionError("it asks again")


def test_the_body_goes_out_as_it_came() -> None:
    assert b"".join(sent(ask()).body) == BODY
    assert b"".join(sent(ask(model="local")).body) == BODY.replace(b'"m"', b'"local"')


ADDRESSES = {
    "https://api.example": b"/v1",
    "https://api.example/v1/": b"/v1",
    "https://api.example/v1/chat/completions": b"/v1",
    "https://api.example/api/paas/v4": b"/api/paas/v4",
}


@pytest.mark.parametrize(("base_url", "path"), ADDRESSES.items())
def test_the_address_is_that_of_all_other_requests(base_url: str, path: bytes) -> None:
    assert sent(ask(base_url=base_url)).target == path + b"/responses"
    assert sent(ask(base_url=base_url, operation=CHAT, query=b"a=1")).target == path + b"/chat/completions?a=1"


def test_what_belongs_to_the_client_alone_stays_here() -> None:
    mine = [b"authorization", b"api-key", b"cookie", b"host", b"openai-organization", b"anthropic-beta", b"x-hop"]
    wire = sent(ask(*[(name, b"mine") for name in mine], (b"connection", b"x-hop"), (b"openai-beta", b"b")))

    assert (b"authorization", b"Bearer sk-a") in wire.headers
    assert b"mine" not in [value for _, value in wire.headers]
    assert (b"openai-beta", b"b") in wire.headers
    assert len(names(wire)) == len(wire.headers)


def test_with_the_clients_own_credential_its_account_goes_along() -> None:
    lines = ((b"authorization", b"Bearer own"), (b"openai-organization", b"org-1"))
    wire = sent(ask(*lines, passthrough=True, secret=""))

    assert set(lines) <= set(wire.headers)


def test_the_clients_own_content_type_counts_unless_the_file_names_another() -> None:
    lines = ((b"accept", b"text/event-stream"),)

    assert (b"accept", b"text/event-stream") in sent(ask(*lines)).headers
    over = sent(ask(*lines, headers=((b"accept", b"x/y"), (b"api-key", b"k")))).headers
    assert [value for name, value in over if name == b"accept"] == [b"x/y"]
    assert (b"api-key", b"k") in over


def test_a_server_without_the_path_is_not_to_blame_and_is_not_asked_again_for_a_while() -> None:
    state = TypedState()

    assert "does not have /responses" in str(answered(ask(state=state), 404, "Not Found"))
    with pytest.raises(Incapable, match="ask for /chat/completions"):
        sent(ask(state=state, wall=1.8e9 + MISSING_FOR_S - 1))
    assert sent(ask(state=state, operation=CHAT))
    assert answered(ask(state=state, wall=1.8e9 + MISSING_FOR_S), 200) is None
    assert sent(ask(state=state))  # the answer has shown that the path is there


@pytest.mark.parametrize(
    ("status", "message"), [(404, "The model `m` does not exist"), (400, "no"), (500, "no"), (200, "")]
)
def test_what_is_no_missing_path_ends_the_flow(status: int, message: str) -> None:
    assert answered(ask(), status, message) is None


def test_a_refusal_is_kept_as_it_came() -> None:
    body = b'{"error": {"message": "bad", "type": "invalid_request_error", "param": "x", "code": null}}'
    headers = (*JSON, (b"x-request-id", b"r"), (b"x-ratelimit-reset-tokens", b"1s"), (b"openai-organization", b"o"))

    fault = DIALECT.fault(ask(), Reply(422, headers, body))

    assert (fault.status, fault.message) == (422, "bad")
    assert fault.reply == Reply(422, headers[:-1], body)


def test_a_limit_is_read() -> None:
    fault = DIALECT.fault(ask(), Reply(429, (*JSON, (b"retry-after", b"7")), b'{"error": {"message": "slow down"}}'))

    assert (fault.status, fault.kind, fault.retry_after_s) == (429, "rate_limit_error", 7.0)
