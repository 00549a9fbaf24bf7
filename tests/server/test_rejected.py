"""What a request gets that no provider is to see."""

from __future__ import annotations

import json
import re

import pytest
from stand_ins import Taker

from balancer.server.rejected import Rejected, error_reply, new_id, reject

STATUSES = {
    400: {},
    401: {},
    403: {},
    405: {b"allow": b"POST"},
    408: {b"connection": b"close"},
    413: {b"connection": b"close"},
    415: {b"accept-encoding": b"gzip, deflate, br"},
    421: {},
    503: {b"retry-after": b"1", b"connection": b"close"},
}


@pytest.mark.parametrize(("status", "more"), STATUSES.items())
async def test_an_error_is_in_the_shape_of_the_api_and_names_the_request(status: int, more: dict[bytes, bytes]) -> None:
    client = Taker()
    await reject(client, Rejected(status, "invalid_request_error", 'no "way"'), "req_1")

    assert (client.status, client.end) == (status, "whole")
    assert client.headers == {
        b"content-type": b"application/json",
        b"x-content-type-options": b"nosniff",
        b"content-length": b"%d" % len(client.body),
        b"x-balancer-request-id": b"req_1",
        b"request-id": b"req_1",
        **more,
    }
    assert json.loads(client.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": 'no "way"'},
        "request_id": "req_1",
    }


@pytest.mark.parametrize("status", [400, 408])
def test_the_last_answer_of_a_connection_says_so_once(status: int) -> None:
    headers, _ = error_reply(Rejected(status, "invalid_request_error", "no"), "req_1", close=True)

    assert [pair for pair in headers if pair[0] == b"connection"] == [(b"connection", b"close")]


def test_no_id_is_given_twice() -> None:
    ids = {new_id() for _ in range(10_000)}

    assert len(ids) == 10_000
    assert all(re.fullmatch("req_[0-9a-f]{24}", one) for one in ids)
