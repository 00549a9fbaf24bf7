"""Requests on which several providers fail alike."""

from __future__ import annotations

from balancer.state.suspects import SUSPECT_S, SUSPECTS_MAX, Suspects


def test_a_request_is_suspect_once_a_second_provider_fails_on_it_alike() -> None:
    suspects = Suspects()

    assert not suspects.met(1, "500", "a", 0.0)
    assert not suspects.met(1, "500", "a", 1.0), "the same provider again proves nothing new"
    assert suspects.met(1, "500", "b", 2.0)
    assert suspects.met(1, "500", "a", 3.0), "from now on it is the request's, wherever"
    assert not suspects.met(2, "500", "b", 3.0), "another request"


def test_another_failure_is_another_matter() -> None:
    suspects = Suspects()
    suspects.met(1, "500", "a", 0.0)

    assert not suspects.met(1, "connection reset", "b", 0.0)
    assert suspects.met(1, "connection reset", "c", 0.0)


def test_a_request_that_is_not_repeated_is_forgotten() -> None:
    suspects = Suspects()
    suspects.met(1, "500", "a", 0.0)

    assert suspects.met(1, "500", "b", SUSPECT_S)
    assert suspects.met(1, "500", "c", 2 * SUSPECT_S), "its last failure counts, not its first"
    assert not suspects.met(1, "500", "a", 3 * SUSPECT_S + 1)


def test_a_request_that_is_not_known_is_never_suspect() -> None:
    suspects = Suspects()

    assert not suspects.met(0, "500", "a", 0.0)
    assert not suspects.met(0, "500", "b", 0.0)
    assert len(suspects) == 0


def test_no_more_than_so_many_are_remembered_and_the_latest_stay() -> None:
    suspects = Suspects()
    for witness in range(1, SUSPECTS_MAX + 1):
        suspects.met(witness, "500", "a", 0.0)
    suspects.met(1, "500", "a", 0.0)
    suspects.met(-1, "500", "a", 0.0)

    assert len(suspects) == SUSPECTS_MAX
    assert suspects.met(1, "500", "b", 0.0), "it was met again, so it is not the oldest"
    assert not suspects.met(2, "500", "b", 0.0), "the oldest went"
