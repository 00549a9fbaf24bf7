"""Who is asked for a batch, a file or a skill, and what of an answer a client may see."""

from __future__ import annotations

import json

import pytest
from stand_ins import candidate, provider

from balancer.model import Broken, Completed, Fault, Operation, Outcome, Refused, ResourceRequest, Route, Stage, Target
from balancer.policy.resources import (
    Follows,
    asked,
    by_priority,
    follows,
    goes_on,
    id_of,
    refused,
    unanswered,
    with_own_addresses,
    without_foreign,
)
from balancer.script import Cause

ABLE = [candidate("a"), candidate("b")]
GONE, SENT = Broken(Stage.CONNECT, Cause.REFUSED), Broken(Stage.WAIT, Cause.RESET)
HALF, NO = Broken(Stage.STREAM, Cause.RESET), Refused(Fault(404, "not_found_error"), Stage.WAIT)
BUSY = Refused(Fault(529, "overloaded_error"), Stage.WAIT)


def request(method: bytes, name: str | None = None) -> ResourceRequest:
    return ResourceRequest("r", Operation.FILES, b"", (), b"", "", stream=False, method=method, resource_id=name)


MAKE, LIST, READ, DELETE = request(b"POST"), request(b"GET"), request(b"GET", "x"), request(b"DELETE", "x")


def test_providers_are_in_the_order_of_their_best_priority() -> None:
    providers = {name: provider(name, enabled=name != "off") for name in ("none", "late", "off", "soon")}
    targets = (
        Target("late", "m", 2),
        Target("soon", "m", 3),
        Target("off", "m", 1),
        Target("none", "m", 0, enabled=False),
    )
    routes = [Route("x", targets), Route("y", (Target("soon", "m", 1),))]

    assert [one.name for one in by_priority(providers, routes)] == ["soon", "late", "none"]


def test_who_is_asked_where_nothing_is_known() -> None:
    assert asked(MAKE, ABLE, ABLE[1:]) == ABLE[1:]
    assert asked(MAKE, ABLE, []) == ABLE[:1]
    assert asked(LIST, ABLE, ABLE[1:]) == ABLE[:1]
    assert asked(READ, ABLE, ABLE[1:]) == ABLE
    assert asked(DELETE, ABLE, ABLE[1:]) == ABLE[:1]


@pytest.mark.parametrize(
    ("asking", "outcome", "goes"),
    [
        (MAKE, GONE, True),
        (MAKE, SENT, False),
        (MAKE, BUSY, False),
        (READ, GONE, True),
        (READ, SENT, True),
        (READ, NO, True),
        (READ, HALF, False),
        (DELETE, GONE, False),
        (DELETE, SENT, False),
        (LIST, Completed(), False),
    ],
)
def test_nobody_else_is_asked_where_something_may_have_been_done(
    asking: ResourceRequest, outcome: Outcome, goes: bool
) -> None:
    assert goes_on(asking, outcome) is goes


def test_what_follows_from_a_status() -> None:
    def said(status: int, **more: bool) -> Follows:
        return follows(status, **{"by_id": True, "last": False, "passthrough": False, **more})

    assert said(404) is Follows.ELSEWHERE
    assert said(404, last=True) is said(404, by_id=False) is said(400) is said(529) is Follows.GIVE
    assert said(401) is said(403) is Follows.HIDE
    assert said(401, passthrough=True) is Follows.GIVE
    assert [refused(status) for status in (404, 429, 500)] == ["client_error", "failed", "failed"]


def test_what_may_have_been_done_is_not_to_be_repeated() -> None:
    told = unanswered(MAKE, candidate("a"), SENT)
    assert (told.status, told.retrying_helps) == (502, False)
    assert "may have been carried out" in told.message

    for asking, outcome in ((MAKE, GONE), (READ, SENT)):
        told = unanswered(asking, candidate("a"), outcome)
        assert (told.status, told.retrying_helps, told.retry_after_s) == (503, True, 1)

    told = unanswered(LIST, candidate("a"), Refused(Fault(401, "authentication_error"), Stage.WAIT), "bad key")
    assert (told.status, told.retrying_helps) == (503, False)
    assert told.message == "a refused the balancer's key: 401 authentication_error: bad key"


ADDRESSES = {
    b'{"results_url": "https://api.anthropic.com/v1/messages/batches/b/results"}': b"/v1/messages/batches/b/results",
    b'{"results_url":"http://host:8/base/v1/messages/batches/b/results"}': b"/v1/messages/batches/b/results",
}


@pytest.mark.parametrize(("body", "path"), ADDRESSES.items())
def test_addresses_of_results_lead_here(body: bytes, path: bytes) -> None:
    assert json.loads(with_own_addresses(body)) == {"results_url": path.decode()}


@pytest.mark.parametrize(
    "body", [b'{"results_url": null}', b'{"url": "https://x/v1/messages/batches/b"}', b'{"results_url":"https://x/y"}']
)
def test_other_addresses_stay(body: bytes) -> None:
    assert with_own_addresses(body) == body


def test_an_id_is_read_where_there_is_one() -> None:
    assert id_of(b'{"id": "file_1", "x": 1}') == "file_1"
    assert [id_of(body) for body in (b"{}", b'{"id": 1}', b"[]", b"no", b'{"id": "\xff"}')] == [None] * 5


def test_lists_are_without_what_is_another_clients() -> None:
    body = b'{"data": [{"id": "mine"}, {"id": "theirs"}, {"x": 1}], "has_more": true}'

    left = json.loads(without_foreign(body, lambda name: name == "theirs"))
    assert left == {"data": [{"id": "mine"}, {"x": 1}], "has_more": True}
    for untouched in (body, b"no", b"[]", b'{"data": 1}'):
        assert without_foreign(untouched, lambda _: False) is untouched
