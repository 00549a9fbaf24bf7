"""What providers say of a failure is cleaned before anybody else sees it."""

from __future__ import annotations

import msgspec
import pytest
from stand_ins import request

from balancer.model import Broken, Completed, Fault, Outcome, Refused, Reply, Stage
from balancer.redact import Inventory
from balancer.relay.border import BODY_MAX_BYTES, NESTED_MAX, cleaned
from balancer.script import Cause
from balancer.wire.errors import fault_of

KEY = "Zk7canaryUPSTREAMkey/with+odd=chars99"
KNOWN = Inventory([KEY])


def replied(
    body: bytes, kind: bytes = b"application/json", status: int = 400, of: bytes = b"{}", **headers: str
) -> Reply:
    """Return what goes to a client whose request `of` was refused with this."""
    lines = ((b"content-type", kind), *((n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()))
    outcome = Refused(fault_of(Reply(status, lines, body), 0.0), Stage.WAIT)
    result = cleaned(outcome, KNOWN, request(of))
    assert isinstance(result, Refused)
    assert result.fault.reply is not None
    return result.fault.reply


UNTOUCHED = [
    b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_011CSHoEeqs5C35K2UUqR7Fy"}',
    b'{ "type" : "error", "error": {"type": "invalid_request_error", "message": "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`. See https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking" } }\n',
    b'{"error":{"type":"invalid_request_error","message":"messages.3: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_01A09q90qw90lq917835lq9"}}',
    b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size (request id req_0123456789abcdef)"}}',
    b'{"error":{"type":"invalid_request_error","message":"max_tokens: 200000 > 64000, claude-sonnet-4.5 v1.2.3"}}',
]


@pytest.mark.parametrize("body", UNTOUCHED)
def test_ordinary_errors_go_back_byte_for_byte(body: bytes) -> None:
    assert replied(body).body == body


def test_what_the_client_has_sent_itself_is_told_it_again() -> None:
    body = b'{"error":{"type":"invalid_request_error","message":"Unable to download https://cdn.corp.internal/a.png"}}'

    assert replied(body, of=b'{"url":"https://cdn.corp.internal/a.png"}').body == body
    assert b"cdn.corp" not in replied(body).body


@pytest.mark.parametrize(
    "hidden",
    [
        "http://10.1.2.3:8080/v1",
        "node-7.prod.internal:8000",
        "10.1.2.3",
        "org-AbCdEf123456",
        "sk-ant-api03-unknown-key",
        "\\n    at Foo.bar (/app/src/a.js:12:3)\\n    at b (/c.js:1:1)",
        'Traceback (most recent call last):\\n  File \\"/app/a.py\\", line 1',
    ],
)
def test_insides_of_a_provider_are_blotted_out_wherever_they_stand(hidden: str) -> None:
    body = f'{{"error":{{"type":"x","message":"no: {hidden}","more":["{hidden}"]}},"request_id":"req_abc123"}}'.encode()

    shown = replied(body).body

    assert hidden.encode() not in shown
    assert msgspec.json.decode(shown)["request_id"] == "req_abc123"
    assert msgspec.json.decode(shown)["error"]["message"].startswith("no:")


NO_JSON = {
    "a page": (b"<html><script>alert(1)</script></html>", "an HTML page"),
    "plain text": (b"bad gateway at http://10.0.0.1/x", "bad gateway at http://[redacted]"),
    "nothing": (b"", "without words"),
    "no UTF-8": (b'{"error":{"message":"no \xff"}}', "no"),
    "a string": (b'"no"', "no"),
    "a large body": (b'{"error":{"message":"%b"}}' % (b"too long " * BODY_MAX_BYTES), "too long too long"),
    "a deep body": (b'{"error":{"message":"no"},"x":%b}' % (b"[" * 2 * NESTED_MAX + b"]" * 2 * NESTED_MAX), "no"),
}


@pytest.mark.parametrize("what", NO_JSON)
def test_whatever_is_no_small_json_becomes_an_error_of_the_api(what: str) -> None:
    body, words = NO_JSON[what]

    reply = replied(body, b"text/html")

    assert dict(reply.headers)[b"content-type"] == b"application/json"
    told = msgspec.json.decode(reply.body)
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert words in told["error"]["message"]
    assert len(reply.body) < BODY_MAX_BYTES
    assert b"<script" not in reply.body
    assert b"10.0.0.1" not in reply.body


def test_headers_of_an_error_show_no_secret() -> None:
    reply = replied(b'{"error":{"message":"no"}}', request_id=KEY, anthropic_debug=f"x {KEY}", retry_after="3")

    assert KEY.encode() not in repr(reply).encode()
    assert dict(reply.headers)[b"retry-after"] == b"3"


@pytest.mark.parametrize("field", ["kind", "message", "type", "code", "param"])
def test_no_word_of_a_fault_is_a_secret(field: str) -> None:
    fault = msgspec.structs.replace(Fault(500, "api_error", "no"), marks=(KEY,), **{field: f"Bearer {KEY}"})

    shown = cleaned(Refused(fault, Stage.STREAM), KNOWN, request())

    assert KEY not in repr(shown)
    assert isinstance(shown, Refused)
    assert shown.fault.kind == "api_error"


def test_the_credential_of_the_client_itself_is_a_secret_too() -> None:
    token = "7f3a9c1e-55aa-4b1d-9c3e-canary000001"
    asked = request(headers=((b"authorization", f"Bearer {token}".encode()),))
    outcomes: list[Outcome] = [
        Refused(Fault(500, token, f"bad {token}"), Stage.STREAM),
        Broken(Stage.WAIT, Cause.PROTOCOL, f"got {token}"),
    ]

    assert token not in repr([cleaned(outcome, KNOWN, asked) for outcome in outcomes])


def test_an_event_of_an_open_stream_stays_an_event() -> None:
    frame = b'event: error\ndata: {"type":"error","message":"bad ' + KEY.encode() + b'"}\n\n'
    fault = Fault(500, "api_error", "bad", reply=Reply(200, (), frame))

    shown = cleaned(Refused(fault, Stage.STREAM), KNOWN, request())

    assert isinstance(shown, Refused)
    assert shown.fault.reply is not None
    assert shown.fault.reply.body == frame.replace(KEY.encode(), b"[redacted]")


def test_a_good_outcome_passes_as_it_is() -> None:
    good = Completed()

    assert cleaned(good, KNOWN, request()) is good
