"""The table of refusals as data: what every row of it keeps to."""

from __future__ import annotations

import pytest
import refusals_page

from balancer.model import Proof, RefusalClass, Scope
from balancer.policy.refusal_rows import ROWS, Feature, Look, Row

KINDS = RefusalClass


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_follows_from_a_row_fits_its_class(row: Row) -> None:
    nobody = row.refusal in (KINDS.REQUEST, KINDS.CAPABILITY)

    assert (row.trouble is not None) is (row.refusal is KINDS.ACCOUNT or row.name.startswith("redirected"))
    assert row.scope is None or not nobody or row.proof is Proof.UNSURE
    assert row.refusal is not KINDS.MODEL or row.scope is Scope.MODEL
    assert row.scope is not None or row.proof is Proof.CERTAIN, "there is nothing to prove"
    assert all(sign == "".join(filter(str.isalnum, sign.lower())) for sign in row.signs)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_more_follows_from_a_row_the_less_it_looks_at_what_is_quoted(row: Row) -> None:
    assert row.looks_at is (Look.ALL if row.scope is None else Look.STRICT if row.trouble else Look.OUTSIDE)


def test_words_that_are_known_only_in_part_never_make_a_long_cooldown_at_once() -> None:
    vague = next(row for row in ROWS if row.name == "about who asks")

    assert vague.proof is Proof.UNSURE


def test_the_last_row_fits_everything() -> None:
    last = ROWS[-1]

    assert (last.statuses, last.given, last.unless, last.is_said) == (frozenset(), frozenset(), frozenset(), False)
    assert not any(row == last for row in ROWS[:-1])


def test_every_feature_is_asked_for_but_that_of_users_rows() -> None:
    asked = frozenset[Feature]().union(*(row.given | row.unless for row in ROWS))

    assert set(Feature) - asked == {Feature.RULE}


def test_the_page_has_the_table_of_today() -> None:
    text = refusals_page.PAGE.read_text()

    assert refusals_page.page(text) == text, "run: make docs"
