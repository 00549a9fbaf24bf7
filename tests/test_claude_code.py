"""What Claude Code says of itself, and what it acts on; where three expressions became one, as they were."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer import claude_code

UUID = "123e4567-e89b-12d3-a456-426614174000"

# The session. What three modules once had an expression of their own for:

OF_AFFINITY = re.compile(r"_session_([0-9a-fA-F-]{8,})\Z")
OF_ZED = re.compile(r"_session_([0-9a-fA-F-]{36})\Z")
OF_OPENAI = re.compile(r"session_(?:id\W+)?([0-9a-fA-F-]{8,})")

uuids = st.uuids().map(str)
hex_words = st.text("0123456789abcdefABCDEF-", min_size=8, max_size=40)
accounts = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(accounts, uuids)
def test_a_session_as_it_is_written_today_is_what_all_three_read(device: str, session: str) -> None:
    user_id = json.dumps({"device_id": device, "account_uuid": "", "session_id": session}, separators=(",", ":"))
    openai = OF_OPENAI.search(user_id)

    assert openai is not None
    assert claude_code.session_of(user_id) == session == json.loads(user_id)["session_id"] == openai[1]


@given(accounts, uuids, uuids)
def test_a_session_as_it_was_written_is_what_all_three_read(user: str, account: str, session: str) -> None:
    user_id = f"user_{user}_account_{account}_session_{session}"
    found = [pattern.search(user_id) for pattern in (OF_AFFINITY, OF_ZED, OF_OPENAI)]

    assert {match[1] for match in found if match} == {claude_code.session_of(user_id)} == {session}


@given(st.one_of(st.text(max_size=60), st.builds(lambda a, b: f"{a}_session_{b}", st.text(max_size=20), hex_words)))
def test_any_other_text_names_what_it_named_for_affinity(user_id: str) -> None:
    try:
        value = json.loads(user_id)
    except ValueError:
        value = None
    match = OF_AFFINITY.search(user_id)
    if not isinstance(value, dict):
        assert claude_code.session_of(user_id) == (match[1] if match else None)


SESSIONS = {
    "any word": ('{"session_id":"s2"}', "s2"),
    "an empty one": ('{"session_id":""}', None),
    "null": ('{"session_id":null}', None),
    "a number": ('{"session_id":5}', None),
    "none": ('{"device_id":"d"}', None),
    "a list": ("[]", None),
    "nothing": ("", None),
    "too deep": ("[" * 1000, None),
    "the last of two": (f"_session_aaaaaaaa_session_{UUID}", UUID),
    "eight letters": ("x_session_12345678", "12345678"),
    "seven letters": ("x_session_1234567", None),
    "letters of no number": ("x_session_1234567g", None),
    "words behind it": (f"x_session_{UUID}_y", None),
    "half a pair": ('{"session_id":"\\ud800"}', None),
    "the mark alone": ("_session_", None),
}


@pytest.mark.parametrize(("user_id", "session"), SESSIONS.values(), ids=SESSIONS)
def test_sessions(user_id: str, session: str | None) -> None:
    assert claude_code.session_of(user_id) == session


def test_a_user_id_up_to_the_limit_is_read_and_no_longer_one() -> None:
    most = claude_code.USER_ID_MAX_CHARS

    assert claude_code.session_of(f"_session_{UUID}".rjust(most, "x")) == UUID
    assert claude_code.session_of(f"_session_{UUID}".rjust(most + 1, "x")) is None


# Models

OF_ROUTES = re.compile(r"\[[^\[\]]*\]\Z")
OF_REQUEST = re.compile(r"\[[^\]]*\]\Z")


@given(st.text(st.sampled_from("am-1.[]\n "), max_size=12))
def test_the_suffix_of_a_model_is_what_it_was_for_routes(name: str) -> None:
    assert claude_code.base_model(name) == OF_ROUTES.sub("", name)
    if name.count("[") < 2:
        assert claude_code.base_model(name) == OF_REQUEST.sub("", name)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("claude[1m]", "claude"),
        ("claude", "claude"),
        ("[1m]", ""),
        ("a[b]c", "a[b]c"),
        ("a[b]]", "a[b]]"),
        ("a]", "a]"),
    ],
)
def test_suffixes(name: str, base: str) -> None:
    assert claude_code.base_model(name) == base


# What it puts into conversations

OF_ZED_REMINDERS = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)


@given(st.lists(st.sampled_from(["<system-reminder>", "</system-reminder>", "a", "\n", "<", "</system-"])).map("".join))
def test_reminders_are_taken_out_as_they_were(text: str) -> None:
    assert claude_code.without_reminders(text) == OF_ZED_REMINDERS.sub("", text)


def test_a_reminder_of_ours_is_one() -> None:
    assert claude_code.without_reminders(f"a{claude_code.reminder('x')}b") == "ab"


@pytest.mark.timeout(10)
def test_reminders_without_end_take_no_longer_than_they_are() -> None:
    began = time.process_time()
    text = "<system-reminder>" * 200_000

    assert claude_code.without_reminders(text) == text
    assert time.process_time() - began < 2


BILLING = {
    "alone": ("x-anthropic-billing-header: cc_version=2; cch=1;", ""),
    "before more": ("x-anthropic-billing-header: cch=1;\nYou are", "You are"),
    "not at the beginning": ("You x-anthropic-billing-header: a", "You x-anthropic-billing-header: a"),
    "on the second line": ("You\nx-anthropic-billing-header: a", "You\nx-anthropic-billing-header: a"),
    "twice": ("x-anthropic-billing-header:a\nx-anthropic-billing-header:b", "x-anthropic-billing-header:b"),
    "none": ("You are", "You are"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "rest"), BILLING.values(), ids=BILLING)
def test_the_billing_line_is_taken_out(text: str, rest: str) -> None:
    assert claude_code.without_billing(text) == rest


def test_compacting_is_known_by_its_words() -> None:
    assert claude_code.is_compaction("Your task is to Create a detailed summary of the conversation so far")
    assert not claude_code.is_compaction("Your task is to create a detailed summary of this file")


def test_it_is_known_by_what_its_user_agent_begins_with() -> None:
    assert claude_code.is_client(b"claude-cli/2.1.330 (external, cli)")
    assert not claude_code.is_client(b"anthropic-sdk claude-cli/2")
    assert not claude_code.is_client(b"")


# What it acts on


def test_the_words_that_it_acts_on() -> None:
    """As the client's own code looks for them: a word that is other is no word."""
    assert claude_code.prompt_too_long(9, 8) == "prompt is too long: 9 tokens > 8 maximum"
    assert claude_code.answer_too_long(5, 4, 8) == (
        "input length and `max_tokens` exceed context limit: 5 + 4 > 8, decrease input length or `max_tokens` and try again"
    )
    assert claude_code.could_not_process("PDF") == "Could not process PDF: "
    assert claude_code.unparsed_input("{x") == {"__unparsedToolInput": {"raw": "{x", "len": 2}}
