"""Who asks Zed: tokens minted, kept, renewed, dropped; organizations; the list of models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakezed import ME, MODELS, PAIR
from stand_ins import provider, request

from balancer import __version__
from balancer.dialect import Ask, FlowFailed, TypedState
from balancer.dialects.zed import account
from balancer.dialects.zed.options import Options
from balancer.dialects.zed.tokens import expiry
from balancer.model import Candidate, Operation, Reply, WireRequest

MINTED = Reply(200, (), b'{"token":"llm-canary"}')


def ask(state: TypedState, *, wall: float = 1.8e9, secret: str = PAIR, **config: Any) -> Ask:
    options = Options.model_validate(config)
    candidate = Candidate(provider("z", type="zed", secret=secret, options=options), "m")
    return Ask(request(), candidate, Operation.MESSAGES, state, wall, "n")


def flow(asked: Ask) -> account.Part[Reply]:
    return account.sent(asked, b"POST", b"/completions", {})


def send(asked: Ask, *replies: Reply, me: Reply = Reply(404, ())) -> list[WireRequest]:  # noqa: B008
    """Answer the account's questions well and the request proper with `replies`; return what was sent."""
    sent: list[WireRequest] = []
    running = flow(asked)
    proper = iter(replies)
    wire = next(running)
    while True:
        sent.append(wire)
        answers = {b"/client/llm_tokens": MINTED, b"/client/users/me": me}
        try:
            wire = running.send(answers.get(wire.target) or next(proper))
        except StopIteration:
            return sent


def paths(sent: list[WireRequest]) -> list[str]:
    return [wire.target.decode().rpartition("/")[2] for wire in sent]


def body(wire: WireRequest) -> Any:
    return json.loads(bytes(wire.body[0]))


def test_a_token_is_minted_for_the_accounts_own_organization() -> None:
    state = TypedState()

    first = send(ask(state), Reply(200, ()), me=Reply(200, (), json.dumps(ME).encode()))
    second = send(ask(state), Reply(200, ()))

    assert paths(first) == ["me", "llm_tokens", "completions"]
    assert [dict(wire.headers)[b"authorization"] for wire in first] == [
        PAIR.encode(), PAIR.encode(), b"Bearer llm-canary",
    ]  # fmt: skip
    assert body(first[1]) == {"organization_id": "org_own"}
    assert all(wire.single_flight for wire in first[:2])
    assert paths(second) == ["completions"]
    assert state.of(account.Account).plan == "zed_pro"
    assert "canary" not in repr(state) + repr(state.of(account.Account))


@pytest.mark.parametrize("me", [Reply(401, ()), Reply(500, ()), Reply(0, (), b"reset"), Reply(200, (), b"[]")])
def test_not_to_know_the_organization_is_no_reason_to_fail(me: Reply) -> None:
    state = TypedState()

    sent = send(ask(state), Reply(200, ()), me=me)

    assert body(sent[1]) == {}


def test_a_configured_organization_is_not_asked_for() -> None:
    sent = send(ask(TypedState(), organization_id="org_x"), Reply(200, ()))

    assert paths(sent) == ["llm_tokens", "completions"]
    assert body(sent[0]) == {"organization_id": "org_x"}


@pytest.mark.parametrize(
    ("me", "expected"),
    [
        ({}, None),
        ({"organizations": "x"}, None),
        (ME, "org_own"),
        ({**ME, "default_organization_id": "org_other"}, "org_other"),
        ({**ME, "default_organization_id": "unlisted"}, "org_own"),
        ({"organizations": [{"id": "a"}, {"id": "b"}]}, "a"),
    ],
)
def test_which_organization(me: dict[str, Any], expected: str | None) -> None:
    assert account.organization_in(me) == expected


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(401, ()),
        Reply(403, ((b"x-zed-expired-token", b"1"),)),
        Reply(500, ((b"x-zed-outdated-token", b"1"),)),
    ],
)
def test_a_stale_token_is_renewed_once_and_the_second_answer_counts(refusal: Reply) -> None:
    state = TypedState()
    send(ask(state), Reply(200, ()))

    assert paths(send(ask(state), refusal, Reply(200, ()))) == ["completions", "llm_tokens", "completions"]
    assert paths(send(ask(state), refusal, refusal)) == ["completions", "llm_tokens", "completions"]
    assert paths(send(ask(state), Reply(429, ()))) == ["completions"]


def test_an_answer_that_calls_the_token_expired_is_taken_and_the_next_request_mints() -> None:
    state = TypedState()
    expired = Reply(200, ((b"x-zed-expired-token", b"1"),))

    assert paths(send(ask(state), expired)) == ["me", "llm_tokens", "completions"]
    assert paths(send(ask(state), Reply(200, ()))) == ["llm_tokens", "completions"]


def test_a_token_that_another_request_has_renewed_is_used() -> None:
    state = TypedState()
    send(ask(state), Reply(200, ()))
    waiting = flow(ask(state))
    next(waiting)
    state.of(account.Account).token = "fresh"

    again = waiting.send(Reply(401, ()))

    assert dict(again.headers)[b"authorization"] == b"Bearer fresh"


def test_a_token_is_renewed_a_minute_before_its_end() -> None:
    state = TypedState()
    send(ask(state), Reply(200, ()))

    assert paths(send(ask(state, wall=1.8e9 + 3000 - 61), Reply(200, ()))) == ["completions"]
    assert paths(send(ask(state, wall=1.8e9 + 3000 - 60), Reply(200, ()))) == ["me", "llm_tokens", "completions"]


def test_a_token_says_when_it_ends() -> None:
    assert expiry("e30.eyJleHAiOjEyM30.x", 0.0) == 123
    assert expiry("opaque", 100.0) == 3100
    assert expiry("a.\u00fc.c", 100.0) == 3100


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [(0, b"refused", 502), (401, b"llm-canary", 401), (200, b"x", 502), (200, b'{"token":"a\\nb"}', 502)],
)
def test_no_token_no_request_and_no_word_of_it(status: int, body: bytes, told: int) -> None:
    state = TypedState()
    running = flow(ask(state, organization_id="o"))
    next(running)

    with pytest.raises(FlowFailed) as failed:
        running.send(Reply(status, (), body))

    assert failed.value.fault.status == told
    assert "canary" not in str(failed.value)
    assert not state.of(account.Account).token


@pytest.mark.parametrize("secret", ["e30.e30.sig", "gateway-key"])
def test_what_is_no_pair_goes_out_as_it_is_and_is_never_renewed(secret: str) -> None:
    sent = send(ask(TypedState(), secret=secret), Reply(401, ()))

    assert paths(sent) == ["completions"]
    assert dict(sent[0].headers)[b"authorization"] == b"Bearer " + secret.encode()


def test_another_account_address_or_organization_has_a_token_of_its_own() -> None:
    state = TypedState()
    send(ask(state), Reply(200, ()))

    assert "llm_tokens" in paths(send(ask(state, organization_id="o"), Reply(200, ())))
    assert "llm_tokens" in paths(send(ask(state, secret="1 other"), Reply(200, ())))


def test_models_are_asked_for_with_their_own_header_and_kept() -> None:
    state = TypedState()
    running = account.models(ask(state, secret="key"))
    wire = next(running)

    assert dict(wire.headers)[b"x-zed-client-supports-x-ai"] == b"true"
    assert dict(wire.headers)[b"user-agent"] == f"claude-code-provider-balancer/{__version__}".encode()
    with pytest.raises(StopIteration) as done:
        running.send(Reply(200, (), json.dumps(MODELS).encode()))
    assert [entry["id"] for entry in done.value.value] == ["claude-sonnet-4"]
    with pytest.raises(StopIteration):
        next(account.models(ask(state, secret="key")))


def test_models_that_can_not_be_had_are_asked_for_again_and_the_old_ones_serve() -> None:
    state = TypedState()
    asked = ask(state, secret="key")
    account.account_of(asked).models = MODELS
    running = account.models(asked)
    next(running)

    with pytest.raises(StopIteration) as done:
        running.send(Reply(500, ()))

    assert done.value.value
    assert account.account_of(asked).models_until == asked.wall + account.AGAIN_S


def test_completions_ask_for_statuses_and_say_the_version_only_if_told() -> None:
    (plain,) = send(ask(TypedState(), secret="key"), Reply(200, ()))
    (told,) = send(ask(TypedState(), secret="key", client_version="1.2.3"), Reply(200, ()))

    assert dict(plain.headers)[b"x-zed-client-supports-status-messages"] == b"true"
    assert dict(plain.headers)[b"x-zed-client-supports-stream-ended-request-completion-status"] == b"true"
    assert b"x-zed-version" not in dict(plain.headers)
    assert dict(told.headers)[b"x-zed-version"] == b"1.2.3"
