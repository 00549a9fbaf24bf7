"""What an OpenAI-compatible server can do: never guessed from its name, always one of a few profiles.

`compat` asks only for what nearly every server takes. Everything can be overridden one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Profile: TypeAlias = Literal[
    "compat", "openai", "openai_reasoning", "openrouter", "deepseek", "ollama", "vllm", "gemini"
]
TokenLimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
Reasoning: TypeAlias = Literal["none", "effort", "openrouter", "deepseek"]
SystemRole: TypeAlias = Literal["system", "developer"]
Schema: TypeAlias = Literal["plain", "narrow"]
ReasoningBack: TypeAlias = Literal["never", "with_calls", "always"]
ThinkTagsOption: TypeAlias = bool | Literal["implicit"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""From least to most (openai SDK 3.54, `ReasoningEffort`)."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be put into a request to a server, and in which words."""

    token_limit_field: TokenLimitField = "max_tokens"  # noqa: S105 - no secret, a field's name
    max_output_tokens: int | None = None
    reasoning: Reasoning = "none"
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
    tool_choice_named: bool = True
    system_role: SystemRole = "system"
    mid_system: bool = False
    max_tools: int | None = None
    tool_id_max: int = 40
    name_max: int = 64
    service_tier: bool = False
    user_hash: bool = False
    """`metadata.user_id` goes along, hashed, as `safety_identifier` and `prompt_cache_key`."""
    tool_schema: Schema = "plain"
    think_tags: ThinkTagsOption = False
    """Thinking comes as `<think>...</think>` within the text; `implicit`: it has begun before the text does."""
    reasoning_back: ReasoningBack = "never"
    """Which assistant messages of the history hold `reasoning_content`, empty where there is none."""
    thought_signatures: bool = False
    """Tool calls of other models get Google's dummy of a thought signature."""
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
)

PROFILES: dict[Profile, Capabilities] = {
    "compat": _COMPAT,
    "openai": _OPENAI,
    "openai_reasoning": replace(_OPENAI, reasoning="effort", efforts=EFFORTS[1:6], sampling=False, stop=0, phases=True),
    "openrouter": replace(_COMPAT, reasoning="openrouter", efforts=EFFORTS, top_k=True, files=True),
    "deepseek": replace(
        _COMPAT,
        reasoning="deepseek",
        efforts=("low", "high", "max"),
        vision=False,
        json_schema=False,
        max_tools=128,
        reasoning_back="always",
    ),
    "ollama": replace(_COMPAT, top_k=True),
    "vllm": replace(_COMPAT, top_k=True, tool_id_max=64),
    "gemini": replace(_COMPAT, reasoning="effort", tool_schema="narrow", tool_id_max=64, thought_signatures=True),
}
