"""What an OpenAI-compatible server can do: one of a few profiles, named in the file or picked by the address.

`compat` asks only for what nearly every server takes. Everything can be overridden one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

Profile: TypeAlias = Literal[
    "compat", "openai", "openai_reasoning", "azure", "openrouter", "deepseek", "moonshot", "mistral", "gemini", "groq",
    "xai", "qwen", "zai", "minimax", "copilot", "github_models", "ollama", "lmstudio", "vllm", "llamacpp", "sglang",
    "litellm",
]  # fmt: skip
Api: TypeAlias = Literal["chat", "responses"]
TokenLimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
Reasoning: TypeAlias = Literal["none", "effort", "openrouter", "deepseek", "thinking", "qwen"]
ReasoningBack: TypeAlias = Literal["never", "with_calls", "always"]
SystemRole: TypeAlias = Literal["system", "developer", "user"]
Schema: TypeAlias = Literal["plain", "narrow"]
ThinkTagsOption: TypeAlias = bool | Literal["implicit"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolId: TypeAlias = Literal["plain", "alnum9"]
ToolName: TypeAlias = Literal["plain", "letter", "word"]
AfterTool: TypeAlias = Literal["user", "merge", "bridge"]
CacheMarks: TypeAlias = Literal["none", "claude", "all"]
Streaming: TypeAlias = Literal["as_asked", "always", "never"]

WebSearch: TypeAlias = Literal["none", "responses", "openrouter"]

EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""From least to most (openai SDK 3.54, `ReasoningEffort`)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be put into a request to a server, and in which words."""

    token_limit_field: TokenLimitField = "max_tokens"  # noqa: S105 - no secret, a field's name
    max_output_tokens: int | None = None
    reasoning: Reasoning = "none"
    reasoning_back: ReasoningBack | None = None
    """Which assistant messages of the history hold `reasoning_content`. None: `with_calls` where `reasoning` is
    `deepseek` or `thinking`."""
    efforts: tuple[str, ...] = ("low", "medium", "high")
    effort: Effort | None = None
    """Asked for whatever the client says; None: what the client says."""
    sampling: bool = True
    top_k: bool = False
    stop: int = 4
    vision: bool = True
    files: bool = False
    json_schema: bool = True
    strict: bool = False
    parallel_tool_calls: bool = True
    """Sent only for a client that wants one call at a time; a server that does not know it teaches us so."""
    stream_options: bool = True
    streaming: Streaming = "as_asked"
    """`always`: the server only streams; the answer is put together for a client that does not. `never`: the server
    does not stream; a client that does gets the whole answer as a stream."""
    tool_choice_named: bool = True
    system_role: SystemRole = "system"
    mid_system: bool = False
    max_tools: int | None = None
    tool_id: ToolId = "plain"
    """`alnum9`: an id is exactly nine letters and digits."""
    tool_id_max: int = 40
    tool_name: ToolName = "plain"
    """`letter`: a name begins with a letter or `_`; `word`: and has no `-`."""
    name_max: int = 64
    after_tool: AfterTool = "user"
    """What becomes of a user's words that follow a tool's result: a message of their own, a part of the result's text
    (`merge`), or a message behind a short one of the assistant's (`bridge`)."""
    service_tier: bool = False
    user_hash: bool = False
    """`metadata.user_id` goes along, hashed, as `safety_identifier` and `prompt_cache_key`."""
    tool_schema: Schema = "plain"
    schema_without: tuple[str, ...] = ()
    """Words of JSON Schema that are left out of schemas."""
    inline_refs: bool = False
    """`$ref` in a schema is replaced by what it refers to."""
    cache_marks: CacheMarks = "none"
    """Whether `cache_control` goes along; `claude`: only to models whose name says that they are Claude."""
    call_text: bool = False
    """An assistant turn that only calls tools has an empty text, not none."""
    prefill: bool = True
    """The conversation may end with the assistant's turn."""
    think_tags: ThinkTagsOption = False
    """Thinking comes as `<think>...</think>` within the text; `implicit`: it has begun before the text does."""
    thought_signatures: bool = False
    """Tool calls of other models get Google's dummy of a thought signature."""
    web_search: WebSearch = "none"
    """In whose words a web search that runs on the server is asked for; `none`: the server has none."""
    phases: bool = False
    """Responses API: every text of the assistant has a `phase`, by rule where its provider gave none."""


_COMPAT = Capabilities()
_OPENAI = replace(
    _COMPAT,
    token_limit_field="max_completion_tokens",  # noqa: S106
    files=True,
    strict=True,
    mid_system=True,
    max_tools=128,
    tool_id_max=64,
    service_tier=True,
    user_hash=True,
    web_search="responses",
)
_REASONING = replace(_OPENAI, reasoning="effort", efforts=EFFORTS[:6], sampling=False, stop=0, phases=True)
_LOCAL = replace(_COMPAT, top_k=True)

PROFILES: dict[Profile, Capabilities] = {
    "compat": _COMPAT,
    "openai": _OPENAI,
    "openai_reasoning": _REASONING,
    "azure": replace(_OPENAI, service_tier=False, user_hash=False, tool_id_max=40, web_search="none"),
    "openrouter": replace(
        _COMPAT,
        reasoning="openrouter",
        efforts=EFFORTS,
        top_k=True,
        files=True,
        cache_marks="claude",
        web_search="openrouter",
    ),
    "deepseek": replace(
        _COMPAT,
        reasoning="deepseek",
        efforts=("low", "high", "max"),
        vision=False,
        json_schema=False,
        max_tools=128,
        reasoning_back="always",
    ),
    "moonshot": replace(_COMPAT, reasoning="thinking", sampling=False, tool_name="letter", max_tools=128),
    "mistral": replace(_COMPAT, tool_id="alnum9", tool_id_max=64, after_tool="merge", prefill=False, max_tools=128),
    "gemini": replace(
        _COMPAT,
        reasoning="effort",
        tool_schema="narrow",
        inline_refs=True,
        tool_name="letter",
        tool_id_max=64,
        thought_signatures=True,
    ),
    "groq": replace(
        _COMPAT,
        token_limit_field="max_completion_tokens",  # noqa: S106
        reasoning="effort",
        max_tools=128,
        json_schema=False,
    ),
    "xai": replace(_COMPAT, reasoning="effort", stop=0, max_tools=128),
    "qwen": replace(_COMPAT, reasoning="qwen", top_k=True, json_schema=False, tool_id_max=64, streaming="always"),
    "zai": replace(_COMPAT, reasoning="thinking", stop=1, json_schema=False, max_tools=128),
    "minimax": replace(_COMPAT, vision=False, json_schema=False, stop=0, think_tags=True),
    "copilot": replace(_COMPAT, reasoning="effort", tool_id_max=64, max_tools=128),
    "github_models": replace(
        _OPENAI, service_tier=False, user_hash=False, files=False, tool_id_max=40, web_search="none"
    ),
    "ollama": _LOCAL,
    "lmstudio": _LOCAL,
    "vllm": replace(_LOCAL, tool_id_max=64),
    "llamacpp": replace(_LOCAL, tool_id_max=64),
    "sglang": replace(_LOCAL, tool_id_max=64),
    "litellm": replace(_COMPAT, reasoning="effort", efforts=EFFORTS[:6], cache_marks="claude", files=True),
}

KEY_HEADERS: dict[Profile, str] = {"azure": "api-key"}
"""The header for the key where it is not `Authorization: Bearer`."""

WITHOUT_VERSION: frozenset[Profile] = frozenset({"copilot", "github_models"})
"""APIs whose paths have no version."""

_AUTOMATIC: frozenset[Profile] = frozenset({"openai", "azure"})
"""Profiles under which the model's name decides whether it reasons, and which API is asked."""

_HOSTS: tuple[tuple[str, Profile], ...] = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("moonshot.ai", "moonshot"),
    ("moonshot.cn", "moonshot"),
    ("api.kimi.com", "moonshot"),
    ("mistral.ai", "mistral"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "gemini"),
    ("groq.com", "groq"),
    ("x.ai", "xai"),
    ("aliyuncs.com", "qwen"),
    ("api-inference.modelscope.cn", "qwen"),
    ("api.z.ai", "zai"),
    ("bigmodel.cn", "zai"),
    ("minimax.io", "minimax"),
    ("minimaxi.com", "minimax"),
    ("minimax.chat", "minimax"),
    ("githubcopilot.com", "copilot"),
    ("models.github.ai", "github_models"),
    ("models.inference.ai.azure.com", "github_models"),
    ("ollama.com", "ollama"),
)
"""Whose address a host is: it or a name below it."""
_PORTS: dict[int, Profile] = {11434: "ollama", 1234: "lmstudio"}
"""The usual ports of servers on one's own machine; others are shared by too many."""


@lru_cache(maxsize=256)
def profile_at(base_url: str) -> Profile:
    """Return the profile of the service at this address; `compat` where it is none that is known."""
    url = urlsplit(base_url)
    host = (url.hostname or "").rstrip(".")
    for known, profile in _HOSTS:
        if host == known or host.endswith("." + known):
            return profile
    return _PORTS.get(url.port or 0, "compat") if url.scheme == "http" else "compat"


_REASONS = re.compile(r"(?:\A|/)(?:gpt-(?:[5-9]|\d\d)|o\d+(?:-|\Z)|codex|computer-use)")
_CHATS_ONLY = re.compile(r"-chat(?:-|\Z)")


def reasons(model: str) -> bool:
    """Return whether the name is that of one of OpenAI's models with reasoning."""
    name = model.lower()
    return _REASONS.search(name) is not None and _CHATS_ONLY.search(name) is None


@lru_cache(maxsize=1024)
def capabilities_of(profile: Profile, model: str) -> Capabilities:
    """Return what the profile says of a model."""
    can = PROFILES[profile]
    if profile in _AUTOMATIC and reasons(model):
        phases = profile == "openai"
        return replace(can, reasoning="effort", efforts=EFFORTS[:6], sampling=False, stop=0, phases=phases)
    return can


def api_of(profile: Profile, model: str, *, classic: bool) -> Api:
    """Return the API to ask where the file names none. `classic`: the address is one that has only Chat Completions.

    OpenAI's models with reasoning take tools together with effort only by the Responses API.
    """
    return "responses" if profile in _AUTOMATIC and not classic and reasons(model) else "chat"


def is_claude(model: str) -> bool:
    """Return whether the name says that the model is Claude."""
    return "claude" in model.lower() or model.lower().startswith("anthropic/")
