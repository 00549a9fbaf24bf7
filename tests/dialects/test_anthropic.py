"""The type `anthropic`: what goes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import provider, request

from balancer.dialect import Ask, TypedState, advance
from balancer.dialects import anthropic
from balancer.dialects.anthropic import DIALECT
from balancer.headers import Headers
from balancer.model import Candidate, Operation, Provider, Reply, WireRequest
from balancer.wire import client_headers
from balancer.wire.safeguards import Known, Watched, WithoutVerdict
from balancer.wire.signatures import OWN_PREFIX
from balancer.wire.stream import StreamDecoder

BODY = b'{"model": "m", "messages": [], "odd":  {"x":1}}'
OWN = ((b"x-api-key", b"sk-client"), (b"authorization", b"Bearer sk-client"))


def sent(
    headers: Headers = (),
    model: str = "m",
    to: Provider | None = None,
    operation: Operation = Operation.MESSAGES,
    **more: Any,
) -> WireRequest:
    ask = Ask(request(BODY, headers, **more), Candidate(to or provider(), model), operation, TypedState())
    return next(DIALECT.flow(ask))


def names(wire: WireRequest) -> dict[bytes, bytes]:
    assert len({name for name, _ in wire.headers}) == len(wire.headers)
    return dict(wire.headers)


def test_the_body_goes_out_as_the_same_object() -> None:
    assert sent().body[0] is BODY


def test_only_the_models_name_is_replaced() -> None:
    assert b"".join(sent(model="other").body) == BODY.replace(b'"m"', b'"other"')


def test_open_lists_go_along() -> None:
    headers = (
        (b"anthropic-beta", b"a,b"),
        (b"anthropic-version", b"2026-10-21"),
        (b"x-claude-code-session-id", b"s"),
        (b"x-stainless-os", b"Linux"),
        (b"user-agent", b"claude-cli/2"),
        (b"never-heard-of", b"y"),
    )

    assert {**names(sent(headers)), **dict(headers)} == names(sent(headers))


@pytest.mark.parametrize(
    "name",
    ["connection", "te", "transfer-encoding", "host", "content-length", "accept-encoding", "cookie", "x-forwarded-for",
     "proxy-authorization", "x-balancer-key", "sec-fetch-site", "named-hop"],
)  # fmt: skip
def test_what_belongs_to_one_connection_or_to_us_stays(name: str) -> None:
    wire = sent(((b"connection", b"keep-alive, Named-Hop"), (name.encode(), b"x")))

    assert name.encode() not in names(wire)


def test_what_a_second_connection_header_names_stays_too() -> None:
    wire = sent(
        ((b"connection", b"keep-alive"), (b"named-hop", b"x"), (b"connection", b"Named-Hop"), (b"x-kept", b"x"))
    )

    assert b"named-hop" not in dict(wire.headers)
    assert dict(wire.headers)[b"x-kept"] == b"x"


@pytest.mark.parametrize(
    ("auth_type", "name", "value"),
    [("api_key", b"x-api-key", b"sk-a"), ("auth_token", b"authorization", b"Bearer sk-a")],
)
def test_the_providers_own_credential_and_no_other(auth_type: str, name: bytes, value: bytes) -> None:
    wire = names(sent(OWN, to=provider(auth_type=auth_type)))

    assert wire[name] == value
    assert b"sk-client" not in b"".join(wire.values())


def test_with_passthrough_the_clients_own() -> None:
    assert {**names(sent(OWN, to=provider(passthrough=True, secret="")))}.items() >= dict(OWN).items()


def test_the_providers_headers_win() -> None:
    wire = names(sent(((b"x-app", b"cli"),), to=provider(headers=((b"x-app", b"mine"), (b"x-new", b"1")))))

    assert (wire[b"x-app"], wire[b"x-new"]) == (b"mine", b"1")


def test_a_client_without_a_version_gets_one() -> None:
    assert names(sent())[b"anthropic-version"] == b"2023-06-01"


TARGETS = {
    Operation.MESSAGES: (b"POST", b"/relay/v1/messages?beta=true"),
    Operation.COUNT_TOKENS: (b"POST", b"/relay/v1/messages/count_tokens?beta=true"),
    Operation.MODELS: (b"GET", b"/relay/v1/models?beta=true"),
}


@pytest.mark.parametrize("operation", TARGETS)
def test_targets(operation: Operation) -> None:
    wire = sent(to=provider(base_path="/relay"), operation=operation, query=b"beta=true")

    assert (wire.method, wire.target) == TARGETS[operation]


def test_our_own_thinking_never_reaches_anthropic() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": OWN_PREFIX + "abc"}
    body = json.dumps(
        {"model": "m", "messages": [{"role": "assistant", "content": [thinking, {"type": "text", "text": "x"}]}]}
    )
    ask = Ask(request(body.encode()), Candidate(provider(), "m"), Operation.MESSAGES, TypedState())

    wire = next(DIALECT.flow(ask))

    assert OWN_PREFIX.encode() not in b"".join(wire.body)


@pytest.mark.parametrize("name", sorted(client_headers.DROPPED))
def test_every_header_of_one_connection_or_of_the_client_alone_stays(name: bytes) -> None:
    kept = (b"x-kept", b"1")

    assert anthropic.forwarded((kept, (name, b"close")), (b"x-kept", name), provider()) == [
        kept,
        anthropic.DEFAULT_VERSION,
    ]


@pytest.mark.parametrize("prefix", client_headers.DROPPED_PREFIXES)
def test_every_family_of_headers_that_stays(prefix: bytes) -> None:
    assert anthropic.forwarded(((prefix + b"x", b"1"),), (prefix + b"x",), provider()) == [anthropic.DEFAULT_VERSION]
    short = prefix.rstrip(b"-")
    assert anthropic.forwarded(((short, b"1"),), (short,), provider()) == [(short, b"1"), anthropic.DEFAULT_VERSION]


NAMES = [b"connection", b"x-a", b"x-b", b"host", b"anthropic-version", b"x-forwarded-for", b"sec-x", b"cookie"]
VALUES = [b"keep-alive", b"close", b"x-a", b"X-B, x-a ", b"anthropic-version", b"1"]


def plainly(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return what goes along, header by header."""
    named = [value for name, value in headers if name == b"connection"]
    gone = {word.strip() for value in named for word in value.lower().split(b",")} - {b"keep-alive", b"close"}
    lines = [
        (name, value)
        for name, value in headers
        if name not in client_headers.DROPPED
        and not name.startswith(client_headers.DROPPED_PREFIXES)
        and name not in gone
    ]
    versioned = any(name == b"anthropic-version" for name, _ in lines)
    return lines if versioned else [*lines, anthropic.DEFAULT_VERSION]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=7))
def test_what_is_remembered_by_names_is_what_a_look_at_each_header_says(headers: list[tuple[bytes, bytes]]) -> None:
    lines = tuple(headers)

    assert anthropic.forwarded(lines, tuple(name for name, _ in lines), provider()) == plainly(lines)


CREDENTIALS = [
    b"api-key", b"x-goog-api-key", b"cf-access-client-secret", b"x-auth-token", b"x-amz-security-token", b"x-custom-auth",
    b"ocp-apim-subscription-key", b"private-token", b"x-vault-token", b"x-apikey", b"x-csrf-token", b"x-session-cookie",
]  # fmt: skip
NO_CREDENTIALS = [
    b"anthropic-beta", b"anthropic-auth-mode", b"x-claude-code-session-id", b"x-stainless-timeout", b"idempotency-key", b"x-app",
    b"user-agent", b"x-keyboard", b"x-tokens", b"x-author", b"accept",
]  # fmt: skip


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_credential_of_another_product_goes_to_no_provider_with_a_key_of_its_own(name: bytes) -> None:
    lines = ((name, b"secret"), (b"anthropic-version", b"1"))
    names = (name, b"anthropic-version")

    assert anthropic.forwarded(lines, names, provider()) == [lines[1]]
    assert anthropic.forwarded(lines, names, provider(passthrough=True)) == [*lines]
    assert anthropic.forwarded(lines, names, provider(forwarded=frozenset({name}))) == [*lines]


@pytest.mark.parametrize("name", NO_CREDENTIALS)
def test_what_only_sounds_like_a_credential_goes_along(name: bytes) -> None:
    lines = ((name, b"1"), (b"anthropic-version", b"1"))

    assert anthropic.forwarded(lines, (name, b"anthropic-version"), provider()) == [*lines]
    assert anthropic.forwarded(lines, (name, b"anthropic-version"), provider(dropped=frozenset({name}))) == [lines[1]]
    assert anthropic.forwarded(lines, tuple(name for name, _ in lines), provider()) == plainly(lines)


# The check of actions

CHECK = b'"safeguards":[{"type":"dangerous_tool_use"}],'
CHECKED = BODY.replace(b'"odd"', CHECK + b'"odd"')
BETAS = (b"anthropic-beta", b"kept-2026-01-01,dangerous-tool-use-2026-09-03")
REFUSED = Reply(
    400, (), b'{"error":{"type":"invalid_request_error","message":"safeguards: Extra inputs are not permitted"}}'
)
GOOD = Reply(200, ())


def checking(state: TypedState, wall: float = 1.8e9, model: str = "m", body: bytes = CHECKED) -> Ask:
    asked = request(body, (BETAS,), asks_check=True, model=model)
    return Ask(asked, Candidate(provider(), model), Operation.MESSAGES, state, wall)


def play(ask: Ask, *replies: Reply) -> list[WireRequest]:
    flow = DIALECT.flow(ask)
    wires = [next(flow)]
    for reply in replies:
        following = advance(flow, reply)
        if following is None:
            break
        wires.append(following)
    return wires


def test_the_check_goes_along_untouched() -> None:
    (wire,) = play(checking(TypedState()), GOOD)

    assert b"".join(wire.body) == CHECKED
    assert BETAS in wire.headers


def test_a_provider_that_refuses_the_check_is_asked_once_more_without_it_and_that_is_remembered() -> None:
    state = TypedState()
    first = checking(state)
    whole, without = play(first, REFUSED, GOOD)
    (at_once,) = play(checking(state), GOOD)

    assert b"".join(whole.body) == CHECKED
    assert json.loads(b"".join(without.body)) == json.loads(BODY)
    assert (b"anthropic-beta", b"kept-2026-01-01") in without.headers
    assert (at_once.body, at_once.headers) == (without.body, without.headers)
    decoder = DIALECT.decoder(first, GOOD)
    assert isinstance(decoder, WithoutVerdict)
    assert decoder.notes == (
        "learnt drop:safeguards",
        "dropped beta dangerous-tool-use-2026-09-03",
        "dropped safeguards",
    )
    assert DIALECT.describe(state, None, 0.0) == {"safeguards": {"m": "refused"}}


def test_the_lesson_is_for_that_model_and_for_a_day() -> None:
    state = TypedState()
    play(checking(state), REFUSED, GOOD)

    assert len(play(checking(state, model="other"), REFUSED, GOOD)) == 2
    assert len(play(checking(state, wall=1.8e9 + 86_400), REFUSED, GOOD)) == 2


def test_without_it_what_is_no_check_is_not_touched() -> None:
    state = TypedState()
    play(checking(state), REFUSED, GOOD)
    plain = Ask(request(BODY), Candidate(provider(), "m"), Operation.MESSAGES, state, 1.8e9)

    (wire,) = play(plain, GOOD)

    assert wire.body[0] is BODY
    assert not isinstance(DIALECT.decoder(plain, GOOD), WithoutVerdict)


def test_a_refusal_that_stays_is_no_lesson() -> None:
    state = TypedState()

    assert len(play(checking(state), REFUSED, Reply(400, (), b"{}"))) == 2
    assert DIALECT.describe(state, None, 0.0) is None


@pytest.mark.parametrize(
    "refusal", [Reply(400, (), b'{"error":{"message":"max_tokens: Field required"}}'), Reply(529, ())]
)
def test_another_refusal_is_no_reason_to_ask_again(refusal: Reply) -> None:
    assert len(play(checking(TypedState()), refusal, GOOD)) == 1


def test_a_refusal_of_what_was_not_asked_for_is_no_reason_to_ask_again() -> None:
    plain = Ask(request(BODY), Candidate(provider(), "m"), Operation.MESSAGES, TypedState())

    assert len(play(plain, REFUSED, GOOD)) == 1


def test_an_answer_is_watched_until_it_is_known_whether_it_has_verdicts() -> None:
    state = TypedState()
    first = DIALECT.decoder(checking(state), GOOD)
    state.of(Known).answered("m", 1.8e9, verdicts=True)

    assert isinstance(first, Watched)
    assert type(DIALECT.decoder(checking(state), GOOD)) is StreamDecoder
