"""The front: configuration and reload, candidates in their order, what an attempt teaches all owners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from stand_ins import request

from balancer import config
from balancer.dialects.simulated.faults import Drill
from balancer.events import Reloaded
from balancer.headers import Headers
from balancer.model import Abandoned, Completed, Fault, Operation, Outcome, Refused, Request, Stage
from balancer.policy import deadlines, routes
from balancer.policy.exhausted import Failure
from balancer.policy.failover import Try
from balancer.policy.strategies import STRATEGIES
from balancer.policy.verdicts import Mark, Proof, Trouble, Verdict
from balancer.state.fleet import FORMER_KEPT
from balancer.wire.safeguards import Known

from .world import BAD, GOOD, OVERLOADED, World, read


def test_candidates_that_cool_down_come_last() -> None:
    world = World()
    world.fail("a", 1.0)

    assert world.order(2.0) == "bca"
    assert world.order(100.0) == "abc"


def test_among_candidates_that_cool_down_priority_decides() -> None:
    world = World()
    for name in "ab":
        world.fail(name, 1.0)

    assert world.order(2.0) == "cab"


def test_a_single_candidate_that_cools_down_is_still_a_candidate() -> None:
    world = World(names="a")
    world.fail("a", 1.0)

    assert world.order(2.0) == "a"


def test_round_robin_takes_turns_among_the_usable() -> None:
    world = World("selection_strategy: round_robin")
    assert [world.order()[0] for _ in range(6)] == list("abcabc")

    world.fail("b", 1.0)
    assert {world.order(2.0)[0] for _ in range(4)} == {"a", "c"}


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_of_the_configuration_is_used(name: str) -> None:
    world = World(f"selection_strategy: {name}")
    world.fleet.stats("a").first_content_s, world.fleet.stats("a").in_flight = 9.0, 9
    firsts = {world.order()[0] for _ in range(40)}

    expected = {
        "priority": {"a"},
        "round_robin": {"a", "b", "c"},
        "random": {"a", "b", "c"},
        "weighted": {"a", "b", "c"},
        "least_busy": {"b", "c"},
        "fastest": {"b", "c"},
    }
    assert firsts == expected[name]


def test_counting_tokens_before_each_request_takes_no_turn() -> None:
    world = World("selection_strategy: round_robin", names="ab")
    asked = []
    for _ in range(4):
        world.fleet.candidates(request(operation=Operation.COUNT_TOKENS), world.route, 0.0)
        asked.append(world.order()[0])

    assert asked == list("abab")


def test_a_pinned_request_takes_no_turn() -> None:
    world = World("selection_strategy: round_robin")
    assert world.order()[0] == "a"
    world.pin("a", "x", 0.0)
    before = world.order()[0]
    for _ in range(5):
        world.order(0.0, "x")

    assert (before, world.order()[0]) == ("b", "c")


def test_before_any_turn_was_taken_a_pinned_request_finds_the_order_of_the_file() -> None:
    world = World("selection_strategy: round_robin")
    world.pin("c", "x", 0.0)

    assert world.order(1.0, "x") == "cab"


def test_a_conversation_stays_and_moves_only_on_failure() -> None:
    world = World("selection_strategy: round_robin")
    world.pin("b", "x", 0.0)

    assert [world.order(1.0, "x")[0] for _ in range(4)] == list("bbbb")
    assert {world.order(1.0, None)[0] for _ in range(6)} == set("abc")

    world.fail("b", 2.0)
    assert world.order(3.0, "x")[0] != "b"
    world.pin("c", "x", 3.0)
    assert world.order(50.0, "x")[0] == "c"


def test_the_pinned_provider_comes_first_and_the_others_keep_their_order() -> None:
    world = World()
    world.pin("c", "x", 0.0)
    asked = request(conversation="x")

    assert world.order(1.0, "x") == "cab"
    assert world.fleet.candidates(asked, world.route, 1.0)[1], "a pin decided"
    world.fail("c", 2.0)
    assert world.order(3.0, "x") == "abc"
    assert not world.fleet.candidates(asked, world.route, 3.0)[1], "a pin did not decide"


def test_a_single_candidate_is_pinned_only_if_it_is() -> None:
    world = World(names="a")
    asked = request(conversation="x")

    assert not world.fleet.candidates(asked, world.route, 1.0)[1]
    world.pin("a", "x", 0.0)
    assert world.fleet.candidates(asked, world.route, 1.0)[1]


def test_without_sticky_there_are_no_pins() -> None:
    world = World("sticky: {enabled: false}")
    world.pin("c", "x", 0.0)

    assert world.order(1.0, "x")[0] == "a"


def test_the_caller_may_change_the_list_of_candidates() -> None:
    world = World(names="ab")
    world.fleet.candidates(request(), world.route, 0.0)[0].clear()

    assert world.order() == "ab"


def test_candidates_are_worked_out_once_for_a_model() -> None:
    world = World()

    assert world.candidate("a") is world.candidate("a")


def test_models_that_clients_make_up_do_not_fill_the_memory_of_candidates() -> None:
    world = World()
    kept = world.candidate("a")
    for number in range(2 * routes.REMEMBERED):
        world.fleet.candidates(request(model=f"m{number}"), world.route, 0.0)
        assert world.candidate("a") is kept, "what is asked for all the time stays"
    (first, *_), _ = world.fleet.candidates(request(model="other"), world.route, 0.0)
    for number in range(routes.REMEMBERED):
        world.fleet.candidates(request(model=f"m{number}"), world.route, 0.0)
    (again, *_), _ = world.fleet.candidates(request(model="other"), world.route, 0.0)
    assert again is not first


# Reload


def test_health_survives_a_reload() -> None:
    world = World()
    world.fail("a", 1.0)

    changes = world.fleet.reload(read("request_timeout: 9"), 7.0)

    assert "settings.request_timeout changed" in changes
    assert not world.availability("a", 2.0).usable
    assert world.fleet.generation == 1
    assert world.told[-1] == Reloaded(7.0, 1, changes)


ASKED_OTHERWISE: dict[str, dict[str, object]] = {
    "a new key": {"secret": "new"},
    "a new address": {"port": 2},
    "another proxy": {"provider": ", proxy: 'http://127.0.0.1:9'"},
    "another form of the key": {"provider": ", auth_type: auth_token"},
    "other headers": {"provider": ", headers: {x-team: blue}"},
}


@pytest.mark.parametrize("changed", ASKED_OTHERWISE.values(), ids=ASKED_OTHERWISE)
def test_a_provider_that_is_asked_otherwise_begins_anew(changed: dict[str, object]) -> None:
    world = World()
    world.fail("a", 1.0)
    world.observe(world.candidate("a", model="other"), OVERLOADED, BAD, 1.0)
    before = world.candidate("a")
    assert world.fleet.stats("a").last_error is not None

    world.fleet.reload(read(**changed), 0.0)  # type: ignore[arg-type]

    assert world.availability("a", 2.0).usable
    assert not world.health.entries
    assert world.fleet.stats("a").last_error is None, "it is the old one's"
    world.observe(before, OVERLOADED, BAD, 3.0)
    assert not world.health.entries, "an attempt that began before the reload ended after it"
    world.fail("b", 4.0)
    world.observe(replace(before, provider=replace(before.provider, name="b")), Completed(), GOOD, 5.0)
    assert not world.availability("b", 5.0).usable, "nor does the old one's good answer clear the new one"


@pytest.mark.parametrize("same", ["request_timeout: 9", "failure_cooldown: 7"])
def test_what_only_the_balancer_does_otherwise_leaves_a_cooldown(same: str) -> None:
    world = World()
    before = world.candidate("a")
    world.fleet.reload(read(same), 0.0)
    world.observe(before, OVERLOADED, BAD, 1.0)

    assert not world.availability("a", 2.0).usable


def test_a_provider_that_is_new_changes_nothing_about_the_others() -> None:
    world = World(names="ab")
    world.fail("a", 1.0)
    world.fleet.reload(read(names="abc"), 0.0)

    assert world.order(2.0) == "bca"


RELOADED: dict[str, tuple[config.Config, Callable[[World], object]]] = {
    "routes": (read(names="b"), lambda world: world.order() == "b"),
    "strategy": (read("selection_strategy: round_robin"), lambda world: world.order()[0] + world.order()[0] == "ab"),
    "secrets": (read(secret="new"), lambda world: {"new-a", "new-b", "new-c"} < set(world.fleet.secrets)),
    "rules": (read("limits: {max_body_bytes: 2048}"), lambda world: world.fleet.rules.max_body_bytes == 2048),
    "sticky.enabled": (read("sticky: {enabled: false}"), lambda world: world.order(1.0, "x") == "abc"),
    "sticky.ttl": (read("sticky: {ttl: 5}"), lambda world: (world.order(5.0, "x"), world.order(6.0, "x")) == ("cab", "abc")),
    "limits.max_in_flight": (read("limits: {max_in_flight: 1}"), lambda world: world.fleet.admission.full),
    "failure_cooldown": (read("failure_cooldown: 0"), lambda world: world.fail("a", 1.0).order(1.0) == "abc"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "took_effect"), RELOADED.values(), ids=RELOADED)
def test_a_reload_reaches(changed: config.Config, took_effect: Callable[[World], object]) -> None:
    world = World()
    world.pin("c", "x", 0.0)
    world.order()
    with world.fleet.admit():
        world.fleet.reload(changed, 0.0)

        assert took_effect(world)


def test_every_secret_of_the_file_is_known_the_longest_first() -> None:
    ours = "auth: {keys: [gate-key-1], admin_keys: [admin-key-12]}"
    world = World(ours, names="a", provider=', headers: {x-team-token: team-canary}, proxy: "http://u:pass-canary@h:1"')

    assert {"gate-key-1", "admin-key-12", "s-a", "team-canary", "pass-canary"} <= set(world.fleet.secrets)
    assert [len(secret) for secret in world.fleet.secrets] == sorted(map(len, world.fleet.secrets), reverse=True)


def test_a_whole_answer_may_take_as_long_as_a_provider_may() -> None:
    assert World().fleet.rules.whole_answer_s == deadlines.WHOLE_ANSWER_S
    assert World("non_streaming_timeout: 900").fleet.rules.whole_answer_s == 900.0


# A request's way


def test_the_failover_of_a_request_has_its_deadline_and_the_shared_budget() -> None:
    world = World("limits: {queue_s: 7}")
    way = world.fleet.failover(request(), [world.candidate("a")], 100.0)
    counting = world.fleet.failover(request(operation=Operation.COUNT_TOKENS), [], 100.0)

    assert (way.deadline, way.queue_s, way.optional) == (100.0 + deadlines.STREAM_MAX_S, 7.0, False)
    assert (counting.deadline, counting.optional) == (100.0 + deadlines.COUNT_MAX_S, True)
    assert way.budget is counting.budget is world.fleet.budget


def test_what_an_attempt_teaches() -> None:
    world = World()
    candidate, stats, budget = world.candidate("a"), world.fleet.stats("a"), world.fleet.budget
    budget.tokens = 5.0

    def taught() -> tuple[int, int, float, bool]:
        return stats.successes, stats.failures, budget.tokens, bool(world.health.entries)

    world.observe(candidate, Abandoned(Stage.STREAM), Verdict(Mark.NONE, reason="the client left"), 1.0)
    assert taught() == (0, 0, 5.0, False)
    world.observe(candidate, Completed(), GOOD, 2.0)
    assert taught() == (1, 0, 5.2, False)
    world.observe(candidate, OVERLOADED, BAD, 3.0)
    assert taught() == (1, 1, 5.2, True)
    world.observe(candidate, Abandoned(Stage.STREAM), Verdict(Mark.NONE, reason="the client left"), 4.0)
    assert taught() == (1, 1, 5.2, True)
    assert not world.availability("a", 4.0).usable
    world.observe(candidate, Completed(), GOOD, 20.0)
    assert taught() == (2, 1, 5.4, True)
    assert world.availability("a", 20.0).usable


def test_what_met_an_injected_fault_is_undone_when_the_fault_has_ended() -> None:
    world = World()
    world.fleet.orders.inject("a", Drill("a", "529", requests_left=2), 0.0, 1000.0)
    world.fleet.stats("a").drill = Drill("a", "529", requests_left=1)
    fail = {"began": 1.0, "now": 1.0, "wall": 1001.0, "injected": True}
    world.fleet.observe(world.candidate("a"), OVERLOADED, BAD, **fail)  # type: ignore[arg-type]
    assert world.order(2.0) == "bca"

    world.fleet.stats("a").drill = Drill("a", "529", requests_left=0)
    world.fleet.observe(world.candidate("a"), OVERLOADED, BAD, **fail)  # type: ignore[arg-type]
    assert world.order(2.0) == "abc"
    assert world.fleet.stats("a").failures == 2, "what was counted stays"


# Paused providers


def test_a_paused_provider_is_no_candidate() -> None:
    world = World()
    world.pin("b", "x", 0.0)
    world.fleet.orders.pause("b", 0.0)

    assert world.order(1.0) == "ac"
    assert world.order(1.0, "x") == "ac"
    world.fleet.reload(read("request_timeout: 9"), 0.0)
    assert world.order(1.0) == "ac", "over reloads too"
    world.fleet.orders.resume("b", 0.0)
    assert world.order(1.0, "x") == "bac"


# What nobody was asked for


def unasked(world: World, *asked: str, operation: Operation = Operation.MESSAGES) -> list[Failure]:
    question = request(operation=operation)
    candidates, _ = world.fleet.candidates(question, world.route, 2.0)
    way = world.fleet.failover(question, candidates, 0.0)
    for candidate in candidates:
        if candidate.provider.name in asked:
            way.record(candidate, OVERLOADED)
    return world.fleet.unasked(question, way, 2.0)[0]


def test_those_that_were_not_asked_are_known_with_what_stands_against_them() -> None:
    world = World()
    world.fail("b", 1.0)

    told = unasked(world, "a")
    assert [(one.provider, one.reason, one.status) for one in told] == [
        ("c", "", None),
        ("b", "529 overloaded_error", 529),
    ]
    assert 2.0 < told[1].left_s < 6.0
    assert unasked(world, "a", "b", "c") == []


def test_paused_providers_of_the_route_are_among_them() -> None:
    world = World()
    world.fleet.orders.pause("a", 0.0)
    paused = Failure("a", needs_operator=Trouble.PAUSED)

    assert unasked(world, "b", "c") == [paused]
    world.fleet.orders.pause("b", 0.0)
    world.fleet.orders.pause("c", 0.0)
    assert unasked(world) == [paused, *(Failure(name, needs_operator=Trouble.PAUSED) for name in "bc")]


def test_a_candidate_that_is_paused_while_its_request_is_under_way_is_told_once() -> None:
    world = World(names="a")
    candidates, _ = world.fleet.candidates(request(), world.route, 0.0)
    way = world.fleet.failover(request(), candidates, 0.0)
    world.fleet.orders.pause("a", 0.0)

    assert world.fleet.unasked(request(), way, 2.0)[0] == [Failure("a", needs_operator=Trouble.PAUSED)]


def test_disabled_providers_are_told_of_where_there_are_no_others() -> None:
    text = """
providers:
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}
  - {name: b, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s, enabled: false}
model_routes:
  "m": [{provider: b}, {provider: a, enabled: false}, {provider: b, model: other}]
  "*": [{provider: a}, {provider: b}]
"""
    world = World()
    world.fleet.reload(config.parse(text, "p", {}), 0.0)

    assert unasked(world) == [Failure(name, needs_operator=Trouble.DISABLED) for name in "ba"]
    other = request(model="x")
    way = world.fleet.failover(other, [], 0.0)
    way.record(world.candidate("a", model="x"), OVERLOADED)
    assert world.fleet.unasked(other, way, 0.0)[0] == [], "there was another one"


def test_the_time_until_a_candidate_may_be_asked_is_known() -> None:
    world = World()
    for name, cooldown_s in (("a", 30.0), ("b", 20.0), ("c", 40.0)):
        world.fail(name, 1.0, Verdict(Mark.BAD, cooldown_s=cooldown_s))
    candidates, _ = world.fleet.candidates(request(), world.route, 2.0)

    way = world.fleet.failover(request(), candidates, 0.0)
    assert world.fleet.unasked(request(), way, 2.0)[1] == 19.0
    assert world.fleet.unasked(request(), world.fleet.failover(request(), [], 0.0), 2.0)[1] is None


# Which request it was

UNSURE = Verdict(Mark.NONE, retry_elsewhere=True, reason="403 no API's error", status=403, proof=Proof.UNSURE)
NO_CREDIT = Verdict(
    Mark.BAD, retry_elsewhere=True, needs_operator=Trouble.CREDIT, reason="400 no credit", evidence="Credit Balance"
)


def fails(world: World, verdict: Verdict, at: float, body: bytes = b"{}", headers: Headers = ()) -> bool:
    """Observe a failure of `a` on a request with this body; say whether `a` cools down then."""
    world.fleet.observe(
        world.candidate("a"), OVERLOADED, verdict, began=at, now=at, wall=at, request=request(body, headers)
    )
    return not world.availability("a", at).usable


def test_requests_are_told_apart_by_their_bodies() -> None:
    world = World()

    assert not fails(world, UNSURE, 1.0, b'{"a":1}')
    assert not fails(world, UNSURE, 2.0, b'{"a":1}'), "the same again"
    assert world.fleet.stats("a").failures == 0
    assert fails(world, UNSURE, 3.0, b'{"a":2}')


def test_a_good_answer_between_two_doubtful_refusals_ends_the_doubt() -> None:
    world = World()
    fails(world, UNSURE, 1.0, b'{"a":1}')
    world.succeed("a", 2.0)

    assert not fails(world, UNSURE, 3.0, b'{"a":2}')


QUOTING = {
    "its body": (b'{"messages":"my CREDIT BALANCE is odd"}', ()),
    "a header": (b"{}", ((b"x-note", b"credit balance"),)),
}


@pytest.mark.parametrize("where", QUOTING)
def test_words_that_stand_in_the_request_too_may_be_quoted_from_it(where: str) -> None:
    world = World()
    body, headers = QUOTING[where]

    assert not fails(world, NO_CREDIT, 1.0, body, headers)
    assert fails(world, NO_CREDIT, 2.0, b'{"other":1}'), "these words are the provider's own"


def test_after_content_a_request_is_known_by_its_id() -> None:
    world = World()
    assert not fails(world, UNSURE, 1.0, b"")
    assert not fails(world, UNSURE, 2.0, b""), "the same id"


# The check of actions


def asking(conversation: str | None = None) -> Request:
    return request(conversation=conversation, asks_check=True)


def first(world: World, asked: Request, now: float = 1.0) -> str:
    return world.fleet.candidates(asked, world.route, now)[0][0].provider.name


def test_among_equals_a_request_that_asks_for_verdicts_goes_where_they_are_not_known_to_be_missing() -> None:
    world = World("selection_strategy: round_robin")
    for name in "ac":
        world.fleet.stats(name).provider_state.of(Known).answered("m", 1.0, verdicts=False)

    assert {first(world, asking()) for _ in range(6)} == {"b"}
    world.fleet.stats("b").provider_state.of(Known).answered("m", 1.0, verdicts=None)
    assert {first(world, asking()) for _ in range(6)} == {"b"}, "it had nothing to check"
    assert {first(world, request()) for _ in range(6)} == set("abc")


def test_a_type_that_cannot_check_comes_last_of_its_priority() -> None:
    text = """
providers:
  - {name: o, type: openai, base_url: "http://127.0.0.1:1/v1", auth_value: s}
  - {name: a, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}
  - {name: z, type: anthropic, base_url: "http://127.0.0.1:1", auth_value: s}
model_routes: {"*": [{provider: o}, {provider: a}, {provider: z, priority: 2}]}
"""
    world = World()
    world.fleet.reload(config.parse(text, "p.yaml", {}), 0.0)

    def order(asked: Request) -> str:
        return "".join(c.provider.name for c in world.fleet.candidates(asked, world.route, 1.0)[0])

    assert order(request()) == "oaz"
    assert order(asking()) == "aoz"
    world.pin("o", "x", 0.0)
    assert order(asking("x")) == "aoz", "it does not stay where nothing can be checked"
    assert order(request(conversation="x")) == "oaz"
    world.pin("z", "y", 0.0)
    assert order(asking("y")) == "zao"


# Whose the reasoning is

THINKING = b'{"model":"m","messages":[{"role":"assistant","content":[{"type":"thinking","signature":"s"}]}]}'


def of_organizations(**names: str) -> World:
    world = World(names="abcd")
    for name, organization in names.items():
        world.fleet.stats(name).content_began(1.0, 0.0, ((b"anthropic-organization-id", organization.encode()),))
    return world


def failing(world: World, asked: Request, *outcomes: Outcome) -> str:
    """Return the names of those that are still to be asked after attempts that failed."""
    failover = world.fleet.failover(asked, world.fleet.candidates(asked, world.route, 1.0)[0], 1.0)
    for outcome in outcomes:
        step = failover.next(1.0, world.health.availability, 0.5)
        assert isinstance(step, Try)
        failover.record(step.candidate, outcome)
        world.fleet.choose_again(asked, world.route, failover, outcome, 1.0)
    tried = {c.provider.name for c, _, _ in failover.attempts}
    return "".join(c.provider.name for c in failover.candidates if c.provider.name not in tried)


def test_a_conversation_with_thinking_fails_over_within_its_organization_first() -> None:
    world = of_organizations(a="one", b="two", c="one")

    assert failing(world, request(THINKING), OVERLOADED) == "cbd"
    assert failing(world, request(), OVERLOADED) == "bcd", "without thinking there is nothing to lose"
    world.pin("b", "x", 0.0)
    assert failing(world, request(THINKING, conversation="x"), OVERLOADED) == "acd"
    assert failing(of_organizations(b="two", c="one"), request(THINKING), OVERLOADED) == "bcd", "its own is not known"


def test_a_conversation_whose_provider_cools_down_begins_within_its_organization() -> None:
    world = of_organizations(a="one", b="two", c="one", d="two")
    world.pin("b", "x", 0.0)
    world.fail("b", 0.5)

    assert first(world, request(THINKING, conversation="x")) == "d"
    assert first(world, request(conversation="x")) == "a"


BOUND = Refused(Fault(400, "invalid_request_error", "The block is bound to a different conversation."), Stage.WAIT)


def test_a_refusal_of_thinking_is_not_repeated_within_one_organization() -> None:
    assert failing(of_organizations(a="one", b="one", c="two", d="one"), request(), BOUND) == "c"
    assert failing(of_organizations(a="one", b="one", c="one", d="one"), request(), BOUND) == ""
    assert failing(of_organizations(b="one", c="one"), request(), BOUND) == "bcd", "its own is not known"
    assert failing(of_organizations(a="one"), request(), BOUND) == "bcd", "theirs is not known"


def test_reasoning_is_left_behind_only_where_both_organizations_are_known() -> None:
    world = of_organizations(a="one", b="two", c="one")

    assert world.fleet.leaves_reasoning(request(THINKING), "a", "b")
    assert not world.fleet.leaves_reasoning(request(THINKING), "a", "c")
    assert not world.fleet.leaves_reasoning(request(THINKING), "a", "d")
    assert not world.fleet.leaves_reasoning(request(), "a", "b")


def test_secrets_of_former_configurations_are_still_kept_out_and_not_without_end() -> None:
    world = World()
    (before,) = [secret for secret in world.fleet.secrets if secret.endswith("-a")] or [""]
    world.fleet.reload(read(secret="new"), 0.0)
    after = set(world.fleet.secrets)
    for number in range(FORMER_KEPT):
        world.fleet.reload(read(secret=f"later-{number}"), 0.0)

    assert before in after
    assert before not in world.fleet.secrets
    assert f"later-{FORMER_KEPT - 1}-a" in world.fleet.secrets
    assert len(world.fleet.secrets) <= FORMER_KEPT + 3
