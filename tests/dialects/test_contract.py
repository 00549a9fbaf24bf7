"""Every provider type, by its name: a new one is tested by existing."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import ValidationError
from stand_ins import provider, request

from balancer import dialects
from balancer.dialect import Ask, Dialect, FlowFailed, Incapable, TypedState
from balancer.model import Candidate, Operation, Reply, WireRequest
from balancer.wire.safeguards import WithoutVerdict
from balancer.wire.signatures import OWN_PREFIX, signed

NAMES = dialects.names()
SSE = Reply(200, ((b"content-type", b"text/event-stream"),))
BODY = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}],"stream":true}'


def ask(dialect: Dialect, operation: Operation = Operation.MESSAGES, *, stream: bool = True) -> Ask:
    options = dialect.Options()
    return Ask(
        request(BODY, stream=stream), Candidate(provider(options=options), "m"), operation, TypedState(), 1.8e9, "n"
    )


@pytest.mark.parametrize("name", NAMES)
def test_all_options_have_defaults_and_unknown_ones_are_refused(name: str) -> None:
    options = dialects.get(name).Options

    assert options() is not None
    with pytest.raises(ValidationError):
        options(no_such_key=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_begins_with_a_request_that_can_be_sent(name: str) -> None:
    dialect = dialects.get(name)

    wire = next(dialect.flow(ask(dialect)))

    assert wire.method in (b"GET", b"POST")
    assert wire.target.startswith(b"/") or wire.script
    assert all(key == key.lower() for key, _ in wire.headers)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_no_answer(name: str, stream: bool) -> None:
    dialect = dialects.get(name)
    decoder = dialect.decoder(ask(dialect, stream=stream), SSE)

    pieces = decoder.end()

    assert [piece.error.status for piece in pieces if piece.error] == [502]
    assert not decoder.complete


@pytest.mark.parametrize("name", NAMES)
def test_garbage_is_no_answer(name: str) -> None:
    dialect = dialects.get(name)
    decoder = dialect.decoder(ask(dialect), SSE)

    pieces = decoder.feed(b"<html>\n\nnothing of use\n\n") + decoder.end()

    assert any(piece.error for piece in pieces)
    assert not any(piece.has_content for piece in pieces)


STATUSES = {401: "authentication_error", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
@pytest.mark.parametrize("name", NAMES)
def test_refusals_are_told_in_the_messages_apis_words(name: str, status: int, kind: str) -> None:
    dialect = dialects.get(name)

    fault = dialect.fault(ask(dialect), Reply(status, ((b"retry-after", b"7"),), b"no"))

    assert (fault.status, fault.kind) == (status, kind)
    assert fault.retry_after_s == 7.0


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_supported_can_be_asked(name: str, operation: Operation) -> None:
    dialect = dialects.get(name)
    if not dialect.supports(operation):
        return
    try:
        assert next(dialect.flow(ask(dialect, operation, stream=False)))
    except (Incapable, FlowFailed) as error:
        pytest.fail(str(error))


def test_no_such_type() -> None:
    with pytest.raises(KeyError):
        dialects.get("antropic")


# The check of actions, which only the Messages API's own service can do

CHECKED = {"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {"cwd": "/x"}}]}
BETAS = (b"anthropic-beta", b"interleaved-thinking-2025-05-14,dangerous-tool-use-2026-09-03,afk-mode-2026-01-31")
CATALOGUE = {"models": [{"id": "m", "provider": "anthropic"}]}


def checking(dialect: Dialect) -> Ask:
    body = msgspec.json.encode({**msgspec.json.decode(BODY), **CHECKED})
    asked = request(body, (BETAS,), asks_check=True)
    to = Candidate(provider(options=dialect.Options()), "m")
    return Ask(asked, to, Operation.MESSAGES, TypedState(), 1.8e9, "n")


def sent(dialect: Dialect, asked: Ask) -> WireRequest:
    """Return the request proper that a type sends."""
    flow = dialect.flow(asked)
    wire = next(flow)
    while wire.side_request:  # who asks, and for which models
        wire = flow.send(Reply(200, (), msgspec.json.encode({"token": "t", **CATALOGUE})))
    return wire


@pytest.mark.parametrize("name", [name for name in NAMES if not dialects.get(name).checks_actions])
def test_a_type_that_cannot_check_actions_is_asked_without_it_and_says_so(name: str) -> None:
    dialect = dialects.get(name)
    ask = checking(dialect)
    wire = sent(dialect, ask)

    decoder = dialect.decoder(ask, SSE)

    said = b"".join(wire.body) + b"".join(value for _, value in wire.headers)
    assert not any(word in said for word in (b"safeguards", b"dangerous-tool-use", b"afk-mode"))
    assert isinstance(decoder, WithoutVerdict)
    assert {"dropped safeguards", "dropped beta afk-mode-2026-01-31"} <= set(decoder.notes)
    assert not isinstance(dialect.decoder(ask_plainly(dialect), SSE), WithoutVerdict)


# What another provider made

FOREIGN = [
    {"type": "thinking", "thinking": "t", "signature": signed({"provider": "another", "item": {"id": "rs_secret"}})},
    {"type": "redacted_thinking", "data": signed({"provider": "another"})},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "cats"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "title": "Cats", "url": "https://c.test", "encrypted_content": "E1"}]},
    {"type": "compaction", "content": "They spoke of cats."},
    {"type": "fallback", "from": {"model": "x"}, "to": {"model": "y"}},
    {"type": "container_upload", "file_id": "file_011"},
    {"type": "text", "text": "So."},
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name != "simulated"])
def test_a_history_of_another_provider_is_fitted(name: str) -> None:
    """Whatever the order of types in a conversation: what was signed here reaches nobody whose it is not."""
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": FOREIGN},
        {"role": "user", "content": "go on"},
    ]
    body = msgspec.json.encode({"model": "m", "max_tokens": 5, "messages": turns, "container": "container_011"})
    dialect = dialects.get(name)
    to = Candidate(provider(options=dialect.Options()), "m")

    def went() -> bytes:
        return b"".join(sent(dialect, Ask(request(body), to, Operation.MESSAGES, TypedState(), 1.8e9, "n")).body)

    assert OWN_PREFIX.encode() not in went()
    assert b"rs_secret" not in went()
    assert all(word in went() for word in (b"cats", b"https://c.test", b"They spoke of cats.", b"So."))
    assert went() == went()
    if name != "anthropic":
        assert not any(word in went() for word in (b"E1", b"container_011", b"file_011", b"srvtoolu_1", b"fallback"))


def ask_plainly(dialect: Dialect) -> Ask:
    return ask(dialect)
