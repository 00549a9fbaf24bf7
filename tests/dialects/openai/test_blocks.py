"""Blocks of a user's turn, and what a server can't take."""

from __future__ import annotations

from typing import Any

import pytest
from conversion import assistant as said
from conversion import converted, messages_request, result, text, turns, use, user

from balancer.dialect import Incapable
from balancer.dialects.openai.profiles import Profile

PDF = {"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
URL = {"type": "image", "source": {"type": "url", "url": "https://e.x/a.png"}}
FILE = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}

PARTS: dict[str, tuple[Any, Any]] = {
    "base64 image": (PNG, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]),
    "image by URL": (URL, [{"type": "image_url", "image_url": {"url": "https://e.x/a.png"}}]),
    "PDF": (PDF, [{"type": "file", "file": {"filename": "T.pdf", "file_data": "data:application/pdf;base64,aGk="}}]),
    "text document": (
        {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "D"}},
        "T\nC\nD",
    ),
    "document of blocks": (
        {"type": "document", "source": {"type": "content", "content": [text("a"), PNG]}},
        [text("a"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
    ),
    "document by URL": (
        {"type": "document", "source": {"type": "url", "url": "https://e.x"}},
        "[document: https://e.x]",
    ),
    "search result": ({"type": "search_result", "title": "T", "source": "S", "content": [text("a")]}, "T\nS\na"),
    "unknown": ({"type": "container_upload"}, "."),
    "a server's result": ({"type": "mcp_tool_result", "content": [text("a")]}, "a"),
    "a page that was fetched": (
        {
            "type": "web_fetch_tool_result",
            "content": {"type": "web_fetch_result", "url": "https://e.x", "content": PDF},
        },
        "https://e.x\nT",
    ),
    "tools that were found": (
        {
            "type": "tool_search_tool_result",
            "content": {"tool_references": [{"type": "tool_reference", "tool_name": "X"}]},
        },
        "X",
    ),
}


@pytest.mark.parametrize(("block", "content"), PARTS.values(), ids=PARTS)
def test_parts(block: Any, content: Any) -> None:
    assert turns(user(block), profile="openai")[0]["content"] == content


UNABLE: dict[str, tuple[Profile, Any, str]] = {
    "a PDF for a text-only server": ("compat", PDF, r"document \(PDF\).*'up' takes text only"),
    "an image without vision": ("deepseek", PNG, "image.*'up' has no image input"),
    "an image of the Files API": ("openai", FILE, "image source 'file'.*base64 or url"),
    "a document of the Files API": (
        "openai",
        {"type": "document", "source": {"type": "file"}},
        "document source 'file'",
    ),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("profile", "block", "words"), UNABLE.values(), ids=UNABLE)
def test_what_a_server_cannot_take_is_named(profile: Profile, block: Any, words: str, nested: bool) -> None:
    asked = messages_request(user(block))
    if nested:
        asked = messages_request("go", said(use("t1")), user(result("t1", [block])))
    with pytest.raises(Incapable, match=words):
        converted(asked, profile)


@pytest.mark.parametrize(("profile", "block", "kind"), [("compat", PDF, "PDF"), ("deepseek", PNG, "image")])
def test_claude_code_is_told_in_the_words_that_make_it_take_the_block_out(
    profile: Profile, block: Any, kind: str
) -> None:
    with pytest.raises(Incapable, match=rf"\ACould not process {kind}"):
        converted(messages_request(user(block)), profile)


def test_a_mark_does_not_get_into_the_text() -> None:
    seen = turns("go", said(use("t1")), user(result("t1", [{"type": "new", "cache_control": {"type": "ephemeral"}}])))

    assert seen[2]["content"] == '{"type":"new"}'


def test_a_pdf_in_a_result_follows_as_a_file() -> None:
    seen = turns("go", said(use("t1")), user(result("t1", [PDF])), profile="openai")

    assert seen[2]["content"] == "[document: see the next user message]"
    assert seen[3]["content"][0]["type"] == "file"
