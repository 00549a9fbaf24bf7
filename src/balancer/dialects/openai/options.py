"""`openai_config`: what can be set for a provider of the type `openai`, and what follows from it for a model."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from balancer.dialects.openai.address import is_classic
from balancer.dialects.openai.profiles import (
    KEY_HEADERS,
    AfterTool,
    Api,
    CacheMarks,
    Capabilities,
    Effort,
    Profile,
    Reasoning,
    ReasoningBack,
    Schema,
    Streaming,
    SystemRole,
    ThinkTagsOption,
    TokenLimitField,
    ToolId,
    ToolName,
    WebSearch,
    api_of,
    capabilities_of,
    profile_at,
)


class Options(BaseModel):
    """`openai_config`: what the server can do. What is not said comes from the profile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Profile | None = Field(
        default=None, description="What the server is: what the other keys are by default. Not said: by `base_url`."
    )
    api: Api | None = Field(
        default=None,
        description="Which API is asked: `chat` (Chat Completions) or `responses`. Not said: `responses` for OpenAI's "
        "models with reasoning under the profiles `openai` and `azure`, else `chat`.",
    )
    version_path: bool | None = Field(
        default=None,
        description="Whether `/v1` stands behind `base_url`. Not said: as the path looks, and the other way after a "
        "404.",
    )
    key_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$",
        description="The header that carries the key, as it is. Not said: `Authorization: Bearer`.",
    )
    token_limit_field: TokenLimitField | None = Field(default=None, description="The field that limits the output.")
    max_output_tokens: int | None = Field(default=None, ge=1, description="The most output tokens that are asked for.")
    reasoning: Reasoning | None = Field(default=None, description="In whose words effort and thinking are asked for.")
    reasoning_back: ReasoningBack | None = Field(
        default=None,
        description="Which assistant messages of the history hold `reasoning_content`.",
    )
    efforts: tuple[str, ...] | None = Field(default=None, description="The efforts that the models know.")
    effort: Effort | None = Field(default=None, description="The effort that is asked for, whatever the client says.")
    sampling: bool | None = Field(default=None, description="Whether `temperature` and `top_p` are taken.")
    top_k: bool | None = Field(default=None, description="Whether `top_k` is taken.")
    stop: int | None = Field(default=None, ge=0, description="How many stop sequences are taken; 0: none.")
    vision: bool | None = Field(default=None, description="Whether images are taken.")
    files: bool | None = Field(default=None, description="Whether PDFs are taken.")
    json_schema: bool | None = Field(default=None, description="Whether structured outputs by a schema are known.")
    strict: bool | None = Field(default=None, description="Whether `strict` tools and schemas are known.")
    parallel_tool_calls: bool | None = Field(default=None, description="Whether `parallel_tool_calls` is known.")
    stream_options: bool | None = Field(default=None, description="Whether usage in streams can be asked for.")
    streaming: Streaming | None = Field(
        default=None,
        description="`always`: the server only streams, and answers are put together for other clients; `never`: it "
        "does not stream, and its answers become streams.",
    )
    tool_choice_named: bool | None = Field(default=None, description="Whether one tool can be demanded by name.")
    system_role: SystemRole | None = Field(
        default=None, description="The role of the system prompt; `user`: it stands in the first user message."
    )
    mid_system: bool | None = Field(default=None, description="Whether system messages may stand in the middle.")
    max_tools: int | None = Field(default=None, ge=1, description="The most tools that are taken.")
    tool_id: ToolId | None = Field(
        default=None, description="How ids of tool calls look; `alnum9`: nine letters and digits (Mistral)."
    )
    tool_id_max: int | None = Field(default=None, ge=9, description="The longest id of a tool call.")
    tool_name: ToolName | None = Field(
        default=None, description="How names of tools look; `letter`: begin with a letter or `_`; `word`: have no `-`."
    )
    name_max: int | None = Field(default=None, ge=16, description="The longest name of a tool.")
    after_tool: AfterTool | None = Field(
        default=None,
        description="Where a user's words go that follow a tool's result: a `user` message, into the result's text "
        "(`merge`), or behind a short assistant message (`bridge`).",
    )
    service_tier: bool | None = Field(default=None, description="Whether `service_tier` is known, in OpenAI's words.")
    user_hash: bool | None = Field(default=None, description="Whether the user's id goes along, as a hash.")
    tool_schema: Schema | None = Field(default=None, description="`narrow`: only a part of JSON Schema is known.")
    schema_without: tuple[str, ...] | None = Field(
        default=None, description="Words of JSON Schema that are left out of schemas."
    )
    inline_refs: bool | None = Field(default=None, description="Whether `$ref` in schemas is replaced by its target.")
    cache_marks: CacheMarks | None = Field(
        default=None, description="Whether `cache_control` goes along; `claude`: to Claude models only."
    )
    call_text: bool | None = Field(
        default=None, description="Whether an assistant turn that only calls tools has an empty text instead of none."
    )
    prefill: bool | None = Field(default=None, description="Whether a conversation may end with an assistant turn.")
    think_tags: ThinkTagsOption | None = Field(
        default=None,
        description="Whether thinking comes as `<think>` in the text; `implicit`: all up to `</think>` is thinking.",
    )
    thought_signatures: bool | None = Field(
        default=None, description="Whether tool calls of other models get Google's dummy of a thought signature."
    )
    web_search: WebSearch | None = Field(
        default=None,
        description="In whose words a web search on the server's side is asked for: `responses` (the Responses API's "
        "tool), `openrouter`, or `none`: the server has none.",
    )
    phases: bool | None = Field(
        default=None, description="`api: responses`: whether every text of the assistant has a `phase`."
    )

    @field_validator("profile", mode="before")
    @classmethod
    def _by_any_name(cls, given: object) -> object:
        folded = re.sub(r"[^a-z0-9]", "", given.lower()) if isinstance(given, str) else ""
        return _OTHER_NAMES.get(folded, given)


_OTHER_NAMES: dict[str, Profile] = {
    "openaireasoning": "openai_reasoning",
    "azureopenai": "azure",
    "kimi": "moonshot",
    "moonshotai": "moonshot",
    "google": "gemini",
    "grok": "xai",
    "dashscope": "qwen",
    "alibaba": "qwen",
    "glm": "zai",
    "zhipu": "zai",
    "bigmodel": "zai",
    "githubcopilot": "copilot",
    "githubmodels": "github_models",
    "lmstudio": "lmstudio",
    "llamacpp": "llamacpp",
    "llamaserver": "llamacpp",
}
"""What the services are called as well, without anything but letters and digits."""

OWN_KEYS = frozenset({"profile", "api", "version_path", "key_header"})
"""Keys that are no capabilities."""


class Settled(NamedTuple):
    """What options, address and model come to together."""

    profile: Profile
    api: Api
    can: Capabilities
    can_by_api: Capabilities
    """Of those, what `api` knows."""
    key_header: str | None


@lru_cache(maxsize=1024)
def settled(options: Options, base_url: str, model: str) -> Settled:
    """Return what holds for a model at an address: what the file says goes over the profile."""
    profile = options.profile or profile_at(base_url)
    api = options.api or api_of(profile, model, classic=is_classic(base_url))
    said = options.model_dump(exclude=set(OWN_KEYS), exclude_none=True)
    can = replace(capabilities_of(profile, model), **said)
    return Settled(profile, api, can, for_api(can, api), options.key_header or KEY_HEADERS.get(profile))


def for_api(can: Capabilities, api: Api) -> Capabilities:
    """Return the capabilities without what an API does not know."""
    if api == "chat":
        return can if can.web_search != "responses" else replace(can, web_search="none")
    if can.web_search == "openrouter":
        can = replace(can, web_search="none")
    return replace(can, stop=0, top_k=False, cache_marks="none", system_role="system", reasoning_back="never")
