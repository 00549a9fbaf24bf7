"""What providers said, as far as a client may read it."""

from __future__ import annotations

import time

import pytest

from balancer.model import Broken, Fault, Refused, Reply, Stage, Unfit
from balancer.policy.statements import WORDS_MAX_CHARS, in_words, quoted, statement
from balancer.policy.verdicts import Statement
from balancer.script import Cause


def said(message: str = "", retry_after_s: float | None = None, **headers: str) -> Statement | None:
    lines = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    fault = Fault(429, "rate_limit_error", message, retry_after_s, reply=Reply(429, lines))
    return statement(Refused(fault, Stage.WAIT), 100.0, ("sk-known-secret", "plainly-secret"))


def words(message: str) -> str:
    told = said(message)
    return told.words if told else ""


def test_what_is_no_refusal_says_nothing() -> None:
    assert statement(Broken(Stage.WAIT, Cause.RESET), 1.0, ()) is None
    assert statement(Unfit("no PDF"), 1.0, ()) is None
    assert said() is None


def test_words_time_and_limits_are_kept() -> None:
    told = said("Come back later.", 7200.0, anthropic_ratelimit_unified_reset="1800007200", retry_after="7200")

    assert told == Statement("Come back later.", 7300.0, ((b"anthropic-ratelimit-unified-reset", b"1800007200"),))


def test_limits_are_bounded() -> None:
    many = {f"anthropic_ratelimit_{n}_reset": "1" for n in range(100)}
    told = said("", None, **many, anthropic_ratelimit_huge="x" * 1000)

    assert told is not None
    assert len(told.limits) == 32
    assert all(value == b"1" for _, value in told.limits)


@pytest.mark.parametrize("word", ["Overloaded", "text", "JSON", " no "])
def test_one_word_says_no_more_than_the_status(word: str) -> None:
    assert words(word) == ""


def test_words_in_a_writing_without_spaces_are_words() -> None:
    assert words("服务器繁忙") == "服务器繁忙"


def test_words_are_redacted_and_cut() -> None:
    assert words("bad key sk-known-secret here") == "bad key [redacted] here"
    assert words("see https://internal.example.com/x?key=1 for more") == "see https://[redacted] for more"
    assert words("no access for org-0123456789abcdefXY") == "no access for [redacted]"
    assert words("a <html> page") == "an HTML page"
    assert words("two\nlines\x1b[31m red") == "two lines  red"
    long = words("word " * 1000)
    assert len(long) <= WORDS_MAX_CHARS + len(" ...")
    assert long.endswith("word ...")
    assert words("x " + "y" * (WORDS_MAX_CHARS - 2)) == "x " + "y" * (WORDS_MAX_CHARS - 2)


def test_a_secret_at_any_place_is_never_shown_in_part() -> None:
    for before in range(990, 1030):
        assert "pla" not in words("https://" + "x" * before + " plainly-secret and more")


def test_hostile_words_take_no_time() -> None:
    began = time.thread_time()
    for piece in ("/", " at /:1:", "a.", "sk-", "https://", "Bearer ", "<", "\x1b["):
        words(piece * 8192)

    assert time.thread_time() - began < 2.0


def test_a_reason_with_the_providers_own_words() -> None:
    assert quoted("429 x", None, 100.0, 0.0) == "429 x"
    assert quoted("429 x", Statement("Wait a bit."), 100.0, 0.0) == '429 x: "Wait a bit."'
    assert quoted("its answer was cut", Statement("its answer was cut"), 100.0, 0.0) == "its answer was cut"
    assert quoted("429 x", Statement("", 120.0), 100.5, 0.0) == "429 x (asks to wait 20 s)"
    assert quoted("429 x", Statement("", 120.0), 120.0, 0.0) == "429 x"


@pytest.mark.parametrize(
    ("left_s", "told"),
    [
        (0.2, "1 s"),
        (119.0, "119 s"),
        (119.5, "2 min, until 1970-01-01 00:02 UTC"),
        (3600.0, "1 h 0 min, until 1970-01-01 01:00 UTC"),
        (7230.0, "2 h 1 min, until 1970-01-01 02:00 UTC"),
        (90000.0, "1 d 1 h, until 1970-01-02 01:00 UTC"),
        (1e12, "11574074 d 1 h"),
    ],
)
def test_a_time_in_words(left_s: float, told: str) -> None:
    assert in_words(left_s, 0.0) == told


@pytest.mark.parametrize(
    "words",
    ["invalid x-api-key", "Your credit balance is too low.", "Prompt is too long: 9 > 8", "OAuth token revoked"],
)
def test_words_that_the_client_takes_for_its_own_trouble_are_not_quoted(words: str) -> None:
    said = statement(Refused(Fault(401, "authentication_error", words, retry_after_s=9.0), Stage.WAIT), 5.0, ())

    assert said is not None
    assert (said.words, said.resets_at) == ("", 14.0)
