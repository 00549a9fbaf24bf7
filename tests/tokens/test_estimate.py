"""Counting without asking: text, blocks, tools, images, documents; and what is remembered."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from balancer.tokens import estimate as tokens
from balancer.tokens.estimate import Correction, Estimator, family, of_block, of_image, of_text

CLAUDE = tokens.WEIGHTS["claude"]


def count(model: str = "claude-sonnet-4-5", **body: Any) -> int:
    return Estimator().estimate(json.dumps({"model": model, "messages": [], **body}).encode(), model)


FAMILIES = {
    "claude-opus-5-5": "claude-new",
    "claude-opus-4-8": "claude-new",
    "claude-sonnet-4-5-20250929": "claude",
    "claude-3-5-sonnet-20241022": "claude",
    "claude-sonnet-4": "claude",
    "claude-sonnet-4-20250514": "claude",
    "anthropic/claude-fable-5-2": "claude-new",
    "sonnet": "claude-new",
    "gpt-5.4": "o200k",
    "deepseek-chat": "o200k",
}


@pytest.mark.parametrize(("model", "expected"), FAMILIES.items())
def test_family(model: str, expected: str) -> None:
    assert family(model) == expected


def test_text_by_its_features() -> None:
    text = "ab abcdefg aB! ?? 12\n\n  X AAA 漢字 かな カ é ж"
    each = [tuple(float(number == one) for number in range(13)) for one in range(13)]

    assert [of_text(text, weights) for weights in each] == [5, 2, 1, 2, 1, 3, 1, 2, 2, 5, 3, 1, 1]


def test_long_text_is_counted_in_pieces() -> None:
    line = "def of_text(text: str) -> float:  # some 12345 words\n"
    one = of_text(line * 100, CLAUDE)

    assert of_text(line * 10_000, CLAUDE) == pytest.approx(one * 100, rel=0.005)


def test_a_longer_request_never_counts_less() -> None:
    texts = ["", "hi", "hi there", "hi there, friend", "hi there, friend 12345", "hi there, friend 12345 漢字"]
    counts = [count(messages=[{"role": "user", "content": text}]) for text in texts]

    assert counts == sorted(counts)


def test_a_string_and_a_block_of_text_count_the_same() -> None:
    assert count(messages=[{"role": "user", "content": "hello world"}]) == count(
        messages=[{"role": "user", "content": [{"type": "text", "text": "hello world"}]}]
    )


def png(width: int, height: int) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + struct.pack(">II", width, height)).decode()


@pytest.mark.parametrize(
    ("data", "kind", "expected"),
    [
        (png(280, 280), "claude", 100),
        (png(281, 280), "claude", 110),
        (png(5000, 5000), "claude", 1568),
        (png(5000, 5000), "claude-new", 4784),
        (png(3136, 100), "claude", 56 * 2),
        ("!!!", "claude", tokens.UNKNOWN_IMAGE - tokens.IMAGE_FRAME),
    ],
)
def test_images_by_their_size_and_never_as_text(data: str, kind: str, expected: int) -> None:
    assert of_image({"type": "base64", "data": data}, kind) == expected + tokens.IMAGE_FRAME


def test_an_image_elsewhere_is_taken_for_an_ordinary_one() -> None:
    assert of_image({"type": "url", "url": "https://example.com/x.png"}, "claude") == tokens.UNKNOWN_IMAGE


def test_documents_by_their_pages_or_their_text() -> None:
    pdf = base64.b64encode(b"%PDF /Type /Pages /Type /Page x /Type/Page y").decode()

    assert of_block({"type": "document", "source": {"type": "base64", "data": pdf}}, "claude") == 2 * tokens.PDF_PAGE
    assert of_block({"type": "document", "source": {"type": "file", "file_id": "x"}}, "claude") == tokens.PDF_PAGE
    text = {"type": "document", "title": "a title", "source": {"type": "text", "data": "some words"}}
    assert of_block(text, "claude") == pytest.approx(of_text("a title", CLAUDE) + of_text("some words", CLAUDE))


def test_blocks_of_all_kinds() -> None:
    result = {"type": "tool_result", "tool_use_id": "x", "content": [{"type": "text", "text": "hello world"}]}
    use = {"type": "tool_use", "id": "x", "name": "run", "input": {"command": "ls"}}

    assert of_block(result, "claude") > of_text("hello world", CLAUDE)
    assert of_block(use, "claude") > of_text("run", CLAUDE)
    assert of_block({"type": "thinking", "thinking": "x" * 999, "signature": "y"}, "claude") == 0
    assert of_block(
        {"type": "never_heard_of", "deep": [{"text": "hello world"}], "signature": "z" * 99}, "claude"
    ) == of_text("hello world", CLAUDE)


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(280, 280)}}
HELLO = of_text("hello world", CLAUDE)
UNKNOWN = {
    "an image inside": ([IMAGE], 100 + tokens.IMAGE_FRAME),
    "a result inside": ({"type": "tool_result", "content": [{"type": "text", "text": "hello world"}]}, HELLO + 6),
    "base64 by its type": ({"type": "base64", "payload": "x" * 99, "text": "hello world"}, 0.0),
    "base64 by its looks": (base64.b64encode(bytes(range(256)) * 9).decode(), 0.0),
    "a URL of data": ("data:image/png;base64," + png(1, 1), 0.0),
    "numbers and the like": ([1, None, True, 2.5], 0.0),
    "a type that is no name": ({"type": ["x"], "text": "hello world"}, HELLO),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_blocks_by_the_texts_and_blocks_in_them_and_base64_never_as_text(name: str) -> None:
    inside, expected = UNKNOWN[name]

    assert of_block({"type": "never_heard_of", "x": inside}, "claude") == pytest.approx(expected)


STRANGE: dict[str, dict[str, Any]] = {
    "tools that are a text": {"tools": "x"},
    "a choice that is a text": {"tools": [{"name": "t"}], "tool_choice": "auto"},
    "a choice of a strange type": {"tools": [{"name": "t"}], "tool_choice": {"type": []}},
    "no system": {"system": None},
    "a system that is a number": {"system": 5},
    "content that is nothing": {"messages": [{"role": "user", "content": None}]},
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_is_counted_as_far_as_it_goes(name: str) -> None:
    assert 7 <= count(**STRANGE[name]) < 400


def test_a_number_that_is_too_large_is_a_text() -> None:
    block = b'{"type":"tool_use","id":"i","name":"n","input":{"x":1e999}}'
    body = b'{"messages":[{"role":"assistant","content":[%b]}]}' % block

    assert Estimator().estimate(body, "claude") > 10


def test_tools_bring_a_prompt_of_their_own() -> None:
    plain = count(messages=[{"role": "user", "content": "x"}])
    tool = {"name": "t", "description": "d", "input_schema": {"type": "object"}}
    tools = count(messages=[{"role": "user", "content": "x"}], tools=[tool])
    forced = count(messages=[{"role": "user", "content": "x"}], tools=[tool], tool_choice={"type": "any"})
    bash = count(messages=[{"role": "user", "content": "x"}], tools=[{"type": "bash_20250124", "name": "bash"}])

    assert tools > plain + 346
    assert tools - forced == 346 - 313
    assert bash == plain + 346 + 245


def test_what_was_counted_is_remembered_and_bounded() -> None:
    estimator = Estimator(limit=10)
    for number in range(50):
        body = json.dumps({"messages": [{"role": "user", "content": f"text {number}"}]}).encode()
        assert estimator.estimate(body, "claude") == estimator.estimate(body, "claude")

    assert len(estimator) == 10


def test_only_what_is_new_makes_a_request_heavy() -> None:
    estimator = Estimator()
    long = [{"role": "user", "content": "words and " * 10_000}]
    body = json.dumps({"messages": long}).encode()
    longer = json.dumps({"messages": [*long, {"role": "user", "content": "one more"}]}).encode()

    assert not estimator.is_heavy(b"{}")
    assert estimator.is_heavy(body)
    estimator.estimate(body, "claude")
    assert not estimator.is_heavy(longer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"messages":"x"}',
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"messages":[{"role":"user","content":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
        b'{"messages":[{"role":"robot","content":"x"}]}',
    ],
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Estimator().estimate(body, "claude")


def test_corrections_are_learnt_slowly_and_within_bounds() -> None:
    correction = Correction()
    correction.observe("p", "m", 100, 200)
    correction.observe("p", "m", 100, 100)
    assert correction.correct("p", "m", 1000) == 1500  # the first ones weigh alike
    for _ in range(30):
        correction.observe("p", "m", 100, 150)
    assert correction.correct("p", "m", 1000) == pytest.approx(1500, abs=2)
    for _ in range(30):
        correction.observe("p", "m", 100, 100_000)
    assert correction.correct("p", "m", 1000) == pytest.approx(2000, abs=2)
    assert correction.correct("other", "m", 1000) == 1000
    correction.observe("p", "m", 0, 5)
