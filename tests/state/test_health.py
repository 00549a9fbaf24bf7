"""The table of health: scopes, probes, what is told of cooldowns and recoveries."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec.structs import replace as altered

from balancer.events import CooldownStarted, ProviderRecovered
from balancer.model import Candidate, Completed, Operation, RefusalClass
from balancer.policy.exhausted import Failure
from balancer.policy.failover import Availability
from balancer.policy.verdicts import Mark, Proof, Scope, Trouble, Verdict
from balancer.state.health import MODELS_MAX, PROVEN_S

from .world import BAD, GOOD, OVERLOADED, World

COUNT = Operation.COUNT_TOKENS
COUNT_PATH = "/v1/messages/count_tokens"


def failed(scope: Scope, **more: object) -> Verdict:
    return Verdict(Mark.BAD, retry_elsewhere=True, scope=scope, reason="failed", **more)  # type: ignore[arg-type]


def test_everybody_is_usable_while_nothing_has_failed() -> None:
    world = World()

    assert world.availability("a", 5.0) == Availability(usable=True)


REACH = {
    # what failed: (answers of the same model, of another model, counting for the same model, for another)
    Scope.PROVIDER: (False, False, False, False),
    Scope.MODEL: (False, True, False, True),
    Scope.COUNTING: (True, True, False, False),
}


@pytest.mark.parametrize("scope", Scope)
def test_a_failure_reaches_what_its_scope_says(scope: Scope) -> None:
    world = World()
    world.observe(world.candidate("a"), OVERLOADED, failed(scope), 1.0)

    usable = tuple(
        world.health.availability(world.candidate("a", operation, model), 2.0).usable
        for operation in (Operation.MESSAGES, COUNT)
        for model in ("m", "other")
    )
    assert usable == REACH[scope]
    assert world.availability("b", 2.0).usable


@pytest.mark.parametrize("model", [COUNT_PATH, "", "provider", "model", "counting", "None", "COUNTING"])
@pytest.mark.parametrize("scope", [Scope.PROVIDER, Scope.COUNTING])
def test_no_name_of_a_model_stands_for_anything_else(model: str, scope: Scope) -> None:
    world = World()
    named, plain = world.candidate("a", model=model), world.candidate("a")
    world.observe(named, OVERLOADED, failed(Scope.MODEL, cooldown_s=60.0), 1.0)

    assert not world.health.availability(named, 2.0).usable
    assert world.health.availability(plain, 2.0).usable
    assert world.health.availability(world.candidate("a", COUNT), 2.0).usable
    assert world.health.state_of(plain.provider, 2.0)[0] == "healthy"
    assert world.health.cooling_models("a", 2.0) == {model: 59.0}
    assert world.health.counting_cooldown_s("a", 2.0) == 0.0

    world.observe(world.candidate("b"), OVERLOADED, failed(scope), 1.0)
    assert world.health.cooling_models("b", 2.0) == {}


def test_the_longest_cooldown_and_the_latest_failure_of_all_scopes_count() -> None:
    world = World()
    world.observe(world.candidate("a"), OVERLOADED, failed(Scope.MODEL, cooldown_s=50.0), 1.0)
    world.observe(world.candidate("a"), OVERLOADED, failed(Scope.PROVIDER, cooldown_s=20.0), 3.0)
    state = world.availability("a", 4.0)

    assert (state.usable, state.cooldown_until, state.last_failure) == (False, 51.0, 3.0)


def test_an_answer_proves_a_provider_for_a_while_unless_it_fails() -> None:
    world = World()
    world.fleet.stats("a").content_began(0.5, 10.0)

    assert world.availability("a", 10.0).proven
    assert world.availability("a", 10.0 + PROVEN_S - 0.1).proven
    assert not world.availability("a", 10.0 + PROVEN_S).proven
    assert not world.availability("b", 10.0).proven, "nothing is known of it"

    world.fail("b", 11.0)
    assert world.availability("a", 12.0).proven, "another one has failed"
    assert not world.availability("a", 10.0 + PROVEN_S).proven
    world.fail("a", 12.0)
    assert not world.availability("a", 12.0).proven


def test_a_full_provider_says_so_and_how_many_it_serves() -> None:
    world = World(provider=", max_in_flight: 2")
    candidate, stats = world.candidate("a"), world.fleet.stats("a")

    for in_flight, full in ((0, False), (1, False), (2, True), (3, True)):
        stats.in_flight = in_flight
        for entries in (False, True):
            if entries:
                world.fail("b", 0.0)
            state = world.health.availability(candidate, 0.0)
            assert (state.full, state.in_flight, state.usable) == (full, in_flight, True)
        world.health.forget("b")


# Half-open


def test_a_half_open_provider_is_probed_by_one_request_at_a_time() -> None:
    world = World()
    world.fail("a", 0.0)
    candidate = world.candidate("a")

    with world.fleet.admission.slot(candidate, 10.0):
        assert not world.health.availability(candidate, 10.0).usable
        assert world.health.state_of(candidate.provider, 10.0)[0] == "probing"
    assert world.health.availability(candidate, 10.0).usable

    world.succeed("a", 11.0)
    with world.fleet.admission.slot(candidate, 12.0):
        assert world.health.availability(candidate, 12.0).usable


def test_only_what_is_half_open_is_probed() -> None:
    world = World()
    world.fail("a", 0.0)
    candidate = world.candidate("a")

    assert world.health.half_open(candidate, 1.0) == [], "it cools down still"
    assert world.health.half_open(candidate, 10.0) == [("a", Scope.PROVIDER, None)]
    assert world.health.half_open(world.candidate("b"), 10.0) == []
    world.observe(candidate, OVERLOADED, failed(Scope.MODEL), 0.0)
    assert world.health.half_open(candidate, 10.0) == [("a", Scope.PROVIDER, None), ("a", Scope.MODEL, "m")]


def test_counting_is_no_probe_of_answers() -> None:
    world = World()
    counting, answering = world.candidate("a", COUNT), world.candidate("a")
    world.fail("a", 3.0)

    with world.fleet.admission.slot(counting, 20.0):
        assert world.health.availability(answering, 20.0).usable
        assert world.health.state_of(answering.provider, 20.0)[0] == "healthy"


def test_counting_has_health_of_its_own() -> None:
    world = World()
    counting, answering = world.candidate("a", COUNT), world.candidate("a")
    world.observe(counting, OVERLOADED, failed(Scope.COUNTING), 1.0)

    assert not world.health.availability(counting, 2.0).usable
    assert world.health.availability(answering, 2.0).usable
    assert world.health.counting_cooldown_s("a", 2.0) == pytest.approx(4.0, abs=1.1)
    assert world.health.cooling_models("a", 2.0) == {}
    with world.fleet.admission.slot(counting, 20.0):
        assert not world.health.availability(counting, 20.0).usable
        assert world.health.state_of(counting.provider, 20.0)[0] == "healthy", "it answers"

    world.fail("a", 3.0)
    world.observe(counting, Completed(), GOOD, 20.0)
    assert world.health.availability(counting, 20.0).usable
    with world.fleet.admission.slot(answering, 20.0):
        assert not world.health.availability(answering, 20.0).usable, "a good count ends no cooldown of answers"


# Events


def test_a_recovery_is_told_once_and_wakes_whoever_waits() -> None:
    world = World()
    woken: list[bool] = []
    world.health._on_recovery = lambda: woken.append(True)
    world.succeed("a", 0.5)
    world.fail("a", 1.0)
    world.succeed("a", 20.0)
    world.succeed("a", 21.0)

    kinds = [type(event).__name__ for event in world.told]
    assert kinds == ["CooldownStarted", "ProviderRecovered"]
    assert woken == [True]
    assert world.told[-1] == ProviderRecovered(1020.0, "a")


TOLD = {
    Scope.PROVIDER: ("", "provider"),
    Scope.MODEL: ("m", "model"),
    Scope.COUNTING: ("", "counting"),
}


@pytest.mark.parametrize("scope", Scope)
def test_a_cooldown_and_a_recovery_are_told_with_their_scope(scope: Scope) -> None:
    model, word = TOLD[scope]
    world = World()
    candidate = world.candidate("a", COUNT if scope is Scope.COUNTING else Operation.MESSAGES)
    world.observe(candidate, OVERLOADED, failed(scope, cooldown_s=30.0), 1.0)
    world.observe(candidate, Completed(), GOOD, 1000.0)
    started, recovered = world.told

    assert started == CooldownStarted(1001.0, "a", 30.0, "failed", 1, model, False, word)
    assert recovered == ProviderRecovered(2000.0, "a", model, word)


def test_a_cooldown_that_needs_a_person_is_told_with_the_remedy() -> None:
    world = World()
    world.fail("a", 1.0, failed(Scope.PROVIDER, needs_operator=Trouble.KEY))
    world.fail("a", 2.0, failed(Scope.PROVIDER, cooldown_s=900.0))
    remedy = "its key was refused (failed): check its auth_value in providers.yaml"

    first = CooldownStarted(1001.0, "a", 600.0, "failed", 1, "", True, "provider", remedy)
    assert world.told == [first, CooldownStarted(1002.0, "a", 900.0, "failed", 2, "", True, "provider", remedy)]


def test_failures_of_attempts_under_way_are_told_only_where_they_prolong_the_cooldown() -> None:
    world = World()
    world.fail("a", 1.0)
    world.fail("a", 1.1)
    assert len(world.told) == 1
    world.fail("a", 1.2, failed(Scope.PROVIDER, cooldown_s=90.0))

    assert [event.cooldown_s for event in world.told[1:]] == [90.0]
    assert world.told[-1].failures == 3


def test_without_cooldowns_failures_are_known_and_nothing_is_told() -> None:
    world = World("failure_cooldown: 0", names="ab")
    world.fail("b", 1.0)

    assert world.told == []
    assert world.availability("b", 1.0).usable
    assert world.health.failures([world.candidate("b")], 1.0) == [Failure("b", "529 overloaded_error", 529)]
    world.fail("b", 2.0, failed(Scope.PROVIDER, cooldown_s=20.0, status=429))
    assert not world.availability("b", 21.9).usable, "the provider itself has named that"


def test_an_old_stream_that_ends_well_ends_no_cooldown() -> None:
    world = World()
    world.fail("a", 10.0)
    world.succeed("a", 11.0, began=1.0)

    assert not world.availability("a", 11.0).usable
    assert len(world.told) == 1


# What is shown


def test_the_states_in_words() -> None:
    world = World()
    provider = world.candidate("a").provider
    assert world.health.state_of(provider, 0.0)[0] == "healthy"
    world.fail("a", 1.0)
    state, health = world.health.state_of(provider, 2.0)
    assert (state, health.failures, health.reason) == ("resting", 1, "529 overloaded_error")
    assert world.health.state_of(provider, 60.0)[0] == "healthy", "half-open: it may be asked"
    assert world.health.state_of(world.candidate("b").provider, 2.0)[0] == "healthy"


def test_a_disabled_provider_is_nothing_but_disabled() -> None:
    world = World()
    provider = replace(world.fleet.config.providers["a"], enabled=False)
    world.observe(Candidate(provider, "m"), OVERLOADED, BAD, 1.0)

    assert world.health.state_of(provider, 2.0)[0] == "disabled"


def test_what_is_known_against_candidates() -> None:
    world = World()
    world.fail("a", 1.0, failed(Scope.PROVIDER, cooldown_s=30.0, status=529))
    world.fail("b", 1.0, failed(Scope.MODEL, cooldown_s=20.0, status=404))
    everybody = [world.candidate(name) for name in "abc"]

    assert world.health.failures(everybody, 2.0) == [
        Failure("a", "failed", 529, left_s=29.0),
        Failure("b", "failed", 404, None, model_unknown=True, left_s=19.0),
        Failure("c"),
    ]
    assert world.health.recovery_s(everybody[:2], 2.0) == 19.0
    assert world.health.recovery_s(everybody, 2.0) == -2.0, "one was never out"
    assert world.health.recovery_s([], 2.0) is None


def test_of_several_scopes_that_failed_the_one_that_needs_a_person_is_named_or_that_lasts_longest() -> None:
    world = World()
    candidate = world.candidate("a")
    world.observe(candidate, OVERLOADED, failed(Scope.MODEL, cooldown_s=50.0, status=429), 1.0)
    world.observe(candidate, OVERLOADED, failed(Scope.PROVIDER, cooldown_s=20.0, status=529), 1.0)
    assert world.health.failures([candidate], 2.0) == [Failure("a", "failed", 429, left_s=49.0)]

    world.observe(candidate, OVERLOADED, failed(Scope.MODEL, cooldown_s=900.0, status=429), 2.0)
    world.observe(candidate, OVERLOADED, failed(Scope.PROVIDER, needs_operator=Trouble.KEY, status=401), 2.0)
    assert world.health.failures([candidate], 3.0) == [Failure("a", "failed", 401, Trouble.KEY, left_s=599.0)]


def test_what_has_recovered_is_held_against_nobody() -> None:
    world = World()
    world.fail("a", 1.0)
    world.succeed("a", 20.0)

    assert world.health.failures([world.candidate("a")], 21.0) == [Failure("a")]


def test_a_model_is_shown_as_long_as_it_cools_down() -> None:
    world = World()
    world.fail("a", 1.0, failed(Scope.MODEL, cooldown_s=30.0))

    assert world.health.cooling_models("a", 2.0) == {"m": 29.0}
    assert world.health.cooling_models("b", 2.0) == {}
    assert world.health.cooling_models("a", 31.0) == {}


def test_forgetting_a_provider_forgets_all_its_scopes_and_nobody_elses() -> None:
    world = World()
    for name in "ab":
        for scope in Scope:
            world.observe(world.candidate(name), OVERLOADED, failed(scope), 1.0)
    world.health.forget("a")

    assert {key[0] for key in world.health.entries} == {"b"}
    assert len(world.health.entries) == len(Scope)


# Bounds


def test_models_that_clients_make_up_do_not_fill_the_memory() -> None:
    world = World()
    world.fail("b", 0.0)
    world.observe(world.candidate("b", COUNT), OVERLOADED, failed(Scope.COUNTING), 0.0)
    most = 0
    for number in range(2 * MODELS_MAX):
        made_up = world.candidate("a", model=f"m{number}")
        world.observe(made_up, OVERLOADED, failed(Scope.MODEL), number)
        most = max(most, len(world.health.entries))

    assert most == MODELS_MAX, "all of the room is used, and no more"
    assert {("b", Scope.PROVIDER, None), ("b", Scope.COUNTING, None)} <= set(world.health.entries)
    assert ("a", Scope.MODEL, f"m{2 * MODELS_MAX - 1}") in world.health.entries, "the newest stay"


# Pauses


def test_a_paused_provider_is_not_usable_and_says_why() -> None:
    world = World()
    candidate = world.candidate("a")
    world.health.paused.add("a")

    assert world.health.availability(candidate, 1.0) == Availability(usable=False, paused=True)
    assert world.availability("b", 1.0) == Availability(usable=True)
    assert world.health.failures([candidate], 1.0) == [Failure("a", needs_operator=Trouble.PAUSED)]
    assert world.health.state_of(candidate.provider, 1.0)[0] == "paused"


def test_a_paused_provider_that_cools_down_is_paused_first() -> None:
    world = World()
    candidate = world.candidate("a")
    world.fail("a", 1.0)
    world.health.paused.add("a")

    state, health = world.health.state_of(candidate.provider, 2.0)
    assert (state, health.failures) == ("paused", 1)
    assert world.health.availability(candidate, 2.0).cooldown_until > 2.0
    world.succeed("a", 20.0)
    assert not world.health.availability(candidate, 20.0).usable, "an answer of before does not end a pause"


# Injected faults


def injected(world: World, name: str, at: float, verdict: Verdict = BAD) -> None:
    world.health.observe(world.candidate(name), verdict, at, at, 1000.0 + at, injected=True)


def test_what_an_injected_fault_caused_can_be_undone() -> None:
    world = World()
    injected(world, "a", 1.0)
    assert not world.availability("a", 2.0).usable
    assert world.told == [CooldownStarted(1001.0, "a", world.told[0].cooldown_s, "529 overloaded_error", 1)]

    assert world.health.end_injected("a", 2.0)
    assert world.availability("a", 2.0) == Availability(usable=True)
    assert world.health.entries == {}
    assert not world.health.end_injected("a", 2.0)


@pytest.mark.parametrize("scope", Scope)
def test_what_an_injected_fault_caused_is_undone_in_every_scope_and_at_no_other_provider(scope: Scope) -> None:
    world = World()
    injected(world, "a", 1.0, failed(scope))
    injected(world, "b", 1.0, failed(scope))
    world.health.end_injected("a", 2.0)

    assert {key[0] for key in world.health.entries} == {"b"}


def test_a_cooldown_of_before_is_there_again_afterwards() -> None:
    world = World()
    world.fail("a", 1.0, failed(Scope.PROVIDER, cooldown_s=60.0))
    before = dict(world.health.entries)
    injected(world, "a", 2.0, failed(Scope.PROVIDER, needs_operator=Trouble.KEY))
    assert world.availability("a", 3.0).cooldown_until == 602.0

    assert world.health.end_injected("a", 3.0), "it lasts less long now"
    assert world.health.entries == before


def test_a_failure_of_its_own_meanwhile_counts_as_if_nothing_had_been_injected() -> None:
    world, plain = World(), World()
    injected(world, "a", 2.0, failed(Scope.PROVIDER, needs_operator=Trouble.KEY))
    for each in (world, plain):
        each.fail("a", 3.0, failed(Scope.PROVIDER, cooldown_s=60.0))
    world.health.end_injected("a", 4.0)

    assert world.health.entries == plain.health.entries
    assert world.availability("a", 4.0).cooldown_until == 63.0


def test_a_good_answer_meanwhile_counts_too() -> None:
    world = World()
    world.fail("a", 1.0)
    injected(world, "a", 2.0)
    world.succeed("a", 20.0)
    injected(world, "a", 21.0)
    assert world.health.end_injected("a", 22.0)

    assert world.availability("a", 22.0).usable
    assert world.health.entries["a", Scope.PROVIDER, None].failures == 0


def test_undoing_what_is_over_ends_nothing() -> None:
    world = World()
    injected(world, "a", 1.0)

    assert not world.health.end_injected("a", 1000.0), "its cooldown had ended by itself"
    assert world.health.entries == {}


# Ended before its time


def test_what_cools_down_for_its_own_faults() -> None:
    world = World()
    assert world.health.own_cooldown("a", 1.0) is None
    world.fail("a", 1.0)
    assert world.health.own_cooldown("a", 2.0) is world.health.entries["a", Scope.PROVIDER, None]
    assert world.health.own_cooldown("b", 2.0) is None
    assert world.health.own_cooldown("a", 60.0) is None, "it is over"
    injected(world, "b", 1.0)
    assert world.health.own_cooldown("b", 2.0) is None, "an injected fault has caused it"
    world.observe(world.candidate("c"), OVERLOADED, failed(Scope.MODEL), 1.0)
    assert world.health.own_cooldown("c", 2.0) is None, "the provider as a whole does not"


def test_a_cooldown_that_is_ended_early_is_probed_by_the_next_request() -> None:
    world = World()
    world.fail("a", 1.0, failed(Scope.PROVIDER, needs_operator=Trouble.KEY))
    world.health.end_early("a", 30.0)
    candidate = world.candidate("a")

    assert world.health.availability(candidate, 30.0).usable
    assert world.health.half_open(candidate, 30.0) == [("a", Scope.PROVIDER, None)]
    world.health.end_early("b", 30.0)
    assert ("b", Scope.PROVIDER, None) not in world.health.entries


def test_forgotten_is_forgotten_also_without_injected_faults() -> None:
    world = World()
    world.fail("a", 1.0)
    injected(world, "a", 2.0)
    world.health.forget("a")
    world.health.end_injected("a", 3.0)

    assert world.health.entries == {}


def test_what_a_probe_has_shown_is_open_to_others_before_its_answer_ends() -> None:
    world = World(names="a")
    candidate = world.candidate("a")
    world.fail("a", 1.0)
    with world.fleet.admission.slot(candidate, 100.0):
        assert not world.availability("a", 100.0).usable, "it is being probed"
        world.health.content_began(candidate, 100.0, 100.5)
        assert world.availability("a", 100.0).usable, "and has shown that it works"
        world.fail("a", 101.0)
        assert not world.availability("a", 101.0).usable
        assert not world.availability("a", 200.0).usable, "an old answer shows nothing any more"
    assert not world.health.shown
    with world.fleet.admission.slot(candidate, 200.0):
        assert not world.availability("a", 200.0).usable, "the next probe has shown nothing yet"
        world.health.content_began(candidate, 100.0, 100.5)
        assert not world.health.shown
        world.health.content_began(candidate, 200.0, 200.5)
        assert world.availability("a", 200.5).usable
    assert not world.health.shown, "who probes after it has to show it again"
    with world.fleet.admission.slot(candidate, 201.0):
        assert not world.availability("a", 201.0).usable


def test_the_failure_of_a_request_that_is_suspect_itself_shows_nothing_but_when_it_was() -> None:
    world, likely = World(), altered(BAD, proof=Proof.LIKELY)
    world.fleet.stats("b").content_began(0.5, 0.5)
    for name, at in (("a", 1.0), ("b", 2.0)):
        world.health.observe(world.candidate(name), likely, at, at, 1000.0, injected=False, witness=7)

    assert not world.availability("a", 2.0).usable
    assert world.availability("b", 2.0) == Availability(usable=True, last_failure=2.0, proven=True)
    assert world.health.failures([world.candidate("b")], 2.0) == [Failure("b")]


def test_content_of_an_attempt_before_the_failure_shows_nothing_of_the_probe() -> None:
    world = World(names="a")
    candidate = world.candidate("a")
    world.fail("a", 1.0)
    with world.fleet.admission.slot(candidate, 100.0):
        world.health.content_began(candidate, 0.9, 100.5)
        assert not world.availability("a", 100.5).usable, "an old stream says nothing about now"
        world.health.content_began(candidate, 1.1, 100.6)
        assert world.availability("a", 100.6).usable, "it was asked after the failure, whoever probes"


async def test_what_a_probe_has_shown_wakes_who_waits_for_a_slot() -> None:
    world = World(names="a")
    candidate = world.candidate("a")
    world.fail("a", 1.0)
    with world.fleet.admission.slot(candidate, 100.0):
        waiting = asyncio.create_task(world.fleet.admission.slot_freed(30.0))
        await asyncio.sleep(0)
        world.health.content_began(candidate, 100.0, 100.5)
        await asyncio.wait_for(waiting, 5.0)


def test_content_that_began_since_a_failure_keeps_the_next_cooldown_short() -> None:
    world, other = World("failure_cooldown: 60", names="a"), World("failure_cooldown: 60", names="a")
    for each in (world, other):
        each.fail("a", 1.0)
        each.fail("a", 50.0)
    world.health.content_began(world.candidate("a"), 99.0, 100.0)
    for each in (world, other):
        each.fail("a", 101.0)

    assert 4.0 <= world.availability("a", 101.0).cooldown_until - 101.0 <= 6.0
    assert 16.0 <= other.availability("a", 101.0).cooldown_until - 101.0 <= 24.0


def test_content_shows_nothing_of_what_is_not_probed() -> None:
    world = World(names="a")
    world.health.content_began(world.candidate("a"), 0.5, 1.0)

    assert not world.health.shown


# Whom a failure reaches

OVERLOAD = Verdict(
    Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, reason="529", status=529, refusal=RefusalClass.PROVIDER
)
LIMITED = Verdict(
    Mark.BAD, retry_elsewhere=True, scope=Scope.MODEL, reason="429", status=429, refusal=RefusalClass.LIMIT
)


def usable(world: World, name: str, model: str, at: float) -> bool:
    return world.health.availability(world.candidate(name, model=model), at).usable


def test_an_overload_is_the_models_until_a_second_model_is_overloaded_too() -> None:
    world = World()
    world.observe(world.candidate("a", model="opus"), OVERLOADED, OVERLOAD, 1.0)
    assert (usable(world, "a", "opus", 1.0), usable(world, "a", "sonnet", 1.0)) == (False, True)

    world.observe(world.candidate("a", model="opus"), OVERLOADED, OVERLOAD, 1.5)
    assert usable(world, "a", "sonnet", 1.5), "the same model again says nothing about others"

    world.observe(world.candidate("a", model="sonnet"), OVERLOADED, OVERLOAD, 2.0)
    assert not usable(world, "a", "haiku", 2.0)
    assert usable(world, "b", "opus", 2.0), "another provider"


def test_an_overload_of_another_model_that_is_over_is_no_second_one() -> None:
    world = World()
    world.observe(world.candidate("a", model="opus"), OVERLOADED, OVERLOAD, 1.0)
    world.observe(world.candidate("a", model="sonnet"), OVERLOADED, OVERLOAD, 10.0)

    assert usable(world, "a", "haiku", 10.0)


def test_limits_of_two_models_are_two_limits() -> None:
    world = World()
    for at, model in enumerate(("opus", "sonnet")):
        world.observe(world.candidate("a", model=model), OVERLOADED, LIMITED, float(at))
    world.observe(world.candidate("a", model="fable"), OVERLOADED, OVERLOAD, 2.0)

    assert usable(world, "a", "haiku", 2.0)


# What one request proves

FAILED = Verdict(Mark.BAD, retry_elsewhere=True, reason="500", status=500, proof=Proof.LIKELY)
CUT = Verdict(Mark.BAD, retry_elsewhere=True, reason="connection reset (by a)", proof=Proof.LIKELY)


def note(world: World, name: str, verdict: Verdict, at: float, witness: int) -> bool:
    """Note a failure; say whether the provider cools down then."""
    world.health.observe(world.candidate(name), verdict, at, at, at, injected=False, witness=witness)
    return not world.availability(name, at).usable


@pytest.mark.parametrize("verdict", [FAILED, CUT])
def test_a_request_on_which_two_providers_fail_alike_rests_only_the_first(verdict: Verdict) -> None:
    world = World()
    alike = altered(verdict, reason=verdict.reason.replace("by a", "by b"))

    assert note(world, "a", verdict, 1.0, witness=7)
    assert not note(world, "b", alike, 1.1, witness=7)
    assert not note(world, "c", alike, 1.2, witness=7)
    assert not note(world, "a", verdict, 10.0, witness=7), "nor the first again"
    assert note(world, "b", verdict, 10.0, witness=8), "another request"


def test_what_a_provider_says_for_certain_counts_whoever_else_says_it() -> None:
    world = World()
    certain = altered(FAILED, proof=Proof.CERTAIN)

    assert note(world, "a", certain, 1.0, witness=7)
    assert note(world, "b", certain, 1.1, witness=7)


def test_a_refusal_that_needs_a_second_witness_gets_one() -> None:
    world = World()
    unsure = Verdict(Mark.NONE, retry_elsewhere=True, reason="403 no API's error", proof=Proof.UNSURE)

    assert not note(world, "a", unsure, 1.0, witness=7)
    assert not note(world, "a", unsure, 1.1, witness=7)
    assert world.told == []
    assert note(world, "a", unsure, 1.2, witness=8)
    assert isinstance(world.told[-1], CooldownStarted)
