"""The machine-readable words of errors, in the shapes that servers have."""

from __future__ import annotations

import json

import pytest

from balancer.wire.marks import ENTRIES_MAX, NESTED_MAX, NOTHING, WORD_MAX_CHARS, WORDS_MAX, Marks, marks_in, marks_of

SHAPES: dict[str, tuple[object, Marks]] = {
    "the Messages API": (
        {"type": "error", "error": {"type": "invalid_request_error", "message": "x"}},
        Marks("invalid_request_error"),
    ),
    "OpenAI": (
        {"error": {"type": "requests", "code": "rate_limit_exceeded", "param": "messages", "message": "x"}},
        Marks("requests", "rate_limit_exceeded", (), "messages"),
    ),
    "Google, in a list": (
        [{"error": {"code": 400, "status": "FAILED_PRECONDITION", "details": [{"@type": "t", "reason": "API_KEY_INVALID"}]}}],
        Marks("", "400", ("FAILED_PRECONDITION", "API_KEY_INVALID")),
    ),
    "OpenRouter, with another's answer as a string": (
        {"error": {"code": 400, "metadata": {"raw": json.dumps({"error": {"type": "overloaded_error", "code": "busy"}})}}},
        Marks("overloaded_error", "400", ("busy",)),
    ),
    "a relay that puts all of it into the message": (
        {"error": {"message": json.dumps({"error": {"code": "Arrearage"}})}},
        Marks("", "Arrearage"),
    ),
    "Azure": (
        {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        Marks("", "content_filter", ("ResponsibleAIPolicyViolation",)),
    ),
    "at the top": ({"code": "INSUFFICIENT_BALANCE", "message": "x"}, Marks("", "INSUFFICIENT_BALANCE")),
    "FastAPI": ({"detail": [{"type": "missing", "input": {"code": "theirs"}}]}, Marks("missing")),
    "numbers": ({"error": {"code": 1113}}, Marks("", "1113")),
    "no words": ({"error": {"type": None, "code": True, "param": 3.5, "status": []}}, NOTHING),
    "a string": ({"error": "no"}, NOTHING),
    "empty": ({"error": {"type": "", "code": ""}}, NOTHING),
    "a sentence is no word": ({"error": {"type": "x" * (WORD_MAX_CHARS + 1)}}, NOTHING),
    "what the client wrote is not looked at": ({"request": {"type": "insufficient_quota"}}, NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_words_are_found_where_servers_put_them(shape: str) -> None:
    body, expected = SHAPES[shape]

    assert marks_of(json.dumps(body).encode()) == expected
    assert marks_in(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"no", b"<html>", b'{"error":', b'{"error":"\xff"}', b"[" * 100_000, b"3", b"null"]
)
def test_what_is_no_json_says_nothing(body: bytes) -> None:
    assert marks_of(body) == NOTHING


def test_how_deep_and_how_many_is_bounded() -> None:
    deep: object = {"code": "found"}
    for _ in range(NESTED_MAX):
        deep = {"error": deep}
    assert marks_in(deep).code == "found"
    assert marks_in({"error": deep}) == NOTHING

    many = {"errors": [{"reason": f"r{n}"} for n in range(100)]}
    assert len(marks_in(many).others) == ENTRIES_MAX
    wide = {"errors": [{"reason": f"r{n}", "status": f"s{n}", "type": f"t{n}"} for n in range(ENTRIES_MAX)]}
    assert len(marks_in(wide).others) == WORDS_MAX
