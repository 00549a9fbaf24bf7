"""A real OpenAI-compatible server that others wrote, llama.cpp's, behind the real balancer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from live import tiny_model
from live.harness import balancer
from live.test_sdk import client

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

ASK: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"$schema": "x", "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
TOOL = {"name": "Read", "description": "reads", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
APIS = ["chat", "responses"]


@asynccontextmanager
async def llama(package: Path, folder: Path) -> AsyncIterator[str]:
    """Run the server; its address."""
    model = folder / "tiny.gguf"
    tiny_model.write(model)
    with (folder / "llama.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("llama_server.py")), str(model),
            env={**os.environ, "PYTHONPATH": str(package)}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            address = (await process.stdout.readline()).decode().strip()
        assert address.startswith("http"), (folder / "llama.log").read_text()
        yield address
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def asked(package: Path, folder: Path, options: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Give a client of a balancer in front of the server."""
    async with llama(package, folder) as address:
        provider = f'{{name: llama, type: openai, base_url: "{address}", auth_value: sk-canary-llama, openai_config: {{{options}}}}}'
        config = f'providers: [{provider}]\nmodel_routes:\n  "*": [{{provider: llama, model: tiny}}]\n'
        async with balancer(config) as running, client(running.url) as sdk:
            yield sdk


async def answered(sdk: anthropic.AsyncAnthropic, stream: bool, **more: Any) -> anthropic.types.Message:
    if not stream:
        whole: anthropic.types.Message = await sdk.messages.create(**{**ASK, **more})
        return whole
    async with sdk.messages.stream(**{**ASK, **more}) as streaming:
        return await streaming.get_final_message()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", [True, False])
async def test_text_and_its_usage(llama_cpp: Path, tmp_path: Path, stream: bool, api: str) -> None:
    async with asked(llama_cpp, tmp_path, f"api: {api}") as sdk:
        answer = await answered(
            sdk, stream, system="Be good.", stop_sequences=["never"], extra_body={"temperature": 0.0}
        )

        assert [block.type for block in answer.content] == ["text"]
        assert answer.content[0].text.strip() == tiny_model.GREETING  # type: ignore[union-attr]
        assert (answer.model, answer.stop_reason) == ("claude-opus-5-5", "end_turn")
        assert answer.usage.input_tokens > 20  # its prompt is spelt in bytes: one token each
        assert 5 < answer.usage.output_tokens < 10
        again = await answered(sdk, stream, system="Be good.")
        assert (again.usage.cache_read_input_tokens or 0) > answer.usage.input_tokens // 2  # the same bytes went out


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_tool_is_called_and_its_result_is_read(llama_cpp: Path, tmp_path: Path, stream: bool, api: str) -> None:
    async with asked(llama_cpp, tmp_path, f"api: {api}") as sdk:
        first = await answered(sdk, stream, tools=[TOOL])
        (use,) = first.content
        assert use.type == "tool_use"
        assert (first.stop_reason, use.name, use.input) == ("tool_use", "Read", {"path": "a.txt"})

        result = {"type": "tool_result", "tool_use_id": use.id, "content": "what stands in it"}
        turns = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = await answered(sdk, stream, tools=[TOOL], messages=[*ASK["messages"], *turns])
        assert (second.stop_reason, second.content[0].type) == ("end_turn", "text")


@pytest.mark.parametrize("stream", [True, False])
async def test_too_long_a_prompt_is_told_in_numbers(llama_cpp: Path, tmp_path: Path, stream: bool) -> None:
    long = [{"role": "user", "content": "x" * 3 * tiny_model.CONTEXT_TOKENS}]
    async with asked(llama_cpp, tmp_path, "") as sdk:
        with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 6\d\d\d tokens > 2048 maximum"):
            await answered(sdk, stream, messages=long)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_it_refuses_is_refused_in_its_words(llama_cpp: Path, tmp_path: Path, stream: bool) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "no such type"}}}
    async with asked(llama_cpp, tmp_path, "") as sdk:
        with pytest.raises(anthropic.BadRequestError, match="no such type"):
            await answered(sdk, stream, tools=[{**TOOL, "input_schema": schema}])


async def test_an_answer_of_a_shape_is_asked_for(llama_cpp: Path, tmp_path: Path) -> None:
    """The grammar that the server makes of our schema rules what the model may say."""
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    async with asked(llama_cpp, tmp_path, "") as sdk:
        shape = {"format": {"type": "json_schema", "schema": schema}}
        answer = await answered(sdk, stream=False, extra_body={"output_config": shape, "temperature": 0.0})

        assert json.loads(answer.content[0].text) == {"a": 1}  # type: ignore[union-attr]


@pytest.mark.parametrize("stream", [True, False])
async def test_clients_of_openais_api_are_passed_through(llama_cpp: Path, tmp_path: Path, stream: bool) -> None:
    async with (
        asked(llama_cpp, tmp_path, "") as sdk,
        openai.AsyncOpenAI(base_url=f"{str(sdk.base_url).rstrip('/')}/v1", api_key="x", max_retries=0) as theirs,
    ):
        ask: Any = {"model": "gpt-9", "max_tokens": 100, "messages": ASK["messages"], "temperature": 0.0}
        if stream:
            counted: Any = {"stream": True, "stream_options": {"include_usage": True}}
            chunks = [chunk async for chunk in await theirs.chat.completions.create(**ask, **counted)]
            text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            usage = chunks[-1].usage
            events: Any = await theirs.responses.create(model="gpt-9", input="hi", max_output_tokens=100, stream=True)
            response: Any = [event async for event in events][-1].response
        else:
            completion = await theirs.chat.completions.create(**ask)
            text, usage = completion.choices[0].message.content or "", completion.usage
            response = await theirs.responses.create(model="gpt-9", input="hi", max_output_tokens=100)

        assert text.strip() == tiny_model.GREETING
        assert usage is not None
        assert usage.completion_tokens > 5
        assert response.output_text.strip() == tiny_model.GREETING
