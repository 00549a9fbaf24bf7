"""Which provider keeps what, and whose it is."""

from __future__ import annotations

from balancer.state.resources import ID_MAX_CHARS, Kept, Resources


def test_what_was_made_is_known_with_its_maker() -> None:
    resources = Resources()
    resources.put("file_1", Kept("a", "me"))

    assert resources.find("file_1") == Kept("a", "me")
    assert resources.find("file_2") is None
    assert not resources.is_foreign("file_1", "me")
    assert resources.is_foreign("file_1", "you")
    assert not resources.is_foreign("file_2", "you")


def test_whose_it_is_never_changes() -> None:
    resources = Resources()
    for kept in (Kept("a"), Kept("b"), Kept("a", "me"), Kept("b", "you"), Kept("b")):
        resources.put("file_1", kept)

    assert resources.find("file_1") == Kept("a", "me")


def test_what_was_only_found_is_anybodys() -> None:
    resources = Resources()
    resources.put("file_1", Kept("a"))

    assert not resources.is_foreign("file_1", "you")


def test_the_least_recently_used_goes_first() -> None:
    resources = Resources(limit=2)
    resources.put("one", Kept("a", ""))
    resources.put("two", Kept("a", ""))
    resources.find("one")
    resources.put("three", Kept("a", ""))

    assert [name for name in ("one", "two", "three") if resources.find(name)] == ["one", "three"]
    assert len(resources) == 2


def test_what_is_no_id_is_not_kept() -> None:
    resources = Resources()
    for name in ("", "x" * (ID_MAX_CHARS + 1)):
        resources.put(name, Kept("a", ""))

    assert len(resources) == 0
