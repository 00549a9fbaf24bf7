"""Web search on the provider's servers, both ways."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import grammar
import pytest
from anthropic.types import Message
from conversion import assistant, chat, messages_request, text, user
from openai.types.responses import Response
from openai_schema import check_responses

from balancer.dialect import Incapable
from balancer.dialects.openai import request, responses
from balancer.dialects.openai.chat import ChatReader
from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.decoder import OpenAIDecoder, Reader, writer_for
from balancer.dialects.openai.options import Options, for_api, settled
from balancer.dialects.openai.profiles import PROFILES
from balancer.dialects.openai.responses import ResponsesReader
from balancer.dialects.openai.writer import Shell

TOOL = {"name": "t", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
PLACED = {
    **SEARCH,
    "max_uses": 8,
    "allowed_domains": ["a.test"],
    "user_location": {"type": "approximate", "country": "DE", "city": "Berlin"},
}
FORCED = {"type": "tool", "name": "web_search"}


def by_responses(*messages: Any, profile: str = "openai_reasoning", **more: Any) -> dict[str, Any]:
    body = json.dumps(messages_request(*messages, **more)).encode()
    can = for_api(PROFILES[profile], "responses")  # type: ignore[index]
    out = json.loads(request.encoded(responses.from_chat(request.chat(body, "gpt-5", can, "up", items=True).body)))
    check_responses(out)
    return out  # type: ignore[no-any-return]


def test_the_responses_api_is_asked_in_its_own_words() -> None:
    body = by_responses(tools=[TOOL, PLACED], tool_choice=FORCED)

    assert body["tools"][1] == {
        "type": "web_search",
        "filters": {"allowed_domains": ["a.test"]},
        "user_location": {"type": "approximate", "country": "DE", "city": "Berlin"},
    }
    only = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
    assert body["tool_choice"] == only
    assert by_responses(tools=[PLACED], tool_choice=FORCED)["tool_choice"] == "required"
    assert body["max_tool_calls"] == 8
    assert "web_search_call.action.sources" in body["include"]


def test_without_a_search_nothing_is_asked_for() -> None:
    body = by_responses(tools=[TOOL])

    assert "max_tool_calls" not in body
    assert body["include"] == ["reasoning.encrypted_content"]


def test_openrouter_is_asked_in_its_own_words() -> None:
    blocked = {**SEARCH, "blocked_domains": ["b.test"], "max_uses": 2}
    converted = request.chat(
        json.dumps(messages_request(tools=[blocked], tool_choice=FORCED)).encode(), "x", PROFILES["openrouter"], "up"
    )

    assert converted.body["tools"] == [
        {"type": "openrouter:web_search", "parameters": {"excluded_domains": ["b.test"]}}
    ]
    assert converted.body["tool_choice"] == "required"
    assert converted.notes == ("dropped web_search.max_uses",)
    bare = chat(messages_request(tools=[SEARCH, TOOL]), "compat", web_search="none")
    assert [tool["type"] for tool in bare["tools"]] == ["function"]


@pytest.mark.parametrize("profile", ["compat", "azure", "deepseek", "ollama"])
def test_where_there_is_none_the_refusal_is_as_before(profile: Any) -> None:
    with pytest.raises(Incapable, match=r"web_search_20250305.*'up'"):
        request.chat(json.dumps(messages_request(tools=[SEARCH])).encode(), "x", PROFILES[profile], "up")


def test_the_chat_api_of_openai_has_none() -> None:
    says = settled(Options(), "https://api.openai.com/v1", "gpt-4o")

    assert says.api == "chat"
    assert for_api(says.can, says.api).web_search == "none"
    assert for_api(replace(PROFILES["openrouter"]), "responses").web_search == "none"
    assert for_api(settled(Options(web_search="responses"), "https://h/v1", "m").can, "responses").web_search == (
        "responses"
    )


CALL = {
    "type": "web_search_call", "id": "ws_1", "status": "completed",
    "action": {
        "type": "search", "query": "cats",
        "sources": [{"type": "url", "url": "https://c.test/1"}, {"type": "url", "url": "https://c.test/2"}],
    },
}  # fmt: skip
OPENED = {**CALL, "id": "ws_2", "action": {"type": "open_page", "url": "https://c.test/1"}}
CITED = {"type": "url_citation", "url": "https://c.test/1", "title": "Cats", "start_index": 5, "end_index": 9}
SAID = {
    "type": "message", "id": "m", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Says cats purr.", "annotations": [CITED]}],
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "id": "r", "object": "response", "created_at": 1, "model": "gpt-5", "tools": [], "tool_choice": "auto",
    "parallel_tool_calls": True,
}  # fmt: skip
USAGE = {
    "input_tokens": 9, "output_tokens": 5, "total_tokens": 14, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}  # fmt: skip


def answer(*output: Any) -> dict[str, Any]:
    made = {**FIELDS, "status": "completed", "output": list(output), "usage": USAGE}
    Response.model_validate(made)
    return made


def events(*items: Any) -> bytes:
    out: list[dict[str, Any]] = [{"type": "response.created", "response": {}}]
    for at, item in enumerate(items):
        out.append({"type": "response.output_item.added", "output_index": at, "item": {**item, "content": []}})
        if item["type"] == "message":
            delta = {"type": "response.output_text.delta", "output_index": at, "content_index": 0}
            out += [{**delta, "delta": part} for part in ("Says ", "cats", " purr.")]
            out.append(
                {
                    "type": "response.output_text.annotation.added",
                    "output_index": at,
                    "content_index": 0,
                    "annotation_index": 0,
                    "annotation": CITED,
                }
            )
        out.append({"type": "response.output_item.done", "output_index": at, "item": item})
    out.append({"type": "response.completed", "response": answer(*items)})
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in out)


def told(data: bytes, *, stream: bool, openrouter: bool = False, searches: bool = True) -> dict[str, Any]:
    """Return the message that an answer is told as."""
    shell = Shell("claude", "a", 9)
    writer = writer_for(shell, stream=stream)
    composer = Composer(shell, writer, "up", {})
    reader: Reader = (
        ChatReader(composer, searches=searches) if openrouter else ResponsesReader(composer, searches=searches)
    )
    decoder = OpenAIDecoder(composer, writer, reader, ())
    pieces = [*decoder.feed(data), *decoder.end()]
    assert [piece.error for piece in pieces if piece.error] == []
    whole = b"".join(piece.data for piece in pieces)
    if stream:
        grammar.read(whole)
    message: dict[str, Any] = assembled(whole) if stream else json.loads(whole)
    Message.model_validate(message)
    return message


def assembled(data: bytes) -> dict[str, Any]:
    """Put a stream together as the SDK does."""
    message: dict[str, Any] = {}
    parts: dict[int, str] = {}
    for line in data.decode().splitlines():
        if not line.startswith("data: "):
            continue
        event = json.loads(line[6:])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "citations_delta":
                        block.setdefault("citations", []).append(delta["citation"])
                    case "input_json_delta":
                        parts[event["index"]] = parts.get(event["index"], "") + delta["partial_json"]
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
    for at, part in parts.items():
        message["content"][at]["input"] = json.loads(part)
    return message


FOUND = [
    {"type": "web_search_result", "url": url, "title": url, "encrypted_content": "", "page_age": None}
    for url in ("https://c.test/1", "https://c.test/2")
]
CITATION = {
    "type": "web_search_result_location", "url": "https://c.test/1", "title": "Cats", "cited_text": "cats",
    "encrypted_index": "",
}  # fmt: skip


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_what_the_responses_api_found(streamed: bool, stream: bool) -> None:
    data = events(CALL, OPENED, SAID) if streamed else json.dumps(answer(CALL, OPENED, SAID)).encode()
    message = told(data, stream=stream)

    kinds = [block["type"] for block in message["content"] if block["type"] != "redacted_thinking"]
    assert kinds == ["server_tool_use", "web_search_tool_result", "text"]
    used, found, said = (block for block in message["content"] if block["type"] != "redacted_thinking")
    assert (used["name"], used["input"]) == ("web_search", {"query": "cats"})
    assert (found["tool_use_id"], found["content"]) == (used["id"], FOUND)
    assert said["text"] == "Says cats purr."
    assert said["citations"] == [CITATION]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


def test_a_search_that_failed_is_told_as_one() -> None:
    message = told(json.dumps(answer({**CALL, "status": "failed"}, SAID)).encode(), stream=False)

    (found,) = [block for block in message["content"] if block["type"] == "web_search_tool_result"]
    assert found["content"] == {"type": "web_search_tool_result_error", "error_code": "unavailable"}


def test_who_did_not_ask_for_a_search_is_told_of_none() -> None:
    message = told(events(CALL, SAID), stream=True, searches=False)

    assert {block["type"] for block in message["content"]} == {"redacted_thinking", "text"}
    assert "server_tool_use" not in message["usage"]


@pytest.mark.parametrize("stream", [True, False])
def test_its_own_item_goes_back_and_nothing_beside_it(stream: bool) -> None:
    history = told(events(CALL, SAID), stream=stream)["content"]
    body = by_responses("a", assistant(*history), user(text("and dogs?")), tools=[SEARCH])

    assert [item["type"] for item in body["input"]] == ["message", "web_search_call", "message", "message"]
    assert body["input"][1]["id"] == "ws_1"
    assert body["input"][2]["content"] == "Says cats purr."


def test_another_provider_gets_it_as_text() -> None:
    history = told(events(CALL, SAID), stream=True)["content"]
    (_, turn, _) = chat(messages_request("a", assistant(*history), "b"))["messages"]

    assert turn["content"].startswith("[web_search: cats]\nhttps://c.test/1")


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


NOTED = {"type": "url_citation", "url_citation": {**CITED, "content": "Cats purr a lot."}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_openrouter_found(streamed: bool, stream: bool) -> None:
    if streamed:
        data = (
            chunk({"role": "assistant", "content": "Says "})
            + chunk({"content": "cats purr."})
            + chunk({"content": "", "annotations": [NOTED]})
            + chunk({}, "stop")
            + b"data: [DONE]\n\n"
        )
    else:
        said = {"role": "assistant", "content": "Says cats purr.", "annotations": [NOTED]}
        data = json.dumps({"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}).encode()
    message = told(data, stream=stream, openrouter=True)

    said, used, found = message["content"]
    assert (said["text"], said["citations"]) == ("Says cats purr.", [CITATION])
    assert (used["type"], used["name"]) == ("server_tool_use", "web_search")
    assert found["content"] == [{**FOUND[0], "title": "Cats"}]
    assert message["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    "odd", [None, 7, {}, [7], [{"type": "url_citation"}], [{"type": "url_citation", "url": 7}], ["x"]]
)
def test_odd_annotations_do_no_harm(odd: Any) -> None:
    said = {"role": "assistant", "content": "So.", "annotations": odd}
    data = json.dumps({"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}).encode()

    assert [block["type"] for block in told(data, stream=False, openrouter=True)["content"]] == ["text"]


@pytest.mark.parametrize("action", [None, 7, {}, {"type": "search", "sources": 7, "queries": [1, "a", "b"]}])
def test_odd_actions_do_no_harm(action: Any) -> None:
    item = {**CALL, "action": action}
    data = json.dumps({**answer(SAID), "output": [item, SAID]}).encode()

    assert told(data, stream=False)["content"][-1]["type"] == "text"
