"""Counting without asking: text, blocks, tools, images, documents; and what is remembered."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from balancer import tokens
from balancer.tokens import Correction, Estimator, family, of_block, of_image, of_text

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
    weights = tuple(10.0**power for power in range(9))

    assert of_text("ab abcdefg aB! ?? 12\n\n  x 漢字 é", weights) == pytest.approx(
        5 * 1
        + 2 * 10
        + 1 * 100
        + 2 * 1000
        + 1 * 10_000
        + 2 * 100_000
        + 2 * 1_000_000
        + 2 * 10_000_000
        + 1 * 100_000_000
    )


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


JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08" + struct.pack(">HH", 280, 560)
IMAGES = {
    "a small PNG": (png(280, 280), 100),
    "a PNG that is scaled down": (png(5000, 5000), 1568),
    "a GIF": (base64.b64encode(b"GIF89a" + struct.pack("<HH", 56, 28)).decode(), 2),
    "a JPEG": (base64.b64encode(JPEG).decode(), 200),
    "a WebP": (base64.b64encode(b"RIFFxxxxWEBPVP8X" + b"\0" * 8 + b"\x1b\0\0\x1b\0\0").decode(), 1),
    "something else": (base64.b64encode(b"BM....").decode(), tokens.UNKNOWN_IMAGE - tokens.IMAGE_FRAME),
    "no base64": ("!!!", tokens.UNKNOWN_IMAGE - tokens.IMAGE_FRAME),
}


@pytest.mark.parametrize(("data", "expected"), IMAGES.values(), ids=IMAGES)
def test_images_by_their_size_and_never_as_text(data: str, expected: int) -> None:
    assert of_image({"type": "base64", "data": data}, "claude") == expected + tokens.IMAGE_FRAME


def test_documents_by_their_pages_or_their_text() -> None:
    pdf = base64.b64encode(b"%PDF /Type /Pages /Type /Page x /Type/Page y").decode()

    assert of_block({"type": "document", "source": {"type": "base64", "data": pdf}}, "claude") == 2 * tokens.PDF_PAGE
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


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"messages":"x"}'])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        Estimator().estimate(body, "claude")


def test_corrections_are_learnt_slowly_and_within_bounds() -> None:
    correction = Correction()
    for _ in range(30):
        correction.learn("p", "m", 100, 150)
    assert correction.correct("p", "m", 1000) == pytest.approx(1500, abs=2)
    for _ in range(30):
        correction.learn("p", "m", 100, 100_000)
    assert correction.correct("p", "m", 1000) == pytest.approx(2000, abs=2)
    assert correction.correct("other", "m", 1000) == 1000
    correction.learn("p", "m", 0, 5)
